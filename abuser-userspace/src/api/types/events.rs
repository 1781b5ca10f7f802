//! What happens, as it is followed.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Prefix;

/// What an event is about: packets that were dropped (`drop`), or would have been if they were not
/// only observed (`observe`) or their source on the allow list (`allow`); a `ban` and its end
/// (`unban`); a source that is throttled (`throttle`) and the end of that (`unthrottle`);
/// what a detector found (`detect`); events that this reader was too slow for (`missed`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Packets of a source were dropped.
    Drop,
    /// They would have been, but are only observed.
    Observe,
    /// They would have been, but the allow list has the source.
    Allow,
    /// A source was banned.
    Ban,
    /// A ban ended.
    Unban,
    /// A detector found a source.
    Detect,
    /// A source is throttled by a limit.
    Throttle,
    /// It is not any more.
    Unthrottle,
    /// The reader was too slow: `drops` events are missing here.
    Missed,
}

impl EventKind {
    /// Those that are told to other programs: all that happen.
    pub const TOLD: [Self; 8] = [
        Self::Drop,
        Self::Observe,
        Self::Allow,
        Self::Ban,
        Self::Unban,
        Self::Detect,
        Self::Throttle,
        Self::Unthrottle,
    ];

    /// The name used in JSON and in lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Observe => "observe",
            Self::Allow => "allow",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Detect => "detect",
            Self::Throttle => "throttle",
            Self::Unthrottle => "unthrottle",
            Self::Missed => "missed",
        }
    }
}

/// One event. Every key is always there; `null` where it means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// When.
    #[schema(format = DateTime)]
    pub time: String,
    /// What.
    pub kind: EventKind,
    /// The interface that the packet came in on.
    pub interface: Option<String>,
    /// The packet's source address; for bans, throttles and their ends, and for `detect`, the prefix.
    pub source: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or the number.
    pub protocol: Option<String>,
    /// The destination port.
    pub port: Option<u16>,
    /// The limit that was exceeded, or that the source is throttled by.
    pub limit: Option<String>,
    /// The number of the ban.
    pub ban: Option<u64>,
    /// For bans and their ends: what made it, as in a ban's `cause`.
    pub cause: Option<String>,
    /// For bans and their ends: the policy that said for how long, if one did.
    pub policy: Option<String>,
    /// Packets of this source and cause since its last event, this one included.
    pub drops: Option<u64>,
    /// Whether the source is known to be no forgery; for drops over a limit.
    pub verified: Option<bool>,
    /// The frame's length in bytes.
    pub bytes: Option<u32>,
    /// For `ban` and `throttle`: when it ends; `null`: never.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// For bans, throttles and their ends, and for `detect`: why.
    pub reason: Option<String>,
    /// For `detect`, and for bans by a detector and their ends: its name.
    pub detector: Option<String>,
    /// For `detect`: what follows from it, in words: `alert`, `throttle`, `ban`, or why nothing does.
    pub action: Option<String>,
    /// Whether a ban ended because all were lifted at once. Readers of the stream are not told.
    #[serde(skip)]
    pub among_all: bool,
}

impl EventRecord {
    /// One of which nothing more is known.
    pub fn new(kind: EventKind, time: String) -> Self {
        Self {
            time,
            kind,
            interface: None,
            source: None,
            protocol: None,
            port: None,
            limit: None,
            ban: None,
            cause: None,
            policy: None,
            drops: None,
            verified: None,
            bytes: None,
            expires: None,
            reason: None,
            detector: None,
            action: None,
            among_all: false,
        }
    }
}

/// Which events a reader wants; all that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Sources within this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Prefix>)]
    pub source: Option<IpNet>,
    /// This kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EventKind>,
    /// This limit, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

impl EventFilter {
    /// Whether `event` is wanted. A [`EventKind::Missed`] always is.
    pub fn matches(&self, event: &EventRecord) -> bool {
        let Self {
            source,
            kind,
            limit,
        } = self;
        if event.kind == EventKind::Missed {
            return true;
        }
        let source_matches = source.is_none_or(|wanted| {
            let of_event = event.source.as_deref().unwrap_or_default();
            let address = of_event.parse::<std::net::IpAddr>().map(IpNet::from);
            address
                .or_else(|_| of_event.parse())
                .ok()
                .is_some_and(|source: IpNet| wanted.contains(&source))
        });
        source_matches
            && kind.is_none_or(|kind| kind == event.kind)
            && (limit.is_none() || *limit == event.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, source: &str, limit: Option<&str>) -> EventRecord {
        EventRecord {
            source: Some(source.to_owned()),
            limit: limit.map(str::to_owned),
            ..EventRecord::new(kind, String::new())
        }
    }

    #[test]
    fn a_filter_matches_an_event_only_if_all_of_it_does() {
        let filter = EventFilter {
            source: Some("203.0.113.0/24".parse().unwrap()),
            kind: Some(EventKind::Drop),
            limit: Some("api".to_owned()),
        };
        assert!(filter.matches(&event(EventKind::Drop, "203.0.113.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.114.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Observe, "203.0.113.9", Some("api"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.113.9", Some("flood"))));
        assert!(!filter.matches(&event(EventKind::Drop, "203.0.113.9", None)));
    }

    #[test]
    fn a_ban_s_prefix_matches_the_prefix_it_lies_in() {
        let filter = EventFilter {
            source: Some("203.0.113.0/24".parse().unwrap()),
            ..EventFilter::default()
        };
        assert!(filter.matches(&event(EventKind::Ban, "203.0.113.128/25", None)));
        assert!(!filter.matches(&event(EventKind::Ban, "203.0.0.0/16", None)));
        assert!(filter.matches(&event(EventKind::Missed, "", None)));
    }
}
