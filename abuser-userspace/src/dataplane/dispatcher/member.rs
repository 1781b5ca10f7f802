//! abuser's own component: how it comes into a dispatcher, how it is moved by others, and how it
//! goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use abuser_common::layout::PROGRAM;
use aya::{
    programs::{Extension, ProgramError},
    sys::SyscallError,
};

use super::{
    build::{self, Failure, Part, Place, Supply},
    folder::{Access, Folder, LockError},
    found::{Component, Dispatcher, Found, Role},
};
use crate::dataplane::{
    error::{DataplaneError, chain},
    interfaces::{AttachedXdp, Interface},
    object::Object,
    pins::PinDir,
    program::Programs,
    refusal::Refusal,
    rtnl,
};

/// How often others may overtake before it is given up.
const ATTEMPTS: u32 = 10;

/// After this action alone the next component is called: what abuser drops, nobody sees.
const GOES_ON_AFTER: u32 = 1 << XDP_PASS;
/// Of the kernel's `enum xdp_action`.
const XDP_PASS: u32 = 2;

/// What is called on an interface, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The program's id of the dispatcher, which is on the interface.
    pub dispatcher: u32,
    /// The components.
    pub links: Vec<ChainLink>,
}

/// A component of a dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// The program's name.
    pub name: String,
    /// Its id.
    pub program: u32,
    /// Whoever has the lower number comes first.
    pub priority: u32,
}

/// Where abuser's component is.
#[derive(Debug)]
pub(in crate::dataplane) struct Membership {
    interface: u32,
    /// abuser's program in it.
    pub(in crate::dataplane) program: u32,
    pub(in crate::dataplane) chain: Chain,
    /// Tells the next daemon that the program is abuser's.
    mark: PathBuf,
    /// What is pinned there.
    marked: Option<Object>,
    /// What it took the place of.
    left: Option<Left>,
}

/// Components that an earlier daemon left, for as long as this start may fail.
#[derive(Debug)]
pub(in crate::dataplane) struct Left {
    /// The version of the layout that they were made by.
    version: u32,
    components: Vec<Component>,
}

/// How it stands with a component.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum Standing {
    /// It is where it was.
    Same,
    /// It is in another dispatcher, or has other neighbours.
    Moved,
    /// It is in none.
    Out,
}

/// Makes abuser's program a component: of the dispatcher that is on the interface or, if nothing
/// is, of one of its own. Components that an earlier daemon left are replaced by it in the
/// same step. Says whether the dispatcher runs in generic mode.
pub(in crate::dataplane) fn join(
    programs: &mut Programs,
    pins: &PinDir,
    interface: &Interface,
    generic: bool,
    priority: u32,
    access: &mut Access,
) -> Result<(Membership, bool), Refusal> {
    let index = interface.index;
    let failed = |message: String| {
        Refusal::from(DataplaneError::Dispatcher {
            interface: interface.name.clone(),
            message,
        })
    };
    let folder = access.folder().map_err(|source| {
        Refusal::from(DataplaneError::DispatcherLocked {
            interface: interface.name.clone(),
            source,
        })
    })?;
    for _ in 0..ATTEMPTS {
        let on = on_interface(index).map_err(failed)?;
        let (old, generic) = match &on {
            Some((dispatcher, generic)) => (Some(&**dispatcher), *generic),
            None => (None, generic),
        };
        let known = pins.components(index);
        let (own, others) = divide(old, index, &known).map_err(failed)?;
        let role = Role {
            name: PROGRAM.to_owned(),
            id: None,
            priority,
            goes_on_after: GOES_ON_AFTER,
            frags: true,
        };
        let mut supply = Own {
            programs,
            pins,
            interface: index,
            marked: None,
        };
        let mut parts: Vec<_> = others.into_iter().map(loaded).collect();
        parts.push(Part::Own(role, &mut supply));
        let place = Place {
            interface: index,
            generic,
            old,
        };
        let put = build::put(folder, place, parts);
        let marked = supply.marked.take();
        match (put, marked) {
            (Ok(dispatcher), Some((program, mark))) => {
                // What an earlier daemon, or this one, was thrown out of together with the dispatcher.
                let programs = known.keys().copied().chain([program]).collect();
                folder.forget(index, &programs, Some(dispatcher));
                let chain = read(index).map_err(failed)?;
                let membership = Membership {
                    interface: index,
                    program,
                    chain,
                    marked: Object::pinned(&mark).ok(),
                    mark,
                    left: Left::new(own, &known),
                };
                return Ok((membership, generic));
            }
            (Ok(_), None) => return Err(failed("abuser's program was left out".to_owned())),
            (Err(failure), marked) => {
                if let Some((program, mark)) = marked
                    && !own
                        .iter()
                        .any(|component| component.role.id == Some(program))
                {
                    let _gone = std::fs::remove_file(mark);
                }
                match failure {
                    Failure::Overtaken => {}
                    Failure::Refused(error) => {
                        let error = ProgramError::SyscallError(SyscallError {
                            call: "RTM_SETLINK",
                            io_error: error,
                        });
                        return Err(Refusal::new(interface, generic, &error));
                    }
                    Failure::Other(message) => return Err(failed(message)),
                }
            }
        }
    }
    Err(failed(format!(
        "others replaced what is on it {ATTEMPTS} times meanwhile"
    )))
}

