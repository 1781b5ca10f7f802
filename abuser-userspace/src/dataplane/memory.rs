//! Array maps as memory: the program and the daemon read and write the same words.

use std::{
    ops::Deref,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::AtomicU64,
};

use aya::{Ebpf, maps::Map};
use memmap2::{MmapOptions, MmapRaw};

use super::error::DataplaneError;

/// An array map whose values are made of 64-bit words, as those words.
pub struct Words {
    memory: MmapRaw,
}

impl Words {
    /// Maps the array `name`, which has `count` words, into memory.
    pub(super) fn open(
        program: &mut Ebpf,
        name: &str,
        count: usize,
    ) -> Result<Self, DataplaneError> {
        let missing = || DataplaneError::Map {
            map: name.to_owned(),
            message: "the object does not have it as an array".to_owned(),
        };
        let Some(Map::Array(data)) = program.map(name) else {
            return Err(missing());
        };
        // The mapping holds the map; the descriptor is not needed any more.
        let memory = MmapOptions::new()
            .len(count * size_of::<u64>())
            .map_raw(data.fd().as_fd().as_raw_fd())
            .map_err(|source| DataplaneError::Map {
                map: name.to_owned(),
                message: format!("cannot map it into memory: {source}"),
            })?;
        Ok(Self { memory })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &Self::Target {
        let count = self.memory.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is page-aligned, as long as that, and lives as long as self;
        // all others, the program among them, change it only a word at a time.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), count) }
    }
}
