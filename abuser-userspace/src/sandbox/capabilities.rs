//! Which of root's capabilities a running daemon needs.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use caps::Capability;
use nix::unistd::geteuid;

/// What every daemon needs, if it has it.
const ALWAYS: [Capability; 5] = [
    // Maps, and the program for an interface that comes later.
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
    // Logs and lists of other users that a reload may name.
    Capability::CAP_DAC_READ_SEARCH,
    // A reload may have it listen for syslog messages at port 514.
    Capability::CAP_NET_BIND_SERVICE,
];

/// Why a daemon needs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is called by a dispatcher beside programs of others, which are known by their ids alone.
    JoinsOthers,
    /// It writes in folders that are somebody else's.
    WritesForOthers,
    /// It opens sockets to a group that it is not in.
    Chowns,
    /// It runs commands, which may have another user by the time they are to be killed.
    HasCommands,
}

impl Need {
    fn capability(self) -> Capability {
        match self {
            Self::JoinsOthers => Capability::CAP_SYS_ADMIN,
            Self::WritesForOthers => Capability::CAP_DAC_OVERRIDE,
            Self::Chowns => Capability::CAP_CHOWN,
            Self::HasCommands => Capability::CAP_KILL,
        }
    }
}

/// The capabilities to keep, as a mask of the kernel's.
pub(super) fn kept(needs: impl IntoIterator<Item = Need>) -> u64 {
    let needed = needs.into_iter().map(Need::capability);
    mask(ALWAYS.into_iter().chain(needed))
}

/// Capabilities as a mask of the kernel's.
pub(super) fn mask(capabilities: impl IntoIterator<Item = Capability>) -> u64 {
    let bits = capabilities.into_iter().map(|one| one.bitmask());
    bits.fold(0, |mask, bit| mask | bit)
}

/// Whether a folder is there and somebody else's, where only `CAP_DAC_OVERRIDE` lets root write.
pub(super) fn is_others(folder: &Path) -> bool {
    let owner = folder.metadata().map(|metadata| metadata.uid());
    owner.is_ok_and(|owner| owner != geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_the_service_has_and_no_more_than_is_needed_besides() {
        // The unit's four, and CAP_NET_BIND_SERVICE, by their numbers in linux/capability.h.
        let usual = 1 << 2 | 1 << 10 | 1 << 12 | 1 << 38 | 1 << 39;
        assert_eq!(kept([]), usual);
        let all = [
            Need::JoinsOthers,
            Need::WritesForOthers,
            Need::Chowns,
            Need::HasCommands,
        ];
        assert_eq!(kept(all), usual | 1 | 1 << 1 | 1 << 5 | 1 << 21);
    }
}
