//! The BPF objects that are committed, and the packages that they are built from.

use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

/// A package for the BPF target, and where its object is kept.
#[derive(Debug)]
pub(crate) struct Object {
    /// The package's name.
    pub(crate) package: &'static str,
    /// The linked file's name: the package's binary.
    binary: &'static str,
    /// The object, from the repository's root on.
    path: &'static str,
    /// Whether this is the program that `abuser` loads.
    pub(crate) is_main: bool,
}

/// All of them.
pub(crate) const OBJECTS: [Object; 4] = [
    Object {
        package: "abuser-ebpf",
        binary: "abuser",
        path: "abuser-ebpf/abuser.bpf.o",
        is_main: true,
    },
    Object {
        package: "abuser-dispatcher-ebpf",
        binary: "abuser-dispatcher",
        path: "abuser-ebpf/dispatcher/dispatcher.bpf.o",
        is_main: false,
    },
    Object {
        package: "abuser-dispatcher-ebpf",
        binary: "abuser-dispatcher-frags",
        path: "abuser-ebpf/dispatcher/dispatcher-frags.bpf.o",
        is_main: false,
    },
    Object {
        package: "abuser-bench-ebpf",
        binary: "abuser-bench-programs",
        path: "tests/bench/ebpf/bench.bpf.o",
        is_main: false,
    },
];

impl Object {
    /// The committed object.
    pub(crate) fn committed(&self, workspace: &Workspace) -> PathBuf {
        workspace.root.join(self.path)
    }

    /// The record of the tools that built it.
    pub(crate) fn record(&self, workspace: &Workspace) -> PathBuf {
        self.committed(workspace).with_extension("toml")
    }

    /// The object from the repository's root on.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// The object's file name.
    pub(crate) fn file_name(&self) -> &'static str {
        self.path
            .rsplit_once('/')
            .map_or(self.path, |(_, name)| name)
    }

    /// What the linker writes, in the folder of the release build.
    pub(crate) fn linked(&self, release: &Path) -> PathBuf {
        release.join(self.binary)
    }
}

#[cfg(test)]
mod tests {
    use super::OBJECTS;

    #[test]
    fn one_object_is_the_main_one() {
        let main: Vec<_> = OBJECTS.iter().filter(|object| object.is_main).collect();
        assert_eq!(main.len(), 1);
    }

    #[test]
    fn fresh_objects_can_lie_in_one_folder() {
        let mut names = OBJECTS.each_ref().map(super::Object::file_name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OBJECTS.len());
    }
}
