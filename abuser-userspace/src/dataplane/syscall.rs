//! `bpf(2)` for what aya has no function for.

#![expect(unsafe_code, reason = "no library has this system call for others")]

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::errno::Errno;

/// Attributes of a call, with nothing in them.
pub(super) fn attributes() -> bpf_attr {
    // SAFETY: all zeros is a value of this union of integers.
    unsafe { std::mem::zeroed() }
}

/// Makes the call; what it returns, such as a descriptor.
///
/// # Safety
///
/// What the attributes point at must be alive, and as large as the command takes it to be.
pub(super) unsafe fn bpf(
    command: bpf_cmd,
    attributes: &mut bpf_attr,
) -> Result<libc::c_long, Errno> {
    // SAFETY: the attributes are as long as said; for what they point at the caller vouches.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    Errno::result(result)
}
