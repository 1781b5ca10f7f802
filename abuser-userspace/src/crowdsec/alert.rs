//! What a local API is told of one ban: an alert with one decision.
//!
//! It bears the number of the ban and its end, so that it can be told from the alert, when its decision is
//! over, whether that was before its time.

use std::{borrow::Cow, time::SystemTime};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ledger::End, machine::ORIGIN};
use crate::{
    api::types::{BanInfo, ExplainedBan, Explanation},
    config::parse_prefix,
    daemon::clock,
    exchange,
    policy::ends::same_end,
};

/// Evidence that is told of one ban.
const MAX_EVENTS: usize = 10;

/// An alert. All of these are required.
#[derive(Debug, Serialize)]
pub(super) struct Alert {
    /// What was done, in words that others may filter by.
    pub(super) scenario: String,
    /// Empty: no scenario of the hub, so that it is told apart.
    pub(super) scenario_hash: &'static str,
    /// Our version.
    pub(super) scenario_version: &'static str,
    /// Why, for people.
    pub(super) message: String,
    /// How many events led to it.
    pub(super) events_count: u32,
    /// When it began, RFC 3339.
    pub(super) start_at: String,
    /// When it was told. The decision's duration counts from here.
    pub(super) stop_at: String,
    /// Of a bucket; there is none.
    pub(super) capacity: i32,
    /// Of a bucket; there is none.
    pub(super) leakspeed: &'static str,
    /// Never.
    pub(super) simulated: bool,
    /// Always: there is a decision.
    pub(super) remediation: bool,
    /// Who.
    pub(super) source: Source,
    /// Which ban it is, and when that ends.
    pub(super) meta: [Meta; 2],
    /// What led to it.
    pub(super) events: Vec<Event>,
    /// The ban.
    pub(super) decisions: [NewDecision; 1],
}

/// Who an alert is about.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Source {
    /// `Ip` or `Range`.
    pub(super) scope: &'static str,
    /// The address or prefix.
    pub(super) value: String,
    /// The same, if it is an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<String>,
    /// The same, if it is a prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range: Option<String>,
}

/// The property with the number of the ban.
const BAN: &str = "ban";
/// The property with its end, RFC 3339, or [`NEVER`].
const EXPIRES: &str = "expires";
/// What stands there for a ban without end.
const NEVER: &str = "never";

/// Something that led to an alert.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    /// When, RFC 3339.
    pub(super) timestamp: String,
    /// What.
    pub(super) meta: [Meta; 2],
}

/// A property of an alert or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Its name.
    #[serde(default)]
    pub(super) key: Cow<'static, str>,
    /// Its value.
    #[serde(default)]
    pub(super) value: String,
}

impl Meta {
    fn new(key: &'static str, value: impl Into<String>) -> Self {
        Self {
            key: Cow::Borrowed(key),
            value: value.into(),
        }
    }
}

/// A decision that is to be.
#[derive(Debug, Serialize)]
pub(super) struct NewDecision {
    /// How long, as Go writes it.
    pub(super) duration: String,
    /// [`ORIGIN`].
    pub(super) origin: &'static str,
    /// As that of the alert.
    pub(super) scenario: String,
    /// As that of the source.
    pub(super) scope: &'static str,
    /// `ban`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// As that of the source.
    pub(super) value: String,
}

impl Alert {
    /// Whether one with these properties was about the same ban with the same end.
    pub(super) fn is_of_same_ban(&self, told: &[Meta]) -> bool {
        let [ban, expires] = &self.meta;
        let is_expires = |meta: &&Meta| meta.key == expires.key;
        told.contains(ban)
            && told.iter().find(is_expires).is_some_and(|told| {
                told.value == expires.value
                    || told.value != NEVER
                        && expires.value != NEVER
                        && same_end(end(Some(&told.value)), end(Some(&expires.value)))
            })
    }
}

