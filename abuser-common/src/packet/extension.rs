//! IPv6 extension headers: from one to what is behind it.

use super::{
    Bytes, MAX_OFFSET,
    transport::{Datagram, Part, Unread},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// Which header comes next in an IPv6 packet, in one word for the reason that [`Transport`](super::Transport) is one.
/// From the lowest bit: its protocol number (8 bits), its offset in bytes (14, and 10 unused), where the packet ends by its
/// own account (24), whether this is a first fragment, whether a later one, and whether the extension header before it could not be
/// read: then the offset is where that header would have ended, and the protocol is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHeader(pub u64);

// Behind the furthest that is read, and behind the longest extension header there.
const _: () = assert!((MAX_OFFSET + 256 * 8 + 8) as u64 <= NextHeader::OFFSET);

impl NextHeader {
    const OFFSET_SHIFT: u32 = 8;
    const END_SHIFT: u32 = 32;
    /// The bits of an offset. It is bounded by them: a comparison the compiler may make before the shift, where it tells
    /// the verifier nothing.
    const OFFSET: u64 = 0x3fff;
    const END: u64 = 0xff_ffff;
    const FIRST_FRAGMENT: u64 = 1 << 56;
    const LATER_FRAGMENT: u64 = 1 << 57;
    const UNREAD: u64 = 1 << 58;

    #[inline(always)]
    pub(super) const fn new(protocol: u8, offset: usize, end: usize) -> Self {
        let end = (end as u64 & Self::END) << Self::END_SHIFT;
        Self(end).with(protocol, offset)
    }

    /// The header with this protocol number at `offset`, in the same packet.
    #[inline(always)]
    const fn with(self, protocol: u8, offset: usize) -> Self {
        let rest = self.0 & !(Self::OFFSET << Self::OFFSET_SHIFT | 0xff);
        let offset = (offset as u64 & Self::OFFSET) << Self::OFFSET_SHIFT;
        Self(rest | offset | protocol as u64)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest 8 bits")]
    pub(super) const fn protocol(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub(super) const fn offset(self) -> usize {
        (self.0 >> Self::OFFSET_SHIFT & Self::OFFSET) as usize
    }

    #[inline(always)]
    const fn end(self) -> usize {
        (self.0 >> Self::END_SHIFT & Self::END) as usize
    }

    #[inline(always)]
    pub(super) const fn is_in_first_fragment(self) -> bool {
        self.0 & Self::FIRST_FRAGMENT != 0
    }

    #[inline(always)]
    pub(super) const fn is_in_later_fragment(self) -> bool {
        self.0 & Self::LATER_FRAGMENT != 0
    }

    #[inline(always)]
    pub(super) const fn is_unread(self) -> bool {
        self.0 & Self::UNREAD != 0
    }

    /// Whether it is there and an extension header, so that there may be another behind it.
    #[inline(always)]
    pub(super) const fn is_extension(self) -> bool {
        !self.is_unread()
            && !self.is_in_later_fragment()
            && matches!(
                self.protocol(),
                HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY
            )
    }
}

/// Goes on to the header behind an extension header; what [`Bytes::pass_extension`] does.
#[inline(always)]
pub fn pass_extension<B: Bytes + ?Sized>(bytes: &B, at: NextHeader) -> NextHeader {
    match behind(bytes, at) {
        Ok(next) => next,
        Err(Unread { end }) => NextHeader(at.with(0, end).0 | NextHeader::UNREAD),
    }
}

#[inline(always)]
fn behind<B: Bytes + ?Sized>(bytes: &B, at: NextHeader) -> Result<NextHeader, Unread> {
    let mut datagram = Datagram::new(bytes);
    if at.is_in_first_fragment() {
        datagram.enter(Part::FirstFragment, at.end());
    }
    let offset = at.offset();
    if at.protocol() == FRAGMENT {
        let [next, _, high, low, ..] = *datagram.header::<[u8; 8]>(offset)?;
        let fragment = u16::from_be_bytes([high, low]);
        let next = at.with(next, offset + 8).0;
        return Ok(NextHeader(
            next | match Part::new(fragment & 0xfff8, fragment & 1 != 0) {
                Part::Whole => 0,
                Part::FirstFragment => NextHeader::FIRST_FRAGMENT,
                // What follows is payload, not a header.
                Part::LaterFragment => NextHeader::LATER_FRAGMENT,
            },
        ));
    }
    let [next, length] = *datagram.header::<[u8; 2]>(offset)?;
    let length = usize::from(length);
    let length = if at.protocol() == AUTHENTICATION {
        (length + 2) * 4
    } else {
        (length + 1) * 8
    };
    Ok(at.with(next, offset + length))
}
