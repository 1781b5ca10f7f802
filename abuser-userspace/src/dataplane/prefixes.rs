//! The ban and allow tables: hash maps keyed by prefix, and beside them the mask of prefix
//! lengths in use, which the program reads to know what to look up.

use std::collections::BTreeMap;

use abuser_common::{
    layout::maps,
    prefix::{self, Family, List, PrefixKey},
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, MapError},
};

use super::{error::DataplaneError, program::take_map};

/// The `LENGTHS` map.
pub struct Lengths(Array<MapData, prefix::Lengths>);

impl Lengths {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        take_map(program, maps::LENGTHS).map(Self)
    }

    fn set(&mut self, list: List, lengths: prefix::Lengths) -> Result<(), DataplaneError> {
        self.0
            .set(list as u32, lengths, 0)
            .map_err(|error| DataplaneError::map(maps::LENGTHS, error))
    }
}

/// One of the two tables.
pub struct PrefixTable<V: Pod> {
    map: HashMap<MapData, PrefixKey, V>,
    name: &'static str,
    list: List,
    /// How many entries there are of each length.
    counts: BTreeMap<(u32, u32), u32>,
}

impl<V: Pod> PrefixTable<V> {
    /// Takes the map out of the program, and sets the mask to what the map holds.
    pub(super) fn open(
        program: &mut Ebpf,
        name: &'static str,
        list: List,
        lengths: &mut Lengths,
    ) -> Result<Self, DataplaneError> {
        let map = take_map(program, name)?;
        let mut table = Self {
            map,
            name,
            list,
            counts: BTreeMap::new(),
        };
        for (key, _) in table.entries()? {
            *table.counts.entry((key.family, key.length)).or_default() += 1;
        }
        lengths.set(list, table.lengths())?;
        Ok(table)
    }

    /// Every entry.
    pub fn entries(&self) -> Result<Vec<(PrefixKey, V)>, DataplaneError> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(|error| DataplaneError::map(self.name, error))
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
        lengths: &mut Lengths,
        key: &PrefixKey,
        value: V,
    ) -> Result<(), DataplaneError> {
        let is_new = self.get(key)?.is_none();
        if is_new {
            // The mask first: a length too many costs a look-up, one too few a ban.
            *self.counts.entry((key.family, key.length)).or_default() += 1;
            lengths.set(self.list, self.lengths())?;
        }
        self.map.insert(key, value, 0).map_err(|error| match error {
            MapError::SyscallError(error) if is_full(&error.io_error) => DataplaneError::Full {
                table: self.title(),
                capacity: self.capacity(),
            },
            error => DataplaneError::map(self.name, error),
        })
    }

    /// Removes an entry; `false` if there was none.
    pub fn remove(
        &mut self,
        lengths: &mut Lengths,
        key: &PrefixKey,
    ) -> Result<bool, DataplaneError> {
        match self.map.remove(key) {
            Ok(()) => {}
            Err(MapError::KeyNotFound) => return Ok(false),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(false);
            }
            Err(error) => return Err(DataplaneError::map(self.name, error)),
        }
        if let Some(count) = self.counts.get_mut(&(key.family, key.length)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&(key.family, key.length));
                lengths.set(self.list, self.lengths())?;
            }
        }
        Ok(true)
    }

    fn lengths(&self) -> prefix::Lengths {
        let mut lengths = prefix::Lengths::default();
        for (family, length) in self.counts.keys() {
            let family = if *family == Family::V4 as u32 {
                Family::V4
            } else {
                Family::V6
            };
            lengths.insert(family, u8::try_from(*length).unwrap_or(u8::MAX));
        }
        lengths
    }

    fn title(&self) -> &'static str {
        match self.list {
            List::Bans => "ban table",
            List::Allowed => "allow list",
        }
    }

    fn capacity(&self) -> u32 {
        match self.list {
            List::Bans => abuser_common::layout::MAX_BANS,
            List::Allowed => abuser_common::layout::MAX_ALLOWED,
        }
    }
}

/// A hash map says `E2BIG` when it is full, or `ENOMEM` when its free list is empty.
fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(nix::errno::Errno::E2BIG | nix::errno::Errno::ENOMEM)
    )
}
