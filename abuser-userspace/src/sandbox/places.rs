//! Where the daemon may make and write files, by Landlock (Linux 5.13).
//!
//! What it reads is not restricted: logs, lists and keys may be anywhere, and a reload may name others.
//! Nor is what it runs, which is `journalctl` and the administrator's commands.

#![expect(
    unsafe_code,
    reason = "the crate does not tell the version of the kernel's Landlock"
)]

use std::{
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, PathFdError,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, make_bitflags,
};

use super::Plan;
use crate::dataplane;

/// Of what came later, the control of devices is no business of a daemon that opens none.
const KNOWN: ABI = ABI::V3;

/// Making a socket, and its folder, where somebody has removed them.
const MAKE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | MakeDir});

/// Pinning, and taking pins away: nothing is written into a pin.
const PIN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir | Refer
});

/// Why the rules could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlacesError {
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("{}: {source}", path.display())]
    Path { path: PathBuf, source: PathFdError },
}

/// The version of Landlock that this kernel has; `None` if it has none, or it was not switched on at boot.
pub(super) fn version() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const ASK: u32 = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the call reads nothing, and wants a null pointer and a length of 0.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, ASK) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// The rules, for each thread to take on itself; `None` if the kernel knows none of them.
pub(super) fn ruleset(plan: &Plan) -> Result<Option<OwnedFd>, PlacesError> {
    let all = AccessFs::from_write(KNOWN);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .create()?;
    for (path, access) in places(plan) {
        let place = PathFd::new(&path).map_err(|source| PlacesError::Path { path, source })?;
        ruleset = ruleset.add_rule(PathBeneath::new(place, access))?;
    }
    Ok(ruleset.into())
}

/// Whether a folder is the root of a file system, which may have to be mounted anew.
pub(super) fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    let above = folder.parent().and_then(device);
    device(folder)
        .zip(above)
        .is_some_and(|(own, above)| own != above)
}

/// A rule for the root would be one for all.
fn is_root(folder: &Path) -> bool {
    folder.parent().is_none()
}

/// What may be done below which files and folders, which are there.
fn places(plan: &Plan) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let all = AccessFs::from_write(KNOWN);
    // What programs are given to read and to write that are to have neither.
    let null = make_bitflags!(AccessFs::{WriteFile | Truncate});
    let mut places = vec![(PathBuf::from("/dev/null"), null)];
    let store = plan.store.as_deref().and_then(Path::parent);
    places.extend(store.map(|folder| (folder.to_owned(), all)));
    // The folder of pins goes and comes with what is in it.
    let pins = plan.pin_dir.parent().map(Path::to_owned);
    let pins = pins.into_iter().chain(dataplane::pin_roots());
    for folder in pins {
        // Another BPF file system may be mounted there, which only what is above has a rule for.
        let above = folder.parent().filter(|above| !is_root(above));
        places.extend(above.map(|above| (above.to_owned(), PIN)));
        places.push((folder, all));
    }
    for socket in &plan.sockets {
        let folders = socket.ancestors().skip(1);
        let mut folders = folders.skip_while(|folder| !folder.exists());
        if let Some(folder) = folders.next() {
            places.push((folder.to_owned(), MAKE | AccessFs::RemoveFile));
        }
        if let Some(above) = folders.next().filter(|above| !is_root(above)) {
            places.push((above.to_owned(), MAKE));
        }
    }
    places.retain(|(path, _)| path.exists());
    places
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::config;

    #[test]
    fn a_daemon_writes_below_its_store_and_its_pins_and_makes_sockets_and_that_is_all() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path();
        for name in ["lib", "run/deep", "pins/base"] {
            fs::create_dir_all(own.join(name)).unwrap();
        }
        let text = format!(
            "[store]\npath = \"{own}/lib/abuser.db\"\n[xdp]\npin_dir = \"{own}/pins/base/abuser\"\n\
             [api]\nsocket = \"{own}/run/deep/gone/abuser.sock\"\n",
            own = own.display()
        );
        let config = config::parse(&text, Path::new("test.toml")).unwrap();
        let all = AccessFs::from_write(KNOWN);
        let mut expected: BTreeSet<_> = [
            (
                PathBuf::from("/dev/null"),
                make_bitflags!(AccessFs::{WriteFile | Truncate}),
            ),
            (own.join("lib"), all),
            (own.join("pins"), PIN),
            (own.join("pins/base"), all),
            // Where the socket's folder was, and above it.
            (own.join("run/deep"), MAKE | AccessFs::RemoveFile),
            (own.join("run"), MAKE),
        ]
        .map(|(path, access)| (path, access.bits()))
        .into();
        for root in dataplane::pin_roots()
            .into_iter()
            .filter(|root| root.exists())
        {
            let above = root.parent().filter(|above| !is_root(above));
            expected.extend(above.map(|above| (above.to_owned(), PIN.bits())));
            expected.insert((root, all.bits()));
        }
        let found = places(&Plan::of(&config)).into_iter();
        let found: BTreeSet<_> = found.map(|(path, access)| (path, access.bits())).collect();
        assert_eq!(found, expected);
    }
}
