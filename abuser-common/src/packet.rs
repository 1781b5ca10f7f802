//! The parser: from a frame to a source and, where they can be known, transport and port.
//!
//! It has two steps, because a ban needs only the source and must hold for every
//! protocol, fragment and extension header: [`network`] finds the source, [`transport()`]
//! the rest. Ports are never guessed: a later fragment has none.

use core::mem::offset_of;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

use crate::prefix::{Family, Source};

mod extension;
mod transport;

pub use self::{
    extension::{NextHeader, pass_extension},
    transport::{Transport, transport, transport_of_ipv4, transport_of_ipv6},
};

/// Where a packet's bytes come from: packet memory in the kernel, a slice on the host.
pub trait Bytes {
    /// The header of type `T` at `offset`; `None` if the packet is too short for it, the offset
    /// beyond [`MAX_OFFSET`], or it lies past what can be read of a frame in several buffers.
    fn header<T: Header>(&self, offset: usize) -> Option<&T>;

    /// How many bytes can be read: in a frame of several buffers only the first's.
    fn readable(&self) -> u32;

    /// The length of the whole frame in bytes. It is a dear call in the kernel; see
    /// [`Network::frame_length`].
    fn length(&self) -> u32;

    /// Index of the interface that the packet came in on; 0 if there is none.
    fn interface(&self) -> u32;

    /// Calls [`pass_extension`]: the body of a loop, which the program has as a function of its
    /// own; see the end of [`Tables`](crate::verdict::Tables) for why.
    #[inline(always)]
    fn pass_extension(&self, at: NextHeader) -> NextHeader {
        pass_extension(self, at)
    }
}

/// A type that can be read from any bytes at any address.
///
/// # Safety
///
/// Every bit pattern must be a valid value, and the alignment must be 1.
pub unsafe trait Header: Copy {}

macro_rules! headers {
    ($($header:ty),*) => {
        $(
            const _: () = assert!(align_of::<$header>() == 1);
            // SAFETY: made of integers only, and aligned to 1 as asserted above.
            unsafe impl Header for $header {}
        )*
    };
}

headers!(
    Ipv4Hdr, Ipv6Hdr, [u8; 2], [u8; 4], [u8; 8], [u8; 14], [u8; 32]
);

impl Bytes for [u8] {
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has the size of T; `Header` allows any bytes and alignment.
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }

    fn readable(&self) -> u32 {
        self.length()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn interface(&self) -> u32 {
        0
    }
}

/// VLAN tags (802.1Q, 802.1ad) that are looked through. No network has so many, but Linux
/// strips any number of priority tags, so a frame with more is not passed unread.
const MAX_VLAN_TAGS: usize = 4;

/// The furthest that any header is read at, in bytes from the start of the frame.
pub const MAX_OFFSET: usize = 0x1fff;

/// TCP protocol number.
pub const TCP: u8 = 6;
/// UDP protocol number.
pub const UDP: u8 = 17;
/// ICMP protocol number.
pub const ICMP: u8 = 1;
/// ICMP for IPv6 protocol number.
pub const ICMPV6: u8 = 58;

/// The SYN bit in the TCP flags octet.
pub const TCP_SYN: u8 = 0x02;
/// The ACK bit in the TCP flags octet.
pub const TCP_ACK: u8 = 0x10;

/// A header that is cut short or contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Why a frame's source or transport cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A header is cut short or contradicts itself: the kernel drops the frame as well.
    Malformed,
    /// What the frame holds is hidden, and the kernel would take it: behind more VLAN tags or
    /// IPv6 extension headers than are looked through, in a later fragment though it belongs
    /// into the first (RFC 7112), or past that part of a jumbo frame which can be read.
    Hidden,
}

impl From<Malformed> for Unreadable {
    #[inline(always)]
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The network layer: who sent the packet, and where its own header lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The source address.
    pub source: Source,
    /// Offset of the IP header in bytes.
    pub offset: usize,
    /// Where the packet ends by its own account, in bytes from the start of the frame.
    end: usize,
}

impl Network {
    /// The length of the whole frame in bytes, as counted by `bytes` limits. If all of the
    /// packet can be read, there are no further buffers to ask for.
    #[inline(always)]
    pub fn frame_length<B: Bytes + ?Sized>(&self, bytes: &B) -> u32 {
        let readable = bytes.readable();
        if self.end <= readable as usize {
            readable
        } else {
            bytes.length()
        }
    }
}

