//! Frames of any link as Ethernet frames, because that is what the packet path reads.
//!
//! Those of Linux's "cooked" captures (`tcpdump -i any`) and bare IP packets get a header with
//! their ethertype and addresses of zeros.

use super::capture::CaptureError;

/// The longest that a frame can be, in bytes.
pub(super) const MAX_FRAME: u32 = 1 << 18;
/// An Ethernet header without tags.
const ETHERNET: usize = 14;

/// What a capture itself tells of the way a frame went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// To the host that captured it.
    Incoming,
    /// From that host.
    Outgoing,
    /// From and to others.
    Foreign,
}

/// One frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// When it was captured, in nanoseconds since 1970.
    pub(super) at_ns: u64,
    /// The number of its interface in the capture.
    pub(super) interface: u32,
    /// The frame, from its Ethernet header on, as far as it was captured.
    pub(super) bytes: Vec<u8>,
    /// The length of the whole frame in bytes.
    pub(super) length: u32,
    /// What the capture tells of its way.
    pub(super) told: Told,
    /// Whether its hardware addresses are those of the wire.
    pub(super) has_addresses: bool,
}

/// The kinds of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// `LINKTYPE_LINUX_SLL`.
    Cooked,
    /// `LINKTYPE_LINUX_SLL2`.
    Cooked2,
    /// `LINKTYPE_RAW`, `LINKTYPE_IPV4` and `LINKTYPE_IPV6`.
    Ip,
}

impl Link {
    /// The link with this number; see <https://www.tcpdump.org/linktypes.html>.
    pub(super) fn new(number: i32) -> Result<Self, CaptureError> {
        // In a pcap file the upper bits tell of checksums.
        match number & 0xffff {
            1 => Ok(Self::Ethernet),
            113 => Ok(Self::Cooked),
            276 => Ok(Self::Cooked2),
            101 | 228 | 229 => Ok(Self::Ip),
            other => Err(CaptureError::Link(other)),
        }
    }
}

impl Frame {
    /// Takes what was captured on `link` of a packet that was `length` bytes long.
    pub(super) fn fill(&mut self, link: Link, data: &[u8], length: u32) {
        self.bytes.clear();
        self.told = Told::Nothing;
        self.has_addresses = link == Link::Ethernet;
        let whole = length.max(number(data.len()));
        let (type_at, header, way_at) = match link {
            Link::Ethernet => {
                self.bytes.extend_from_slice(data);
                self.length = whole.min(MAX_FRAME);
                return;
            }
            Link::Cooked => (14, 16, Some(0..2)),
            Link::Cooked2 => (0, 20, Some(10..11)),
            Link::Ip => (0, 0, None),
        };
        let added = number(ETHERNET);
        self.length = whole
            .saturating_sub(number(header))
            .saturating_add(added)
            .min(MAX_FRAME);
        let Some(packet) = data.get(header..) else {
            return;
        };
        let ethertype = match link {
            Link::Ip => match packet.first().map(|octet| octet >> 4) {
                Some(4) => [0x08, 0x00],
                Some(6) => [0x86, 0xdd],
                _ => [0, 0],
            },
            _ => data
                .get(type_at..)
                .and_then(|rest| rest.first_chunk().copied())
                .unwrap_or_default(),
        };
        if let Some(way) = way_at.and_then(|at| data.get(at)) {
            // `PACKET_HOST` and the like of linux/if_packet.h.
            self.told = match way.last() {
                Some(0..=2) => Told::Incoming,
                Some(3) => Told::Foreign,
                Some(4) => Told::Outgoing,
                _ => Told::Nothing,
            };
        }
        self.bytes.extend_from_slice(&[0; ETHERNET - 2]);
        self.bytes.extend_from_slice(&ethertype);
        self.bytes.extend_from_slice(packet);
    }
}

/// A length or an index in 32 bits.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