/// Why a component is still in its dispatcher.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// Somebody else changes dispatchers.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Takes the components with these ids out of the dispatcher on an interface, if they are in one.
/// If nobody else is in it, the dispatcher goes, too.
pub(in crate::dataplane) fn leave(
    index: u32,
    programs: &BTreeSet<u32>,
    access: &mut Access,
) -> Result<(), Kept> {
    replace(index, programs, access, Vec::new)
}

/// Takes components out of the dispatcher on an interface and puts others in.
fn replace(
    index: u32,
    programs: &BTreeSet<u32>,
    access: &mut Access,
    by: impl FnMut() -> Vec<Component>,
) -> Result<(), Kept> {
    let folder = access.folder()?;
    let on_it = replace_locked(folder, index, programs, by).map_err(Kept::Other)?;
    // A dispatcher that was taken off by hand, or vanished with its interface, has pins still.
    folder.forget(index, programs, on_it);
    Ok(())
}

/// The same under the lock; says which program is on the interface then, if one is.
fn replace_locked(
    folder: &Folder,
    index: u32,
    programs: &BTreeSet<u32>,
    mut by: impl FnMut() -> Vec<Component>,
) -> Result<Option<u32>, String> {
    for _ in 0..ATTEMPTS {
        let on = match rtnl::attached(index) {
            Ok(Some(attached)) => attached,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let old = match Found::with_id(on.program) {
            Found::Dispatcher(old) => old,
            Found::Unknown(why) | Found::Unseen(why) => return Err(why),
            Found::Program => return Ok(Some(on.program)),
        };
        let components = old.components(index)?;
        let before = components.len();
        let mut parts: Vec<_> = components
            .into_iter()
            .filter(|component| !component.role.id.is_some_and(|id| programs.contains(&id)))
            .map(loaded)
            .collect();
        if parts.len() == before {
            return Ok(Some(on.program));
        }
        parts.extend(by().into_iter().map(loaded));
        let place = Place {
            interface: index,
            generic: on.generic,
            old: Some(&old),
        };
        let done = if parts.is_empty() {
            build::remove(folder, place).map(|()| None)
        } else {
            build::put(folder, place, parts).map(Some)
        };
        match done {
            Ok(on_it) => return Ok(on_it),
            Err(Failure::Overtaken) => {}
            Err(Failure::Refused(error)) => return Err(error.to_string()),
            Err(Failure::Other(message)) => return Err(message),
        }
    }
    Err(format!(
        "others replaced what is on it {ATTEMPTS} times meanwhile"
    ))
}

impl Membership {
    /// The version of the layout of what an earlier daemon left in the dispatcher.
    pub(in crate::dataplane) fn left_by(&self) -> Option<u32> {
        self.left.as_ref().map(|left| left.version)
    }

    /// Keeps the component for good.
    pub(in crate::dataplane) fn settle(&mut self) {
        self.left = None;
    }

    /// Sees to it that the next daemon is told of the program; says whether it would not have been.
    pub(in crate::dataplane) fn keep_marked(&self) -> io::Result<bool> {
        let marked = self.marked.as_ref();
        marked.map_or(Ok(false), |marked| marked.keep_pinned(&self.mark))
    }

    /// Looks where the component is now.
    pub(in crate::dataplane) fn look(&mut self, access: &mut Access) -> Standing {
        // Nobody takes a dispatcher apart meanwhile that they have just replaced. Whoever holds the
        // lock is not waited for: there will be another look.
        if access.take().is_err() {
            return Standing::Same;
        }
        // Whatever cannot be asked about stays as it is.
        let Ok(attached) = rtnl::attached(self.interface) else {
            return Standing::Same;
        };
        let dispatcher = match attached.map(|attached| Found::with_id(attached.program)) {
            Some(Found::Dispatcher(dispatcher)) => dispatcher,
            Some(Found::Unknown(_) | Found::Unseen(_)) => return Standing::Same,
            Some(Found::Program) | None => return Standing::Out,
        };
        match chain_of(&dispatcher, self.interface) {
            Ok(chain) if chain == self.chain => Standing::Same,
            Ok(chain) if chain.links.iter().any(|link| link.program == self.program) => {
                self.chain = chain;
                Standing::Moved
            }
            Ok(_) => Standing::Out,
            Err(_) => Standing::Same,
        }
    }

    /// Takes the component out. If it stays in, it can be tried again.
    pub(in crate::dataplane) fn leave(&self, access: &mut Access) -> Result<(), Kept> {
        self.give_way(access, Vec::new)
    }

    /// Puts back what an earlier daemon had left, or takes the component out.
    pub(in crate::dataplane) fn take_back(&mut self, access: &mut Access) -> Result<(), Kept> {
        let left = self.left.take();
        let mut components = left.map(|left| left.components);
        self.give_way(access, || components.take().unwrap_or_default())
    }

    /// The mark goes with the component.
    fn give_way(
        &self,
        access: &mut Access,
        to: impl FnMut() -> Vec<Component>,
    ) -> Result<(), Kept> {
        let ids = BTreeSet::from([self.program]);
        replace(self.interface, &ids, access, to)?;
        let _gone = std::fs::remove_file(&self.mark);
        Ok(())
    }
}

impl Left {
    fn new(components: Vec<Component>, known: &BTreeMap<u32, u32>) -> Option<Self> {
        let first = components.first()?.role.id?;
        Some(Self {
            version: known.get(&first).copied()?,
            components,
        })
    }
}

fn loaded<'a>(component: Component) -> Part<'a> {
    Part::Loaded(Box::new(component))
}

/// The dispatcher on an interface, and whether it runs in generic mode.
fn on_interface(index: u32) -> Result<Option<(Box<Dispatcher>, bool)>, String> {
    let attached = rtnl::attached(index).map_err(|error| error.to_string())?;
    let Some(AttachedXdp { program, generic }) = attached else {
        return Ok(None);
    };
    match Found::with_id(program) {
        Found::Dispatcher(dispatcher) => Ok(Some((dispatcher, generic))),
        Found::Unknown(why) | Found::Unseen(why) => Err(why),
        Found::Program => Err(format!("program {program} has taken its place")),
    }
}

/// The components that are abuser's, and those that are not.
fn divide(
    dispatcher: Option<&Dispatcher>,
    index: u32,
    known: &BTreeMap<u32, u32>,
) -> Result<(Vec<Component>, Vec<Component>), String> {
    let components = dispatcher.map_or_else(|| Ok(Vec::new()), |found| found.components(index))?;
    let is_own = |component: &Component| {
        let id = component.role.id;
        id.is_some_and(|id| known.contains_key(&id))
    };
    Ok(components.into_iter().partition(is_own))
}

/// Who is called on an interface now.
fn read(index: u32) -> Result<Chain, String> {
    let Some((dispatcher, _)) = on_interface(index)? else {
        return Err("nothing is on the interface".to_owned());
    };
    chain_of(&dispatcher, index)
}

fn chain_of(dispatcher: &Dispatcher, index: u32) -> Result<Chain, String> {
    let components = dispatcher.components(index)?;
    let links = components.into_iter().map(|component| ChainLink {
        name: component.role.name,
        program: component.role.id.unwrap_or_default(),
        priority: component.role.priority,
    });
    Ok(Chain {
        dispatcher: dispatcher.id,
        links: links.collect(),
    })
}

/// abuser's program, and where it is noted to be abuser's.
struct Own<'a> {
    programs: &'a mut Programs,
    pins: &'a PinDir,
    interface: u32,
    marked: Option<(u32, PathBuf)>,
}

impl Supply for Own<'_> {
    fn program(&mut self) -> Result<&mut Extension, String> {
        self.programs.component()
    }

    fn note(&mut self) -> Result<(), String> {
        let program = self.programs.component()?;
        let id = program.info().map_err(|error| chain(&error))?.id();
        let mark = self.pins.own().component(self.interface, id);
        if !mark.exists() {
            program.pin(&mark).map_err(|error| chain(&error))?;
        }
        self.marked = Some((id, mark));
        Ok(())
    }
}
