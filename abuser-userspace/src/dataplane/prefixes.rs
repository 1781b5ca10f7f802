//! The tables of bans, of who is allowed and of who is throttled: hash maps keyed by prefix, with their hints kept exact.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, OwnedFd},
};

use abuser_common::{
    layout::{MAX_ALLOWED, MAX_BANS, MAX_THROTTLED},
    prefix::{List, PrefixKey},
};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use foldhash::fast::RandomState;
use nix::errno::Errno;

use super::{batch, error::DataplaneError, hints::Hints, program::take_map};

/// One of the tables.
pub struct PrefixTable<V: Pod> {
    map: HashMap<MapData, PrefixKey, V>,
    /// The same map, for what aya does not do.
    fd: OwnedFd,
    name: &'static str,
    list: List,
    /// What is in the map: hints count each entry once.
    known: HashSet<PrefixKey, RandomState>,
    /// What was in the map when it was opened, for whoever starts with it: a million entries are
    /// not read twice.
    adopted: Vec<(PrefixKey, V)>,
}

/// Who reads a table beside the one that owns it.
#[derive(Debug)]
pub struct PrefixReader<V: Pod>(HashMap<MapData, PrefixKey, V>);

impl<V: Pod> PrefixReader<V> {
    /// The entry of exactly this prefix, if there is one that can be read.
    pub fn get(&self, key: &PrefixKey) -> Option<V> {
        self.0.get(key, 0).ok()
    }
}

/// Where a walk over a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(u32);

/// Entries that are read one by one.
const FEW: usize = 10_000;

