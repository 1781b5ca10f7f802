//! A BPF object by a descriptor of its own.
//!
//! aya pins a link only by taking it over, and lets go of it if that fails: then the filter is off. With a
//! descriptor of its own an object can be pinned again as often as its pin is removed, and be told
//! from whatever else lies where the pin should be.

#![expect(
    unsafe_code,
    reason = "aya lends no descriptor that is pinned without being taken over"
)]

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::errno::Errno;

use super::syscall::{self, attributes};

/// A map, a link or a program.
#[derive(Debug)]
pub(super) struct Object(OwnedFd);

impl Object {
    /// The object that is pinned there.
    pub(super) fn pinned(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = attributes();
        attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
        let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attributes)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Pins it, where nothing is yet.
    fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = attributes();
        attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
        attributes.__bindgen_anon_4.bpf_fd = self.number();
        call(bpf_cmd::BPF_OBJ_PIN, &mut attributes).map(drop)
    }

    /// Sees to it that this is what is pinned there; says whether it was not.
    pub(super) fn keep_pinned(&self, path: &Path) -> io::Result<bool> {
        match Self::pinned(path) {
            Ok(found) if found.identity()? == self.identity()? => return Ok(false),
            // Something else has the name.
            Ok(_) => fs::remove_file(path)?,
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT) => {}
                // It is no BPF object at all (bpf_obj_do_get in kernel/bpf/inode.c).
                Some(Errno::EACCES | Errno::EINVAL | Errno::ENOTSUP) => fs::remove_file(path)?,
                // Whatever it is, a pin that is good must not go for it.
                _ => return Err(error),
            },
        }
        self.pin(path)?;
        Ok(true)
    }

    /// Takes a link's program off its interface, whoever else holds the link.
    pub(super) fn detach(&self) -> io::Result<()> {
        let mut attributes = attributes();
        attributes.link_detach.link_fd = self.number();
        call(bpf_cmd::BPF_LINK_DETACH, &mut attributes).map(drop)
    }

    /// What kind of object it is, and its number.
    fn identity(&self) -> io::Result<String> {
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        // A link tells its program's number, too.
        let of = |kind: &str| told.lines().find(|line| line.starts_with(kind));
        ["map_id:", "link_id:", "prog_id:"]
            .into_iter()
            .find_map(of)
            .map(ToOwned::to_owned)
            .ok_or_else(|| io::Error::other("the kernel does not tell what it is"))
    }

    fn number(&self) -> u32 {
        u32::try_from(self.0.as_raw_fd()).unwrap_or(u32::MAX)
    }
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: a path that they point at outlives the call, and ends with a zero.
    let result = unsafe { syscall::bpf(command, attributes) }?;
    RawFd::try_from(result).map_err(io::Error::other)
}
