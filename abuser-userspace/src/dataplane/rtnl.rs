//! What is asked of netlink while nothing else may happen: which program is on an interface, and
//! to put another in its place.
//!
//! A dispatcher is not attached by a BPF link but by this older way, because all who speak
//! its protocol replace each other's.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::interfaces::{self, AttachedXdp};

// linux/if_link.h
const UPDATE_IF_NOEXIST: u32 = 1;
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;
const REPLACE: u32 = 1 << 4;

/// The XDP program that is on the interface with this index now; none if it is gone.
pub(super) fn attached(index: u32) -> io::Result<Option<AttachedXdp>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match request(RouteNetlinkMessage::GetLink(message)) {
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
    request(RouteNetlinkMessage::SetLink(message)).map(drop)
}

/// Whether another program was on the interface than the one that was to be replaced.
pub(super) fn is_another(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY))
}

fn request(message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
            // Messages are aligned to four bytes.
            rest = rest
                .get(length.saturating_add(3) & !3..)
                .unwrap_or_default();
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}
