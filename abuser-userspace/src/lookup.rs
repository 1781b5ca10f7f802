//! Who looks up names in a binary that is linked statically.
//!
//! glibc loads the modules that `/etc/nsswitch.conf` names as shared objects, which must be of its own
//! version: of the host's they seldom are, and then the process may crash. Those for files and DNS are
//! part of it, and these are all that it uses then. A binary that is linked as usual asks whomever the host asks.

#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    expect(unsafe_code, reason = "glibc has no other way to be told")
)]

/// Settles it, before the first name is looked up.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(crate) fn settle() {
    use std::ffi::{CStr, c_char, c_int};

    // SAFETY: as `nss.h` declares it.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    let databases: [(&CStr, &CStr); 3] = [
        (c"hosts", c"files dns"),
        (c"group", c"files"),
        (c"passwd", c"files"),
    ];
    for (database, services) in databases {
        // SAFETY: both are strings that end with a zero and live for ever; no other thread runs yet.
        // It fails for unknown databases only.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    }
}

/// There is nothing to settle.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) fn settle() {}
