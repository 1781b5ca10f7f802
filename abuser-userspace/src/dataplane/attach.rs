//! Attaching the program to an interface.
//!
//! Attachment is a BPF link pinned by the interface's index. While the pin lies there the
//! program stays on, daemon or not. A link that is still on its interface is adopted: its
//! program is replaced at once. Whatever else is on an interface is not ours to touch.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::{XdpError, XdpLink},
    },
};
use nix::errno::Errno;

use super::{
    error::{DataplaneError, chain},
    interfaces::{Interface, program_name},
    pins::PinDir,
    program::xdp,
};
use crate::config::Mode;

/// How long the kernel may take to free a link that nobody holds any more.
const RELEASE: Duration = Duration::from_secs(2);

/// The program on one interface.
#[derive(Debug)]
pub struct Attachment {
    /// The interface's name, as it is now.
    pub name: String,
    /// The name it was configured by; another one if it was renamed since.
    pub configured: String,
    /// Its index.
    pub index: u32,
    /// Whether the network stack runs the program instead of the driver.
    pub generic: bool,
    /// The program's id.
    pub program: u32,
    /// Whether an earlier daemon had attached it.
    pub adopted: bool,
    link: FdLink,
    pin: PathBuf,
}

impl Attachment {
    /// Leaves the program on the interface, held by the link's pin.
    pub fn leave(self) {
        // Whoever holds a pinned link too may let go.
        drop(self.link);
    }

    /// Takes the program off the interface.
    pub fn detach(self) {
        let Self { link, pin, .. } = self;
        if let Err(error) = std::fs::remove_file(&pin) {
            tracing::warn!(pin = %pin.display(), %error, "cannot remove the link's pin");
        }
        // The last holder of an unpinned link detaches it.
        drop(link);
    }
}

/// Makes sure that the program can work on the interface, and that none but our own does.
pub fn check_usable(pins: &PinDir, interface: &Interface) -> Result<(), DataplaneError> {
    if !interface.ethernet {
        return Err(DataplaneError::NotEthernet(interface.name.clone()));
    }
    let Some(attached) = interface.xdp else {
        return Ok(());
    };
    if pinned_program(&pins.link(interface.index)) == Some(attached.program) {
        return Ok(());
    }
    Err(DataplaneError::Foreign {
        interface: interface.name.clone(),
        program: program_name(attached.program),
        id: attached.program,
    })
}

/// Removes pinned links of interfaces that are not to be attached to any more.
pub fn forget_stale_links(pins: &PinDir, attached: &[Attachment]) {
    for index in pins.links() {
        if !attached.iter().any(|attachment| attachment.index == index) {
            tracing::info!(
                interface = index,
                "detaching from an interface that is not configured any more"
            );
            pins.remove_link(index);
        }
    }
}

/// Attaches to an interface that [`check_usable`] let through.
pub fn attach(
    program: &mut Ebpf,
    pins: &PinDir,
    interface: &Interface,
    mode: Mode,
) -> Result<Attachment, DataplaneError> {
    let pin = pins.link(interface.index);
    if let Some(link) = adoptable(&pin, interface, mode) {
        return adopt(program, link, pin, interface);
    }
    // A link that lost its interface keeps its pin; the interface is known to be free.
    pins.remove_link(interface.index);
    match mode {
        Mode::Generic => create(program, &pin, interface, true).map_err(|refusal| refusal.error),
        Mode::Driver => create(program, &pin, interface, false).map_err(|refusal| {
            if refusal.generic_may_do {
                hint(refusal.error)
            } else {
                refusal.error
            }
        }),
        Mode::Auto => match create(program, &pin, interface, false) {
            Err(native) if native.generic_may_do => {
                fall_back(program, &pin, interface, native.error)
            }
            attached => attached.map_err(|refusal| refusal.error),
        },
    }
}

/// Attaches in generic mode because the driver refused.
fn fall_back(
    program: &mut Ebpf,
    pin: &Path,
    interface: &Interface,
    native: DataplaneError,
) -> Result<Attachment, DataplaneError> {
    match create(program, pin, interface, true) {
        Ok(attachment) => {
            tracing::warn!(
                interface = interface.name,
                "{native}; attached in generic mode instead, where packets are dropped later and \
                 at a higher cost"
            );
            Ok(attachment)
        }
        Err(generic) => Err(also(native, &generic.error)),
    }
}

