//! bpffs: where maps and links are pinned, and the lock that makes one daemon of two.
//!
//! Each layout version has a folder of its own, because a program cannot read the maps of another.
//! The lock is on what they have in common: there is one daemon, of whatever version, to a pin
//! folder, and what another version left in it is this daemon's to take over.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use abuser_common::layout::{LAYOUT_VERSION, maps};
use nix::{
    mount::MsFlags,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{dispatcher, error::DataplaneError};
use crate::locks::Holder;

/// Where the kernel's BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// A link's pin is this and the interface's index: bpffs allows no dots, names may have
/// some.
const LINK_PREFIX: &str = "link-";

/// What was made a component of a dispatcher is pinned by this, the interface's index and the
/// program's id.
const COMPONENT_PREFIX: &str = "component-";

/// The folder that holds the pins of one daemon, locked against a second one for as long
/// as this value lives.
#[derive(Debug)]
pub struct PinDir {
    base: PathBuf,
    own: Layout,
    lock: File,
}

/// The folder of one layout version.
#[derive(Debug)]
pub struct Layout {
    version: u32,
    path: PathBuf,
}

impl Layout {
    fn new(base: &Path, version: u32) -> Self {
        Self {
            version,
            path: base.join(format!("v{version}")),
        }
    }

    /// Makes the folder, in the pin folder `base`.
    fn make(&self, base: &Path) -> Result<(), DataplaneError> {
        let existing = base.ancestors().find(|path| path.exists());
        if !existing.is_some_and(is_bpffs) {
            return Err(DataplaneError::PinDirNotBpffs {
                path: base.to_owned(),
            });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(failed("make the pin folder", &self.path))
    }

    /// The layout's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where the link of the interface with this index is pinned.
    pub fn link(&self, interface: u32) -> PathBuf {
        self.path.join(format!("{LINK_PREFIX}{interface}"))
    }

    /// Where the program with this id is pinned that is a component of the dispatcher on the
    /// interface with this index.
    pub fn component(&self, interface: u32, program: u32) -> PathBuf {
        self.path
            .join(format!("{COMPONENT_PREFIX}{interface}-{program}"))
    }

    /// Interface indexes of the links that are pinned.
    fn links(&self) -> impl Iterator<Item = u32> {
        files(&self.path).filter_map(|name| link_index(name.to_str()?))
    }

    /// Interface index and program id of the components that are pinned.
    fn components(&self) -> impl Iterator<Item = (u32, u32)> {
        files(&self.path).filter_map(|name| component(name.to_str()?))
    }

    /// Indexes of interfaces that a program was left on, by a link or as a component.
    fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.links()
            .chain(self.components().map(|(interface, _)| interface))
    }

    /// Removes every pin, and the folder if nothing else is in it. Pins of components
    /// stay: they are removed with the component.
    pub fn clear(&self) {
        // A version whose links are gone is over; one that has only lost maps would go on with
        // what is left of them.
        let links: Vec<_> = self.links().collect();
        for interface in links {
            remove(&self.link(interface));
        }
        if self.version == LAYOUT_VERSION {
            for name in maps::ALL {
                remove(&self.path.join(name));
            }
        } else {
            // What another version calls its maps is not known.
            let is_component = |name: &OsString| name.to_str().and_then(component).is_some();
            let names: Vec<_> = files(&self.path).collect();
            for name in names.iter().filter(|name| !is_component(name)) {
                remove(&self.path.join(name));
            }
        }
        remove_folder(&self.path);
    }
}

impl PinDir {
    /// Makes the folder if need be (mounting bpffs, too) and locks it.
    pub fn lock(base: &Path) -> Result<Self, DataplaneError> {
        mount_bpffs(base)?;
        let own = Layout::new(base, LAYOUT_VERSION);
        own.make(base)?;
        let lock = File::open(base).map_err(failed("open the pin folder", base))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataplaneError::AlreadyRunning {
                    holder: Holder::of(base),
                    path: base.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(failed("lock the pin folder", base)(source));
            }
        }
        Ok(Self {
            base: base.to_owned(),
            own,
            lock,
        })
    }

    /// Makes the folder again if somebody has removed it, unmounted the file system that it was on, or
    /// mounted another one over that.
    pub fn renew(&mut self) -> Result<(), DataplaneError> {
        let locked = self.lock.metadata();
        let locked = locked.map_err(failed("look at the pin folder", &self.base))?;
        let is_locked = |found: Metadata| {
            let place = |folder: &Metadata| (folder.dev(), folder.ino());
            place(&found) == place(&locked)
        };
        if !fs::metadata(&self.base).is_ok_and(is_locked) {
            *self = Self::lock(&self.base)?;
        } else if !self.own.path.is_dir() {
            self.own.make(&self.base)?;
        }
        Ok(())
    }

    /// The folder that all layouts have theirs in.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Locks the folder if it is there: for clearing away what a dead daemon left.
    pub fn lock_existing(base: &Path) -> Result<Option<Self>, DataplaneError> {
        match fs::metadata(base) {
            Ok(metadata) if metadata.is_dir() => Self::lock(base).map(Some),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            // Whoever may not look does not know that nothing is there.
            Err(source) => Err(DataplaneError::Pin {
                action: "look into the pin folder",
                path: base.to_owned(),
                source,
            }),
        }
    }

    /// Where the map `name` is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.own.path.join(name)
    }

    /// The folder of this layout.
    pub fn own(&self) -> &Layout {
        &self.own
    }

    /// The folders that other layout versions left.
    pub fn others(&self) -> Vec<Layout> {
        let entries = fs::read_dir(&self.base).into_iter().flatten();
        let mut others: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| layout_version(entry.file_name().to_str()?))
            .filter(|version| *version != LAYOUT_VERSION)
            .map(|version| Layout::new(&self.base, version))
            .filter(|layout| is_bpffs(&layout.path))
            .collect();
        others.sort_unstable_by_key(Layout::version);
        others
    }

    /// Whether an earlier daemon left maps that this one is to go on with. Maps that are worth
    /// nothing are removed.
    pub fn adopt_maps(&self) -> bool {
        if !self.map(maps::SETTINGS).exists() {
            return false;
        }
        let unused = self.own.interfaces().next().is_none();
        if unused
            && self
                .others()
                .iter()
                .any(|other| other.interfaces().next().is_some())
        {
            // They were filled by a start that ended before any program that reads them was on an
            // interface. What the other version did since then is not in them.
            for name in maps::ALL {
                remove(&self.map(name));
            }
            return false;
        }
        true
    }

    /// Indexes of interfaces that a program was left on, by any layout.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        let others = self.others();
        let layouts = others.iter().chain([&self.own]);
        layouts.flat_map(Layout::interfaces).collect()
    }

    /// The programs that were made components on an interface, by their ids, and the version of the
    /// layout of each.
    pub fn components(&self, interface: u32) -> BTreeMap<u32, u32> {
        let others = self.others();
        let layouts = others.iter().chain([&self.own]);
        layouts
            .flat_map(|layout| layout.components().map(|found| (found, layout.version)))
            .filter(|((index, _), _)| *index == interface)
            .map(|((_, program), version)| (program, version))
            .collect()
    }

    /// Removes the pins of components of an interface that are in no dispatcher any more, by any
    /// layout: all but that of `kept`.
    pub fn forget_components(&self, interface: u32, kept: Option<u32>) {
        for layout in self.others().iter().chain([&self.own]) {
            let gone: Vec<_> = layout.components().collect();
            for (index, program) in gone {
                if index == interface && kept != Some(program) {
                    remove(&layout.component(index, program));
                }
            }
        }
    }

    /// Removes a link's pins, by any layout. With no other holder, that detaches the program.
    pub fn remove_link(&self, interface: u32) {
        for layout in self.others().iter().chain([&self.own]) {
            remove(&layout.link(interface));
        }
    }

    /// Removes the pins of this layout; what others left stays.
    pub fn remove_own(&self) {
        self.own.clear();
        remove_folder(&self.base);
    }

    /// Removes the pins of every layout and the folders.
    pub fn remove_all(&self) {
        for layout in self.others() {
            layout.clear();
        }
        self.remove_own();
    }
}

