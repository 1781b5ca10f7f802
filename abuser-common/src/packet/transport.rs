//! Transport and port, through IP options, extension headers and fragments.

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};

use super::{Bytes, Header, MAX_OFFSET, NextHeader, TCP, TCP_ACK, TCP_SYN, UDP};
use crate::prefix::Family;

/// IPv6 extension headers that are walked. RFC 8200 (4.1) orders at most six before the
/// upper layer, and RFC 8504 (5.3) lets a node take no more than eight; Linux takes any number.
const MAX_EXTENSION_HEADERS: usize = 8;

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
    /// [`Unreadable::Hidden`](super::Unreadable::Hidden).
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
    pub const fn offset(self) -> usize {
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
pub(super) enum Part {
    Whole,
    FirstFragment,
    LaterFragment,
}

impl Part {
    /// From the 16 bits that hold a 13-bit offset and, at `more`, the more-fragments bit.
    #[inline(always)]
    pub(super) const fn new(offset_bits: u16, more: bool) -> Self {
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
pub(super) struct Unread {
    pub(super) end: usize,
}

impl Unread {
    /// It is in another fragment, or further than is walked.
    const ELSEWHERE: Self = Self { end: 0 };
    /// The one before it says nonsense.
    const CONTRADICTION: Self = Self { end: usize::MAX };
}

/// A datagram whose headers are walked.
pub(super) struct Datagram<'b, B: Bytes + ?Sized> {
    bytes: &'b B,
    /// Where a first fragment ends: what follows in the frame is padding, what follows in the
    /// datagram is in another fragment. Nowhere for others.
    end: usize,
}

impl<'b, B: Bytes + ?Sized> Datagram<'b, B> {
    const NOWHERE: usize = usize::MAX;

    /// Of one whose parts are yet unknown.
    #[inline(always)]
    pub(super) const fn new(bytes: &'b B) -> Self {
        Self {
            bytes,
            end: Self::NOWHERE,
        }
    }

    /// Goes on with `part` of the datagram, which ends at `end` by its own account.
    #[inline(always)]
    pub(super) const fn enter(&mut self, part: Part, end: usize) {
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
    pub(super) fn header<T: Header>(&self, offset: usize) -> Result<&'b T, Unread> {
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
    let header: &Ipv6Hdr = datagram.header(offset)?;
    if header.vcf[0] >> 4 != 6 {
        return Err(Unread::CONTRADICTION);
    }
    let payload = offset + Ipv6Hdr::LEN;
    let end = payload + usize::from(u16::from_be_bytes(header.payload_len));
    let mut at = NextHeader::new(header.next_hdr, payload, end);
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !at.is_extension() {
            break;
        }
        at = datagram.bytes.pass_extension(at);
    }
    if at.is_unread() {
        return Err(Unread { end: at.offset() });
    }
    if at.is_in_later_fragment() {
        return Ok(Upper::without_header(at.protocol()));
    }
    if at.is_extension() {
        return Err(Unread::ELSEWHERE);
    }
    if at.is_in_first_fragment() {
        datagram.enter(Part::FirstFragment, end);
    }
    Ok(Upper::new(at.protocol(), at.offset()))
}
