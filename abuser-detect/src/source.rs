//! Whom a record is about.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How much of an address tells one source from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    /// Bits of an IPv4 address, 1 to 32.
    pub ipv4: u8,
    /// Bits of an IPv6 address, 1 to 128.
    pub ipv6: u8,
}

impl Default for Masks {
    /// An IPv4 address, an IPv6 /64, as limits count.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

/// A source as detectors count it: an address, or the prefix that it lies in. Sixteen bytes, as
/// detectors keep them by the million; IPv4 is IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u128);

impl Source {
    /// The source that an address belongs to.
    pub fn new(address: IpAddr, masks: Masks) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let shift = 32 - u32::from(masks.ipv4.clamp(1, 32));
                let bits = u32::from(address) >> shift << shift;
                Self(u128::from(std::net::Ipv4Addr::from(bits).to_ipv6_mapped()))
            }
            IpAddr::V6(address) => {
                let shift = 128 - u32::from(masks.ipv6.clamp(1, 128));
                Self(u128::from(address) >> shift << shift)
            }
        }
    }

    /// As an address or prefix; `masks` as they were when it was made.
    pub fn net(self, masks: Masks) -> IpNet {
        let address = Ipv6Addr::from(self.0);
        address.to_ipv4_mapped().map_or_else(
            || Ipv6Net::new_assert(address, masks.ipv6.clamp(1, 128)).into(),
            |address| Ipv4Net::new_assert(address, masks.ipv4.clamp(1, 32)).into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_its_prefix_and_mapped_addresses_are_ipv4() {
        let net = |address: &str, masks| {
            let source = Source::new(address.parse().expect("an address"), masks);
            source.net(masks).to_string()
        };
        let masks = Masks::default();
        assert_eq!(net("192.0.2.7", masks), "192.0.2.7/32");
        assert_eq!(net("::ffff:192.0.2.7", masks), "192.0.2.7/32");
        assert_eq!(net("2001:db8:1:2:3::4", masks), "2001:db8:1:2::/64");
        let wide = Masks { ipv4: 24, ipv6: 48 };
        assert_eq!(net("192.0.2.7", wide), "192.0.2.0/24");
        assert_eq!(net("2001:db8:1:2:3::4", wide), "2001:db8:1::/48");
    }
}
