//! The ban and allow tables: hash maps keyed by prefix, with their hints kept exact.

use std::os::fd::{AsFd as _, OwnedFd};

use abuser_common::{
    layout::{MAX_ALLOWED, MAX_BANS},
    prefix::{List, PrefixKey},
};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use nix::errno::Errno;

use super::{batch, error::DataplaneError, hints::Hints, program::take_map};

/// One of the two tables.
pub struct PrefixTable<V: Pod> {
    map: HashMap<MapData, PrefixKey, V>,
    /// The same map, for what aya does not do.
    fd: OwnedFd,
    name: &'static str,
    list: List,
}

/// The kernel's flags of an update.
const NOEXIST: u64 = 1;

impl<V: Pod + Default> PrefixTable<V> {
    /// Takes the map out of the program.
    pub(super) fn open(
        program: &mut Ebpf,
        name: &'static str,
        list: List,
    ) -> Result<Self, DataplaneError> {
        let missing = || DataplaneError::Map {
            map: name.to_owned(),
            message: "the object does not have it as a hash map".to_owned(),
        };
        let Some(Map::HashMap(data)) = program.map(name) else {
            return Err(missing());
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| DataplaneError::Map {
            map: name.to_owned(),
            message: format!("cannot duplicate its descriptor: {source}"),
        })?;
        Ok(Self {
            map: take_map(program, name)?,
            fd,
            name,
            list,
        })
    }

    /// Every entry.
    pub fn entries(&self) -> Result<Vec<(PrefixKey, V)>, DataplaneError> {
        batch::entries(self.fd.as_fd()).map_err(|source| DataplaneError::Map {
            map: self.name.to_owned(),
            message: format!("cannot read its entries: {source}"),
        })
    }

    /// The entry of exactly this prefix.
    pub fn get(&self, key: &PrefixKey) -> Result<Option<V>, DataplaneError> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(DataplaneError::map(self.name, error)),
        }
    }

    /// Writes an entry, new or not. It holds from the next packet on.
    pub fn insert(
        &mut self,
        hints: &mut Hints,
        key: &PrefixKey,
        value: V,
    ) -> Result<(), DataplaneError> {
        match self.map.insert(key, value, NOEXIST) {
            Ok(()) => {
                hints.insert(self.list, key);
                Ok(())
            }
            Err(error) if errno(&error) == Some(Errno::EEXIST) => self
                .map
                .insert(key, value, 0)
                .map_err(|error| self.insert_error(error)),
            Err(error) => Err(self.insert_error(error)),
        }
    }

    /// [`PrefixTable::insert`] for many entries, with a system call for thousands of them.
    /// If one fails, those before it are in force.
    pub fn insert_all(
        &mut self,
        hints: &mut Hints,
        entries: &[(PrefixKey, V)],
    ) -> Result<(), DataplaneError> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
        let mut start = 0;
        while let (Some(keys), Some(values)) = (keys.get(start..), values.get(start..))
            && !keys.is_empty()
        {
            let result = batch::insert_new(self.fd.as_fd(), keys, values);
            let done = result
                .as_ref()
                .map_or_else(|stopped| stopped.done, |()| keys.len());
            for key in keys.iter().take(done) {
                hints.insert(self.list, key);
            }
            start += done;
            let Err(stopped) = result else {
                return Ok(());
            };
            let (Some(key), Some(value)) = (keys.get(done), values.get(done)) else {
                return Ok(());
            };
            // The batch ends at an entry that is there already, and at one that does not fit.
            tracing::trace!(errno = %stopped.errno, "batch stopped");
            self.insert(hints, key, *value)?;
            start += 1;
        }
        Ok(())
    }

    /// Removes an entry; `false` if there was none.
    pub fn remove(&mut self, hints: &mut Hints, key: &PrefixKey) -> Result<bool, DataplaneError> {
        match self.map.remove(key) {
            Ok(()) => {
                hints.remove(self.list, key);
                Ok(true)
            }
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(DataplaneError::map(self.name, error)),
        }
    }

    fn insert_error(&self, error: MapError) -> DataplaneError {
        let (table, capacity) = match self.list {
            List::Bans => ("ban table", MAX_BANS),
            List::Allowed => ("allow list", MAX_ALLOWED),
        };
        match errno(&error) {
            Some(Errno::E2BIG) => DataplaneError::Full { table, capacity },
            _ => DataplaneError::map(self.name, error),
        }
    }
}

fn errno(error: &MapError) -> Option<Errno> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error().map(Errno::from_raw),
        _ => None,
    }
}
