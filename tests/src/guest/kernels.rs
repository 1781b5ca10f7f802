//! The kernels that guests have.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::peers;

/// A kernel of Debian's. Those for clouds have built in what a guest needs.
#[derive(Debug)]
pub struct Kernel {
    /// Its version, as one names it.
    pub name: &'static str,
    /// How [`peers::PEERS`] has it.
    pub(super) program: &'static str,
}

/// All of them, from the oldest to the newest.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "6.1",
        program: "vmlinuz-6.1.*-cloud-*",
    },
    Kernel {
        name: "6.12",
        program: "vmlinuz-6.12.*-cloud-*",
    },
];

/// The modules that tests need, each after those that it needs.
pub(super) const MODULES: &[&str] = &[
    "drivers/net/veth",
    "net/llc/llc",
    "net/802/stp",
    "net/bridge/bridge",
];

impl Kernel {
    /// The image; an error says how to get it.
    pub fn image(&self) -> io::Result<PathBuf> {
        peers::path(self.program)
    }

    /// Its release, as `uname -r` has it.
    pub fn release(&self) -> io::Result<String> {
        let image = self.image()?;
        Ok(release(&image).to_owned())
    }

    /// The files of [`MODULES`].
    pub(super) fn modules(&self) -> io::Result<Vec<PathBuf>> {
        let image = self.image()?;
        MODULES.iter().map(|name| module(&image, name)).collect()
    }
}

fn release(image: &Path) -> &str {
    let name = image.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix("vmlinuz-"))
        .unwrap_or_default()
}

/// A module that goes with the kernel; newer ones are compressed.
fn module(image: &Path, name: &str) -> io::Result<PathBuf> {
    let root = image.ancestors().nth(2).unwrap_or(Path::new("/"));
    let release = release(image);
    ["lib", "usr/lib"]
        .iter()
        .flat_map(|lib| {
            ["ko", "ko.xz"]
                .map(|ending| root.join(format!("{lib}/modules/{release}/kernel/{name}.{ending}")))
        })
        .find(|file| file.is_file())
        .ok_or_else(|| io::Error::other(format!("{} has no module {name}", image.display())))
}
