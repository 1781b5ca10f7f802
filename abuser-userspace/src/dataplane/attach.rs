//! Attaching the program to an interface.
//!
//! Attachment is a BPF link pinned by the interface's index. While the pin lies there the
//! program stays on, daemon or not. A link that is still on its interface is adopted (see
//! `adopt`): its program is replaced at once. Whatever else is on an interface is not
//! ours to touch.

use std::{
    mem,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use abuser_common::layout::LAYOUT_VERSION;
use aya::{
    Ebpf,
    programs::{ProgramError, Xdp, XdpMode, links::FdLink},
};

use super::{
    adopt::{Held, Origin, adopt},
    error::{DataplaneError, chain},
    interfaces::{Interface, program_name},
    pins::PinDir,
    program::xdp,
    refusal::{Refusal, also, attach_error, hint, is_busy, refused},
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
    origin: Origin,
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
        remove_pin(&pin);
        // The last holder of an unpinned link detaches it.
        drop(link);
    }

    /// Undoes what this daemon did to the interface: takes its own link off, leaves one that an
    /// earlier daemon left, and restores what it took the place of.
    pub fn take_back(mut self) {
        match mem::replace(&mut self.origin, Origin::Made) {
            Origin::Made => self.detach(),
            Origin::Adopted => self.leave(),
            Origin::Moved(left) => {
                // While the other layout's pin is there, the program stays on.
                self.detach();
                left.give_back();
            }
            Origin::Displaced(left) => {
                self.detach();
                left.make_anew();
            }
        }
    }

    /// The version of the layout of what an earlier daemon left here, unless that is this one's.
    pub fn other_layout(&self) -> Option<u32> {
        let (Origin::Moved(left) | Origin::Displaced(left)) = &self.origin else {
            return None;
        };
        Some(left.version()).filter(|version| *version != LAYOUT_VERSION)
    }

    /// Keeps the link for good: there is no way back any more, and nothing that keeps what an
    /// earlier daemon left in memory.
    pub fn settle(&mut self) {
        self.origin = Origin::Adopted;
    }
}

fn remove_pin(pin: &Path) {
    if let Err(error) = std::fs::remove_file(pin) {
        tracing::warn!(pin = %pin.display(), %error, "cannot remove the link's pin");
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
    if Held::find(pins, interface).is_some() {
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
    let program = xdp(program)?;
    let pin = pins.own().link(interface.index);
    let held = Held::find(pins, interface);
    let displaced = match held {
        Some(held) if held.suits(mode) => return adopt(program, held, pin, interface),
        Some(held) => Some(held.left(interface)),
        None => None,
    };
    // A link that lost its interface keeps its pin; the interface is known to be free.
    pins.remove_link(interface.index);
    match (make(program, &pin, interface, mode), displaced) {
        (Ok(mut attachment), displaced) => {
            attachment.origin = displaced.map_or(Origin::Made, Origin::Displaced);
            Ok(attachment)
        }
        (Err(error), displaced) => {
            if let Some(left) = displaced {
                left.make_anew();
            }
            Err(error)
        }
    }
}

/// Attaches by a link of its own.
fn make(
    program: &mut Xdp,
    pin: &Path,
    interface: &Interface,
    mode: Mode,
) -> Result<Attachment, DataplaneError> {
    match mode {
        Mode::Generic => create(program, pin, interface, true).map_err(|refusal| refusal.error),
        Mode::Driver => create(program, pin, interface, false).map_err(|refusal| {
            if refusal.generic_may_do {
                hint(refusal.error)
            } else {
                refusal.error
            }
        }),
        Mode::Auto => match create(program, pin, interface, false) {
            Err(native) if native.generic_may_do => {
                fall_back(program, pin, interface, native.error)
            }
            attached => attached.map_err(|refusal| refusal.error),
        },
    }
}

/// Attaches in generic mode because the driver refused.
fn fall_back(
    program: &mut Xdp,
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

/// Makes a link and pins it.
pub(super) fn create(
    program: &mut Xdp,
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
    // `check_usable` saw nobody else's program here. One of our own whose pin is gone stays on
    // until the kernel, which frees links after an RCU grace period, gets to it.
    let deadline = Instant::now() + RELEASE;
    let id = loop {
        match program.attach_to_if_index(interface.index, mode) {
            Err(source)
                if interface.xdp.is_some() && is_busy(&source) && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            Err(source) => {
                return Err(Refusal::new(interface, generic, &source));
            }
            Ok(id) => break id,
        }
    };
    let link = program.take_link(id).map_err(error)?;
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
        Origin::Made,
    )?)
}

/// What there is to say of a link that is on an interface and pinned.
pub(super) fn attachment(
    link: FdLink,
    pin: PathBuf,
    interface: &Interface,
    generic: bool,
    origin: Origin,
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
        origin,
        link,
        pin,
    })
}

/// `driver` or `generic`.
pub const fn mode_name(generic: bool) -> &'static str {
    if generic { "generic" } else { "driver" }
}
