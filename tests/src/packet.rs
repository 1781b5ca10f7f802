//! Frames that read like the packet.
//!
//! `Packet::eth().vlan(7).ipv4("192.0.2.7").tcp(443).syn().build()` is a SYN to port 443 from
//! 192.0.2.7 on VLAN 7, with correct lengths and checksums. Broken packets are a test's own
//! matter: it truncates or overwrites what [`Packet::build`] returns.

mod encode;
#[cfg(test)]
mod parsed;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use transport::Transport;
pub use transport::{SOURCE_PORT, flags};

/// The destination when [`Packet::to`] is not called.
pub const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The destination when [`Packet::to`] is not called.
pub const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// A frame under construction: begin with [`Packet::eth`] or [`Packet::arp`].
#[derive(Clone, Debug)]
pub struct Packet {
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    /// Each tag's ethertype and VLAN id, the outermost first.
    tags: Vec<(u16, u16)>,
    network: Network,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Network {
    Other {
        ethertype: u16,
    },
    Ipv4 {
        source: Ipv4Addr,
        destination: Ipv4Addr,
        options: Vec<u8>,
        fragment: Fragment,
    },
    Ipv6 {
        source: Ipv6Addr,
        destination: Ipv6Addr,
        extensions: Vec<Extension>,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Fragment {
    /// In units of eight bytes.
    offset: u16,
    more: bool,
}

#[derive(Clone, Copy, Debug)]
enum Extension {
    HopByHop,
    Routing,
    DestinationOptions,
    Fragment(Fragment),
    Authentication,
    Mobility,
}

impl Packet {
    /// An Ethernet frame; without more it carries the local experimental ethertype 0x88b5.
    pub fn eth() -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            tags: Vec::new(),
            network: Network::Other { ethertype: 0x88b5 },
            // 59 is "no next header" (RFC 8200).
            transport: Transport::Other(59),
            payload: Vec::new(),
        }
    }

    /// An ARP request of 192.0.2.10 for 192.0.2.1.
    pub fn arp() -> Self {
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
        body.extend([2, 0, 0, 0, 0, 2, 192, 0, 2, 10]);
        body.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        let mut packet = Self::eth().ethertype(0x0806).payload(&body);
        packet.destination_mac = [0xff; 6];
        packet
    }

    /// Sets the hardware addresses, for frames that go over a real cable.
    #[must_use]
    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        self.source_mac = source;
        self.destination_mac = destination;
        self
    }

    /// Adds an 802.1Q tag; the first tag added is the outermost.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.tags.push((0x8100, id));
        self
    }

    /// Adds an 802.1ad service tag; it stands before a [`Packet::vlan`] one.
    #[must_use]
    pub fn service_vlan(mut self, id: u16) -> Self {
        self.tags.push((0x88a8, id));
        self
    }

    /// Some other protocol over Ethernet; [`Packet::payload`] is all that follows.
    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.network = Network::Other { ethertype };
        self
    }

    /// IPv4 from this source, given as text or as an [`Ipv4Addr`].
    ///
    /// # Panics
    /// If it is not an IPv4 address.
    #[must_use]
    pub fn ipv4(mut self, source: impl Display) -> Self {
        self.network = Network::Ipv4 {
            source: parse(&source),
            destination: DESTINATION_V4,
            options: Vec::new(),
            fragment: Fragment::default(),
        };
        self
    }

    /// IPv6 from this source, given as text or as an [`Ipv6Addr`].
    ///
    /// # Panics
    /// If it is not an IPv6 address.
    #[must_use]
    pub fn ipv6(mut self, source: impl Display) -> Self {
        self.network = Network::Ipv6 {
            source: parse(&source),
            destination: DESTINATION_V6,
            extensions: Vec::new(),
        };
        self
    }

    /// IPv4 or IPv6 from this source.
    #[must_use]
    pub fn ip(self, source: IpAddr) -> Self {
        match source {
            IpAddr::V4(source) => self.ipv4(source),
            IpAddr::V6(source) => self.ipv6(source),
        }
    }

    /// Sets the destination address.
    ///
    /// # Panics
    /// If the packet is not IP, or the address of the other family.
    #[must_use]
    pub fn to(mut self, address: impl Display) -> Self {
        match &mut self.network {
            Network::Ipv4 { destination, .. } => *destination = parse(&address),
            Network::Ipv6 { destination, .. } => *destination = parse(&address),
            Network::Other { .. } => panic!("only IP has a destination address"),
        }
        self
    }

    /// IPv4 options: that many no-operation words of four bytes, at most ten.
    ///
    /// # Panics
    /// If the packet is not IPv4 or there are more than ten words.
    #[must_use]
    pub fn options(mut self, words: usize) -> Self {
        assert!(words <= 10, "IPv4 has room for ten words of options");
        let Network::Ipv4 { options, .. } = &mut self.network else {
            panic!("only IPv4 has options; IPv6 has extension headers");
        };
        *options = vec![1; words * 4];
        self
    }

    /// The first fragment of several: the ports are there.
    #[must_use]
    pub fn first_fragment(self) -> Self {
        self.fragment(0, true)
    }

    /// A later fragment, the last one. What is added as TCP or UDP is then only payload that
    /// looks like a header: a parser that reads ports from it is wrong.
    #[must_use]
    pub fn later_fragment(self) -> Self {
        self.fragment(185, false)
    }

    /// A fragment at `offset` (in units of eight bytes), with more to follow or not. Offset 0
    /// without more is a whole packet in IPv4 and an atomic fragment (RFC 6946) in IPv6.
    ///
    /// # Panics
    /// If the packet is not IP.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        let new = Fragment { offset, more };
        match &mut self.network {
            Network::Ipv4 { fragment, .. } => *fragment = new,
            Network::Ipv6 { extensions, .. } => extensions.push(Extension::Fragment(new)),
            Network::Other { .. } => panic!("only IP has fragments"),
        }
        self
    }

    /// Adds an IPv6 hop-by-hop options header.
    #[must_use]
    pub fn hop_by_hop(self) -> Self {
        self.extension(Extension::HopByHop)
    }

    /// Adds an IPv6 routing header (type 2, no segments left).
    #[must_use]
    pub fn routing(self) -> Self {
        self.extension(Extension::Routing)
    }

    /// Adds an IPv6 destination options header.
    #[must_use]
    pub fn destination_options(self) -> Self {
        self.extension(Extension::DestinationOptions)
    }

    /// Adds an IPv6 authentication header (RFC 4302), whose length counts words of four bytes.
    #[must_use]
    pub fn authentication(self) -> Self {
        self.extension(Extension::Authentication)
    }

    /// Adds an IPv6 mobility header (RFC 6275): a binding refresh request.
    #[must_use]
    pub fn mobility(self) -> Self {
        self.extension(Extension::Mobility)
    }

    fn extension(mut self, extension: Extension) -> Self {
        let Network::Ipv6 { extensions, .. } = &mut self.network else {
            panic!("only IPv6 has extension headers");
        };
        extensions.push(extension);
        self
    }

    /// What follows the last header.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// A payload of this many bytes.
    #[must_use]
    pub fn payload_len(self, bytes: usize) -> Self {
        self.payload(&vec![b'a'; bytes])
    }
}

fn parse<T: FromStr>(address: &impl Display) -> T {
    let text = address.to_string();
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is not an address of the family asked for"))
}
