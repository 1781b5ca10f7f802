//! Who holds a lock on a file: for errors that name the other process.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::Path};

use nix::sys::stat::{major, minor};

/// Another process, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(Option<u32>);

impl Holder {
    /// Whoever holds a lock on the file or folder at `path`, by what the kernel says.
    pub fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok().and_then(|metadata| {
            let device = (major(metadata.dev()), minor(metadata.dev()));
            let locks = fs::read_to_string("/proc/locks").ok()?;
            holder(&locks, device, metadata.ino())
        });
        Self(found)
    }
}

impl fmt::Display for Holder {
    /// `process 1234`, or that it is not known.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("a process that cannot be told"),
        }
    }
}

/// The process that has a lock on this file, in the words of `/proc/locks`; those that only wait
/// for one have an arrow.
fn holder(locks: &str, device: (u64, u64), inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, _, pid, file, ..] = words[..] else {
            return None;
        };
        let mut parts = file.split(':');
        let mut hexadecimal = || u64::from_str_radix(parts.next()?, 16).ok();
        let same_device = (hexadecimal()?, hexadecimal()?) == device;
        let same_inode = parts.next()?.parse() == Ok(inode);
        // A lock of another pid namespace has none here.
        let pid = pid.parse().ok().filter(|pid| *pid > 0);
        (same_device && same_inode && !words.contains(&"->"))
            .then_some(pid)
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 2125 fe:00:10216958 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 99 00:1d:77 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 0 00:1d:78 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 42 00:1d:77 0 EOF\nnonsense\n";
        assert_eq!(holder(locks, (0xfe, 0), 10_216_958), Some(2125));
        assert_eq!(holder(locks, (0, 0x1d), 77), Some(42));
        assert_eq!(holder(locks, (0, 0x1d), 78), None);
        assert_eq!(holder(locks, (0, 0x1e), 77), None);
    }

    #[test]
    fn an_own_lock_is_found_while_it_is_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Holder::of(file.path()), Holder(None));
        let lock = File::open(file.path()).unwrap();
        lock.lock().unwrap();
        assert_eq!(Holder::of(file.path()), Holder(Some(std::process::id())));
    }
}