/// What could not be done to a pin or a folder of them.
pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DataplaneError {
    let path = path.to_owned();
    move |source| DataplaneError::Pin {
        action,
        path,
        source,
    }
}

/// The version whose folder has this name.
fn layout_version(name: &str) -> Option<u32> {
    let version = name.strip_prefix('v')?.parse().ok()?;
    // Not `v02` or `v+2`: abuser never made those.
    (name == format!("v{version}")).then_some(version)
}

/// The interface whose link is pinned by this name.
fn link_index(name: &str) -> Option<u32> {
    name.strip_prefix(LINK_PREFIX)?.parse().ok()
}

/// The interface and the program whose component is pinned by this name.
fn component(name: &str) -> Option<(u32, u32)> {
    let (interface, program) = name.strip_prefix(COMPONENT_PREFIX)?.split_once('-')?;
    Some((interface.parse().ok()?, program.parse().ok()?))
}

/// The names of the files in a folder; folders and symbolic links are not among them.
fn files(folder: &Path) -> impl Iterator<Item = OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.file_name())
}

/// Removes a folder unless something is left in it, which is not ours then.
fn remove_folder(path: &Path) {
    if let Err(error) = fs::remove_dir(path) {
        tracing::debug!(path = %path.display(), %error, "pin folder kept");
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

/// Where pins of this and of other programs are made, besides what the configuration says.
pub fn roots() -> [PathBuf; 2] {
    [PathBuf::from(BPFFS), dispatcher::pin_root()]
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

pub(super) fn is_bpffs(path: &Path) -> bool {
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

    #[test]
    fn only_names_that_abuser_gives_are_taken_for_its_own() {
        assert_eq!(layout_version("v2"), Some(2));
        assert_eq!(layout_version("v4294967295"), Some(u32::MAX));
        for name in [
            "",
            "v",
            "2",
            "v02",
            "v+2",
            "v-2",
            "v2 ",
            "v2.1",
            "V2",
            "v4294967296",
        ] {
            assert_eq!(layout_version(name), None, "{name:?}");
        }
        assert_eq!(link_index("link-7"), Some(7));
        for name in ["link-", "link-eth0", "link", "BANS", "xlink-7"] {
            assert_eq!(link_index(name), None, "{name:?}");
        }
        assert_eq!(component("component-7-123"), Some((7, 123)));
        for name in ["component-7", "component-7-", "component--7", "link-7-123"] {
            assert_eq!(component(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_layout_is_cleared_of_its_files_and_of_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        for folder in ["v7", "v8", "v8/deeper", "elsewhere"] {
            fs::create_dir(path(folder)).unwrap();
        }
        for file in [
            "v7/link-7",
            "v7/ANY",
            "v8/link-8",
            "v8/deeper/x",
            "elsewhere/x",
        ] {
            fs::write(path(file), "").unwrap();
        }
        std::os::unix::fs::symlink(path("elsewhere"), path("v8/away")).unwrap();
        assert_eq!(Layout::new(base.path(), 8).links().collect::<Vec<_>>(), [8]);
        Layout::new(base.path(), 7).clear();
        Layout::new(base.path(), 8).clear();
        assert!(!path("v7").exists());
        assert!(!path("v8/link-8").exists());
        for kept in ["v8/deeper/x", "v8/away", "elsewhere/x"] {
            assert!(path(kept).exists(), "{kept}");
        }
    }
}
