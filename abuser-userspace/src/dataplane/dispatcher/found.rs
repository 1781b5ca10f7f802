//! What is known of a dispatcher that is on an interface: its version, and who is in it.

use std::os::fd::{AsFd as _, BorrowedFd};

use abuser_common::dispatcher::{self, Config, EMPTY_SLOT, MAX_COMPONENTS, VERSION};
use aya::{
    maps::{Array, Map, MapData},
    programs::{Extension, ProgramError, ProgramInfo, Xdp, loaded_programs},
};
use aya_obj::programs::XdpAttachType;

use super::folder::Pins;
use crate::dataplane::error::chain;

/// The bytes of version 1's configuration.
const VERSION_1_BYTES: u32 = 84;

/// What an XDP program turns out to be.
#[derive(Debug)]
pub(in crate::dataplane) enum Found {
    /// A program of its own.
    Program,
    /// A dispatcher that abuser does not know how to change, and why.
    Unknown(String),
    /// Something that this process may not look at, and why.
    Unseen(String),
    /// One of the version that it knows.
    Dispatcher(Box<Dispatcher>),
}

/// A dispatcher, and who is in it.
#[derive(Debug)]
pub(in crate::dataplane) struct Dispatcher {
    program: Xdp,
    /// Its program's id.
    pub(in crate::dataplane) id: u32,
    config: Config,
}

/// A component of a dispatcher.
#[derive(Debug)]
pub(in crate::dataplane) struct Component {
    pub(super) program: Extension,
    /// What its place in the chain depends on, and what it does there.
    pub(super) role: Role,
}

/// Who a component is, and what it has agreed with the dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    /// The program's id; none before it is loaded.
    pub(super) id: Option<u32>,
    pub(super) priority: u32,
    /// A bit for each action after which the next component is called.
    pub(super) goes_on_after: u32,
    pub(super) frags: bool,
}

impl Found {
    /// What the program with this id is.
    pub(in crate::dataplane) fn with_id(id: u32) -> Self {
        let mut failure = None;
        let mut programs = loaded_programs().filter_map(|program| match program {
            Ok(program) => Some(program),
            Err(error) => {
                failure = Some(chain(&error));
                None
            }
        });
        let found = programs.find(|program| program.id() == id);
        drop(programs);
        let Some(info) = found else {
            // Who may not look at it cannot say that it is none.
            return failure.map_or(Self::Program, Self::Unseen);
        };
        if info.name_as_str() != Some(dispatcher::PROGRAM) {
            return Self::Program;
        }
        match config(&info) {
            Ok(config) => {
                let name = dispatcher::PROGRAM.into();
                match Xdp::from_program_info(info, name, XdpAttachType::Interface) {
                    Ok(program) => Self::Dispatcher(Box::new(Dispatcher {
                        program,
                        id,
                        config,
                    })),
                    Err(error) => Self::Unknown(chain(&error)),
                }
            }
            Err(why) => Self::Unknown(why),
        }
    }
}

/// Reads what a dispatcher was told; an error says what is there instead.
fn config(info: &ProgramInfo) -> Result<Config, String> {
    let maps = info.map_ids().map_err(|error| chain(&error))?;
    let maps = maps.unwrap_or_default();
    let [map] = maps.as_slice() else {
        return Err(format!("it has {} maps, not one", maps.len()));
    };
    let data = MapData::from_id(*map).map_err(|error| chain(&error))?;
    let info = data.info().map_err(|error| chain(&error))?;
    let size = info.value_size();
    if size != bytes() {
        return Err(if size == VERSION_1_BYTES {
            "it is of version 1".to_owned()
        } else {
            format!(
                "its configuration has {size} bytes, that of version {VERSION} has {}",
                bytes()
            )
        });
    }
    let map: Array<_, Config> = Array::try_from(Map::Array(data)).map_err(|error| chain(&error))?;
    let config = map.get(&0, 0).map_err(|error| chain(&error))?;
    check(&config)?;
    Ok(config)
}

fn bytes() -> u32 {
    u32::try_from(size_of::<Config>()).unwrap_or(u32::MAX)
}

/// Whether this is a configuration of the version that is spoken here.
fn check(config: &Config) -> Result<(), String> {
    let Config {
        magic,
        version,
        components,
        ..
    } = config;
    if *magic != dispatcher::MAGIC {
        return Err(format!(
            "its configuration begins with {magic}, not with {}",
            dispatcher::MAGIC
        ));
    }
    if *version != VERSION {
        return Err(format!("it is of version {version}"));
    }
    if usize::from(*components) > MAX_COMPONENTS {
        return Err(format!("it says that it has {components} components"));
    }
    Ok(())
}

impl Dispatcher {
    /// Its program.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>, ProgramError> {
        Ok(self.program.fd()?.as_fd())
    }

    /// How many components it has.
    pub(in crate::dataplane) fn len(&self) -> usize {
        usize::from(self.config.components)
    }

    /// Its components in their order; an error says which is not to be had.
    pub(super) fn components(&self, interface: u32) -> Result<Vec<Component>, String> {
        let pins = Pins::look(interface, self.id);
        let config = &self.config;
        let agreed = config
            .chain_call_actions
            .iter()
            .zip(&config.run_priorities)
            .zip(&config.program_flags);
        agreed
            .take(self.len())
            .enumerate()
            .map(|(slot, ((actions, priority), flags))| {
                let unpinned = |error: &dyn std::error::Error| {
                    format!(
                        "its component {slot} is not pinned in {}: {}",
                        pins.path().display(),
                        chain(error)
                    )
                };
                let program =
                    Extension::from_pin(pins.program(slot)).map_err(|error| unpinned(&error))?;
                let info = program.info().map_err(|error| unpinned(&error))?;
                let role = Role {
                    name: info.name_as_str().unwrap_or_default().to_owned(),
                    id: Some(info.id()),
                    priority: *priority,
                    goes_on_after: actions & !(1 << EMPTY_SLOT),
                    frags: flags & dispatcher::HAS_FRAGS != 0,
                };
                Ok(Component { program, role })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_version_2_is_refused_by_what_it_is() {
        assert_eq!(check(&Config::EMPTY), Ok(()));
        let told = |change: fn(&mut Config)| {
            let mut config = Config::EMPTY;
            change(&mut config);
            check(&config).unwrap_err()
        };
        assert_eq!(told(|config| config.version = 3), "it is of version 3");
        assert_eq!(
            told(|config| config.magic = 1),
            "its configuration begins with 1, not with 236"
        );
        assert_eq!(
            told(|config| config.components = 11),
            "it says that it has 11 components"
        );
    }
}