/// What to tell of the ban of exactly this source, and when that ends; `None` if it has ended, or its source
/// is never dropped here.
pub(super) fn alert(
    explained: &Explanation,
    source: PrefixKey,
    now: SystemTime,
) -> Option<(Alert, End)> {
    let ExplainedBan { ban, evidence } = explained
        .bans
        .iter()
        .find(|explained| key(&explained.ban.source) == Some(source))?;
    // Whoever is never dropped here is not to be dropped elsewhere.
    if explained
        .allow
        .iter()
        .any(|allow| allow.source.contains(&ban.source))
    {
        return None;
    }
    let end = end(ban.expires.as_deref());
    let left = match end {
        Some(end) => end.duration_since(now).ok()?,
        // It has no word for good.
        None => exchange::FOR_GOOD,
    };
    let scenario = scenario(ban);
    let told = clock::format(now);
    let events: Vec<_> = evidence.iter().rev().take(MAX_EVENTS).rev().collect();
    let begin = events.first().map(|event| event.time.clone());
    let begin = begin
        .or_else(|| ban.created.clone())
        .unwrap_or_else(|| told.clone());
    let subject = of(&ban.source);
    Some((
        Alert {
            message: ban
                .reason
                .clone()
                .unwrap_or_else(|| format!("banned by {ORIGIN} ({})", ban.cause)),
            scenario: scenario.clone(),
            scenario_hash: "",
            scenario_version: env!("CARGO_PKG_VERSION"),
            events_count: ban.offences.unwrap_or(1),
            start_at: begin,
            stop_at: told,
            capacity: 0,
            leakspeed: "0s",
            simulated: false,
            remediation: true,
            meta: [
                Meta::new(BAN, ban.id.to_string()),
                Meta::new(EXPIRES, ban.expires.as_deref().unwrap_or(NEVER)),
            ],
            events: events
                .into_iter()
                .map(|event| Event {
                    timestamp: event.time.clone(),
                    meta: [
                        Meta::new("source_ip", &subject.value),
                        Meta::new("evidence", &event.text),
                    ],
                })
                .collect(),
            decisions: [NewDecision {
                duration: format!("{}ms", left.as_millis()),
                origin: ORIGIN,
                scenario,
                scope: subject.scope,
                kind: "ban",
                value: subject.value.clone(),
            }],
            source: subject,
        },
        end,
    ))
}

/// What a ban is for, in words that others may filter by.
fn scenario(ban: &BanInfo) -> String {
    let subject = ban.limit.as_ref().or(ban.detector.as_ref());
    let subject = subject.filter(|_| {
        let causes = [BanCause::Limit, BanCause::Detector];
        causes.iter().any(|cause| cause.name() == ban.cause)
    });
    format!("{ORIGIN}/{}", subject.unwrap_or(&ban.cause))
}

fn of(source: &IpNet) -> Source {
    let is_host = source.prefix_len() == source.max_prefix_len();
    let (address, prefix) = (source.addr().to_string(), source.to_string());
    if is_host {
        Source {
            scope: "Ip",
            value: address.clone(),
            ip: Some(address),
            range: None,
        }
    } else {
        Source {
            scope: "Range",
            value: prefix.clone(),
            ip: None,
            range: Some(prefix),
        }
    }
}

/// A prefix as bans are known by.
pub(super) fn key(source: &IpNet) -> Option<PrefixKey> {
    PrefixKey::new(source.addr(), source.prefix_len())
}

/// The same of a text.
pub(super) fn key_of(text: &str) -> Option<PrefixKey> {
    key(&parse_prefix(text).ok()?)
}

