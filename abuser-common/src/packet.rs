//! The parser: from a frame to a source and, where they can be known, transport and port.
//!
//! It has two steps, because a ban needs only the source and must hold for every
//! protocol, fragment and extension header: [`network`] finds the source, [`transport`]
//! the rest. Ports are never guessed: a later fragment has none.

use core::mem::offset_of;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    vlan::VlanHdr,
};

use crate::prefix::{Family, Source};

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

/// IPv6 extension headers that are walked. RFC 8200 (4.1) orders at most six before the
/// upper layer, and RFC 8504 (5.3) lets a node take no more than eight; Linux takes any number.
const MAX_EXTENSION_HEADERS: usize = 8;

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

/// The transport layer, as far as it is known, in one word: the verifier forgets where a
/// packet came from that a function of its own has parsed, and such a function returns no
/// more. From the lowest bit: protocol (8 bits), TCP flags (8), destination port (16),
/// whether there is one, whether the headers are malformed, whether they are hidden, and from
/// bit 40 the transport header's offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport(pub u64);

#[expect(clippy::cast_possible_truncation, reason = "the parts of the word")]
impl Transport {
    const FLAGS_SHIFT: u32 = 8;
    const PORT_SHIFT: u32 = 16;
    const HAS_PORT: u64 = 1 << 32;
    const HIDDEN: u64 = 1 << 34;
    const OFFSET_SHIFT: u32 = 40;

    /// A header is cut short or contradicts itself.
    pub const MALFORMED: Self = Self(1 << 33);

    /// Whether the headers are malformed, and nothing is known.
    #[inline(always)]
    pub const fn is_malformed(self) -> bool {
        self.0 & Self::MALFORMED.0 != 0
    }

    /// Whether not all of this is known, though the kernel would find it; see
    /// [`Unreadable::Hidden`].
    #[inline(always)]
    pub const fn is_hidden(self) -> bool {
        self.0 & Self::HIDDEN != 0
    }

    /// IP protocol number; in a later fragment, what that fragment says it is.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        self.0 as u8
    }

    /// The TCP flags octet; 0 where there is none.
    #[inline(always)]
    pub const fn tcp_flags(self) -> u8 {
        (self.0 >> Self::FLAGS_SHIFT) as u8
    }

    /// TCP or UDP destination port in host order; `None` for other protocols and for
    /// fragments other than the first.
    #[inline(always)]
    pub const fn port(self) -> Option<u16> {
        if self.has_port() {
            Some(self.port_or_zero())
        } else {
            None
        }
    }

    #[inline(always)]
    pub(crate) const fn has_port(self) -> bool {
        self.0 & Self::HAS_PORT != 0
    }

    #[inline(always)]
    pub(crate) const fn port_or_zero(self) -> u16 {
        (self.0 >> Self::PORT_SHIFT) as u16
    }

    /// Offset of the transport header in bytes; 0 if there is no port.
    #[inline(always)]
    const fn offset(self) -> usize {
        (self.0 >> Self::OFFSET_SHIFT) as usize & MAX_OFFSET
    }

    /// Whether the packet asks for a new TCP connection: SYN without ACK.
    #[inline(always)]
    pub const fn opens_connection(self) -> bool {
        self.protocol() == TCP && self.tcp_flags() & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// Whether the packet claims to belong to a TCP connection: ACK without SYN.
    #[inline(always)]
    pub const fn claims_connection(self) -> bool {
        self.protocol() == TCP && self.tcp_flags() & (TCP_SYN | TCP_ACK) == TCP_ACK
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

/// Finds the transport protocol, the destination port and the TCP flags; `offset` is the IP
/// header's.
#[inline(always)]
pub fn transport<B: Bytes + ?Sized>(bytes: &B, family: Family, offset: usize) -> Transport {
    match family {
        Family::V4 => transport_of_ipv4(bytes, offset),
        Family::V6 => transport_of_ipv6(bytes, offset),
    }
}

/// [`transport`] of an IPv4 packet.
#[inline(always)]
pub fn transport_of_ipv4<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Transport {
    let mut datagram = Datagram::new(bytes);
    let upper = walk_ipv4(&mut datagram, offset);
    datagram.finish(upper)
}

/// [`transport`] of an IPv6 packet.
#[inline(always)]
pub fn transport_of_ipv6<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Transport {
    let mut datagram = Datagram::new(bytes);
    let upper = walk_ipv6(&mut datagram, offset);
    datagram.finish(upper)
}

/// Which part of a datagram the packet carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    FirstFragment,
    LaterFragment,
}

impl Part {
    /// From the 16 bits that hold a 13-bit offset and, at `more`, the more-fragments bit.
    #[inline(always)]
    const fn new(offset_bits: u16, more: bool) -> Self {
        match (offset_bits, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::FirstFragment,
            _ => Self::LaterFragment,
        }
    }
}

/// A header that was not read. It would have ended `end` bytes into the frame; a frame that is
/// so long has it, and only hides it.
#[derive(PartialEq, Eq)]
struct Unread {
    end: usize,
}

impl Unread {
    /// It is in another fragment, or further than is walked.
    const ELSEWHERE: Self = Self { end: 0 };
    /// The one before it says nonsense.
    const CONTRADICTION: Self = Self { end: usize::MAX };
}

/// A datagram whose headers are walked.
struct Datagram<'b, B: Bytes + ?Sized> {
    bytes: &'b B,
    /// Where a first fragment ends: what follows in the frame is padding, what follows in the
    /// datagram is in another fragment. Nowhere for others.
    end: usize,
}

