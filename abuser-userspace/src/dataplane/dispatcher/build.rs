//! Building a dispatcher and putting it in the place of the one before, as the protocol has it.
//!
//! The new one is whole, and pinned, before it is on the interface; the old one is taken apart only
//! when no packet is in it any more. So whichever a packet meets, all components see it.

#![expect(unsafe_code, reason = "no library has this system call")]

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    thread,
    time::Duration,
};

use abuser_common::dispatcher::{CONFIG, Config, EMPTY_SLOT, HAS_FRAGS, MAX_COMPONENTS, PROGRAM};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{Extension, ProgramError, ProgramFd, Xdp, links::FdLink},
};

use super::{
    folder::{Folder, Pins},
    found::{Component, Dispatcher, Role},
};
use crate::dataplane::{error::chain, rtnl};

/// What a dispatcher is loaded from, for packets in one buffer.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../abuser-ebpf/dispatcher/dispatcher.bpf.o"
));
/// The same for packets in several.
static OBJECT_FRAGS: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../abuser-ebpf/dispatcher/dispatcher-frags.bpf.o"
));

/// How long a packet may be on its way through a program, where the kernel does not tell.
const GRACE: Duration = Duration::from_millis(100);

/// Why a dispatcher was not built.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody else replaced what was on the interface: look again.
    Overtaken,
    /// The kernel did not take it on the interface.
    Refused(io::Error),
    /// Anything else, in words.
    Other(String),
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::Other(chain(&error))
    }
}

/// A component of the dispatcher that is built.
pub(super) enum Part<'a> {
    /// One that is loaded.
    Loaded(Box<Component>),
    /// abuser's own.
    Own(Role, &'a mut dyn Supply),
}

/// Has abuser's own component.
pub(super) trait Supply {
    /// The program, which may not be loaded yet: what it is verified for is a slot.
    fn program(&mut self) -> Result<&mut Extension, String>;

    /// Notes that it is about to be on the interface, so that whoever starts after a crash
    /// knows it for abuser's.
    fn note(&mut self) -> Result<(), String>;
}

impl Part<'_> {
    fn role(&self) -> &Role {
        match self {
            Self::Loaded(component) => &component.role,
            Self::Own(role, _) => role,
        }
    }
}

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) interface: u32,
    pub(super) generic: bool,
    /// What is on the interface, and is replaced.
    pub(super) old: Option<&'a Dispatcher>,
}

/// Puts a dispatcher with these components in place; says its program's id.
pub(super) fn put(
    folder: &Folder,
    place: Place<'_>,
    mut parts: Vec<Part<'_>>,
) -> Result<u32, Failure> {
    sort(&mut parts);
    let roles: Vec<_> = parts.iter().map(Part::role).collect();
    let config = configure(&roles)?;
    let mut dispatcher = load(&config)?;
    let program = xdp(&mut dispatcher)?;
    let id = program.info()?.id();
    let fd = program.fd()?.try_clone().map_err(ProgramError::from)?;
    let mut links = Vec::new();
    for (slot, part) in parts.iter_mut().enumerate() {
        links.push(link(part, &fd, slot)?);
    }
    let pins = folder.of(place.interface, id);
    let placed = pin(&pins, &mut parts, links).and_then(|()| {
        for part in &mut parts {
            if let Part::Own(_, supply) = part {
                supply.note().map_err(Failure::Other)?;
            }
        }
        swap(place, Some(fd.as_fd()))
    });
    if let Err(failure) = placed {
        pins.remove();
        return Err(failure);
    }
    take_apart(folder, place);
    Ok(id)
}

/// Takes the dispatcher off the interface, whose last component goes.
pub(super) fn remove(folder: &Folder, place: Place<'_>) -> Result<(), Failure> {
    swap(place, None)?;
    take_apart(folder, place);
    Ok(())
}

fn swap(place: Place<'_>, new: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let Place {
        interface,
        generic,
        old,
    } = place;
    let old = old.map(Dispatcher::fd).transpose()?;
    rtnl::replace(interface, old, new, generic).map_err(|error| {
        if rtnl::is_another(&error) {
            Failure::Overtaken
        } else {
            Failure::Refused(error)
        }
    })
}

