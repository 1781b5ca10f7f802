//! Going on with the link that an earlier daemon left pinned, of this layout or another.
//!
//! The program in the link is replaced at once: each packet meets the old one or the new one.
//!
//! A link of another layout moves in steps, so that the filter is on and pinned wherever a crash
//! cuts the start short, and the next start of either version finds it:
//!
//! 1. The new program, whose own maps are filled, takes the place of the old one in the link.
//! 2. The link is pinned a second time, in the folder of this layout.
//! 3. When all interfaces are protected, the other layout's folder is cleared.
//!
//! Before the third step the old version finds all that it left; its program only has to be put
//! back, be it by its next start or, if this start fails, by this one.
//!
//! A link that runs the program in another mode than the wanted one cannot be adopted, because no
//! interface has both modes at once. It is displaced: there is a moment without a filter, and a
//! start that fails makes the link anew.

use std::{fs, io, iter, path::PathBuf};

use abuser_common::layout::LAYOUT_VERSION;
use aya::programs::{
    ProgramError, Xdp,
    links::{FdLink, LinkError, PinnedLink},
    loaded_programs,
    xdp::XdpLink,
};
use aya_obj::programs::XdpAttachType;

use super::{
    attach::{Attachment, attachment, create},
    error::{DataplaneError, chain},
    interfaces::Interface,
    pins::PinDir,
    refusal::{attach_error, refused},
};
use crate::config::{Dispatcher, How};

/// How an attachment came about, and so what undoes it.
#[derive(Debug)]
pub(super) enum Origin {
    /// The interface was free.
    Made,
    /// The link is that of an earlier daemon of this layout.
    Adopted,
    /// The link is that of an earlier daemon of another layout.
    Moved(Left),
    /// The link took the place of an earlier daemon's.
    Displaced(Left),
}

/// A link whose program is on its interface, and where it was found pinned.
pub(super) struct Held {
    link: FdLink,
    pin: PathBuf,
    /// The version of the layout that it was pinned by.
    version: u32,
    program: u32,
    generic: bool,
}

impl Held {
    /// The pinned link that holds the program which is on the interface.
    pub(super) fn find(pins: &PinDir, interface: &Interface) -> Option<Self> {
        let attached = interface.xdp?;
        let others = pins.others();
        iter::once(pins.own()).chain(&others).find_map(|layout| {
            let pin = layout.link(interface.index);
            let link = FdLink::from(PinnedLink::from_pin(&pin).ok()?);
            let program = link.info().ok()?.program_id();
            (program == attached.program).then_some(Self {
                link,
                pin,
                version: layout.version(),
                program,
                generic: attached.generic,
            })
        })
    }

    /// The version of the layout that it was pinned by.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Whether it runs the program where and as it is wanted.
    pub(super) fn suits(&self, how: How) -> bool {
        how.dispatcher != Dispatcher::Always && how.mode.allows(self.generic)
    }

    /// What it takes to restore it.
    pub(super) fn left(&self, interface: &Interface) -> Left {
        Left {
            version: self.version,
            pin: self.pin.clone(),
            program: running(self.program),
            generic: self.generic,
            interface: interface.clone(),
        }
    }
}

/// What an earlier daemon left on an interface, for as long as this start may fail.
#[derive(Debug)]
pub(super) struct Left {
    version: u32,
    pin: PathBuf,
    /// The program, unless the kernel does not hand it out.
    program: Option<Xdp>,
    generic: bool,
    interface: Interface,
}

impl Left {
    /// The version of the layout that it is of.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Puts the program back into the link, which is pinned where it was.
    pub(super) fn give_back(self) {
        self.restore(|program, left| {
            let (interface, generic) = (&left.interface, left.generic);
            let link = PinnedLink::from_pin(&left.pin)
                .map_err(|error| refused(interface, generic, chain(&error)))?;
            replace(program, link.into())
                .map(drop)
                .map_err(|error| attach_error(interface, generic, &error))
        });
    }

    /// Makes the link anew, on an interface that is free again.
    pub(super) fn make_anew(self) {
        self.restore(|program, left| {
            create(program, &left.pin, &left.interface, left.generic)
                .map(drop)
                .map_err(|refusal| refusal.error)
        });
    }

    fn restore(mut self, way: impl FnOnce(&mut Xdp, &Self) -> Result<(), DataplaneError>) {
        let name = self.interface.name.clone();
        let Some(mut program) = self.program.take() else {
            tracing::error!(
                interface = name,
                "cannot put back the program that an earlier abuser left on {name}, because the \
                 kernel hands it out to root only; start abuser again to protect {name} as before"
            );
            return;
        };
        match way(&mut program, &self) {
            Ok(()) => tracing::info!(
                interface = name,
                "put back the program that an earlier abuser left on {name}"
            ),
            Err(error) => tracing::error!(
                interface = name,
                "cannot put back the program that an earlier abuser left on {name}: {error}; \
                 start abuser again to protect {name} as before"
            ),
        }
    }
}

/// Puts the program into a link that an earlier daemon left, and sees to it that it is pinned here.
pub(super) fn adopt(
    program: &mut Xdp,
    held: Held,
    pin: PathBuf,
    interface: &Interface,
) -> Result<Attachment, DataplaneError> {
    let generic = held.generic;
    let moved = (held.version != LAYOUT_VERSION).then(|| held.left(interface));
    let elsewhere = moved.is_some().then_some(&pin);
    let placed = place(program, held.link, elsewhere, interface, generic);
    match (placed, moved) {
        (Ok(link), moved) => {
            let origin = moved.map_or(Origin::Adopted, Origin::Moved);
            attachment(link, pin, interface, generic, origin)
        }
        (Err(error), Some(moved)) => {
            moved.give_back();
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// Puts the program into the link, and pins that once more if it is pinned elsewhere only.
fn place(
    program: &mut Xdp,
    held: FdLink,
    pin: Option<&PathBuf>,
    interface: &Interface,
    generic: bool,
) -> Result<FdLink, DataplaneError> {
    let link = replace(program, held).map_err(|error| attach_error(interface, generic, &error))?;
    let Some(pin) = pin else {
        return Ok(link);
    };
    // What may be pinned there was found not to be what is on the interface.
    let _absent = fs::remove_file(pin);
    link.pin(pin)
        .map(FdLink::from)
        .map_err(|error| refused(interface, generic, chain(&error)))
}

/// Puts the program into the link in place of the one that is in it, at once.
fn replace(program: &mut Xdp, link: FdLink) -> Result<FdLink, ProgramError> {
    // Neither conversion fails for a link that is on an interface.
    let odd = |error: LinkError| ProgramError::IOError(io::Error::other(error));
    let id = program.attach_to_link(XdpLink::try_from(link).map_err(odd)?)?;
    FdLink::try_from(program.take_link(id)?).map_err(odd)
}

/// The loaded program with this id. Its maps stay in memory with it.
fn running(id: u32) -> Option<Xdp> {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let info = programs.find(|program| program.id() == id)?;
    Xdp::from_program_info(info, "previous".into(), XdpAttachType::Interface).ok()
}
