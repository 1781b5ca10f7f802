//! TCP, UDP, ICMP and the rest: the part of the builder above IP.

use super::Packet;

/// The TCP or UDP source port when [`Packet::from_port`] is not called.
pub const SOURCE_PORT: u16 = 40_000;

/// TCP flag bits (RFC 9293 section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers: the start of a connection.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// Urgent.
    pub const URG: u8 = 0x20;
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Transport {
    Tcp {
        source: u16,
        destination: u16,
        flags: u8,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    Icmp,
    Icmpv6,
    /// An IP protocol number, followed by the payload only.
    Other(u8),
}

impl Packet {
    /// A TCP segment to this port, with ACK alone: one of an established connection.
    #[must_use]
    pub fn tcp(mut self, port: u16) -> Self {
        self.transport = Transport::Tcp {
            source: SOURCE_PORT,
            destination: port,
            flags: flags::ACK,
        };
        self
    }

    /// Makes the TCP segment a SYN: a connection's first packet.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flags(flags::SYN)
    }

    /// Sets the TCP flags, see [`flags`].
    ///
    /// # Panics
    /// If the packet is not TCP.
    #[must_use]
    pub fn flags(mut self, new: u8) -> Self {
        let Transport::Tcp { flags, .. } = &mut self.transport else {
            panic!("only TCP has flags: call tcp() first");
        };
        *flags = new;
        self
    }

    /// A UDP datagram to this port.
    #[must_use]
    pub fn udp(mut self, port: u16) -> Self {
        self.transport = Transport::Udp {
            source: SOURCE_PORT,
            destination: port,
        };
        self
    }

    /// Sets the TCP or UDP source port.
    ///
    /// # Panics
    /// If the packet is neither.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        match &mut self.transport {
            Transport::Tcp { source, .. } | Transport::Udp { source, .. } => *source = port,
            _ => panic!("only TCP and UDP have ports"),
        }
        self
    }

    /// An ICMP echo request.
    #[must_use]
    pub fn icmp(mut self) -> Self {
        self.transport = Transport::Icmp;
        self
    }

    /// An `ICMPv6` echo request.
    #[must_use]
    pub fn icmpv6(mut self) -> Self {
        self.transport = Transport::Icmpv6;
        self
    }

    /// Any IP protocol by number, such as 47 for GRE; the payload follows at once.
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Self {
        self.transport = Transport::Other(number);
        self
    }
}
