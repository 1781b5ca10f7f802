//! How much of the Internet one allow entry may exempt without being asked twice: a slip such as
//! `0.0.0.0/0` would end all protection.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

/// Prefixes shorter than this are allowed by command only by force. 10.0.0.0/8 is usual; no
/// registry gives one network more.
pub const WIDEST_ALLOWED_IPV4: u8 = 8;
/// [`WIDEST_ALLOWED_IPV4`] for IPv6, where providers have /19 at most. Nobody on the Internet comes from
/// unique local and link-local addresses, which are allowed as a whole.
pub const WIDEST_ALLOWED_IPV6: u8 = 16;

/// Whether a prefix is so wide that allowing it is probably a mistake.
pub fn exempts_many(source: &IpNet) -> bool {
    match source {
        IpNet::V4(v4) => v4.prefix_len() < WIDEST_ALLOWED_IPV4,
        IpNet::V6(v6) => v6.prefix_len() < WIDEST_ALLOWED_IPV6 && !is_local(v6),
    }
}

/// Whether a prefix is within the unique local or the link-local addresses.
fn is_local(source: &Ipv6Net) -> bool {
    const LOCAL: [(Ipv6Addr, u8); 2] = [
        (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    ];
    let mut local = LOCAL.iter();
    local.any(|(address, length)| {
        Ipv6Net::new(*address, *length).is_ok_and(|local| local.contains(source))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_more_than_any_one_network_does_exempts_many() {
        for (source, many) in [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("192.0.2.1/32", false),
            ("::/0", true),
            ("2000::/3", true),
            ("2001::/15", true),
            ("2001::/16", false),
            ("fc00::/7", false),
            ("fd00::/8", false),
            ("fe80::/10", false),
            ("f800::/6", true),
            ("fe00::/9", true),
        ] {
            let net: IpNet = source.parse().unwrap();
            assert_eq!(exempts_many(&net), many, "{source}");
        }
    }
}
