//! The host's sockets, as far as a capture shows them.
//!
//! The program asks the kernel whether a segment belongs to an established connection; that is
//! how it knows that a source is no forgery. Offline the capture has to tell. A connection is
//! established
//!
//! - when the client acknowledges the very number that the host sent with its SYN-ACK (or the
//!   host's SYN is answered with its own number): who forges addresses does not get to see it;
//! - when the host sends a segment with ACK and without SYN and RST: it does so only on a
//!   connection that it has. So those count that are older than the capture.
//!
//! It is over when the host resets it, when the client does within the window, and when both
//! have said FIN. A capture without the host's own packets shows no connection at all.

use std::cell::{Cell, RefCell};

use abuser_common::{
    gcra::KernelTime,
    packet::{self, Bytes as _, TCP, TCP_ACK, TCP_SYN, TcpTuple, Transport},
    verdict::{At, Connection, Kernel},
};
use schnellru::{ByLength, LruMap};

/// Connections that are remembered, the latest ones.
const ESTABLISHED: u32 = 1 << 18;
/// Handshakes under way that are.
const OPENING: u32 = 1 << 16;

const TCP_FIN: u8 = 0x01;
const TCP_RST: u8 = 0x04;

/// The furthest that a client's reset may be from what the host acknowledged last, in bytes.
const WINDOW: u32 = 1 << 20;

/// What is known of an established connection.
#[derive(Clone, Copy, Default)]
struct Established {
    /// What the host acknowledged last.
    acknowledged: u32,
    host_ended: bool,
    client_ended: bool,
}

impl Established {
    fn is_over(self) -> bool {
        self.host_ended && self.client_ended
    }
}

/// Clock and connections of the host whose packets are replayed.
pub(super) struct Sockets {
    pub(super) now: Cell<KernelTime>,
    /// Whether a packet of the host's own was seen.
    pub(super) spoke: Cell<bool>,
    established: RefCell<LruMap<TcpTuple, Established>>,
    /// What the client is to acknowledge.
    opening: RefCell<LruMap<TcpTuple, u32>>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            now: Cell::default(),
            spoke: Cell::default(),
            established: RefCell::new(LruMap::new(ByLength::new(ESTABLISHED))),
            opening: RefCell::new(LruMap::new(ByLength::new(OPENING))),
        }
    }
}

/// A TCP segment, as the client's side of the connection names it.
struct Segment {
    tuple: TcpTuple,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
}

impl Segment {
    fn of(frame: &[u8]) -> Option<Self> {
        let network = packet::network(frame).ok()??;
        let family = network.source.family;
        let transport = packet::transport(frame, family, network.offset);
        if transport.protocol() != TCP || transport.is_malformed() || transport.is_hidden() {
            return None;
        }
        let tuple = packet::tcp_tuple(frame, family, network.offset, transport)?;
        let sequence = frame.header(transport.offset() + 4)?;
        let acknowledged = frame.header(transport.offset() + 8)?;
        Some(Self {
            tuple,
            flags: transport.tcp_flags(),
            sequence: u32::from_be_bytes(*sequence),
            acknowledged: u32::from_be_bytes(*acknowledged),
        })
    }

    fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// The same connection, seen from the other end.
fn reversed(tuple: TcpTuple) -> TcpTuple {
    fn swap(octets: &mut [u8], address: usize) {
        octets.rotate_left(address);
        // Destination, ports, source: the addresses are to be first again, then the ports.
        let (_, rest) = octets.split_at_mut(address);
        rest.rotate_left(4);
        let ports = rest.len() - 4;
        let (_, ports) = rest.split_at_mut(ports);
        ports.rotate_left(2);
    }
    match tuple {
        TcpTuple::V4 { mut octets } => {
            swap(&mut octets, 4);
            TcpTuple::V4 { octets }
        }
        TcpTuple::V6 { mut octets } => {
            swap(&mut octets, 16);
            TcpTuple::V6 { octets }
        }
    }
}

impl Sockets {
    /// The host sent this.
    pub(super) fn sent(&self, frame: &[u8]) {
        self.spoke.set(true);
        let Some(segment) = Segment::of(frame) else {
            return;
        };
        let tuple = reversed(segment.tuple);
        let mut established = self.established.borrow_mut();
        let mut opening = self.opening.borrow_mut();
        if segment.has(TCP_RST) {
            established.remove(&tuple);
            opening.remove(&tuple);
        } else if segment.has(TCP_SYN) {
            established.remove(&tuple);
            opening.insert(tuple, segment.sequence.wrapping_add(1));
        } else if segment.has(TCP_ACK) {
            opening.remove(&tuple);
            if let Some(known) = established.get_or_insert(tuple, Established::default) {
                known.acknowledged = segment.acknowledged;
                known.host_ended |= segment.has(TCP_FIN);
            }
        }
    }

    /// The host got this.
    pub(super) fn received(&self, frame: &[u8]) {
        let Some(segment) = Segment::of(frame) else {
            return;
        };
        let tuple = segment.tuple;
        let mut established = self.established.borrow_mut();
        if let Some(known) = established.peek_mut(&tuple) {
            if segment.has(TCP_RST) {
                if segment.sequence.wrapping_sub(known.acknowledged) < WINDOW {
                    established.remove(&tuple);
                }
            } else if segment.has(TCP_FIN) {
                known.client_ended = true;
            }
            return;
        }
        let mut opening = self.opening.borrow_mut();
        let expected = opening.peek(&tuple).copied();
        if segment.has(TCP_ACK) && !segment.has(TCP_RST) && expected == Some(segment.acknowledged) {
            opening.remove(&tuple);
            let known = Established {
                acknowledged: segment.sequence,
                client_ended: segment.has(TCP_FIN),
                host_ended: false,
            };
            established.insert(tuple, known);
        }
    }
}

impl Kernel for Sockets {
    fn now(&self) -> KernelTime {
        self.now.get()
    }

    fn tick(&self) -> KernelTime {
        self.now.get()
    }

    fn connection<B: packet::Bytes + ?Sized>(
        &self,
        at: &At<'_, B>,
        transport: Transport,
    ) -> Connection {
        let (family, offset) = (at.packet.source.family, at.packet.offset);
        let Some(tuple) = packet::tcp_tuple(at.bytes, family, offset, transport) else {
            return Connection::None;
        };
        let established = self.established.borrow();
        if established
            .peek(&tuple)
            .is_some_and(|known| !known.is_over())
        {
            Connection::Established
        } else if self.opening.borrow().peek(&tuple).is_some() {
            Connection::Opening
        } else {
            Connection::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_two_ends() {
        let tuple = TcpTuple::V4 {
            octets: [1, 1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6],
        };
        let other = TcpTuple::V4 {
            octets: [2, 2, 2, 2, 1, 1, 1, 1, 5, 6, 3, 4],
        };
        assert_eq!(reversed(tuple), other);
        let mut octets = [0; 36];
        octets[..16].fill(1);
        octets[16..32].fill(2);
        octets[32..].copy_from_slice(&[3, 4, 5, 6]);
        let tuple = TcpTuple::V6 { octets };
        assert_ne!(reversed(tuple), tuple);
        assert_eq!(reversed(reversed(tuple)), tuple);
    }
}
