//! What nodes write: keys and values of the bucket.
//!
//! A key is `NODE.ban.PREFIX`, `NODE.allow.PREFIX` or `NODE.node`, so that the permissions of a server
//! can give each node the keys that begin with its name and no others. Who says something is taken from
//! the key and never from the value. A value is JSON with a version; keys that are not known are
//! ignored, other versions are refused. When something ends is in the value, because servers before 2.11
//! end no entries by themselves.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::prefix::PrefixKey;
use async_nats::HeaderMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{config::is_node_name, policy::ends::same_end, words::beginning};

/// The version of values that this program writes and reads.
const VERSION: u32 = 1;
/// The longest value that is read, in bytes.
pub const MAX_VALUE: usize = 2048;
/// The longest reason that is shared, in bytes.
const MAX_REASON: usize = 300;
/// Says what a message without a value does to a key.
pub const OPERATION: &str = "KV-Operation";
/// An [`OPERATION`] that takes the key out.
const DELETE: &str = "DEL";
/// Another one.
const PURGE: &str = "PURGE";
/// Says the number of a deletion, as a value's `seq` does.
const SEQUENCE: &str = "Abuser-Seq";

/// What is said of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is banned.
    Ban,
    /// It is allowed.
    Allow,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Allow => "allow",
        }
    }
}

/// What a key is about, of whichever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// What is said.
    pub kind: Kind,
    /// Of whom.
    pub source: PrefixKey,
}

/// A key of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    /// What a node says of a prefix.
    Topic(&'k str, Topic),
    /// That a node is there.
    Presence(&'k str),
}

impl<'k> Key<'k> {
    /// Reads a key; `None` if it is none of ours.
    pub fn parse(text: &'k str) -> Option<Self> {
        let (node, rest) = text.split_once('.')?;
        if !is_node_name(node) {
            return None;
        }
        if rest == "node" {
            return Some(Self::Presence(node));
        }
        let (kind, token) = rest.split_once('.')?;
        let kind = [Kind::Ban, Kind::Allow]
            .into_iter()
            .find(|known| known.word() == kind)?;
        let source = prefix_of(token)?;
        Some(Self::Topic(node, Topic { kind, source }))
    }

    /// The node that a key belongs to, whatever else is in it.
    pub fn node_of(text: &str) -> &str {
        text.split_once('.').map_or(text, |(node, _)| node)
    }
}

/// The key under which a node says something.
pub fn topic_key(node: &str, topic: &Topic) -> String {
    format!("{node}.{}.{}", topic.kind.word(), token_of(&topic.source))
}

/// The key under which a node says that it is there.
pub fn presence_key(node: &str) -> String {
    format!("{node}.node")
}

/// A prefix as a part of a key: `192-0-2-7_32`, `2001-db8--_48`.
fn token_of(source: &PrefixKey) -> String {
    let address = source.address().map_or_else(String::new, |a| a.to_string());
    format!("{}_{}", address.replace(['.', ':'], "-"), source.length)
}

/// The prefix of such a part, if it is written as [`token_of`] writes it: no prefix has two keys.
fn prefix_of(token: &str) -> Option<PrefixKey> {
    let (address, length) = token.rsplit_once('_')?;
    let ipv4 = address
        .replace('-', ".")
        .parse::<Ipv4Addr>()
        .map(IpAddr::from);
    let ipv6 = || {
        address
            .replace('-', ":")
            .parse::<Ipv6Addr>()
            .map(IpAddr::from)
    };
    let address = ipv4.or_else(|_| ipv6()).ok()?;
    let source = PrefixKey::new(address, length.parse().ok()?)?;
    (token_of(&source) == token).then_some(source)
}

/// What a node says of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When it ends, in milliseconds since 1970; `None`: not by itself.
    pub expires: Option<u64>,
    /// What made the ban, as in its `cause`; `allow` for an allow entry.
    pub cause: String,
    /// Why.
    pub reason: Option<String>,
}

impl Said {
    /// One whose reason is not too long to be shared.
    pub fn new(expires: Option<SystemTime>, cause: &str, reason: Option<&str>) -> Self {
        Self {
            expires: expires.map(millis),
            cause: cause.to_owned(),
            reason: reason.map(shortened),
        }
    }

    /// Whether it is over at `now`.
    pub fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it says the same but for how clocks are read.
    pub fn is_like(&self, other: &Self) -> bool {
        // A clock that was put right moves all ends a little.
        let end = |expires: Option<u64>| expires.map(|end| UNIX_EPOCH + Duration::from_millis(end));
        same_end(end(self.expires), end(other.expires))
            && self.cause == other.cause
            && self.reason == other.reason
    }
}

/// A value: what a node says, and when it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written<T> {
    v: u32,
    /// Numbers what a node writes; of two values of a key, the one with the higher number is the later.
    pub seq: u64,
    /// When it was written by the node's clock, in milliseconds since 1970.
    pub at: u64,
    #[serde(flatten)]
    /// What it says.
    pub said: T,
}

/// What can be written, within bounds that who reads it does not leave to others.
pub trait Bounded: Serialize + DeserializeOwned {
    /// Cuts texts that are longer than they may be.
    fn shorten(&mut self);
}