/// When what is written so ends; a time that cannot be read is none.
pub(super) fn end(expires: Option<&str>) -> End {
    humantime::parse_rfc3339_weak(expires?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::types::{AllowInfo, Evidence};

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn explained(expires: Option<&str>) -> Explanation {
        let ban = json!({
            "id": 7, "source": "203.0.113.0/24", "created": "2026-11-24T11:00:00.000Z",
            "expires": expires, "remaining_seconds": null, "cause": "detector", "limit": null,
            "blocklist": null, "detector": "ssh", "crowdsec": null, "node": null, "policy": "default",
            "offences": 12, "reason": "ssh: 12 failures", "by": null, "hits": 3, "last_hit": null,
        });
        let evidence = (0..20).map(|number| Evidence {
            time: format!("2026-11-24T11:59:{number:02}.000Z"),
            text: format!("line {number}"),
        });
        Explanation {
            address: "203.0.113.0".to_owned(),
            verdict: "banned".to_owned(),
            observe: false,
            allow: Vec::new(),
            bans: vec![ExplainedBan {
                ban: serde_json::from_value(ban).unwrap(),
                evidence: evidence.collect(),
            }],
            throttles: Vec::new(),
            limits: Vec::new(),
            offences: Vec::new(),
            history: Vec::new(),
        }
    }

    fn told(explained: &Explanation) -> Option<serde_json::Value> {
        let source = key_of("203.0.113.0/24").unwrap();
        let now = end(Some(NOW)).unwrap();
        let (alert, _) = alert(explained, source, now)?;
        Some(serde_json::to_value(alert).unwrap())
    }

    #[test]
    fn an_alert_says_who_why_how_long_and_what_led_to_it() {
        let told = told(&explained(Some("2026-11-24T13:00:00.500Z"))).unwrap();
        assert_eq!(told["scenario"], "abuser/ssh");
        assert_eq!(told["message"], "ssh: 12 failures");
        assert_eq!(told["events_count"], 12);
        assert_eq!(
            (&told["simulated"], &told["remediation"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(told["stop_at"], "2026-11-24T12:00:00.000Z");
        assert_eq!(
            told["source"],
            json!({"scope": "Range", "value": "203.0.113.0/24", "range": "203.0.113.0/24"})
        );
        assert_eq!(
            told["decisions"],
            json!([{
                "duration": "3600500ms", "origin": "abuser", "scenario": "abuser/ssh", "scope": "Range",
                "type": "ban", "value": "203.0.113.0/24",
            }])
        );
        assert_eq!(
            told["meta"],
            json!([{"key": "ban", "value": "7"}, {"key": "expires", "value": "2026-11-24T13:00:00.500Z"}])
        );
        let events = told["events"].as_array().unwrap();
        assert_eq!(events.len(), MAX_EVENTS, "the latest");
        assert_eq!(told["start_at"], "2026-11-24T11:59:10.000Z");
        assert_eq!(
            events[9]["meta"][1],
            json!({"key": "evidence", "value": "line 19"})
        );
    }

    #[test]
    fn an_alert_is_known_by_its_ban_and_the_end_of_that() {
        let source = key_of("203.0.113.0/24").unwrap();
        let now = end(Some(NOW)).unwrap();
        let one = |expires| alert(&explained(expires), source, now).unwrap().0;
        let told = |ban: &str, expires: &str| json!([{"key": "ban", "value": ban}, {"key": "expires", "value": expires}]);
        for (expires, told, expected) in [
            (
                Some("2026-11-24T13:00:00Z"),
                told("7", "2026-11-24T13:00:01.000Z"),
                true,
            ),
            (
                Some("2026-11-24T13:00:00Z"),
                told("7", "2026-11-24T14:00:00.000Z"),
                false,
            ),
            (
                Some("2026-11-24T13:00:00Z"),
                told("8", "2026-11-24T13:00:00.000Z"),
                false,
            ),
            (Some("2026-11-24T13:00:00Z"), told("7", "never"), false),
            (None, told("7", "never"), true),
            (None, told("7", "2026-11-24T13:00:00.000Z"), false),
            (None, told("7", "nonsense"), false),
            (None, json!([{"key": "ban", "value": "7"}, {}]), false),
            (None, json!([]), false),
        ] {
            let known: Vec<Meta> = serde_json::from_value(told.clone()).unwrap();
            assert_eq!(
                one(expires).is_of_same_ban(&known),
                expected,
                "{expires:?} {told}"
            );
        }
    }

    #[test]
    fn what_has_ended_or_is_allowed_is_not_told() {
        assert!(told(&explained(Some("2026-11-24T11:59:59Z"))).is_none());
        let mut allowed = explained(None);
        assert!(told(&allowed).is_some());
        let allow = json!({"source": "203.0.0.0/16", "origin": "config", "note": null, "created": null, "by": null});
        allowed.allow = vec![serde_json::from_value::<AllowInfo>(allow).unwrap()];
        assert!(told(&allowed).is_none());
        let mut other = explained(None);
        other.bans[0].ban.source = "203.0.113.0/25".parse().unwrap();
        assert!(told(&other).is_none(), "another prefix");
    }

    #[test]
    fn hosts_are_addresses_and_networks_are_ranges() {
        for (source, scope, value) in [
            ("203.0.113.7/32", "Ip", "203.0.113.7"),
            ("2001:db8::1/128", "Ip", "2001:db8::1"),
            ("2001:db8::/64", "Range", "2001:db8::/64"),
        ] {
            let told = of(&source.parse().unwrap());
            assert_eq!((told.scope, told.value.as_str()), (scope, value));
        }
    }
}
