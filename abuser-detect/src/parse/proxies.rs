//! Addresses as logs write them, and who is behind trusted proxies.
//!
//! Anybody can send an `X-Forwarded-For`. What counts is what a trusted proxy has put at its end,
//! and only if the line's peer is a trusted proxy itself.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Reads an address as logs write it: `192.0.2.1`, `[2001:db8::1]`, either with a port.
/// IPv4-mapped IPv6 is IPv4.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse::<SocketAddr>().ok().map(|socket| socket.ip()),
    };
    address.map(|address| address.to_canonical())
}

/// The proxies that are trusted.
#[derive(Clone, Debug)]
pub(super) struct Proxies(Vec<IpNet>);

impl Proxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    /// Whether there is no need to look for `X-Forwarded-For`.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|prefix| prefix.contains(&address))
    }

    /// Who sent a request that came from `peer`: of those that `forwarded` lists, the last who is no
    /// trusted proxy, or the first if all are; the peer if it is not trusted, or if there
    /// is no list or one that makes no sense up to there.
    pub(super) fn client(&self, peer: Option<IpAddr>, forwarded: Option<&str>) -> Option<IpAddr> {
        let (peer, Some(forwarded)) = (peer?, forwarded) else {
            return peer;
        };
        if !self.trusts(peer) {
            return Some(peer);
        }
        let mut client = peer;
        for hop in forwarded.rsplit(',') {
            let Some(hop) = address(hop.trim()) else {
                return Some(peer);
            };
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_ports() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:443", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:1", Some("192.0.2.1")),
            ("[192.0.2.1]", None),
            ("192.0.2.1:99999", None),
            ("192.0.2.256", None),
            ("client.example", None),
            ("unix:", None),
            ("", None),
            ("-", None),
        ] {
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!(address(text), expected, "{text}");
        }
    }

    #[test]
    fn the_client_is_the_last_who_is_no_trusted_proxy() {
        let prefixes = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().expect("a prefix"));
        let proxies = Proxies::new(prefixes.to_vec());
        for (peer, forwarded, expected) in [
            // Not trusted: what it says does not count.
            ("192.0.2.1", Some("203.0.113.7"), "192.0.2.1"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("10.0.0.1", Some("203.0.113.7"), "203.0.113.7"),
            ("2001:db8::1", Some("2001:db9::7"), "2001:db9::7"),
            // The client may have sent one of its own, which the proxy appended to.
            ("10.0.0.1", Some("198.51.100.1, 203.0.113.7"), "203.0.113.7"),
            ("10.0.0.1", Some("junk, 203.0.113.7"), "203.0.113.7"),
            (
                "10.0.0.1",
                Some("198.51.100.1,203.0.113.7,10.0.0.2"),
                "203.0.113.7",
            ),
            ("10.0.0.1", Some("203.0.113.7:5000"), "203.0.113.7"),
            // All of them are trusted.
            ("10.0.0.1", Some("10.0.0.3, 10.0.0.2"), "10.0.0.3"),
            // Broken.
            ("10.0.0.1", Some(""), "10.0.0.1"),
            ("10.0.0.1", Some("-"), "10.0.0.1"),
            ("10.0.0.1", Some("203.0.113.7, unknown"), "10.0.0.1"),
            ("10.0.0.1", Some("203.0.113.7,,10.0.0.2"), "10.0.0.1"),
        ] {
            let peer = address(peer);
            let client = proxies
                .client(peer, forwarded)
                .map(|client| client.to_string());
            assert_eq!(client.as_deref(), Some(expected), "{peer:?} {forwarded:?}");
        }
        assert_eq!(proxies.client(None, Some("203.0.113.7")), None);
    }
}