/// Removes the pins of the one that was replaced.
fn take_apart(folder: &Folder, place: Place<'_>) {
    let Some(old) = place.old else { return };
    await_packets();
    folder.of(place.interface, old.id).remove();
}

/// Waits until no packet is in a program that is on no interface any more. A component that leaves
/// its slot before would let it pass.
fn await_packets() {
    // linux/membarrier.h: MEMBARRIER_CMD_GLOBAL waits for a grace period of RCU, within which
    // every packet is done with.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes three numbers and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        thread::sleep(GRACE);
    }
}

/// The order of the protocol: by priority, then by name.
fn sort(parts: &mut [Part<'_>]) {
    parts.sort_by(|one, other| {
        let key = |part: &Part<'_>| (part.role().priority, part.role().name.clone());
        key(one).cmp(&key(other))
    });
}

fn configure(roles: &[&Role]) -> Result<Config, Failure> {
    if roles.len() > MAX_COMPONENTS {
        return Err(Failure::Other(format!(
            "it has {MAX_COMPONENTS} components already, which is as many as there can be"
        )));
    }
    let mut config = Config {
        // No more than ten, as just checked.
        components: u8::try_from(roles.len()).unwrap_or_default(),
        is_frags: u8::from(roles.iter().all(|role| role.frags)),
        ..Config::EMPTY
    };
    let slots = config
        .chain_call_actions
        .iter_mut()
        .zip(&mut config.run_priorities)
        .zip(&mut config.program_flags);
    for (((actions, priority), flags), role) in slots.zip(roles) {
        *actions = role.goes_on_after | 1 << EMPTY_SLOT;
        *priority = role.priority;
        *flags = if role.frags { HAS_FRAGS } else { 0 };
    }
    Ok(config)
}

fn load(config: &Config) -> Result<Ebpf, Failure> {
    let object = if config.is_frags == 0 {
        OBJECT
    } else {
        OBJECT_FRAGS
    };
    let mut loaded = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global(CONFIG, config, true)
        .load(object)
        .map_err(|error| Failure::Other(chain(&error)))?;
    xdp(&mut loaded)?.load()?;
    Ok(loaded)
}

fn xdp(loaded: &mut Ebpf) -> Result<&mut Xdp, Failure> {
    let program = loaded.program_mut(PROGRAM).ok_or_else(|| {
        Failure::Other(format!(
            "the dispatcher's object has no program {PROGRAM:?}"
        ))
    })?;
    Ok(program.try_into()?)
}

/// Puts a component into its slot.
fn link(part: &mut Part<'_>, dispatcher: &ProgramFd, slot: usize) -> Result<FdLink, Failure> {
    let slot = format!("prog{slot}");
    let role = part.role().clone();
    let refused = |error: &ProgramError| {
        Failure::Other(format!(
            "the kernel does not take the program {:?} as a component: {}",
            role.name,
            chain(error)
        ))
    };
    let program = match part {
        Part::Loaded(component) => &mut component.program,
        Part::Own(_, supply) => supply.program().map_err(Failure::Other)?,
    };
    let attach = |program: &mut Extension| {
        if program.fd().is_err() {
            program.load(dispatcher.try_clone()?, &slot)?;
        }
        let id = program.attach_to_program(dispatcher, &slot)?;
        program.take_link(id)
    };
    attach(program)
        .map(FdLink::from)
        .map_err(|error| refused(&error))
}

/// Pins programs and links, as whoever builds the next dispatcher looks for them.
fn pin(pins: &Pins, parts: &mut [Part<'_>], links: Vec<FdLink>) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Other(chain(error));
    pins.create().map_err(|error| failed(&error))?;
    for (slot, (part, link)) in parts.iter_mut().zip(links).enumerate() {
        link.pin(pins.link(slot)).map_err(|error| failed(&error))?;
        let path = pins.program(slot);
        let program = match part {
            Part::Loaded(component) => &mut component.program,
            Part::Own(_, supply) => supply.program().map_err(Failure::Other)?,
        };
        program.pin(path).map_err(|error| failed(&error))?;
    }
    Ok(())
}
