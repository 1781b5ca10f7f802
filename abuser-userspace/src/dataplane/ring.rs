//! How much of the ring buffer is not read yet.
//!
//! aya does not tell how far it has read. Both positions are in memory that the kernel shares: the
//! reader's in the first page of the map, the writer's in the second (`bpf_ringbuf` in
//! kernel/bpf/ringbuf.c).

#![expect(unsafe_code, reason = "memory that the kernel shares")]

use std::{
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use abuser_common::layout::maps;
use aya::maps::{MapData, RingBuf};
use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};

use super::error::DataplaneError;

/// The positions of a ring buffer's reader and its writers, in bytes since it was made.
pub(super) struct Positions {
    memory: MmapRaw,
    page_size: usize,
}

impl Positions {
    pub(super) fn of(ring: &RingBuf<MapData>) -> Result<Self, DataplaneError> {
        let page_size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_size = page_size.and_then(|size| usize::try_from(size).ok());
        let page_size = page_size.unwrap_or(4096);
        // The mapping holds the map. Not for writing: the kernel allows that for the first page only.
        let memory = MmapOptions::new()
            .len(2 * page_size)
            .map_raw_read_only(ring.as_raw_fd())
            .map_err(|source| DataplaneError::Map {
                map: maps::EVENTS.to_owned(),
                message: format!("cannot map its positions into memory: {source}"),
            })?;
        Ok(Self { memory, page_size })
    }

    /// Bytes that were written, or are being written, and not read.
    pub(super) fn unread_bytes(&self) -> u64 {
        // The reader first: it never gets ahead of what is read of the writers after it.
        let read = self.at(0);
        let written = self.at(self.page_size);
        written.wrapping_sub(read) as u64
    }

    fn at(&self, offset: usize) -> usize {
        let count = self.memory.len() / size_of::<AtomicUsize>();
        // SAFETY: the mapping is page-aligned, as long as that, and lives as long as self; the kernel
        // and the reader change it only a word at a time.
        let words: &[AtomicUsize] =
            unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), count) };
        let word = words.get(offset / size_of::<AtomicUsize>());
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }
}
