//! `[[limit]]`: what is counted, for whom, how much of it, and what happens beyond.

use std::{fmt, ops::RangeInclusive};

use abuser_common::{
    gcra::{MAX_COST, Rate},
    layout::Count,
};
use toml::de::DeValue;

use super::{
    error::{ConfigError, quote},
    ports,
    rate::RateSpec,
    section::{Item, Section},
};
use crate::policy::DEFAULT_POLICY;

/// The longest name of a limit, in characters.
pub const MAX_NAME_LENGTH: usize = 32;

/// What a limit applies to, by the protocol in the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// All; TCP and UDP if the limit names ports.
    Any,
    /// TCP (6).
    Tcp,
    /// UDP (17).
    Udp,
    /// ICMP (1) on IPv4 and `ICMPv6` (58) on IPv6.
    Icmp,
    /// This number, which is neither 6 nor 17, on IPv4 and on IPv6.
    Number(u8),
}

impl fmt::Display for Protocol {
    /// As in the file: `any`, `tcp`, `udp`, `icmp` or a number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.pad("any"),
            Self::Tcp => formatter.pad("tcp"),
            Self::Udp => formatter.pad("udp"),
            Self::Icmp => formatter.pad("icmp"),
            Self::Number(number) => number.fmt(formatter),
        }
    }
}

/// What happens to packets over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// They are dropped.
    Drop,
    /// They pass, and are counted and reported.
    Observe,
}

impl fmt::Display for Action {
    /// As in the file: `drop` or `observe`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Drop => "drop",
            Self::Observe => "observe",
        })
    }
}

/// Whom a limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All sources.
    All,
    /// Those that are throttled by it.
    Throttled,
}

/// One limit. Each source (see `ipv4_prefix`, `ipv6_prefix`) has the rate to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// The name: 1 to [`MAX_NAME_LENGTH`] of `A-Z a-z 0-9 _ . -`, unlike any other's.
    pub name: String,
    /// The protocol; [`Protocol::Tcp`] if connections are counted.
    pub protocol: Protocol,
    /// Destination ports; empty: any.
    pub ports: Vec<RangeInclusive<u16>>,
    /// What is counted.
    pub count: Count,
    /// How much may come for long.
    pub rate: RateSpec,
    /// How much may come at once beyond the rate, in units of `count`.
    pub burst: u64,
    /// What happens beyond.
    pub action: Action,
    /// Bits of an IPv4 address that tell sources apart: 1 to 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that tell sources apart: 1 to 128.
    pub ipv6_prefix: u8,
    /// Whom it applies to.
    pub only: Scope,
    /// The name of the policy that says when being over it bans, and for how long.
    pub policy: String,
    /// `rate` and `burst` as the packet path uses them; private so that it exists.
    exact: Rate,
}

impl LimitConfig {
    /// The rate and burst as the packet path uses them.
    pub fn rate(&self) -> Rate {
        self.exact
    }
}

/// Reads one `[[limit]]`.
pub(super) fn read(section: &Section<'_>) -> Result<LimitConfig, ConfigError> {
    let name = name(&section.require("name", "\"web\"")?, "limit")?;
    let rate_item = section.require("rate", "\"5000/s\"")?;
    let rate: RateSpec = rate_item
        .string("a rate in quotes, such as \"60/m\" or \"5000/s\"")?
        .parse()
        .map_err(|error| rate_item.error(error))?;
    let mut protocol = match section.get("protocol") {
        Some(item) => protocol(&item)?,
        None => Protocol::Any,
    };
    let count = match section.get("count") {
        Some(item) => {
            let counts = [Count::Packets, Count::Bytes, Count::Connections];
            let count = item.word(&counts.map(|count| (count.name(), count)))?;
            if count == Count::Connections {
                if !matches!(protocol, Protocol::Any | Protocol::Tcp) {
                    return Err(item.error(
                        "only TCP has connections; write protocol = \"tcp\", or count = \"packets\"",
                    ));
                }
                protocol = Protocol::Tcp;
            }
            count
        }
        None => Count::Packets,
    };
    let ports = match section.get("ports") {
        Some(item) => {
            if !matches!(protocol, Protocol::Any | Protocol::Tcp | Protocol::Udp) {
                return Err(item.error(
                    "only TCP and UDP have ports; write protocol = \"tcp\", \"udp\" or \"any\" \
                     (both), or leave ports out",
                ));
            }
            ports::read(&item)?
        }
        None => Vec::new(),
    };
    let burst_item = section.get("burst");
    let burst = match &burst_item {
        Some(item) => item.integer(0..=u64::MAX)?,
        None => 0,
    };
    let action = match section.get("action") {
        Some(item) => item.word(&[("drop", Action::Drop), ("observe", Action::Observe)])?,
        None => Action::Drop,
    };
    let exact = exact(rate, burst, count).map_err(|message| match (message, &burst_item) {
        (Unrepresentable::Burst(message), Some(item)) => item.error(message),
        (Unrepresentable::Rate(message) | Unrepresentable::Burst(message), _) => {
            rate_item.error(message)
        }
    })?;
    Ok(LimitConfig {
        name,
        protocol,
        ports,
        count,
        rate,
        burst,
        action,
        ipv4_prefix: match section.get("ipv4_prefix") {
            Some(item) => item.integer(1..=32)?,
            None => 32,
        },
        ipv6_prefix: match section.get("ipv6_prefix") {
            Some(item) => item.integer(1..=128)?,
            None => 64,
        },
        only: match section.get("only") {
            Some(item) => item.word(&[("throttled", Scope::Throttled)])?,
            None => Scope::All,
        },
        policy: match section.get("policy") {
            Some(item) => self::name(&item, "policy")?,
            None => DEFAULT_POLICY.to_owned(),
        },
        exact,
    })
}

