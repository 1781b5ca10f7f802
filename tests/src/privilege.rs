//! Tests that need root say so, and are never skipped where it matters.
//!
//! A developer without root still wants the rest of the tests; in CI a skipped test would be
//! a green lie, so with `CI` in the environment its absence is a failure.

use std::{io, panic, thread};

use nix::libc;

use crate::Namespace;

/// Why privileged tests cannot run here, or `None` when they can.
///
/// Being root is not enough in many containers, so this makes a network namespace to see.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("this needs root: run it with `sudo -E`".to_owned());
    }
    Namespace::new()
        .err()
        .map(|error| format!("this needs CAP_NET_ADMIN and CAP_SYS_ADMIN: {error}"))
}

/// Whether the calling test is to return early; see [`require_root!`](crate::require_root).
///
/// # Panics
/// If privilege is missing and the environment has `CI`.
pub fn skip() -> bool {
    let Some(reason) = missing() else {
        return false;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "privileged tests must run in CI, but {reason}"
    );
    eprintln!("skipped: {reason}");
    true
}

/// From here on, what the calling thread runs can have no other capabilities than these, by their numbers in
/// linux/capability.h. There is no way back.
///
/// # Panics
/// If the caller is not root.
pub fn leave_only(capabilities: &[libc::c_int]) {
    for capability in (0..64).filter(|capability| !capabilities.contains(capability)) {
        // SAFETY: the call takes numbers and touches no memory of this process.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // Of those that the kernel does not know there is nothing to drop.
        let error = io::Error::last_os_error();
        assert!(
            dropped == 0 || error.raw_os_error() == Some(libc::EINVAL),
            "cannot drop capability {capability}: {error}"
        );
    }
}

/// Runs `work` on a thread of its own as the user and group 65534, with no other group.
///
/// What it opens stays open, and the kernel takes it for nobody's.
///
/// # Panics
/// If the caller is not root, or as `work` does.
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            become_nobody().expect("becoming nobody");
            work()
        });
        let result = nobody.join();
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Changes the calling thread only, unlike the functions of the C library.
fn become_nobody() -> io::Result<()> {
    const NOBODY: libc::c_long = 65534;
    // SAFETY: no pointer is passed but the null that goes with a length of 0.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
        ]
    };
    if results == [0; 3] {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns from the test early, saying why, if it lacks privilege; in CI it fails instead.
#[macro_export]
macro_rules! require_root {
    () => {
        if $crate::privilege::skip() {
            return;
        }
    };
}
