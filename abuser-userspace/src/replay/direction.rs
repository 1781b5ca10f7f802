//! Which frames of a capture came to the host that captured them.
//!
//! The program sees what comes in, a capture has both ways. In this order:
//!
//! 1. With `--to`, what goes to those prefixes comes in, and what comes from them goes out.
//! 2. What the capture tells is believed: cooked captures (`tcpdump -i any`) and the flags of
//!    pcapng tell each packet's way.
//! 3. Else the host is found by its traffic. Nearly every packet is from it or to it: of the
//!    addresses in the first [`LOOKED_AT`] packets of an interface the one that is in most of them
//!    is taken for the host's. In a draw, as when there is one client, it is the one that was
//!    asked for more connections than it asked for, then the one that got more packets, then the
//!    lower one. The hardware address that goes with it is the host's: what comes from there goes
//!    out, what goes there or to a group comes in, and the rest is of others. Without hardware
//!    addresses the IP address itself is compared.
//! 4. On the loopback interface, whose hardware address is all zeros, every frame is both. So is
//!    everything where there is no packet to tell the host by.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use abuser_common::{
    packet::{self, TCP, TCP_ACK, TCP_SYN},
    prefix::Family,
};
use ipnet::IpNet;

use super::frame::{Frame, Told};

/// Packets by which hosts are found, and their bytes at most.
pub(super) const LOOKED_AT: usize = 20_000;
/// See [`LOOKED_AT`].
pub(super) const LOOKED_AT_BYTES: usize = 4 << 20;

type Hardware = [u8; 6];

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// To the host.
    pub(super) comes_in: bool,
    /// From the host.
    pub(super) goes_out: bool,
}

impl Way {
    const IN: Self = Self::new(true, false);
    const OUT: Self = Self::new(false, true);
    const BOTH: Self = Self::new(true, true);
    const NEITHER: Self = Self::new(false, false);

    const fn new(comes_in: bool, goes_out: bool) -> Self {
        Self { comes_in, goes_out }
    }
}

/// The host that captured an interface's frames, as far as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// Its address.
    pub(super) address: Option<IpAddr>,
    /// Its address of the other family.
    other: Option<IpAddr>,
    /// Its hardware address.
    hardware: Option<Hardware>,
}

/// What a frame says of its sender and its receiver.
struct Ends {
    source: IpAddr,
    destination: IpAddr,
    opens: bool,
}

/// How an address occurs.
#[derive(Clone, Copy, Default)]
struct Seen {
    packets: u64,
    received: u64,
    /// Requests for connections that it got, less those that it made.
    asked: i64,
}

impl Host {
    /// Finds the host by its first frames.
    pub(super) fn find<'f>(frames: impl Iterator<Item = &'f Frame> + Clone) -> Self {
        let mut seen: HashMap<IpAddr, Seen> = HashMap::new();
        for frame in frames.clone() {
            let Some(ends) = Ends::of(&frame.bytes) else {
                continue;
            };
            let opens = i64::from(ends.opens);
            for (address, received, asked) in
                [(ends.source, 0, -opens), (ends.destination, 1, opens)]
            {
                if is_one_host(address) {
                    let seen = seen.entry(address).or_default();
                    seen.packets += 1;
                    seen.received += received;
                    seen.asked += asked;
                }
            }
        }
        let best = |wanted: Option<bool>| {
            let candidates = seen
                .iter()
                .filter(|(address, _)| wanted.is_none_or(|is_ipv4| address.is_ipv4() == is_ipv4));
            let best = candidates.max_by_key(|(address, seen)| {
                (seen.packets, seen.asked, seen.received, Reverse(**address))
            });
            best.map(|(address, _)| *address)
        };
        let address = best(None);
        Self {
            address,
            other: address.and_then(|address| best(Some(!address.is_ipv4()))),
            hardware: address.and_then(|address| hardware_of(address, frames)),
        }
    }

    /// Which way a frame went.
    pub(super) fn way(&self, frame: &Frame, to: &[IpNet]) -> Way {
        if !to.is_empty() {
            let Some(ends) = Ends::of(&frame.bytes) else {
                return Way::NEITHER;
            };
            let is_ours = |address: &IpAddr| to.iter().any(|prefix| prefix.contains(address));
            return Way::new(is_ours(&ends.destination), is_ours(&ends.source));
        }
        match frame.told {
            Told::Incoming => return Way::IN,
            Told::Outgoing => return Way::OUT,
            Told::Foreign => return Way::NEITHER,
            Told::Nothing => {}
        }
        let Some(address) = self.address else {
            return Way::BOTH;
        };
        if let Some(own) = self.hardware.filter(|_| frame.has_addresses) {
            return way_by_hardware(own, &frame.bytes);
        }
        let Some(ends) = Ends::of(&frame.bytes) else {
            return Way::BOTH;
        };
        let is_own = |end| end == address || Some(end) == self.other;
        match (is_own(ends.destination), is_own(ends.source)) {
            (true, true) => Way::BOTH,
            (_, true) => Way::OUT,
            (false, false) if is_one_host(ends.destination) => Way::NEITHER,
            _ => Way::IN,
        }
    }
}