/// What to do about a driver that refuses.
fn hint(error: DataplaneError) -> DataplaneError {
    amend(error, |message| {
        format!("{message}; [xdp] mode \"auto\" or \"generic\" does without the driver")
    })
}

/// The refusal of native mode, and that of generic mode after it.
fn also(native: DataplaneError, generic: &DataplaneError) -> DataplaneError {
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

/// The pinned link if it is on this interface in a mode that will do.
fn adoptable(pin: &Path, interface: &Interface, mode: Mode) -> Option<PinnedLink> {
    let attached = interface.xdp?;
    if pinned_program(pin) != Some(attached.program) {
        return None;
    }
    match (mode, attached.generic) {
        (Mode::Auto, _) | (Mode::Driver, false) | (Mode::Generic, true) => {
            PinnedLink::from_pin(pin).ok()
        }
        (Mode::Driver, true) | (Mode::Generic, false) => None,
    }
}

fn adopt(
    program: &mut Ebpf,
    link: PinnedLink,
    pin: PathBuf,
    interface: &Interface,
) -> Result<Attachment, DataplaneError> {
    let generic = interface.xdp.is_some_and(|attached| attached.generic);
    let error = |source: ProgramError| attach_error(interface, generic, &source);
    let link = XdpLink::try_from(FdLink::from(link))
        .map_err(|source| refused(interface, generic, chain(&source)))?;
    let xdp = xdp(program)?;
    let id = xdp.attach_to_link(link).map_err(error)?;
    let link = xdp.take_link(id).map_err(error)?;
    let link =
        FdLink::try_from(link).map_err(|source| refused(interface, generic, chain(&source)))?;
    attachment(link, pin, interface, generic, true)
}

/// Why the kernel did not take the program.
struct Refusal {
    error: DataplaneError,
    /// Whether it was native mode that was refused, and not the interface or this process.
    generic_may_do: bool,
}

impl From<DataplaneError> for Refusal {
    fn from(error: DataplaneError) -> Self {
        Self {
            error,
            generic_may_do: false,
        }
    }
}

fn create(
    program: &mut Ebpf,
    pin: &Path,
    interface: &Interface,
    generic: bool,
) -> Result<Attachment, Refusal> {
    let mode = if generic {
        XdpMode::Skb
    } else {
        XdpMode::Driver
    };
    let error = |source: ProgramError| attach_error(interface, generic, &source);
    let xdp = xdp(program)?;
    // `check_usable` saw nobody else's program here. One of our own whose pin is gone stays on
    // until the kernel, which frees links after an RCU grace period, gets to it.
    let deadline = Instant::now() + RELEASE;
    let id = loop {
        match xdp.attach_to_if_index(interface.index, mode) {
            Err(source)
                if interface.xdp.is_some() && is_busy(&source) && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            Err(source) => {
                return Err(Refusal {
                    generic_may_do: !generic && is_of_the_mode(errno(&source)),
                    error: error(source),
                });
            }
            Ok(id) => break id,
        }
    };
    let link = xdp.take_link(id).map_err(error)?;
    // Only a BPF link can be pinned; one through netlink would outlive nobody's crash.
    let link =
        FdLink::try_from(link).map_err(|source| refused(interface, generic, chain(&source)))?;
    let link = link
        .pin(pin)
        .map_err(|source| refused(interface, generic, chain(&source)))?;
    Ok(attachment(
        link.into(),
        pin.to_owned(),
        interface,
        generic,
        false,
    )?)
}

fn attachment(
    link: FdLink,
    pin: PathBuf,
    interface: &Interface,
    generic: bool,
    adopted: bool,
) -> Result<Attachment, DataplaneError> {
    let info = link
        .info()
        .map_err(|source| refused(interface, generic, chain(&source)))?;
    Ok(Attachment {
        name: interface.name.clone(),
        configured: interface.name.clone(),
        index: interface.index,
        generic,
        program: info.program_id(),
        adopted,
        link,
        pin,
    })
}

fn pinned_program(pin: &Path) -> Option<u32> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    Some(link.info().ok()?.program_id())
}

/// `driver` or `generic`.
pub const fn mode_name(generic: bool) -> &'static str {
    if generic { "generic" } else { "driver" }
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

fn is_busy(error: &ProgramError) -> bool {
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

fn attach_error(interface: &Interface, generic: bool, error: &ProgramError) -> DataplaneError {
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

fn refused(interface: &Interface, generic: bool, message: String) -> DataplaneError {
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
