//! Attaching the program to an interface.
//!
//! Where other programs are called by a dispatcher, the program becomes one of them (see
//! `dispatcher`). Elsewhere attachment is a BPF link pinned by the interface's index. While the pin lies there the
//! program stays on, daemon or not. A link that is still on its interface is adopted (see
//! `adopt`): its program is replaced at once. Whatever else is on an interface is not
//! ours to touch.

use std::{
    collections::BTreeSet,
    io, mem,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use abuser_common::{
    dispatcher::{MAX_COMPONENTS, VERSION},
    layout::LAYOUT_VERSION,
};
use aya::programs::{ProgramError, Xdp, XdpMode, links::FdLink};

use super::{
    adopt::{self, Held, Origin, adopt},
    dispatcher::{self, Access, Chain, Found, Kept, Membership, Standing},
    error::{DataplaneError, chain},
    interfaces::{Interface, program_name},
    object::Object,
    pins::{PinDir, is_bpffs},
    program::{Programs, xdp},
    refusal::{Refusal, also, attach_error, hint, is_busy, refused},
};
use crate::config::{Dispatcher, How, Mode};

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
    hold: Hold,
}

/// What holds the program on the interface.
#[derive(Debug)]
enum Hold {
    /// A link, as the interface's one program.
    Link(Link),
    /// A dispatcher, as one of several; and the link that it took the place of.
    Component(Membership, Option<adopt::Left>),
}

#[derive(Debug)]
struct Link {
    origin: Origin,
    /// `None` for as long as it is being pinned.
    held: Option<FdLink>,
    pin: PathBuf,
    /// The same link, once it is pinned.
    object: Option<Object>,
}

impl Link {
    fn detach(self) {
        let Self { held, pin, .. } = self;
        remove_pin(&pin);
        // The last holder of an unpinned link detaches it.
        drop(held);
    }

    /// [`Link::detach`] whoever else holds it, such as a pin on a file system that another one was mounted
    /// over.
    fn detach_for_good(self) {
        if let Some(Err(error)) = self.object.as_ref().map(Object::detach) {
            tracing::debug!(%error, "the link has no interface any more");
        }
        self.detach();
    }

    /// Sees to it that the link is pinned; says whether it was not.
    fn keep_pinned(&mut self) -> io::Result<bool> {
        if let Some(object) = &self.object {
            return object.keep_pinned(&self.pin);
        }
        let Some(held) = self.held.take() else {
            return Ok(false);
        };
        // If this fails the program is off the interface, and attached to it again at the next look.
        let pinned = held.pin(&self.pin).map_err(io::Error::other)?;
        self.held = Some(pinned.into());
        self.object = Some(Object::pinned(&self.pin)?);
        Ok(true)
    }

