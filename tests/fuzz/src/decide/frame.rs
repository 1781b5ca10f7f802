//! Frames of which it is known what is in them, because they are made of it.

use std::net::IpAddr;

/// A packet, and what its frame is made of.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) tags: usize,
    /// Words of options in an IPv4 header; extension headers of IPv6.
    pub(super) extra: usize,
    pub(super) fragment: Fragment,
    pub(super) protocol: u8,
    pub(super) port: u16,
    pub(super) tcp_flags: u8,
    pub(super) payload: usize,
}

/// Which part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    Whole,
    First,
    Later,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

impl Packet {
    /// Its destination port, as far as that is in the frame.
    pub(super) fn known_port(&self) -> Option<u16> {
        let has_header = self.fragment != Fragment::Later && matches!(self.protocol, TCP | UDP);
        has_header.then_some(self.port)
    }

    /// Whether it is a SYN without ACK.
    pub(super) fn opens_connection(&self) -> bool {
        self.protocol == TCP && self.known_port().is_some() && self.tcp_flags & 0x12 == 0x02
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in 0..self.tags {
            let kind: u16 = if tag == 0 { 0x88a8 } else { 0x8100 };
            frame.extend(kind.to_be_bytes());
            frame.extend([0, 7]);
        }
        let upper = self.upper();
        match self.source {
            IpAddr::V4(source) => {
                let options = 4 * self.extra.min(10);
                frame.extend([0x08, 0x00]);
                let header = u8::try_from(5 + options / 4).expect("at most 15");
                let length = u16::try_from(20 + options + upper.len()).expect("a short packet");
                let fragment: u16 = match self.fragment {
                    Fragment::Whole => 0x4000,
                    Fragment::First => 0x2000,
                    Fragment::Later => 0x2001,
                };
                frame.extend([0x40 | header, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([0, 1]);
                frame.extend(fragment.to_be_bytes());
                frame.extend([64, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend([198, 51, 100, 1]);
                frame.extend(vec![1; options]);
            }
            IpAddr::V6(source) => {
                frame.extend([0x86, 0xdd]);
                let headers: Vec<u8> = (0..self.extra.min(6))
                    .map(|n| {
                        if n == 0 {
                            HOP_BY_HOP
                        } else {
                            DESTINATION_OPTIONS
                        }
                    })
                    .chain((self.fragment != Fragment::Whole).then_some(FRAGMENT))
                    .chain([self.protocol])
                    .collect();
                let length = 8 * (headers.len() - 1) + upper.len();
                let length = u16::try_from(length).expect("a short packet");
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([headers[0], 64]);
                frame.extend(source.octets());
                frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                for pair in headers.windows(2) {
                    let bits = match (pair[0], self.fragment) {
                        (FRAGMENT, Fragment::First) => [0, 1],
                        (FRAGMENT, _) => [0, 9],
                        _ => [1, 4],
                    };
                    frame.extend([pair[1], 0]);
                    frame.extend(bits);
                    frame.extend([0; 4]);
                }
            }
        }
        frame.extend(upper);
        frame
    }

    /// What is above IP.
    fn upper(&self) -> Vec<u8> {
        let mut upper = Vec::new();
        if self.fragment != Fragment::Later {
            upper.extend(9_u16.to_be_bytes());
            upper.extend(self.port.to_be_bytes());
            upper.extend([0; 8]);
            upper.extend([0x50, self.tcp_flags]);
            upper.extend([0; 6]);
        }
        upper.extend(vec![0x5a; self.payload]);
        upper
    }
}
