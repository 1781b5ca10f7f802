//! Facts about the machine that no tool has to be asked for.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Whether the effective user is root: the kernel gives a process's own folder in `/proc`
/// to that user, so reading it needs no `unsafe`.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

/// The file that a name on `PATH` stands for.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The running kernel's release, as `uname -r` prints it.
pub(crate) fn kernel_release() -> Option<String> {
    Some(
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()?
            .trim()
            .to_owned(),
    )
}

/// Whether a filesystem of this type is mounted on `folder`.
pub(crate) fn is_mounted(kind: &str, folder: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| {
        mounts.lines().any(|line| {
            let mut fields = line.split(' ').skip(1);
            fields.next().map(Path::new) == Some(folder) && fields.next() == Some(kind)
        })
    })
}

/// Whether this is a CI run: `CI` is set, and to neither nothing nor `false`.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}
