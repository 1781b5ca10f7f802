//! Addresses and prefixes as people write them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::error::quote;

/// Why a text is not an address or a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the `/` is no address.
    #[error(
        "{} is not an IP address; write one such as 192.0.2.7 or 2001:db8::1, \
         or a prefix such as 10.0.0.0/8",
        quote(.0)
    )]
    Address(String),
    /// The part after the `/` is no length for such an address.
    #[error(
        "{} is not a prefix length for an {family} address; write a number from 0 to {longest}",
        quote(length)
    )]
    Length {
        /// What stands after the `/`.
        length: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The length of an address, in bits.
        longest: u8,
    },
    /// The address is not the first of the prefix, so it is unclear which is meant.
    #[error("{address}/{length} has host bits set; write {network}, or {address} for the one host")]
    HostBits {
        /// The address.
        address: IpAddr,
        /// The length in bits.
        length: u8,
        /// The prefix that the address is in.
        network: IpNet,
    },
}

/// Reads an address (`192.0.2.7`) or a prefix (`10.0.0.0/8`).
///
/// An address becomes a prefix of its whole length. IPv4-mapped IPv6 (`::ffff:192.0.2.7`,
/// and prefixes of it from `/96` on) becomes IPv4, which is how such packets travel.
///
/// # Errors
///
/// See [`PrefixError`]; host bits that are set are one, because `10.0.0.1/8` may have been
/// meant as `10.0.0.1` or as `10.0.0.0/8`.
pub fn parse_prefix(text: &str) -> Result<IpNet, PrefixError> {
    let (host, length) = match text.split_once('/') {
        Some((host, length)) => (host, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = host
        .parse()
        .map_err(|_| PrefixError::Address(text.to_owned()))?;
    let (family, longest) = match address {
        IpAddr::V4(_) => ("IPv4", 32),
        IpAddr::V6(_) => ("IPv6", 128),
    };
    let length = match length {
        None => longest,
        Some(length) => length
            .parse()
            .ok()
            .filter(|bits| *bits <= longest && length.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| PrefixError::Length {
                length: length.to_owned(),
                family,
                longest,
            })?,
    };
    normalise(IpNet::new_assert(address, length))
}

/// A prefix as [`parse_prefix`] would have read it.
///
/// # Errors
///
/// Host bits that are set.
pub fn normalise(prefix: IpNet) -> Result<IpNet, PrefixError> {
    let (address, length) = unmapped(prefix.addr(), prefix.prefix_len());
    let net = IpNet::new_assert(address, length);
    if net.trunc() != net {
        return Err(PrefixError::HostBits {
            address,
            length,
            network: net.trunc(),
        });
    }
    Ok(net)
}

/// IPv4-mapped IPv6 as IPv4; anything else as it is.
fn unmapped(address: IpAddr, length: u8) -> (IpAddr, u8) {
    const MAPPED_BITS: u8 = 96;
    let v4 = match address {
        IpAddr::V6(v6) => Ipv6Addr::to_ipv4_mapped(&v6),
        IpAddr::V4(_) => None,
    };
    match (v4, length.checked_sub(MAPPED_BITS)) {
        (Some(v4), Some(length)) => (v4.into(), length),
        _ => (address, length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_reads(text: &str, expected: &str) {
        assert_eq!(
            parse_prefix(text).map(|net| net.to_string()).as_deref(),
            Ok(expected)
        );
    }

    #[track_caller]
    fn assert_refuses(text: &str, expected: &str) {
        let error = parse_prefix(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }

    #[test]
    fn an_address_is_a_prefix_of_its_whole_length() {
        assert_reads("192.0.2.7", "192.0.2.7/32");
        assert_reads("2001:db8::1", "2001:db8::1/128");
        assert_reads("10.0.0.0/8", "10.0.0.0/8");
        assert_reads("0.0.0.0/0", "0.0.0.0/0");
        assert_reads("2001:db8::/32", "2001:db8::/32");
    }

    #[test]
    fn ipv4_mapped_ipv6_is_ipv4() {
        assert_reads("::ffff:192.0.2.7", "192.0.2.7/32");
        assert_reads("::ffff:10.0.0.0/104", "10.0.0.0/8");
        assert_reads("::ffff:0:0/96", "0.0.0.0/0");
        assert_reads("::192.0.2.7", "::c000:207/128");
        assert_reads("::/80", "::/80");
    }

    #[test]
    fn set_host_bits_are_refused_with_what_was_probably_meant() {
        assert_refuses(
            "10.0.0.1/8",
            "10.0.0.1/8 has host bits set; write 10.0.0.0/8, or 10.0.0.1 for the one host",
        );
        assert_refuses("2001:db8::1/64", "write 2001:db8::/64, or 2001:db8::1");
        assert_refuses("::ffff:10.0.0.1/104", "write 10.0.0.0/8, or 10.0.0.1");
    }

    #[test]
    fn what_is_no_address_or_length_is_named() {
        assert_refuses("10.0.0", "\"10.0.0\" is not an IP address");
        assert_refuses("", "\"\" is not an IP address");
        assert_refuses("010.0.0.1", "is not an IP address");
        assert_refuses("fe80::1%eth0", "is not an IP address");
        assert_refuses(
            "10.0.0.0/33",
            "\"33\" is not a prefix length for an IPv4 address",
        );
        assert_refuses("10.0.0.0/255.0.0.0", "write a number from 0 to 32");
        assert_refuses("::/129", "from 0 to 128");
        assert_refuses("10.0.0.0/", "\"\" is not a prefix length");
        assert_refuses("10.0.0.0/+8", "\"+8\" is not a prefix length");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-f:./%]{0,40}|\\PC*") {
            let _ = parse_prefix(&text);
        }

        #[test]
        fn what_it_reads_it_reads_again_from_its_own_output(address in any::<IpAddr>(), length in 0_u8..=128) {
            if let Ok(net) = IpNet::new(address, length) {
                let net = net.trunc();
                if let Ok(read) = parse_prefix(&net.to_string()) {
                    prop_assert_eq!(parse_prefix(&read.to_string()), Ok(read));
                } else {
                    return Err(TestCaseError::fail(net.to_string()));
                }
            }
        }
    }
}