/// The addresses and ports of a TCP segment, in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpTuple {
    /// Over IPv4.
    V4 {
        /// Source and destination address, source and destination port.
        octets: [u8; 12],
    },
    /// Over IPv6.
    V6 {
        /// Source and destination address, source and destination port.
        octets: [u8; 36],
    },
}

/// Addresses and ports of a TCP segment; `None` if the packet is none, or its ports are not
/// known. `offset` is the IP header's, and `transport` what was found of this packet.
#[inline(always)]
pub fn tcp_tuple<B: Bytes + ?Sized>(
    bytes: &B,
    family: Family,
    offset: usize,
    transport: Transport,
) -> Option<TcpTuple> {
    if transport.protocol() != TCP || !transport.has_port() {
        return None;
    }
    let ports = *bytes.header::<[u8; 4]>(transport.offset())?;
    Some(match family {
        Family::V4 => {
            let header: &Ipv4Hdr = bytes.header(offset)?;
            let mut octets = [0; 12];
            let (source, rest) = octets.split_at_mut(4);
            let (destination, last) = rest.split_at_mut(4);
            source.copy_from_slice(&header.src_addr);
            destination.copy_from_slice(&header.dst_addr);
            last.copy_from_slice(&ports);
            TcpTuple::V4 { octets }
        }
        Family::V6 => {
            let addresses = offset + offset_of!(Ipv6Hdr, src_addr);
            let mut octets = [0; 36];
            let (both, last) = octets.split_at_mut(32);
            both.copy_from_slice(bytes.header::<[u8; 32]>(addresses)?);
            last.copy_from_slice(&ports);
            TcpTuple::V6 { octets }
        }
    })
}

/// The source in the IP header at `offset`, which was found before.
#[inline(always)]
pub fn source_at<B: Bytes + ?Sized>(bytes: &B, family: Family, offset: usize) -> Option<Source> {
    Some(match family {
        Family::V4 => Source::v4(bytes.header::<Ipv4Hdr>(offset)?.src_addr),
        Family::V6 => Source::v6(bytes.header::<Ipv6Hdr>(offset)?.src_addr),
    })
}

/// Finds the source; `Ok(None)` if the frame is not IP.
#[inline(always)]
pub fn network<B: Bytes + ?Sized>(bytes: &B) -> Result<Option<Network>, Unreadable> {
    let mut ether_type = ether_type(bytes, offset_of!(EthHdr, ether_type))?;
    let mut offset = EthHdr::LEN;
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ether_type) {
            break;
        }
        ether_type = self::ether_type(bytes, offset + offset_of!(VlanHdr, ether_type))?;
        offset += VlanHdr::LEN;
    }
    if is_vlan(ether_type) {
        return Err(Unreadable::Hidden);
    }
    let (source, length) = if ether_type == EtherType::Ipv4 as u16 {
        let header: &Ipv4Hdr = bytes.header(offset).ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes(header.tot_len));
        (Source::v4(header.src_addr), length)
    } else if ether_type == EtherType::Ipv6 as u16 {
        let header: &Ipv6Hdr = bytes.header(offset).ok_or(Malformed)?;
        let payload = usize::from(u16::from_be_bytes(header.payload_len));
        // A jumbogram says zero.
        let length = if payload == 0 {
            usize::MAX / 2
        } else {
            Ipv6Hdr::LEN + payload
        };
        (Source::v6(header.src_addr), length)
    } else {
        return Ok(None);
    };
    let end = offset + length;
    Ok(Some(Network {
        source,
        offset,
        end,
    }))
}

#[inline(always)]
const fn is_vlan(ether_type: u16) -> bool {
    ether_type == EtherType::Ieee8021q as u16 || ether_type == EtherType::Ieee8021ad as u16
}

/// The Ethernet type at `offset`, in network order as [`EtherType`] has it. `EthHdr` and `VlanHdr` are
/// aligned to 2, so they cannot be read in place.
#[inline(always)]
fn ether_type<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Result<u16, Malformed> {
    bytes
        .header::<[u8; 2]>(offset)
        .map(|octets| u16::from_ne_bytes(*octets))
        .ok_or(Malformed)
}
