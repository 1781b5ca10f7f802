//! Frames put onto a cable as they are: forged, broken, or not IP at all.

use std::io;

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::{Interface, context};

/// A packet socket that sends whole frames out of one interface.
#[derive(Debug)]
pub struct FrameSender {
    socket: Socket,
    address: SockAddr,
}

impl FrameSender {
    /// Opens the interface for sending. Needs `CAP_NET_RAW`.
    pub fn open(interface: &Interface) -> io::Result<Self> {
        // Protocol 0 receives nothing, so nothing piles up.
        let socket = interface
            .namespace()
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))))
            .map_err(|error| context(&error, "cannot open a packet socket"))?;
        Ok(Self {
            socket,
            address: address(interface),
        })
    }

    /// Sends a frame, from the destination's hardware address on.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.address).map(drop)
    }
}

fn address(interface: &Interface) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is a socket address that is valid when it is all zeros.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET.try_into().unwrap_or_default();
    address.sll_ifindex = interface.index().cast_signed();
    let length = size_of::<libc::sockaddr_ll>();
    // SAFETY: a `sockaddr_ll` of this length was just written into it.
    unsafe { SockAddr::new(storage, length.try_into().unwrap_or_default()) }
}
