//! The network that most tests want: a server, a client, a cable.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{Interface, Namespace, veth};

/// A server and a client, each in a namespace of its own, joined by a veth pair that has
/// IPv4 and IPv6 addresses of the documentation ranges.
#[derive(Debug)]
pub struct Wire {
    /// Where the server, and `abuser`, run.
    pub server: Namespace,
    /// Where the clients run.
    pub client: Namespace,
    /// The server's end, `veth-server`: the one to attach to.
    pub server_end: Interface,
    /// The clients' end, `veth-client`.
    pub client_end: Interface,
}

impl Wire {
    /// The server's IPv4 address, in a /24.
    pub const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    /// The client's IPv4 address.
    pub const CLIENT_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    /// The server's IPv6 address, in a /32 so that clients may come from many /64s.
    pub const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    /// The client's IPv6 address, in another /64 than the server's.
    pub const CLIENT_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10));

    /// Lays the network.
    ///
    /// # Panics
    /// If the kernel or the want of privilege does not allow it: see
    /// [`require_root!`](crate::require_root).
    #[expect(
        clippy::new_without_default,
        reason = "it makes namespaces: too much for a default"
    )]
    pub fn new() -> Self {
        Self::try_new().unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`Wire::new`] that says what went wrong.
    pub fn try_new() -> io::Result<Self> {
        let server = Namespace::new()?;
        let client = Namespace::new()?;
        let (server_end, client_end) = veth(&server, "veth-server", &client, "veth-client")?;
        let wire = Self {
            server,
            client,
            server_end,
            client_end,
        };
        wire.add_addresses()?;
        Ok(wire)
    }

    /// Deletes the cable; the namespaces and what runs in them stay.
    ///
    /// # Panics
    /// If it is cut already.
    pub fn cut(&self) {
        let deleted = self.server_end.clone().delete();
        deleted.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lays a new cable in place of one that was [cut](Wire::cut), with the same names and
    /// addresses as the first one.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn lay(&mut self) {
        let laid = veth(&self.server, "veth-server", &self.client, "veth-client");
        (self.server_end, self.client_end) = laid.unwrap_or_else(|error| panic!("{error}"));
        self.add_addresses()
            .unwrap_or_else(|error| panic!("{error}"));
    }

    fn add_addresses(&self) -> io::Result<()> {
        for (end, ip) in [
            (&self.server_end, Self::SERVER_V4),
            (&self.server_end, Self::SERVER_V6),
            (&self.client_end, Self::CLIENT_V4),
            (&self.client_end, Self::CLIENT_V6),
        ] {
            let length = if ip.is_ipv4() { 24 } else { 32 };
            end.add_address(&format!("{ip}/{length}"))?;
        }
        Ok(())
    }

    /// Gives the client one more address, such as `192.0.2.66/24` or `2001:db8:0:2::66/32`.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn add_client(&self, address: &str) {
        self.client_end
            .add_address(address)
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn both_families_work_at_once() {
        crate::require_root!();
        let wire = Wire::new();
        // What is lost is sent again after a second.
        let started = Instant::now();
        for ip in [Wire::SERVER_V4, Wire::SERVER_V6] {
            let listener = wire.server.run(|| TcpListener::bind((ip, 80)).unwrap());
            let client = wire.client.run(|| TcpStream::connect((ip, 80)).unwrap());
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "it took {took:?}");
    }

    #[test]
    fn a_new_cable_has_no_xdp_program() {
        crate::require_root!();
        assert_eq!(Wire::new().server_end.xdp().unwrap(), None);
    }

    #[test]
    fn deleting_one_end_deletes_the_other() {
        crate::require_root!();
        let wire = Wire::new();
        wire.client_end.delete().unwrap();
        assert!(wire.server.interface("veth-server").is_err());
    }
}