impl Bounded for Said {
    fn shorten(&mut self) {
        self.cause = shortened(&self.cause);
        self.reason = self.reason.as_deref().map(shortened);
    }
}

impl Bounded for Presence {
    fn shorten(&mut self) {
        self.version = shortened(&self.version);
    }
}

impl<T: Bounded> Written<T> {
    /// One of this version.
    pub fn new(said: T, seq: u64, at: u64) -> Self {
        Self {
            v: VERSION,
            seq,
            at,
            said,
        }
    }

    /// Reads a value; `None` if it is none, or of another version.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_VALUE {
            return None;
        }
        let mut written: Self = serde_json::from_slice(value).ok()?;
        written.said.shorten();
        (written.v == VERSION).then_some(written)
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers and texts can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The daemon's version.
    pub version: String,
    /// Tells one run of a daemon from another.
    pub instance: u64,
}

/// What marks a message as a deletion with this number.
pub fn deletion(seq: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, DELETE);
    if let Some(seq) = seq {
        headers.insert(SEQUENCE, seq.to_string());
    }
    headers
}

/// What a message says that takes a key out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its number; somebody who is no node may give none.
    pub seq: Option<u64>,
}

/// The deletion that a message is, if it is one.
pub fn deletes(headers: Option<&HeaderMap>) -> Option<Deletion> {
    let headers = headers?;
    let operation = headers.get(OPERATION)?.as_str();
    let seq = || headers.get(SEQUENCE)?.as_str().parse().ok();
    [DELETE, PURGE]
        .contains(&operation)
        .then(|| Deletion { seq: seq() })
}

/// A time in milliseconds since 1970.
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number of milliseconds.
pub fn span(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn shortened(reason: &str) -> String {
    beginning(reason, MAX_REASON).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PrefixKey {
        let net: ipnet::IpNet = text.parse().unwrap();
        PrefixKey::new(net.addr(), net.prefix_len()).unwrap()
    }

    #[test]
    fn a_prefix_goes_through_a_key_unharmed_and_has_one_key_only() {
        for (text, token) in [
            ("192.0.2.7/32", "192-0-2-7_32"),
            ("10.0.0.0/8", "10-0-0-0_8"),
            ("::1/128", "--1_128"),
            ("::/19", "--_19"),
            ("2001:db8::/48", "2001-db8--_48"),
            ("1::2:3:4/128", "1--2-3-4_128"),
            ("2001:db8:1:2:3:4:5:6/128", "2001-db8-1-2-3-4-5-6_128"),
        ] {
            let topic = Topic {
                kind: Kind::Ban,
                source: prefix(text),
            };
            let key = topic_key("web-1", &topic);
            assert_eq!(key, format!("web-1.ban.{token}"));
            assert_eq!(Key::parse(&key), Some(Key::Topic("web-1", topic)));
        }
        for bad in [
            "",
            "web-1",
            "web-1.",
            "web-1.ban",
            "web-1.ban.",
            "web-1.ban.192-0-2-7",
            "web-1.ban.192-0-2-7_33",
            "web-1.ban.192-0-2-7_032",
            "web-1.ban.192-0-2-7_24",
            "web-1.ban.192.0.2.7_32",
            "web-1.ban.192-0-2-07_32",
            "web-1.bans.192-0-2-7_32",
            "web-1.ban.2001-DB8--_48",
            "web-1.ban.2001-db8-0--_48",
            ".ban.192-0-2-7_32",
            "we b.ban.192-0-2-7_32",
            "web-1.node.x",
            "web-1.ban.\u{20ac}_32",
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert_eq!(Key::parse("web-1.node"), Some(Key::Presence("web-1")));
    }

    #[test]
    fn a_value_has_a_version_and_a_bound_and_may_have_more_in_it() {
        let said = Said::new(None, "limit", Some(&"\u{20ac}".repeat(500)));
        assert_eq!(said.reason.as_deref(), Some(&*"\u{20ac}".repeat(100)));
        let written = Written::new(said, 7, 9);
        assert_eq!(Written::parse(&written.to_bytes()), Some(written));
        let read = |text: &str| Written::<Said>::parse(text.as_bytes());
        let good = r#"{"v":1,"seq":1,"at":2,"expires":3,"cause":"limit","reason":null,"more":[1]}"#;
        assert_eq!(read(good).unwrap().said.expires, Some(3));
        for bad in [
            "",
            "null",
            "{}",
            "[1]",
            "\u{0}\u{1}",
            &good.replace("\"v\":1", "\"v\":2"),
            &good.replace("\"seq\":1", "\"seq\":-1"),
            &good.replace("\"expires\":3", "\"expires\":\"soon\""),
            &good.replace("limit", &"x".repeat(MAX_VALUE)),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_deletion_is_told_from_a_value_by_its_headers() {
        let read = |seq| deletes(Some(&deletion(seq)));
        assert_eq!(read(Some(7)), Some(Deletion { seq: Some(7) }));
        assert_eq!(read(None), Some(Deletion { seq: None }));
        assert_eq!(deletes(Some(&HeaderMap::new())), None);
        assert_eq!(deletes(None), None);
    }
}
