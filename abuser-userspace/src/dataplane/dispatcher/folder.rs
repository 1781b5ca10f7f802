//! Where dispatchers have their components pinned, and the lock on it: what all who speak
//! the protocol have in common.
//!
//! `/sys/fs/bpf/xdp/dispatch-IFINDEX-ID` belongs to the dispatcher with that program id, and has
//! `progN-prog` and `progN-link` of each component. While the links are pinned the components
//! stay in their slots.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use abuser_common::dispatcher::MAX_COMPONENTS;
use aya::programs::ProgramInfo;

use crate::locks::Holder;

/// Names another BPF file system, for libxdp as for abuser.
const ELSEWHERE: &str = "LIBXDP_BPFFS";

/// How long somebody else may hold the lock: building a dispatcher takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before asking for the lock again.
pub(crate) const RETRY: Duration = Duration::from_millis(20);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "{holder} holds the lock on {}, which all have in common who load XDP programs by libxdp's protocol; \
         try again when it is done, or end it",
        path.display()
    )]
    Busy {
        /// Who.
        holder: Holder,
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be asked for.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Leave to change dispatchers: the lock, which is taken when it is needed for the first time and then
/// held to the end.
#[derive(Debug)]
pub struct Access {
    patience: Duration,
    folder: Option<Folder>,
}

impl Access {
    /// Waits for whoever has the lock, for some seconds: for who has nothing else to do.
    pub fn patient() -> Self {
        Self {
            patience: PATIENCE,
            folder: None,
        }
    }

    /// Does not wait at all: for who has others waiting for it, and will ask again.
    pub fn at_once() -> Self {
        Self {
            patience: Duration::ZERO,
            folder: None,
        }
    }

    /// The folder, locked.
    pub(super) fn folder(&mut self) -> Result<&Folder, LockError> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => Folder::lock_within(self.patience).inspect_err(|_| {
                // Who has waited once has waited for all that is to be changed.
                self.patience = Duration::ZERO;
            })?,
        };
        Ok(self.folder.insert(folder))
    }

    /// Takes the lock already.
    pub(in crate::dataplane) fn take(&mut self) -> Result<(), LockError> {
        self.folder().map(drop)
    }
}

/// The folder of all dispatchers, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn lock_within(patience: Duration) -> Result<Self, LockError> {
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
                    let holder = Holder::of(&path);
                    return Err(LockError::Busy { holder, path });
                }
                Err(TryLockError::Error(error)) => return Err(tried("lock", &path, &error).into()),
            }
        }
    }

    /// The pins of one dispatcher's components.
    pub(super) fn of(&self, interface: u32, dispatcher: u32) -> Pins {
        Pins(self.path.join(name(interface, dispatcher)))
    }

    /// Takes these programs out of dispatchers that are on this interface no more, but for `on_it`,
    /// which is. Others' programs stay in them: whoever loaded those may have taken the interface along
    /// into another network namespace, which the name of a folder does not tell.
    pub(super) fn forget(&self, interface: u32, programs: &BTreeSet<u32>, on_it: Option<u32>) {
        let entries = fs::read_dir(&self.path).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let of = entry.file_name().to_str().and_then(dispatcher);
            let is_off = |dispatcher| on_it != Some(dispatcher);
            if of.is_some_and(|(index, id)| index == interface && is_off(id)) {
                Pins(entry.path()).forget(programs);
            }
        }
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

    /// Removes the pins of these programs, and the folder with the last one.
    fn forget(&self, programs: &BTreeSet<u32>) {
        let mut forgotten = false;
        for slot in 0..MAX_COMPONENTS {
            let program = self.program(slot);
            let info = ProgramInfo::from_pin(&program);
            if info.is_ok_and(|info| programs.contains(&info.id())) {
                for pin in [self.link(slot), program] {
                    forget(fs::remove_file(&pin), &pin);
                }
                forgotten = true;
            }
        }
        if forgotten {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => forget(removed, &self.0),
            }
        }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

fn name(interface: u32, dispatcher: u32) -> String {
    format!("dispatch-{interface}-{dispatcher}")
}

/// The interface and the dispatcher whose folder has this name.
fn dispatcher(name: &str) -> Option<(u32, u32)> {
    let (interface, dispatcher) = name.strip_prefix("dispatch-")?.split_once('-')?;
    Some((interface.parse().ok()?, dispatcher.parse().ok()?))
}

fn path() -> PathBuf {
    root().join("xdp")
}

/// Where libxdp keeps its folder.
pub(crate) fn root() -> PathBuf {
    env::var_os(ELSEWHERE).map_or_else(|| PathBuf::from("/sys/fs/bpf"), PathBuf::from)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dispatchers_are_taken_for_them() {
        assert_eq!(dispatcher(&name(7, 123)), Some((7, 123)));
        for name in ["dispatch-7", "dispatch-7-", "dispatch--7", "xdp-filter", ""] {
            assert_eq!(dispatcher(name), None, "{name:?}");
        }
    }
}
