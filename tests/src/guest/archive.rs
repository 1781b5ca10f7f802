//! A file system as the kernel unpacks it: cpio, in the form called newc.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::context;

/// A file system that is written to `to`.
pub(super) struct Archive<W> {
    to: W,
    written: u64,
    packed: Vec<PathBuf>,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            written: 0,
            packed: Vec::new(),
        }
    }

    /// A folder, and those that it is in.
    pub(super) fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.parent().is_none() || self.packed.iter().any(|packed| packed == path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.packed.push(path.to_owned());
        self.entry(path, FOLDER, (0, 0), &[])
    }

    /// A file of this machine; nothing if there is one of that name already.
    pub(super) fn file(&mut self, file: &Path, inside: &Path) -> io::Result<()> {
        if self.packed.iter().any(|packed| packed == inside) {
            return Ok(());
        }
        if let Some(parent) = inside.parent() {
            self.folder(parent)?;
        }
        self.packed.push(inside.to_owned());
        let bytes = fs::read(file).map_err(|error| context(&error, file.display()))?;
        let mode = fs::metadata(file)?.permissions().mode() & 0o777;
        self.entry(inside, FILE | mode, (0, 0), &bytes)
    }

    /// A file that is made up.
    pub(super) fn text(&mut self, inside: &Path, text: &str) -> io::Result<()> {
        if let Some(parent) = inside.parent() {
            self.folder(parent)?;
        }
        self.packed.push(inside.to_owned());
        self.entry(inside, FILE | 0o644, (0, 0), text.as_bytes())
    }

    /// What the first process writes to.
    pub(super) fn console(&mut self) -> io::Result<()> {
        self.entry(Path::new("/dev/console"), DEVICE, (5, 1), &[])
    }

    /// Ends it.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.entry(Path::new("/TRAILER!!!"), 0, (0, 0), &[])?;
        self.to.flush()
    }

    fn entry(
        &mut self,
        path: &Path,
        mode: u32,
        (major, minor): (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        let name = path.to_string_lossy();
        let name = name.trim_start_matches('/');
        let inode = self.packed.len();
        let size = bytes.len();
        let named = name.len() + 1;
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}\
             {minor:08x}{named:08x}{:08x}{name}\0",
            0, 0, 1, 0, 0, 0, 0
        );
        self.aligned(header.as_bytes())?;
        self.aligned(bytes)
    }

    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len() as u64;
        while !self.written.is_multiple_of(4) {
            self.to.write_all(&[0])?;
            self.written += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_kernel_wants_it() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.folder(Path::new("/a/b")).unwrap();
        archive.text(Path::new("/c/d"), "12345").unwrap();
        archive.end().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.len() % 4, 0);
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].trim_end_matches('\0'))
            .collect();
        // A name ends with an octet of zero, and then with the next multiple of four.
        let file = format!("c/d{}12345", "\0".repeat(3));
        assert_eq!(names, ["a", "a/b", "c", &file, "TRAILER!!!"]);
    }
}