/// The value as the name of `what`.
pub(super) fn name(item: &Item<'_>, what: &str) -> Result<String, ConfigError> {
    let name = item.string("a name in quotes")?;
    if is_name(name) {
        return Ok(name.to_owned());
    }
    Err(item.error(format!(
        "{} cannot name a {what}; write 1 to {MAX_NAME_LENGTH} of the characters A-Z a-z 0-9 _ . -",
        quote(name)
    )))
}

/// Whether something can have this name.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(allowed)
}

fn protocol(item: &Item<'_>) -> Result<Protocol, ConfigError> {
    let protocol = match item.value {
        DeValue::Integer(_) => Protocol::Number(item.integer(0..=255)?),
        DeValue::String(_) => item.word(&[
            ("any", Protocol::Any),
            ("tcp", Protocol::Tcp),
            ("udp", Protocol::Udp),
            ("icmp", Protocol::Icmp),
        ])?,
        _ => {
            return Err(
                item.wrong_type("\"any\", \"tcp\", \"udp\", \"icmp\" or the number of a protocol")
            );
        }
    };
    Ok(match protocol {
        Protocol::Number(6) => Protocol::Tcp,
        Protocol::Number(17) => Protocol::Udp,
        other => other,
    })
}

/// Which of the two values cannot be represented, and what to do.
enum Unrepresentable {
    Rate(String),
    Burst(String),
}

fn exact(spec: RateSpec, burst: u64, count: Count) -> Result<Rate, Unrepresentable> {
    let max_cost = if count == Count::Bytes { MAX_COST } else { 1 };
    let per_ns = u64::try_from(spec.per.as_nanos()).unwrap_or(u64::MAX);
    let with_burst = |burst| Rate::new(spec.count, per_ns, burst, max_cost);
    if let Some(rate) = with_burst(burst) {
        return Ok(rate);
    }
    if with_burst(0).is_some() {
        let (mut works, mut fails) = (0, burst);
        while fails - works > 1 {
            let middle = works + (fails - works) / 2;
            if with_burst(middle).is_some() {
                works = middle;
            } else {
                fails = middle;
            }
        }
        return Err(Unrepresentable::Burst(format!(
            "a burst of {burst} at {spec} takes too long to refill to be counted exactly; \
             write at most {works}"
        )));
    }
    // Close to the fastest rate some numbers happen to divide well and others do not, so a
    // power of ten is offered only if what is just below it works too.
    let works = |count: u64| Rate::new(count, per_ns, 0, max_cost).is_some();
    let powers = || (0..=18).map(|power| 10_u64.pow(power));
    let slowest = powers().find(|count| works(*count)).unwrap_or(1);
    let fastest = powers()
        .rev()
        .find(|count| (90..=100).all(|percent| works((count / 100).max(1) * percent)))
        .unwrap_or(slowest);
    let show = |count| RateSpec { count, ..spec };
    Err(Unrepresentable::Rate(format!(
        "{spec} cannot be kept exactly; write a rate from {} to {}",
        show(slowest),
        show(fastest)
    )))
}
