//! Array maps as memory: the program and the daemon read and write the same words.

#![expect(unsafe_code, reason = "memory that the kernel shares")]

use std::{
    fmt::Write as _,
    io,
    ops::Deref,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
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
                message: unmapped(count * size_of::<u64>(), &source),
            })?;
        Ok(Self { memory })
    }
}

/// Gives words their values where these differ: memory that nobody has written yet stays untouched, and what is
/// right stays so all the while, as the program may be using it.
pub(super) fn assign<'a>(
    words: impl IntoIterator<Item = &'a AtomicU64>,
    values: impl IntoIterator<Item = u64>,
) {
    for (word, value) in words.into_iter().zip(values) {
        if word.load(Ordering::Relaxed) != value {
            word.store(value, Ordering::SeqCst);
        }
    }
}

/// What is wrong with so many bytes, and what to do.
fn unmapped(bytes: usize, source: &io::Error) -> String {
    let mut message = format!("cannot map it into memory: {source}");
    if source.kind() == io::ErrorKind::OutOfMemory {
        let megabytes = bytes >> 20;
        let _infallible = write!(
            message,
            "; it takes {megabytes} MiB of address space, which are not all filled: raise that limit \
             (`ulimit -v`, LimitAS= of a unit)"
        );
    }
    message
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
