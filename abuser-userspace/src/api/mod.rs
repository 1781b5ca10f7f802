//! The API: HTTP/1.1 with JSON over a unix socket, NDJSON for streams.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`types::Status`] |
//! | `GET /v1/limits` | array of [`types::LimitStatus`] |
//! | `GET /v1/bans` | array of [`types::BanInfo`] |
//! | `GET /v1/bans/covering/{address}` | array of [`types::BanInfo`], the longest prefix first |
//! | `GET /v1/explain/{address}` | [`types::Explanation`] |
//! | `POST /v1/bans` with [`types::BanRequest`] | array of [`types::BanInfo`] |
//! | `POST /v1/bans/import` with [`types::ImportRequest`] | [`types::Imported`] |
//! | `GET /v1/bans/export?format=FORMAT` | the bans in a format that others read |
//! | `DELETE /v1/bans` with [`types::RemoveRequest`] | array of [`types::BanInfo`] removed |
//! | `GET /v1/allow` | array of [`types::AllowInfo`] |
//! | `POST /v1/allow` with [`types::AllowRequest`] | array of [`types::AllowInfo`] |
//! | `DELETE /v1/allow` with [`types::RemoveRequest`] | array of [`types::AllowInfo`] removed |
//! | `GET /v1/events` with [`types::EventFilter`] as query | [`types::EventRecord`] a line, without end |
//! | `POST /v1/reload` | [`types::Reloaded`] |
//! | `POST /v1/confirm` | `null` |
//! | `POST /v1/detach` with [`types::DetachRequest`] | [`types::Detached`] |
//!
//! An error is a status of 4xx or 5xx with [`types::ApiError`]; it has changed nothing.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

mod bulk;
pub mod client;
pub mod server;
pub mod types;

/// Whether `path` has no room in a socket's address, which takes 107 bytes and a 0 (`UNIX_PATH_MAX`
/// in the kernel's include/uapi/linux/un.h).
pub(crate) fn is_too_long(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() > 107
}