impl<V: Pod + Default> PrefixTable<V> {
    /// Takes the map out of the program, with what is in it.
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
        let fd = fd.map_err(|source| undoubled(name, &source))?;
        let mut table = Self {
            map: take_map(program, name)?,
            fd,
            name,
            list,
            known: HashSet::default(),
            adopted: Vec::new(),
        };
        table.adopted = table.read_all()?;
        table.known = table.adopted.iter().map(|(key, _)| *key).collect();
        Ok(table)
    }

    /// Who reads it from elsewhere.
    pub fn reader(&self) -> Result<PrefixReader<V>, DataplaneError> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|source| undoubled(self.name, &source))?;
        let data = MapData::from_fd(fd).map_err(|error| DataplaneError::map(self.name, error))?;
        let map = HashMap::try_from(Map::HashMap(data));
        Ok(PrefixReader(
            map.map_err(|error| DataplaneError::map(self.name, error))?,
        ))
    }

    /// The prefixes that have an entry.
    pub(super) fn keys(&self) -> impl Iterator<Item = &PrefixKey> {
        self.known.iter()
    }

    /// What was in the map when it was opened, once.
    pub fn take_adopted(&mut self) -> Vec<(PrefixKey, V)> {
        std::mem::take(&mut self.adopted)
    }

    /// Every entry.
    pub fn entries(&self) -> Result<Vec<(PrefixKey, V)>, DataplaneError> {
        // All at once the kernel walks a million buckets, which takes milliseconds.
        if self.known.len() > FEW {
            return self.read_all();
        }
        let entry = |key: &PrefixKey| Ok(self.get(key)?.map(|value| (*key, value)));
        self.known
            .iter()
            .filter_map(|key| entry(key).transpose())
            .collect()
    }

    /// Every entry that the kernel has, whoever made it.
    pub fn read_all(&self) -> Result<Vec<(PrefixKey, V)>, DataplaneError> {
        batch::entries(self.fd.as_fd()).map_err(|source| self.unreadable(&source))
    }

    /// Some of them, about `count`, from a position on, and the position after them.
    pub fn page(
        &self,
        position: Option<Position>,
        count: usize,
    ) -> Result<batch::Page<PrefixKey, V, Position>, DataplaneError> {
        let position = position.map(|Position(position)| position);
        let (entries, next) = batch::page(self.fd.as_fd(), position, count)
            .map_err(|source| self.unreadable(&source))?;
        Ok((entries, next.map(Position)))
    }

    fn unreadable(&self, source: &std::io::Error) -> DataplaneError {
        DataplaneError::Map {
            map: self.name.to_owned(),
            message: format!("cannot read its entries: {source}"),
        }
    }

    /// The entry of exactly this prefix.
    pub fn get(&self, key: &PrefixKey) -> Result<Option<V>, DataplaneError> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(DataplaneError::map(self.name, error)),
        }
    }

    /// Writes entries, new or not, with one system call for thousands of them: all or, if
    /// one cannot be written, none. They hold from the next packet on.
    pub fn insert(
        &mut self,
        hints: &mut Hints,
        entries: &[(PrefixKey, V)],
    ) -> Result<(), DataplaneError> {
        let mut before = Vec::new();
        for (key, _) in entries.iter().filter(|(key, _)| self.known.contains(key)) {
            before.extend(self.get(key)?.map(|value| (*key, value)));
        }
        let (keys, values): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
        let result = batch::insert(self.fd.as_fd(), &keys, &values);
        let written = result
            .as_ref()
            .map_or_else(|stopped| stopped.done, |()| keys.len());
        let mut new = Vec::new();
        for key in keys.into_iter().take(written) {
            if self.known.insert(key) {
                hints.insert(self.list, &key);
                new.push(key);
            }
        }
        let Err(stopped) = result else {
            return Ok(());
        };
        for key in &new {
            self.remove(hints, key)?;
        }
        let (keys, values): (Vec<_>, Vec<_>) = before.into_iter().unzip();
        batch::insert(self.fd.as_fd(), &keys, &values)
            .map_err(|stopped| self.error(stopped.errno))?;
        Err(self.error(stopped.errno))
    }

    /// Removes an entry; `false` if there was none.
    pub fn remove(&mut self, hints: &mut Hints, key: &PrefixKey) -> Result<bool, DataplaneError> {
        match self.map.remove(key) {
            Ok(()) => {
                self.forget(hints, key);
                Ok(true)
            }
            // Someone else removed it, and could not know of its hints.
            Err(MapError::KeyNotFound) => {
                self.forget(hints, key);
                Ok(false)
            }
            Err(error) if errno(&error) == Some(Errno::ENOENT) => {
                self.forget(hints, key);
                Ok(false)
            }
            Err(error) => Err(DataplaneError::map(self.name, error)),
        }
    }

    fn forget(&mut self, hints: &mut Hints, key: &PrefixKey) {
        if self.known.remove(key) {
            hints.remove(self.list, key);
        }
    }

    /// Makes sure that there is room for an entry of this prefix, or that there is one.
    ///
    /// # Errors
    /// If the table is full.
    pub fn check_room(&self, key: &PrefixKey) -> Result<(), DataplaneError> {
        let capacity = usize::try_from(self.capacity()).unwrap_or(usize::MAX);
        if self.known.len() < capacity || self.known.contains(key) {
            return Ok(());
        }
        Err(self.full())
    }

    fn capacity(&self) -> u32 {
        match self.list {
            List::Bans => MAX_BANS,
            List::Allowed => MAX_ALLOWED,
            List::Throttled => MAX_THROTTLED,
        }
    }

    fn full(&self) -> DataplaneError {
        DataplaneError::Full {
            table: match self.list {
                List::Bans => "ban table",
                List::Allowed => "allow list",
                List::Throttled => "throttle table",
            },
            capacity: self.capacity(),
        }
    }

    fn error(&self, errno: Errno) -> DataplaneError {
        match errno {
            Errno::E2BIG => self.full(),
            errno => DataplaneError::Map {
                map: self.name.to_owned(),
                message: format!("cannot write an entry: {errno}"),
            },
        }
    }
}

fn undoubled(name: &str, source: &std::io::Error) -> DataplaneError {
    DataplaneError::Map {
        map: name.to_owned(),
        message: format!("cannot duplicate its descriptor: {source}"),
    }
}

fn errno(error: &MapError) -> Option<Errno> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error().map(Errno::from_raw),
        _ => None,
    }
}