    fn take_back(mut self) {
        match mem::replace(&mut self.origin, Origin::Made) {
            Origin::Made => self.detach(),
            Origin::Adopted => drop(self),
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
}

impl Attachment {
    /// Leaves the program on the interface, held by pins.
    pub fn leave(self) {
        // Whoever holds a pinned link too may let go.
        drop(self.hold);
    }

    /// Takes the program off the interface. If it stays on, so does the attachment.
    pub fn detach(self, access: &mut Access) -> Result<(), Box<(Self, DataplaneError)>> {
        if let Hold::Component(membership, _) = &self.hold
            && let Err(source) = membership.leave(access)
        {
            let error = self.kept(source);
            return Err(Box::new((self, error)));
        }
        if let Hold::Link(link) = self.hold {
            link.detach_for_good();
        }
        Ok(())
    }

    /// Sees to it that what a crash is to leave on is pinned; says whether it was not.
    pub(super) fn keep_pinned(&mut self) -> io::Result<bool> {
        match &mut self.hold {
            Hold::Link(link) => link.keep_pinned(),
            Hold::Component(membership, _) => membership.keep_marked(),
        }
    }

    /// Undoes what this daemon did to the interface: takes its own link off, leaves one that an
    /// earlier daemon left, and restores what it took the place of.
    pub fn take_back(mut self, access: &mut Access) -> Result<(), DataplaneError> {
        if let Hold::Component(membership, displaced) = &mut self.hold {
            let displaced = displaced.take();
            let left = membership.take_back(access);
            left.map_err(|source| self.kept(source))?;
            if let Some(displaced) = displaced {
                displaced.make_anew();
            }
        } else if let Hold::Link(link) = self.hold {
            link.take_back();
        }
        Ok(())
    }

    /// Takes the lock that [`Attachment::detach`] needs.
    pub(super) fn prepare_detach(&self, access: &mut Access) -> Result<(), DataplaneError> {
        access.take().map_err(|source| self.kept(source.into()))
    }

    fn kept(&self, source: Kept) -> DataplaneError {
        DataplaneError::DispatcherKept {
            interface: self.name.clone(),
            off: if self.generic {
                "xdpgeneric off"
            } else {
                "xdpdrv off"
            },
            source,
        }
    }

    /// Whether a dispatcher calls the program.
    pub(super) fn is_component(&self) -> bool {
        matches!(self.hold, Hold::Component(..))
    }

    /// The programs that are called on the interface, if there is a dispatcher that calls them.
    pub fn chain(&self) -> Option<&Chain> {
        match &self.hold {
            Hold::Link(_) => None,
            Hold::Component(membership, _) => Some(&membership.chain),
        }
    }

    /// How it stands with the program, if this is what the kernel says of the interface.
    pub(super) fn standing(&mut self, interface: &Interface, access: &mut Access) -> Standing {
        match &mut self.hold {
            Hold::Link(_) if interface.xdp.is_some_and(|xdp| xdp.program == self.program) => {
                Standing::Same
            }
            Hold::Link(_) => Standing::Out,
            Hold::Component(membership, _) => membership.look(access),
        }
    }

    /// The version of the layout of what an earlier daemon left here, unless that is this one's.
    pub fn other_layout(&self) -> Option<u32> {
        let version = match &self.hold {
            Hold::Link(link) => match &link.origin {
                Origin::Moved(left) | Origin::Displaced(left) => left.version(),
                Origin::Made | Origin::Adopted => return None,
            },
            Hold::Component(membership, displaced) => membership
                .left_by()
                .or_else(|| displaced.as_ref().map(adopt::Left::version))?,
        };
        Some(version).filter(|version| *version != LAYOUT_VERSION)
    }

    /// Keeps the link for good: there is no way back any more, and nothing that keeps what an
    /// earlier daemon left in memory.
    pub fn settle(&mut self, pins: &PinDir) {
        let component = match &mut self.hold {
            Hold::Link(link) => {
                link.origin = Origin::Adopted;
                None
            }
            Hold::Component(membership, displaced) => {
                membership.settle();
                *displaced = None;
                Some(self.program)
            }
        };
        pins.forget_components(self.index, component);
    }
}

fn remove_pin(pin: &Path) {
    if let Err(error) = std::fs::remove_file(pin)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(pin = %pin.display(), %error, "cannot remove the link's pin");
    }
}

/// Makes sure that the program can work on the interface, and that none does that is not our own or
/// content with others.
pub fn check_usable(pins: &PinDir, interface: &Interface, how: How) -> Result<(), DataplaneError> {
    if !interface.ethernet {
        return Err(DataplaneError::NotEthernet(interface.name.clone()));
    }
    let Some(attached) = interface.xdp else {
        return Ok(());
    };
    if Held::find(pins, interface).is_some() {
        return Ok(());
    }
    let id = attached.program;
    let name = interface.name.clone();
    match Found::with_id(id) {
        Found::Program => Err(DataplaneError::Foreign {
            interface: name,
            program: program_name(id),
            id,
        }),
        Found::Unseen(why) => Err(DataplaneError::Unseen {
            interface: name,
            id,
            why,
        }),
        Found::Unknown(found) => Err(DataplaneError::DispatcherUnknown {
            interface: name,
            id,
            found,
            known: VERSION,
        }),
        Found::Dispatcher(_) if how.dispatcher == Dispatcher::Never => {
            Err(DataplaneError::DispatcherUnwanted {
                interface: name,
                id,
            })
        }
        Found::Dispatcher(_) if !how.mode.allows(attached.generic) => {
            Err(DataplaneError::Dispatcher {
                interface: name,
                message: format!(
                    "it runs in {} mode, and [xdp] mode is \"{}\"; write \"auto\" to go where it is",
                    mode_name(attached.generic),
                    how.mode
                ),
            })
        }
        Found::Dispatcher(dispatcher) => {
            let own = pins.components(interface.index);
            if dispatcher.len() >= MAX_COMPONENTS && own.is_empty() {
                return Err(DataplaneError::Dispatcher {
                    interface: name,
                    message: format!(
                        "it has {MAX_COMPONENTS} of them already, which is as many as there can be"
                    ),
                });
            }
            Ok(())
        }
    }
}

/// Whether the program of an earlier daemon is on the interface, with the maps of this one.
pub(super) fn is_left_on(pins: &PinDir, interface: &Interface) -> bool {
    let own = |version: u32| version == LAYOUT_VERSION;
    Held::find(pins, interface).is_some_and(|held| own(held.version()))
        || pins.components(interface.index).into_values().any(own)
}

/// Takes programs off interfaces that are not to be attached to any more.
pub fn forget_stale(pins: &PinDir, attached: &[Attachment]) {
    let mut access = Access::patient();
    for index in pins.interfaces() {
        if !attached.iter().any(|attachment| attachment.index == index) {
            tracing::info!(
                interface = index,
                "detaching from an interface that is not configured any more"
            );
            if let Err(error) = detach_left(pins, index, &mut access) {
                tracing::error!(interface = index, "{error}");
            }
        }
    }
}

/// Takes off an interface what daemons left on it that are not running any more.
pub fn detach_left(
    pins: &PinDir,
    interface: u32,
    access: &mut Access,
) -> Result<(), DataplaneError> {
    let components: BTreeSet<_> = pins.components(interface).into_keys().collect();
    if !components.is_empty() {
        dispatcher::leave(interface, &components, access).map_err(|source| {
            DataplaneError::DispatcherKept {
                interface: interface_name(interface),
                // Which mode it is in is not known, and off without a mode is the driver's.
                off: "xdpdrv off` or `xdpgeneric off",
                source,
            }
        })?;
        pins.forget_components(interface, None);
    }
    pins.remove_link(interface);
    Ok(())
}

/// Attaches to an interface that [`check_usable`] let through.
pub fn attach(
    programs: &mut Programs,
    pins: &PinDir,
    interface: &Interface,
    how: How,
    access: &mut Access,
) -> Result<Attachment, DataplaneError> {
    let pin = pins.own().link(interface.index);
    let held = Held::find(pins, interface);
    let displaced = match held {
        Some(held) if held.suits(how) => {
            return adopt(xdp(&mut programs.direct)?, held, pin, interface);
        }
        Some(held) => Some(held.left(interface)),
        None => None,
    };
    // A link that lost its interface keeps its pin; the interface is known to be free.
    pins.remove_link(interface.index);
    let as_component =
        how.dispatcher == Dispatcher::Always || (displaced.is_none() && interface.xdp.is_some());
    let made = if as_component {
        make(interface, how.mode, |generic| {
            join(programs, pins, interface, generic, how.priority, access)
        })
    } else {
        let program = xdp(&mut programs.direct)?;
        make(interface, how.mode, |generic| {
            create(program, &pin, interface, generic)
        })
    };
    match (made, displaced) {
        (Ok(mut attachment), displaced) => {
            match &mut attachment.hold {
                Hold::Link(link) => {
                    link.origin = displaced.map_or(Origin::Made, Origin::Displaced);
                }
                Hold::Component(_, before) => *before = displaced,
            }
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

/// Attaches in a mode that is wanted by `create`, which is told whether that is the generic one.
fn make(
    interface: &Interface,
    mode: Mode,
    mut create: impl FnMut(bool) -> Result<Attachment, Refusal>,
) -> Result<Attachment, DataplaneError> {
    match mode {
        Mode::Generic => create(true).map_err(|refusal| refusal.error),
        Mode::Driver => create(false).map_err(|refusal| {
            if refusal.generic_may_do {
                hint(refusal.error)
            } else {
                refusal.error
            }
        }),
        Mode::Auto => match create(false) {
            Err(native) if native.generic_may_do => {
                fall_back(interface, native.error, || create(true))
            }
            attached => attached.map_err(|refusal| refusal.error),
        },
    }
}

/// Attaches in generic mode because the driver refused.
fn fall_back(
    interface: &Interface,
    native: DataplaneError,
    create: impl FnOnce() -> Result<Attachment, Refusal>,
) -> Result<Attachment, DataplaneError> {
    match create() {
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

/// Makes the program a component.
fn join(
    programs: &mut Programs,
    pins: &PinDir,
    interface: &Interface,
    generic: bool,
    priority: u32,
    access: &mut Access,
) -> Result<Attachment, Refusal> {
    let (membership, generic) =
        dispatcher::join(programs, pins, interface, generic, priority, access)?;
    Ok(Attachment {
        name: interface.name.clone(),
        configured: interface.name.clone(),
        index: interface.index,
        generic,
        program: membership.program,
        hold: Hold::Component(membership, None),
    })
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
    let link = if pin.parent().is_some_and(is_bpffs) {
        link.pin(pin)
            .map_err(|source| refused(interface, generic, chain(&source)))?
            .into()
    } else {
        // Somebody has taken the pin folder away: it is pinned when there is one again.
        link
    };
    Ok(attachment(
        link,
        pin.to_owned(),
        interface,
        generic,
        Origin::Made,
    )?)
}

/// What there is to say of a link that is on an interface and pinned, if it can be.
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
        hold: Hold::Link(Link {
            origin,
            held: Some(link),
            object: Object::pinned(&pin).ok(),
            pin,
        }),
    })
}

/// What an interface is called.
pub fn interface_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index).map_or_else(
        |_| format!("interface {index} (gone)"),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// `driver` or `generic`.
pub const fn mode_name(generic: bool) -> &'static str {
    if generic { "generic" } else { "driver" }
}
