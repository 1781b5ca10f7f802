//! Whom no policy bans, whatever is told of it.

use std::fmt;

use ipnet::IpNet;

use super::overlap;

/// Why nobody is banned or throttled together with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// It speaks for others, who would all be cut off with it.
    TrustedProxy(IpNet),
    /// It is on the allow list.
    Allowed(IpNet),
}

impl Spared {
    /// Who is to be spared within a range, or covers it; the first of them.
    pub fn within<'l>(
        range: &IpNet,
        trusted: impl IntoIterator<Item = &'l IpNet>,
        allowed: impl IntoIterator<Item = IpNet>,
    ) -> Option<Self> {
        let mut trusted = trusted.into_iter();
        if let Some(proxy) = trusted.find(|proxy| overlap(proxy, range)) {
            return Some(Self::TrustedProxy(*proxy));
        }
        let mut allowed = allowed.into_iter();
        let allowed = allowed.find(|allowed| overlap(allowed, range));
        allowed.map(Self::Allowed)
    }
}

impl fmt::Display for Spared {
    /// As a clause: `10.0.0.0/8 is a trusted proxy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrustedProxy(proxy) => write!(f, "{proxy} is a trusted proxy"),
            Self::Allowed(allowed) => write!(f, "{allowed} is allowed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(range: &str, trusted: &[&str], allowed: &[&str]) -> Option<String> {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let spared = Spared::within(&nets(&[range])[0], &nets(trusted), nets(allowed));
        spared.map(|spared| spared.to_string())
    }

    #[test]
    fn who_lies_in_a_range_or_covers_it_is_spared_and_proxies_are_named_first() {
        let range = "192.0.2.0/24";
        assert_eq!(within(range, &[], &[]), None);
        let beside = ["192.0.3.7/32", "2001:db8::/32"];
        assert_eq!(within(range, &beside, &beside), None);
        for spared in ["192.0.2.7/32", "192.0.2.0/24", "192.0.0.0/16"] {
            let (proxy, allowed) = (
                format!("{spared} is a trusted proxy"),
                format!("{spared} is allowed"),
            );
            assert_eq!(
                within(range, &[beside[0], spared], &[]),
                Some(proxy.clone())
            );
            assert_eq!(within(range, &[], &[beside[0], spared]), Some(allowed));
            assert_eq!(within(range, &[spared], &[spared]), Some(proxy));
        }
    }
}
