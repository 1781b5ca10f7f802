//! Why the kernel does not take a program on an interface, and what there is to do about it.

use aya::programs::{ProgramError, xdp::XdpError};
use nix::errno::Errno;

use super::{
    attach::mode_name,
    error::{DataplaneError, chain},
    interfaces::Interface,
};

/// Why the kernel did not take the program.
pub(super) struct Refusal {
    pub(super) error: DataplaneError,
    /// Whether it was native mode that was refused, and not the interface or this process.
    pub(super) generic_may_do: bool,
}

impl Refusal {
    /// What the kernel's answer to an attempt to attach means.
    pub(super) fn new(interface: &Interface, generic: bool, source: &ProgramError) -> Self {
        Self {
            error: attach_error(interface, generic, source),
            generic_may_do: !generic && is_of_the_mode(errno(source)),
        }
    }
}

impl From<DataplaneError> for Refusal {
    fn from(error: DataplaneError) -> Self {
        Self {
            error,
            generic_may_do: false,
        }
    }
}

/// What to do about a driver that refuses.
pub(super) fn hint(error: DataplaneError) -> DataplaneError {
    amend(error, |message| {
        format!("{message}; [xdp] mode \"auto\" or \"generic\" does without the driver")
    })
}

/// The refusal of native mode, and that of generic mode after it.
pub(super) fn also(native: DataplaneError, generic: &DataplaneError) -> DataplaneError {
    amend(native, |message| format!("{message}; then {generic}"))
}

fn amend(error: DataplaneError, change: impl FnOnce(String) -> String) -> DataplaneError {
    match error {
        DataplaneError::Attach {
            interface,
            mode,
            message,
        } => DataplaneError::Attach {
            interface,
            mode,
            message: change(message),
        },
        error => error,
    }
}

fn errno(error: &ProgramError) -> Option<Errno> {
    let code = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        // Where the system call says EINVAL, as it does of an index that is gone, aya asks
        // once more through netlink, which knows better.
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    code.map(Errno::from_raw)
}

/// Whether another program is in the way.
pub(super) fn is_busy(error: &ProgramError) -> bool {
    matches!(errno(error), Some(Errno::EBUSY | Errno::EEXIST))
}

/// Whether an interface that refuses native mode so may still take generic mode. Drivers have
/// every error there is for settings that they cannot combine with XDP; these few are of the
/// process, the interface, and another program on it.
const fn is_of_the_mode(errno: Option<Errno>) -> bool {
    !matches!(
        errno,
        Some(Errno::EPERM | Errno::EACCES | Errno::ENODEV | Errno::EBUSY | Errno::EEXIST)
    )
}

/// The error for a program that the kernel did not take.
pub(super) fn attach_error(
    interface: &Interface,
    generic: bool,
    error: &ProgramError,
) -> DataplaneError {
    let message = match errno(error) {
        Some(Errno::EOPNOTSUPP) if !generic => format!(
            "its driver has no native XDP, or not with its present settings ({})",
            chain(error)
        ),
        Some(Errno::ERANGE) if !generic => format!(
            "its driver has no native XDP at an MTU of {} ({})",
            interface.mtu,
            chain(error)
        ),
        Some(Errno::EPERM | Errno::EACCES) => "not permitted; run with sudo".to_owned(),
        Some(Errno::EBUSY | Errno::EEXIST) => {
            "another XDP program is on it; see `ip -details link show`".to_owned()
        }
        Some(Errno::ENODEV) => "the interface is gone".to_owned(),
        _ => chain(error),
    };
    refused(interface, generic, message)
}

/// [`attach_error`] in other words.
pub(super) fn refused(interface: &Interface, generic: bool, message: String) -> DataplaneError {
    DataplaneError::Attach {
        interface: interface.name.clone(),
        mode: mode_name(generic),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_driver_refuses_generic_mode_is_tried() {
        for errno in [
            Errno::EOPNOTSUPP,
            Errno::EINVAL,
            Errno::ERANGE,
            Errno::ENOMEM,
            Errno::E2BIG,
        ] {
            assert!(is_of_the_mode(Some(errno)), "{errno}");
        }
        assert!(is_of_the_mode(None));
    }

    #[test]
    fn what_generic_mode_would_meet_as_well_is_final() {
        for errno in [
            Errno::EPERM,
            Errno::EACCES,
            Errno::ENODEV,
            Errno::EBUSY,
            Errno::EEXIST,
        ] {
            assert!(!is_of_the_mode(Some(errno)), "{errno}");
        }
    }
}
