//! bpffs: where maps and links are pinned, and the lock that makes one daemon of two.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use abuser_common::layout::{LAYOUT_VERSION, maps};
use nix::{
    mount::MsFlags,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::error::DataplaneError;
use crate::locks::Holder;

/// Where the kernel's BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// A link's pin is this and the interface's index: bpffs allows no dots, names may have
/// some.
const LINK_PREFIX: &str = "link-";

/// The folder that holds the pins of one daemon, locked against a second one for as long
/// as this value lives.
#[derive(Debug)]
pub struct PinDir {
    base: PathBuf,
    versioned: PathBuf,
    _lock: File,
}

impl PinDir {
    /// Makes the folder if need be (mounting bpffs, too) and locks it.
    pub fn lock(base: &Path) -> Result<Self, DataplaneError> {
        mount_bpffs(base)?;
        let error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataplaneError::Pin {
                action,
                path,
                source,
            }
        };
        let versioned = base.join(format!("v{LAYOUT_VERSION}"));
        let existing = base.ancestors().find(|path| path.exists());
        if !existing.is_some_and(is_bpffs) {
            return Err(DataplaneError::PinDirNotBpffs {
                path: base.to_owned(),
            });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&versioned)
            .map_err(error("make the pin folder", &versioned))?;
        let lock = File::open(base).map_err(error("open the pin folder", base))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataplaneError::AlreadyRunning {
                    holder: Holder::of(base),
                    path: base.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(error("lock the pin folder", base)(source));
            }
        }
        Ok(Self {
            base: base.to_owned(),
            versioned,
            _lock: lock,
        })
    }

    /// Locks the folder if it is there: for clearing away what a dead daemon left.
    pub fn lock_existing(base: &Path) -> Result<Option<Self>, DataplaneError> {
        if base.is_dir() {
            Self::lock(base).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Where the map `name` is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.versioned.join(name)
    }

    /// Where the link of the interface with this index is pinned.
    pub fn link(&self, interface: u32) -> PathBuf {
        self.versioned.join(format!("{LINK_PREFIX}{interface}"))
    }

    /// Whether an earlier daemon left its maps.
    pub fn has_maps(&self) -> bool {
        self.map(maps::SETTINGS).exists()
    }

    /// Interface indexes of the links that are pinned.
    pub fn links(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.versioned).into_iter().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_prefix(LINK_PREFIX)?.parse().ok()
            })
            .collect()
    }

    /// Removes a link's pin. With no other holder, that detaches the program.
    pub fn remove_link(&self, interface: u32) {
        remove(&self.link(interface));
    }

    /// Removes every pin and the folders.
    pub fn remove_all(&self) {
        for interface in self.links() {
            self.remove_link(interface);
        }
        for name in maps::ALL {
            remove(&self.map(name));
        }
        // A folder that is not empty is not ours to remove, and the base may well be
        // shared with other layouts.
        for folder in [&self.versioned, &self.base] {
            if let Err(error) = fs::remove_dir(folder) {
                tracing::debug!(path = %folder.display(), %error, "pin folder kept");
            }
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a pin");
        }
    }
}

/// Mounts bpffs where it belongs if `base` lies there and nothing is mounted.
fn mount_bpffs(base: &Path) -> Result<(), DataplaneError> {
    let mount_point = Path::new(BPFFS);
    if !base.starts_with(mount_point) || is_bpffs(mount_point) {
        return Ok(());
    }
    nix::mount::mount(
        Some("bpf"),
        mount_point,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|errno| DataplaneError::NoBpffs {
        path: mount_point.to_owned(),
        source: errno.into(),
    })?;
    tracing::info!("mounted a BPF file system at {BPFFS}");
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_folder_that_is_not_on_a_bpffs_is_refused_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("pins");
        let error = PinDir::lock(&base).unwrap_err();
        assert!(matches!(error, DataplaneError::PinDirNotBpffs { .. }));
        assert!(!base.exists());
    }
}
