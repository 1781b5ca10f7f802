//! IPv4 and UDP in packet memory: the only place that touches it.

use aya_ebpf::programs::XdpContext;

const ETHERNET_BYTES: usize = 14;

/// `0x0800` in network order, as it is read on a little-endian machine.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();

/// The two headers that everything here needs, without options.
#[repr(C, packed)]
struct Headers {
    macs: [u8; 12],
    ethertype: u16,
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: [u16; 2],
    destination: [u16; 2],
}

const _: () = assert!(size_of::<Headers>() == ETHERNET_BYTES + 20);

/// An untagged IPv4 frame.
pub(crate) struct Ipv4<'a>(&'a mut Headers);

impl<'a> Ipv4<'a> {
    /// `None` if the frame is something else.
    #[inline(always)]
    pub(crate) fn of(ctx: &'a XdpContext) -> Option<Self> {
        let data = ctx.data();
        if data + size_of::<Headers>() > ctx.data_end() {
            return None;
        }
        // SAFETY: the headers lie within the packet, as just checked; any bytes are a value,
        // at any alignment. Nothing else in these programs refers to the packet.
        let headers = unsafe { &mut *(data as *mut Headers) };
        let is_ipv4 = headers.ethertype == ETHERTYPE_IPV4 && headers.version_and_length >> 4 == 4;
        is_ipv4.then_some(Self(headers))
    }

    /// The source address, as its four bytes lie in the packet.
    #[inline(always)]
    pub(crate) fn source(&self) -> u32 {
        let [high, low] = self.0.source;
        u32::from(high) | u32::from(low) << 16
    }

    /// Writes another source and mends the header's checksum (RFC 1624): the kernel does
    /// not restore a frame before it uses it again.
    #[inline(always)]
    pub(crate) fn set_source(&mut self, source: u32) {
        let [old_high, old_low] = self.0.source;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
        let [high, low] = [source as u16, (source >> 16) as u16];
        let mut sum = u32::from(!self.0.checksum)
            + u32::from(!old_high)
            + u32::from(!old_low)
            + u32::from(high)
            + u32::from(low);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
        let checksum = !(sum as u16);
        self.0.checksum = checksum;
        self.0.source = [high, low];
    }
}

/// A UDP datagram behind an IPv4 header without options, and the start of its payload.
#[repr(C, packed)]
struct UdpHeaders {
    ipv4: Headers,
    source_port: u16,
    port: u16,
    length: u16,
    checksum: u16,
    number: u32,
}

/// A UDP datagram that carries a number.
pub(crate) struct Udp<'a>(&'a mut UdpHeaders);

impl<'a> Udp<'a> {
    /// `None` if the frame is too short; that it is UDP is taken for granted.
    #[inline(always)]
    pub(crate) fn of(ctx: &'a XdpContext) -> Option<Self> {
        let data = ctx.data();
        if data + size_of::<UdpHeaders>() > ctx.data_end() {
            return None;
        }
        // SAFETY: as in `Ipv4::of`.
        Some(Self(unsafe { &mut *(data as *mut UdpHeaders) }))
    }

    /// Writes where it goes to and what it carries, and that it has no checksum (RFC 768).
    #[inline(always)]
    pub(crate) fn address(&mut self, port: u16, number: u32) {
        self.0.port = port.to_be();
        self.0.number = number.to_be();
        self.0.checksum = 0;
    }
}
