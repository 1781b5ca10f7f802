//! What is asked of netlink while nothing else may happen: which program is on an interface, and
//! to put another in its place.
//!
//! A dispatcher is not attached by a BPF link but by this older way, because all who speak
//! its protocol replace each other's.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use abuser_netlink::request;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp},
};

use super::interfaces::{self, AttachedXdp};

// linux/if_link.h
const UPDATE_IF_NOEXIST: u32 = 1;
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;
const REPLACE: u32 = 1 << 4;

/// The XDP program that is on the interface with this index now; none, too, if the interface is gone.
pub(super) fn attached(index: u32) -> io::Result<Option<AttachedXdp>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match request(RouteNetlinkMessage::GetLink(message), 0) {
        Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => interfaces::attached_to(link),
            _ => None,
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a program on an interface in place of the one that was, or of none, at once. If it is
/// another one that is on it, nothing changes, and the error is `EEXIST` or `EBUSY`.
pub(super) fn replace(
    index: u32,
    old: Option<BorrowedFd<'_>>,
    new: Option<BorrowedFd<'_>>,
    generic: bool,
) -> io::Result<()> {
    let mode = if generic { SKB_MODE } else { DRV_MODE };
    let condition = if old.is_some() {
        REPLACE
    } else {
        UPDATE_IF_NOEXIST
    };
    let mut xdp = vec![
        LinkXdp::Fd(new.map_or(-1, |fd| fd.as_raw_fd())),
        LinkXdp::Flags(mode | condition),
    ];
    if let Some(old) = old {
        xdp.push(LinkXdp::ExpectedFd(old.as_raw_fd().unsigned_abs()));
    }
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Xdp(xdp));
    request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
}

/// Whether another program was on the interface than the one that was to be replaced.
pub(super) fn is_another(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY))
}
