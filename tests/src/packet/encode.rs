//! The bytes of a [`Packet`]: lengths, next headers, checksums.

use super::{Extension, Fragment, Network, Packet, transport::Transport};

impl Packet {
    /// The frame, from the destination's hardware address on, without padding to 60 bytes.
    ///
    /// # Panics
    /// If it is longer than IP can say.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for (ethertype, id) in &self.tags {
            frame.extend(ethertype.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let (ethertype, packet) = self.network();
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn network(&self) -> (u16, Vec<u8>) {
        match &self.network {
            Network::Other { ethertype } => (*ethertype, self.payload.clone()),
            Network::Ipv4 {
                source,
                destination,
                options,
                fragment,
            } => {
                let segment = self.segment(&source.octets(), &destination.octets());
                let header_len = 20 + options.len();
                let words = u8::try_from(header_len / 4).expect("at most ten words of options");
                // Type of service is 0.
                let mut bytes = vec![0x40 | words, 0];
                bytes.extend(length(header_len + segment.len()));
                // Identification, then flags and offset.
                bytes.extend([0x12, 0x34]);
                let more = u16::from(fragment.more) << 13;
                bytes.extend((more | fragment.offset).to_be_bytes());
                // Time to live, protocol, checksum to be filled in.
                bytes.extend([64, self.transport.number(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(options);
                let sum = checksum(&bytes).to_be_bytes();
                bytes[10..12].copy_from_slice(&sum);
                bytes.extend(segment);
                (0x0800, bytes)
            }
            Network::Ipv6 {
                source,
                destination,
                extensions,
            } => {
                let segment = self.segment(&source.octets(), &destination.octets());
                let mut next = self.transport.number();
                let mut body = segment;
                for extension in extensions.iter().rev() {
                    let mut header = extension.bytes(next);
                    header.extend(body);
                    body = header;
                    next = extension.number();
                }
                // Version 6, no traffic class, no flow label.
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend(length(body.len()));
                bytes.extend([next, 64]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(body);
                (0x86dd, bytes)
            }
        }
    }

    /// The transport header with its checksum, and the payload.
    fn segment(&self, source: &[u8], destination: &[u8]) -> Vec<u8> {
        let mut bytes = self.transport.header(self.payload.len());
        bytes.extend(&self.payload);
        let pseudo = |len: usize, number: u8| {
            let len = u32::try_from(len).expect("a packet fits in 64 KiB");
            let mut pseudo = [source, destination].concat();
            pseudo.extend(len.to_be_bytes());
            pseudo.extend([0, 0, 0, number]);
            pseudo
        };
        let (at, covered) = match self.transport {
            Transport::Tcp { .. } => (16, pseudo(bytes.len(), 6)),
            Transport::Udp { .. } => (6, pseudo(bytes.len(), 17)),
            Transport::Icmp => (2, Vec::new()),
            Transport::Icmpv6 => (2, pseudo(bytes.len(), 58)),
            Transport::Other(_) => return bytes,
        };
        let mut sum = checksum(&[covered, bytes.clone()].concat());
        if sum == 0 && matches!(self.transport, Transport::Udp { .. }) {
            // Zero would say that there is no checksum (RFC 768).
            sum = 0xffff;
        }
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

impl Transport {
    fn number(self) -> u8 {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Other(number) => number,
        }
    }

    /// The header with a checksum of zero.
    fn header(self, payload_len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Tcp {
                source,
                destination,
                flags,
            } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                // Sequence and acknowledgement numbers.
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
                // Five words of header, flags, window, checksum, urgent pointer.
                bytes.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
            }
            Self::Udp {
                source,
                destination,
            } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend(length(8 + payload_len));
                bytes.extend([0, 0]);
            }
            // Echo request, identifier 1, sequence 1.
            Self::Icmp => bytes.extend([8, 0, 0, 0, 0, 1, 0, 1]),
            Self::Icmpv6 => bytes.extend([128, 0, 0, 0, 0, 1, 0, 1]),
            Self::Other(_) => {}
        }
        bytes
    }
}

impl Extension {
    fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::Fragment(_) => 44,
            Self::Authentication => 51,
            Self::DestinationOptions => 60,
            Self::Mobility => 135,
        }
    }

    fn bytes(self, next: u8) -> Vec<u8> {
        match self {
            // One PadN option fills the eight bytes.
            Self::HopByHop | Self::DestinationOptions => vec![next, 0, 1, 4, 0, 0, 0, 0],
            Self::Routing => {
                // Two more units of eight bytes, type 2, no segments left, one address.
                let mut bytes = vec![next, 2, 2, 0, 0, 0, 0, 0];
                bytes.extend([0; 16]);
                bytes
            }
            Self::Fragment(Fragment { offset, more }) => {
                let mut bytes = vec![next, 0];
                bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                bytes.extend([0, 0, 0x12, 0x34]);
                bytes
            }
            Self::Authentication => {
                // 24 bytes: six words, less two; security parameters index and sequence.
                let mut bytes = vec![next, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
                bytes.extend([0xaa; 12]);
                bytes
            }
            // Eight bytes: type 0, and a checksum that nobody looks at here.
            Self::Mobility => vec![next, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes)
        .expect("a packet fits in 64 KiB")
        .to_be_bytes()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("the sum is folded to 16 bits")
}
