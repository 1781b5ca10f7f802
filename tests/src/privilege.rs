//! Tests that need root say so, and are never skipped where it matters.
//!
//! A developer without root still wants the rest of the tests; in CI a skipped test would be
//! a green lie, so with `CI` in the environment its absence is a failure.

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

/// Returns from the test early, saying why, if it lacks privilege; in CI it fails instead.
#[macro_export]
macro_rules! require_root {
    () => {
        if $crate::privilege::skip() {
            return;
        }
    };
}
