//! What the tests and the demo stand on.
//!
//! [`netns`] makes networks that vanish with the process, [`packet`] writes frames that read
//! like packets, [`daemon`] runs the real `abuser` and talks to it, [`traffic`] serves and
//! sends, [`api_traffic`] makes up requests for detectors, [`mounts`] makes file systems for one
//! test, [`machine`] runs a Debian with systemd, [`markdown`] finds what in a text is code, [`peers`] finds other people's programs,
//! [`Service`] runs those that serve; [`nginx`], [`crowdsec`] and the servers of [`nats`] are some of them.
//! Nothing here touches the machine's own interfaces, and nothing is left behind: neither
//! after a panic nor after `kill -9`.
//!
//! The helpers for tests panic with what was tried; those that the demo shares with them
//! return [`std::io::Error`] with the same text.

pub mod api_traffic;
mod authority;
mod binary;
pub mod capture;
mod command;
mod config;
pub mod crowdsec;
pub mod daemon;
mod frames;
pub mod guest;
mod janitor;
mod link;
pub mod machine;
pub mod markdown;
pub mod mounts;
pub mod nats;
pub mod netns;
pub mod nginx;
pub mod packet;
pub mod peers;
pub mod privilege;
mod service;
mod stream;
pub mod traffic;
mod waiting;
mod wire;

pub use authority::{Authority, Certified};
pub use binary::abuser_binary;
pub use capture::Capture;
pub use command::CommandOutput;
pub use crowdsec::Crowdsec;
pub use daemon::Daemon;
pub use frames::FrameSender;
pub use janitor::Janitor;
pub use link::{Interface, XdpAttachment, bridge, veth};
pub use machine::Machine;
pub use mounts::Mounts;
pub use netns::Namespace;
pub use nginx::Nginx;
pub use packet::Packet;
pub use service::Service;
pub use stream::LineStream;
pub use waiting::{comes_true, pause_since};
pub use wire::Wire;

use std::io;

/// Says what was tried before what went wrong.
fn context(error: &io::Error, tried: impl std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{tried}: {error}"))
}
