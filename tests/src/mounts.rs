//! A file system of one's own: what is written to `/etc` there is written nowhere else.
//!
//! As with [`Namespace`](crate::Namespace), only a file descriptor keeps it: with it and the
//! last process inside all its mounts go, and what a BPF file system among them had pinned.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::chdir,
};

use crate::context;

/// A handle on a mount namespace.
#[derive(Clone, Debug)]
pub struct Mounts {
    fd: Arc<OwnedFd>,
}

impl Mounts {
    /// A copy of the caller's mounts, changed by `furnish`, which runs inside. What is mounted
    /// there is seen nowhere else. Needs `CAP_SYS_ADMIN`.
    pub fn new(furnish: impl FnOnce() -> io::Result<()> + Send) -> io::Result<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let alone = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&Path>, "/", None::<&Path>, alone, None::<&Path>)?;
            furnish()?;
            File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
        };
        let fd = on_a_thread(make).map_err(|error| context(&error, "cannot make mounts"))?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Runs `work` on a fresh thread inside and hands back its result.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            // A thread that shares its root and folder with others may not enter.
            unshare(CloneFlags::CLONE_FS)
                .and_then(|()| setns(&*self.fd, CloneFlags::CLONE_NEWNS))
                .expect("entering mounts that we made");
            work()
        })
    }

    /// Has a command that is not started yet run inside, in this folder.
    pub fn enter(&self, command: &mut Command, folder: impl Into<PathBuf>) {
        let mounts = Arc::clone(&self.fd);
        let folder = folder.into();
        let enter = move || {
            setns(&*mounts, CloneFlags::CLONE_NEWNS)?;
            chdir(&folder)?;
            Ok(())
        };
        // SAFETY: between fork and exec two system calls are made; a path as short as the
        // folder's is copied to the stack for the second.
        unsafe { command.pre_exec(enter) };
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(work);
        thread
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Mounts an empty file system of this type, such as `tmpfs`. To be called inside only.
pub fn mount_empty(kind: &str, target: &str) -> io::Result<()> {
    mount_with(kind, target, MsFlags::empty(), "")
}

/// Mounts a file system that lives in memory and has room for so many bytes. To be called inside only.
pub fn mount_small(target: &str, bytes: u64) -> io::Result<()> {
    mount_with("tmpfs", target, MsFlags::empty(), &format!("size={bytes}"))
}

/// Makes what [`mount_small`] has mounted read-only, or not any more. To be called inside only.
pub fn set_read_only(target: &str, read_only: bool) -> io::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT;
    flags.set(MsFlags::MS_RDONLY, read_only);
    mount_with("tmpfs", target, flags, "")
}

fn mount_with(kind: &str, target: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .map_err(|error| context(&error.into(), format!("cannot mount {kind} at {target}")))
}

/// Makes a file be seen at `target`, too, where there is one already. To be called inside only.
pub fn bind(file: &Path, target: &Path) -> io::Result<()> {
    mount(
        Some(file),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|error| {
        context(
            &error.into(),
            format!("cannot mount at {}", target.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_inside_is_seen_inside_only() {
        crate::require_root!();
        let mounts = Mounts::new(|| {
            mount_empty("tmpfs", "/etc")?;
            fs::write("/etc/of-a-test", "inside")
        })
        .unwrap();
        assert!(!Path::new("/etc/of-a-test").exists());
        assert_eq!(
            mounts.run(|| fs::read_to_string("/etc/of-a-test").unwrap()),
            "inside"
        );
        let mut command = Command::new("cat");
        command.arg("of-a-test");
        mounts.enter(&mut command, "/etc");
        assert_eq!(command.output().unwrap().stdout, b"inside");
    }
}
