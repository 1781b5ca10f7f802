//! The API: HTTP/1.1 with JSON, NDJSON for streams, over a unix socket and, if configured, TCP.
//!
//! What can be asked is described by [`openapi`]: it is made from the routes in [`server`] and
//! the comments of [`types`], and checked in as `docs/openapi.json`. `docs/API.md` says how to
//! call it.
//!
//! An error is a status of 4xx or 5xx with [`types::ApiError`]; it has changed nothing, but for a
//! 503 that says otherwise.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

pub mod client;
pub mod openapi;
pub mod server;
pub mod types;

/// Whether `path` has no room in a socket's address, which takes 107 bytes and a 0 (`UNIX_PATH_MAX`
/// in the kernel's include/uapi/linux/un.h).
pub(crate) fn is_too_long(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() > 107
}
