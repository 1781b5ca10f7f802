//! What the kernel tells of files and folders: that there is something to look at, no more. It
//! may tell nothing (network file systems, too many watches); a look each second is what holds.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

/// Whom a watch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// The source, by the number of its run.
    pub(super) run: u64,
    /// The file of it; `None`: a folder.
    pub(super) file: Option<u64>,
}

/// The watches of all sources.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Option<Inotify>,
    targets: HashMap<WatchDescriptor, Vec<Target>>,
    /// Whether it was said that there are too few.
    told: bool,
}

/// What there is to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// These.
    Some(Vec<Target>),
    /// Nobody knows: there was too much to tell.
    Everything,
}

impl Watches {
    pub(super) fn new() -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let mut told = false;
        let inotify = inotify
            .inspect_err(|&errno| {
                told = true;
                tracing::warn!(
                    "the kernel gives no notice of changes to files ({errno}): new lines are seen after up to a \
                     second; raise fs.inotify.max_user_instances with sysctl"
                );
            })
            .ok();
        Self {
            inotify,
            targets: HashMap::new(),
            told,
        }
    }

    /// Watches a file, by a path that leads to it now.
    pub(super) fn file(&mut self, path: &Path, target: Target) -> Option<WatchDescriptor> {
        self.add(path, AddWatchFlags::IN_MODIFY, target)
    }

    /// Watches what comes into a folder and goes out of it.
    pub(super) fn folder(&mut self, path: &Path, target: Target) -> Option<WatchDescriptor> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        self.add(path, flags, target)
    }

    fn add(
        &mut self,
        path: &Path,
        flags: AddWatchFlags,
        target: Target,
    ) -> Option<WatchDescriptor> {
        match self.inotify.as_ref()?.add_watch(path, flags) {
            Ok(watch) => {
                let targets = self.targets.entry(watch).or_default();
                if !targets.contains(&target) {
                    targets.push(target);
                }
                Some(watch)
            }
            Err(errno) => {
                if errno == Errno::ENOSPC && !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        path = %path.display(),
                        "the kernel watches no more files for this user: new lines in others are seen after up \
                         to a second; raise fs.inotify.max_user_watches with sysctl"
                    );
                }
                None
            }
        }
    }

    /// Ends a watch for one of those whom it was for.
    pub(super) fn remove(&mut self, watch: WatchDescriptor, target: Target) {
        let Some(targets) = self.targets.get_mut(&watch) else {
            return;
        };
        targets.retain(|other| *other != target);
        if targets.is_empty() {
            self.targets.remove(&watch);
            // It may be gone with its file.
            let _gone = self.inotify.as_ref().map(|inotify| inotify.rm_watch(watch));
        }
    }

    /// What there was to tell since the last time.
    pub(super) fn read(&mut self) -> Told {
        let mut told = Vec::new();
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    return Told::Everything;
                }
                for target in self.targets.get(&event.wd).into_iter().flatten() {
                    // Who writes line by line is told of line by line.
                    if told.last() != Some(target) {
                        told.push(*target);
                    }
                }
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.targets.remove(&event.wd);
                }
            }
            // The rest comes after a round of reading.
            if told.len() > 4096 {
                break;
            }
        }
        Told::Some(told)
    }

    /// What is readable when there is something to tell.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(|inotify| inotify.as_fd())
    }
}
