//! Many entries of a hash map with one system call (Linux 5.6). aya has no such thing.

#![expect(unsafe_code, reason = "aya has no batches of entries")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;
use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::errno::Errno;

use super::syscall;

/// Entries in one call: a few hundred kilobytes of them.
const CHUNK: usize = 8192;

/// Why a batch stopped, and how many entries were dealt with before.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) done: usize,
    pub(super) errno: Errno,
}

/// Writes entries, new or not, in their order.
pub(super) fn insert<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), Stopped> {
    let mut done = 0;
    for (keys, values) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        let mut attributes = attributes(map);
        attributes.batch.keys = keys.as_ptr() as u64;
        attributes.batch.values = values.as_ptr() as u64;
        attributes.batch.count = u32::try_from(keys.len().min(values.len())).unwrap_or(0);
        let result = call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attributes);
        // SAFETY: all fields of this union are integers.
        let count = unsafe { attributes.batch.count } as usize;
        match result {
            Ok(()) => done += keys.len(),
            // Refused as a whole: the kernel has not even set the count.
            Err(errno) if count == keys.len() => return Err(Stopped { done, errno }),
            Err(errno) => {
                let done = done + count;
                return Err(Stopped { done, errno });
            }
        }
    }
    Ok(())
}

/// Some entries, and where the next ones are, unless there are none.
pub(super) type Page<K, V, P> = (Vec<(K, V)>, Option<P>);

/// Every entry of a map.
pub(super) fn entries<K: Pod + Default, V: Pod + Default>(
    map: BorrowedFd<'_>,
) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut position = None;
    loop {
        let (page, next) = page(map, position, CHUNK)?;
        entries.extend(page);
        match next {
            Some(next) => position = Some(next),
            None => return Ok(entries),
        }
    }
}

/// Some entries of a map from a position on, about `count` of them, and the position after
/// them; without a position, the first ones.
pub(super) fn page<K: Pod + Default, V: Pod + Default>(
    map: BorrowedFd<'_>,
    position: Option<u32>,
    count: usize,
) -> io::Result<Page<K, V, u32>> {
    // As many as one of the kernel's own buckets can hold, at the least.
    let mut size = count.max(1);
    loop {
        let (mut keys, mut values) = (vec![K::default(); size], vec![V::default(); size]);
        let mut next = 0_u32;
        let mut attributes = attributes(map);
        attributes.batch.in_batch = position
            .as_ref()
            .map_or(0, |position| std::ptr::from_ref(position) as u64);
        attributes.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
        attributes.batch.keys = keys.as_mut_ptr() as u64;
        attributes.batch.values = values.as_mut_ptr() as u64;
        attributes.batch.count = u32::try_from(size).unwrap_or(u32::MAX);
        let result = call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes);
        // SAFETY: the kernel writes the count whatever the outcome.
        let count = unsafe { attributes.batch.count } as usize;
        let next = match result {
            Ok(()) => Some(next),
            // The last part.
            Err(Errno::ENOENT) => None,
            // One bucket has more entries than there is room for.
            Err(Errno::ENOSPC) if size < 1 << 24 => {
                size *= 2;
                continue;
            }
            Err(errno) => return Err(errno.into()),
        };
        let entries = keys.into_iter().zip(values).take(count).collect();
        return Ok((entries, next));
    }
}

fn attributes(map: BorrowedFd<'_>) -> bpf_attr {
    let mut attributes = syscall::attributes();
    attributes.batch.map_fd = u32::try_from(map.as_raw_fd()).unwrap_or(u32::MAX);
    attributes
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> Result<(), Errno> {
    // SAFETY: they point at live memory of the sizes that the map's keys and values have, `count` of each.
    unsafe { syscall::bpf(command, attributes) }.map(drop)
}
