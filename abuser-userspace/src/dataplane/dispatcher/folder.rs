//! Where dispatchers have their components pinned, and the lock on it: what all who speak
//! the protocol have in common.
//!
//! `/sys/fs/bpf/xdp/dispatch-IFINDEX-ID` belongs to the dispatcher with that program id, and has
//! `progN-prog` and `progN-link` of each component. While the links are pinned the components
//! stay in their slots.

use std::{
    env,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::locks::Holder;

/// Names another BPF file system, for libxdp as for abuser.
const ELSEWHERE: &str = "LIBXDP_BPFFS";

/// How long somebody else may hold the lock: building a dispatcher takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder of all dispatchers, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Waits for the lock.
    pub(super) fn lock() -> io::Result<Self> {
        Self::lock_within(PATIENCE)
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_lock() -> io::Result<Self> {
        Self::lock_within(Duration::ZERO)
    }

    fn lock_within(patience: Duration) -> io::Result<Self> {
        let path = path();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| tried("make", &path, &error))?;
        let lock = File::open(&path).map_err(|error| tried("open", &path, &error))?;
        let deadline = Instant::now() + patience;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other(format!(
                        "{} has held the lock on {} for {} seconds",
                        Holder::of(&path),
                        path.display(),
                        patience.as_secs()
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(tried("lock", &path, &error)),
            }
        }
    }

    /// The pins of one dispatcher's components.
    pub(super) fn of(&self, interface: u32, dispatcher: u32) -> Pins {
        Pins(self.path.join(name(interface, dispatcher)))
    }
}

/// The pins of one dispatcher's components.
#[derive(Debug)]
pub(super) struct Pins(PathBuf);

impl Pins {
    /// Those of a dispatcher, for who does not need the lock: a look that changes nothing.
    pub(super) fn look(interface: u32, dispatcher: u32) -> Self {
        Self(path().join(name(interface, dispatcher)))
    }

    /// Makes the folder.
    pub(super) fn create(&self) -> io::Result<()> {
        DirBuilder::new()
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| tried("make", &self.0, &error))
    }

    /// Where the program in this slot is pinned.
    pub(super) fn program(&self, slot: usize) -> PathBuf {
        self.0.join(format!("prog{slot}-prog"))
    }

    /// Where what holds it in the slot is pinned.
    pub(super) fn link(&self, slot: usize) -> PathBuf {
        self.0.join(format!("prog{slot}-link"))
    }

    /// Removes all pins: the components are in the slots no more.
    pub(super) fn remove(&self) {
        for entry in fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
        {
            forget(fs::remove_file(entry.path()), &entry.path());
        }
        forget(fs::remove_dir(&self.0), &self.0);
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

fn name(interface: u32, dispatcher: u32) -> String {
    format!("dispatch-{interface}-{dispatcher}")
}

fn path() -> PathBuf {
    env::var_os(ELSEWHERE)
        .map_or_else(|| PathBuf::from("/sys/fs/bpf"), PathBuf::from)
        .join("xdp")
}

fn tried(action: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {action} {}: {error}", path.display()),
    )
}

fn forget(removed: io::Result<()>, path: &Path) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a dispatcher's pin");
        }
        _ => {}
    }
}