impl<'b, B: Bytes + ?Sized> Datagram<'b, B> {
    const NOWHERE: usize = usize::MAX;

    /// Of one whose parts are yet unknown.
    #[inline(always)]
    const fn new(bytes: &'b B) -> Self {
        Self {
            bytes,
            end: Self::NOWHERE,
        }
    }

    /// Goes on with `part` of the datagram, which ends at `end` by its own account.
    #[inline(always)]
    const fn enter(&mut self, part: Part, end: usize) {
        if matches!(part, Part::FirstFragment) {
            self.end = end;
        }
    }

    /// What was found, or why not.
    #[inline(always)]
    fn finish(&self, upper: Result<Upper, Unread>) -> Transport {
        match upper.and_then(|upper| upper.transport(self)) {
            Ok(transport) => transport,
            Err(Unread { end }) if end > self.bytes.length() as usize => Transport::MALFORMED,
            Err(_) => Transport(Transport::HIDDEN),
        }
    }

    /// The header of type `T` at `offset`.
    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Result<&'b T, Unread> {
        let end = offset + size_of::<T>();
        if end > self.end {
            return Err(Unread::ELSEWHERE);
        }
        self.bytes.header(offset).ok_or(Unread { end })
    }
}

/// What is above IP: its protocol, and where its header lies if it is there.
struct Upper {
    protocol: u8,
    offset: Option<usize>,
}

impl Upper {
    #[inline(always)]
    const fn new(protocol: u8, offset: usize) -> Self {
        let offset = Some(offset);
        Self { protocol, offset }
    }

    /// In a later fragment.
    #[inline(always)]
    const fn without_header(protocol: u8) -> Self {
        let offset = None;
        Self { protocol, offset }
    }

    /// With what its header says.
    #[inline(always)]
    fn transport<B: Bytes + ?Sized>(self, datagram: &Datagram<'_, B>) -> Result<Transport, Unread> {
        // The first 14 octets of `TcpHdr`: all up to and with the flags.
        const FLAGS: usize = 13;
        const _: () = assert!(TcpHdr::LEN > FLAGS);
        let found = u64::from(self.protocol);
        let Some(offset) = self.offset.filter(|_| matches!(self.protocol, TCP | UDP)) else {
            return Ok(Transport(found));
        };
        let [_, _, high, low] = *datagram.header::<[u8; 4]>(offset)?;
        let port = u64::from(u16::from_be_bytes([high, low])) << Transport::PORT_SHIFT;
        let offset_bits = (offset as u64) << Transport::OFFSET_SHIFT;
        let found = found | port | Transport::HAS_PORT | offset_bits;
        if self.protocol != TCP {
            return Ok(Transport(found));
        }
        let flags = match datagram.header::<[u8; FLAGS + 1]>(offset) {
            Ok(header) => header[FLAGS],
            // No stack cuts a TCP header in two: whoever does hides its flags, and is
            // taken to open a connection.
            Err(Unread::ELSEWHERE) => TCP_SYN,
            Err(unread) => return Err(unread),
        };
        Ok(Transport(
            found | u64::from(flags) << Transport::FLAGS_SHIFT,
        ))
    }
}

#[inline(always)]
fn walk_ipv4<B: Bytes + ?Sized>(
    datagram: &mut Datagram<'_, B>,
    offset: usize,
) -> Result<Upper, Unread> {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let header: &Ipv4Hdr = datagram.header(offset)?;
    let header_len = usize::from(header.vihl & 0x0f) * 4;
    if header.vihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(Unread::CONTRADICTION);
    }
    let fragment = u16::from_be_bytes(header.frags);
    let part = Part::new(fragment & OFFSET, fragment & MORE_FRAGMENTS != 0);
    let total_len = usize::from(u16::from_be_bytes(header.tot_len));
    datagram.enter(part, offset + total_len);
    Ok(match part {
        Part::LaterFragment => Upper::without_header(header.proto),
        Part::Whole | Part::FirstFragment => Upper::new(header.proto, offset + header_len),
    })
}

#[inline(always)]
fn walk_ipv6<B: Bytes + ?Sized>(
    datagram: &mut Datagram<'_, B>,
    offset: usize,
) -> Result<Upper, Unread> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    const MOBILITY: u8 = 135;

    let header: &Ipv6Hdr = datagram.header(offset)?;
    if header.vcf[0] >> 4 != 6 {
        return Err(Unread::CONTRADICTION);
    }
    let mut protocol = header.next_hdr;
    let mut offset = offset + Ipv6Hdr::LEN;
    let end = offset + usize::from(u16::from_be_bytes(header.payload_len));
    // Once more than there are extension headers: behind the last one is the upper layer.
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => {
                let [next, length] = *datagram.header::<[u8; 2]>(offset)?;
                protocol = next;
                offset += (usize::from(length) + 1) * 8;
            }
            AUTHENTICATION => {
                let [next, length] = *datagram.header::<[u8; 2]>(offset)?;
                protocol = next;
                offset += (usize::from(length) + 2) * 4;
            }
            FRAGMENT => {
                let [next, _, high, low, ..] = *datagram.header::<[u8; 8]>(offset)?;
                let fragment = u16::from_be_bytes([high, low]);
                let part = Part::new(fragment & 0xfff8, fragment & 1 != 0);
                datagram.enter(part, end);
                protocol = next;
                offset += 8;
                // What follows a later fragment's header is payload, not a header.
                if matches!(part, Part::LaterFragment) {
                    return Ok(Upper::without_header(protocol));
                }
            }
            _ => return Ok(Upper::new(protocol, offset)),
        }
    }
    Err(Unread::ELSEWHERE)
}