fn way_by_hardware(own: Hardware, frame: &[u8]) -> Way {
    let Some((to, from)) = hardware(frame) else {
        // Too short to have come from anywhere.
        return Way::IN;
    };
    if own == Hardware::default() {
        Way::BOTH
    } else if from == own {
        Way::OUT
    } else if to == own || to.first().is_some_and(|octet| octet & 1 != 0) {
        Way::IN
    } else {
        Way::NEITHER
    }
}

/// Where a frame goes to and comes from.
fn hardware(frame: &[u8]) -> Option<(Hardware, Hardware)> {
    let to = frame.first_chunk()?;
    let from = frame.get(6..)?.first_chunk()?;
    Some((*to, *from))
}

/// The hardware address that most frames from and to an address have.
fn hardware_of<'f>(address: IpAddr, frames: impl Iterator<Item = &'f Frame>) -> Option<Hardware> {
    let mut seen: HashMap<Hardware, u64> = HashMap::new();
    for frame in frames.filter(|frame| frame.has_addresses) {
        let ends = Ends::of(&frame.bytes).zip(hardware(&frame.bytes));
        let Some((ends, (to, from))) = ends else {
            continue;
        };
        for (end, hardware) in [(ends.source, from), (ends.destination, to)] {
            if end == address {
                *seen.entry(hardware).or_default() += 1;
            }
        }
    }
    let best = seen
        .into_iter()
        .max_by_key(|(hardware, count)| (*count, Reverse(*hardware)));
    best.map(|(hardware, _)| hardware)
}

impl Ends {
    fn of(frame: &[u8]) -> Option<Self> {
        let network = packet::network(frame).ok()??;
        let family = network.source.family;
        let (source, destination) = match family {
            Family::V4 => {
                let source: &[u8; 4] = frame.get(network.offset + 12..)?.first_chunk()?;
                let destination: &[u8; 4] = frame.get(network.offset + 16..)?.first_chunk()?;
                (
                    Ipv4Addr::from(*source).into(),
                    Ipv4Addr::from(*destination).into(),
                )
            }
            Family::V6 => {
                let source: &[u8; 16] = frame.get(network.offset + 8..)?.first_chunk()?;
                let destination: &[u8; 16] = frame.get(network.offset + 24..)?.first_chunk()?;
                (
                    Ipv6Addr::from(*source).into(),
                    Ipv6Addr::from(*destination).into(),
                )
            }
        };
        let transport = packet::transport(frame, family, network.offset);
        let opens =
            transport.protocol() == TCP && transport.tcp_flags() & (TCP_SYN | TCP_ACK) == TCP_SYN;
        Some(Self {
            source,
            destination,
            opens,
        })
    }
}

/// Whether an address can be that of one host.
fn is_one_host(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}
