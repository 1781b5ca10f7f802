//! What a detector looks for, and with which settings.

use std::time::Duration;

use abuser_detect::{
    detect::{
        Detector,
        baseline::{self, Baseline},
        distributed::{self, Distributed},
        enumeration::{self, Enumeration},
        fan_out::{self, FanOut},
        missing_headers::{self, MissingHeaders},
        signup::{self, Signup},
        stuffing::{self, Stuffing},
        threshold::{self, Threshold},
    },
    field::Field,
    source::Masks,
};

use super::super::{
    ban,
    error::ConfigError,
    section::{Item, Section},
};
use crate::policy::BanPolicy;

/// The most that can be counted to.
const MAX_COUNT: u32 = 1_000_000;
/// The most headers, paths and so on that a detector names.
const MAX_NAMED: usize = 256;

/// What a detector looks for.
#[derive(Clone, Debug, PartialEq)]
pub enum DetectorKind {
    /// So many within such a time.
    Threshold(threshold::Settings),
    /// Passwords that are tried for many users.
    Stuffing(stuffing::Settings),
    /// Ids that are walked in order.
    Enumeration(enumeration::Settings),
    /// Requests without headers that real clients send.
    MissingHeaders(missing_headers::Settings),
    /// Accounts that are made by the dozen.
    Signup(signup::Settings),
    /// A key that many use, or many keys of one.
    FanOut(fan_out::Settings),
    /// Many who act as one.
    Distributed(distributed::Settings),
    /// Who does not act as before.
    Baseline(baseline::Settings),
}

/// A kind by name, with the keys that only some kinds take.
struct Named {
    name: &'static str,
    keys: &'static [&'static str],
    read: fn(&Section<'_>) -> Result<DetectorKind, ConfigError>,
}

const KINDS: [Named; 8] = [
    Named {
        name: "threshold",
        keys: &["type", "count", "within", "track"],
        read: threshold,
    },
    Named {
        name: "stuffing",
        keys: &[
            "count",
            "within",
            "ratio",
            "users",
            "statuses",
            "success_after",
        ],
        read: stuffing,
    },
    Named {
        name: "enumeration",
        keys: &["count", "within", "max_stride", "distinct", "track"],
        read: enumeration,
    },
    Named {
        name: "missing-headers",
        keys: &["count", "within", "headers"],
        read: missing_headers,
    },
    Named {
        name: "signup",
        keys: &["count", "within", "paths", "methods", "statuses"],
        read: signup,
    },
    Named {
        name: "fan-out",
        keys: &["within", "clients", "keys", "identical", "track"],
        read: fan_out,
    },
    Named {
        name: "distributed",
        keys: &["within", "clients", "spread", "requests", "failures"],
        read: distributed,
    },
    Named {
        name: "baseline",
        keys: &[
            "count",
            "track",
            "period",
            "history",
            "factor",
            "deviations",
            "templates",
        ],
        read: baseline,
    },
];

/// What a threshold leaves to its policy: `maxretry` and `findtime` are those of fail2ban.
#[derive(Debug)]
pub(super) struct FromPolicy {
    count: bool,
    within: bool,
}

impl FromPolicy {
    /// Whether a detector of that kind takes anything from its policy.
    pub(super) fn takes(&self, kind: &DetectorKind) -> bool {
        matches!(kind, DetectorKind::Threshold(_)) && (self.count || self.within)
    }

    /// Takes from the policy what was left to it.
    pub(super) fn fill(&self, kind: &mut DetectorKind, policy: &BanPolicy) {
        let DetectorKind::Threshold(settings) = kind else {
            return;
        };
        if self.count {
            settings.count = policy.maxretry;
        }
        if self.within {
            settings.within = policy.findtime;
        }
    }
}

impl DetectorKind {
    /// The name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
            Self::Stuffing(_) => "stuffing",
            Self::Enumeration(_) => "enumeration",
            Self::MissingHeaders(_) => "missing-headers",
            Self::Signup(_) => "signup",
            Self::FanOut(_) => "fan-out",
            Self::Distributed(_) => "distributed",
            Self::Baseline(_) => "baseline",
        }
    }

    /// How much of an address is one source.
    pub(super) fn masks(&self) -> Masks {
        match self {
            Self::Threshold(settings) => settings.masks,
            Self::Stuffing(settings) => settings.masks,
            Self::Enumeration(settings) => settings.masks,
            Self::MissingHeaders(settings) => settings.masks,
            Self::Signup(settings) => settings.masks,
            Self::FanOut(settings) => settings.masks,
            Self::Distributed(settings) => settings.masks,
            Self::Baseline(settings) => settings.masks,
        }
    }

    /// A detector that has seen nothing yet.
    pub fn build(&self) -> Box<dyn Detector> {
        match self.clone() {
            Self::Threshold(settings) => Box::new(Threshold::new(settings)),
            Self::Stuffing(settings) => Box::new(Stuffing::new(settings)),
            Self::Enumeration(settings) => Box::new(Enumeration::new(settings)),
            Self::MissingHeaders(settings) => Box::new(MissingHeaders::new(settings)),
            Self::Signup(settings) => Box::new(Signup::new(settings)),
            Self::FanOut(settings) => Box::new(FanOut::new(settings)),
            Self::Distributed(settings) => Box::new(Distributed::new(settings)),
            Self::Baseline(settings) => Box::new(Baseline::new(settings)),
        }
    }
}

/// Reads what a `[[detector]]` looks for.
pub(super) fn read(
    section: &Section<'_>,
    filtered: bool,
) -> Result<(DetectorKind, FromPolicy), ConfigError> {
    let words = KINDS.each_ref().map(|kind| (kind.name, kind));
    let named = section.get("kind");
    let kind = match &named {
        Some(item) => item.word(&words)?,
        None => &KINDS[0],
    };
    if filtered && kind.name != "threshold" {
        let place = named.as_ref().map_or(&section.place, |item| &item.place);
        return Err(place.error(format!(
            "a filter of fail2ban finds failures and nothing else: it goes with kind = \"threshold\", \
             not with \"{}\"",
            kind.name
        )));
    }
    for key in KINDS.iter().flat_map(|kind| kind.keys) {
        if let Some(item) = section.get(key).filter(|_| !kind.keys.contains(key)) {
            let takers = KINDS.iter().filter(|kind| kind.keys.contains(key));
            let takers: Vec<_> = takers.map(|kind| format!("\"{}\"", kind.name)).collect();
            return Err(item.error(format!(
                "a detector of the kind \"{}\" does not take it; those that do are {}",
                kind.name,
                takers.join(", ")
            )));
        }
    }
    let from_policy = FromPolicy {
        count: section.get("count").is_none(),
        within: section.get("within").is_none(),
    };
    Ok(((kind.read)(section)?, from_policy))
}

fn threshold(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = threshold::Settings {
        masks: masks(section)?,
        ..threshold::Settings::default()
    };
    set(&mut settings.kind, section.get("type"), |item| {
        item.word(&[
            ("maxretry", threshold::Kind::Maxretry),
            ("limit", threshold::Kind::Limit),
            ("threshold", threshold::Kind::Threshold),
            ("both", threshold::Kind::Both),
            ("detection_filter", threshold::Kind::DetectionFilter),
        ])
    })?;
    set(&mut settings.count, section.get("count"), count)?;
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.track, section.get("track"), tracked)?;
    Ok(DetectorKind::Threshold(settings))
}

fn stuffing(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = stuffing::Settings {
        masks: masks(section)?,
        ..stuffing::Settings::default()
    };
    set(&mut settings.count, section.get("count"), count)?;
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.ratio, section.get("ratio"), share)?;
    set(&mut settings.users, section.get("users"), |item| {
        item.integer(1..=stuffing::MAX_USERS)
    })?;
    set(
        &mut settings.success_after,
        section.get("success_after"),
        count,
    )?;
    set(&mut settings.statuses, section.get("statuses"), |item| {
        let statuses = statuses(item)?;
        if statuses.is_empty() {
            return Err(item.error(
                "it names no status, so no login would fail; leave statuses out for [401, 403]",
            ));
        }
        Ok(statuses)
    })?;
    Ok(DetectorKind::Stuffing(settings))
}

fn enumeration(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = enumeration::Settings {
        masks: masks(section)?,
        ..enumeration::Settings::default()
    };
    set(&mut settings.count, section.get("count"), |item| {
        item.integer(10..=MAX_COUNT)
    })?;
    set(&mut settings.within, section.get("within"), time)?;
    set(
        &mut settings.max_stride,
        section.get("max_stride"),
        |item| item.integer(1..=1_000_000),
    )?;
    set(
        &mut settings.distinct,
        section.get("distinct"),
        optional_count,
    )?;
    set(&mut settings.track, section.get("track"), tracked)?;
    Ok(DetectorKind::Enumeration(settings))
}

fn missing_headers(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = missing_headers::Settings {
        masks: masks(section)?,
        ..missing_headers::Settings::default()
    };
    set(&mut settings.count, section.get("count"), count)?;
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.headers, section.get("headers"), |item| {
        let headers = texts(
            item,
            "a list of names, for example [\"user-agent\", \"origin\"]",
        )?;
        if headers.is_empty() {
            return Err(item.error(
                "it names no header, so none would be missing; leave headers out for [\"user-agent\"]",
            ));
        }
        Ok(headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect())
    })?;
    Ok(DetectorKind::MissingHeaders(settings))
}

fn signup(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = signup::Settings {
        masks: masks(section)?,
        ..signup::Settings::default()
    };
    set(&mut settings.count, section.get("count"), count)?;
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.paths, section.get("paths"), |item| {
        texts(
            item,
            "a list of paths, for example [\"/api/register\", \"/oauth/*\"]",
        )
    })?;
    set(&mut settings.methods, section.get("methods"), |item| {
        texts(item, "a list of methods, for example [\"POST\"]")
    })?;
    set(&mut settings.statuses, section.get("statuses"), statuses)?;
    Ok(DetectorKind::Signup(settings))
}

fn fan_out(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = fan_out::Settings {
        masks: masks(section)?,
        ..fan_out::Settings::default()
    };
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.sources, section.get("clients"), some)?;
    set(&mut settings.keys, section.get("keys"), some)?;
    set(&mut settings.identical, section.get("identical"), some)?;
    set(&mut settings.by, section.get("track"), tracked)?;
    Ok(DetectorKind::FanOut(settings))
}

fn distributed(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = distributed::Settings {
        masks: masks(section)?,
        ..distributed::Settings::default()
    };
    set(&mut settings.within, section.get("within"), time)?;
    set(&mut settings.sources, section.get("clients"), |item| {
        item.integer(2..=distributed::MAX_SOURCES)
    })?;
    set(&mut settings.spread, section.get("spread"), share)?;
    set(&mut settings.requests, section.get("requests"), |item| {
        item.integer(4..=9)
    })?;
    set(&mut settings.failures, section.get("failures"), share)?;
    Ok(DetectorKind::Distributed(settings))
}

fn baseline(section: &Section<'_>) -> Result<DetectorKind, ConfigError> {
    let mut settings = baseline::Settings {
        masks: masks(section)?,
        ..baseline::Settings::default()
    };
    set(&mut settings.track, section.get("track"), tracked)?;
    set(&mut settings.period, section.get("period"), time)?;
    set(&mut settings.history, section.get("history"), |item| {
        item.integer(1..=1000)
    })?;
    set(&mut settings.factor, section.get("factor"), |item| {
        positive(item, "3")
    })?;
    set(
        &mut settings.deviations,
        section.get("deviations"),
        |item| positive(item, "4"),
    )?;
    set(&mut settings.count, section.get("count"), count)?;
    set(&mut settings.templates, section.get("templates"), count)?;
    Ok(DetectorKind::Baseline(settings))
}

/// The value as settings have it, if there is one; what they have by default stays otherwise.
fn set<T>(
    setting: &mut T,
    item: Option<Item<'_>>,
    read: impl FnOnce(&Item<'_>) -> Result<T, ConfigError>,
) -> Result<(), ConfigError> {
    if let Some(item) = item {
        *setting = read(&item)?;
    }
    Ok(())
}

fn masks(section: &Section<'_>) -> Result<Masks, ConfigError> {
    let mut masks = Masks::default();
    set(&mut masks.ipv4, section.get("ipv4_prefix"), |item| {
        item.integer(1..=32)
    })?;
    set(&mut masks.ipv6, section.get("ipv6_prefix"), |item| {
        item.integer(1..=128)
    })?;
    Ok(masks)
}

fn count(item: &Item<'_>) -> Result<u32, ConfigError> {
    item.integer(1..=MAX_COUNT)
}

/// A number, or 0 for none.
fn optional_count(item: &Item<'_>) -> Result<Option<u32>, ConfigError> {
    Ok(Some(item.integer(0..=MAX_COUNT)?).filter(|count| *count > 0))
}

/// A number of different things, or 0 for none: one alone differs from nothing.
fn some(item: &Item<'_>) -> Result<Option<u32>, ConfigError> {
    match optional_count(item)? {
        Some(1) => Err(item.error(format!(
            "1 would find everybody; write 2 to {MAX_COUNT}, or 0 if no number matters"
        ))),
        count => Ok(count),
    }
}

fn positive(item: &Item<'_>, example: &str) -> Result<f64, ConfigError> {
    let number = item.number(&format!("a number from 1 on, such as {example}"))?;
    if number.is_finite() && number >= 1.0 {
        Ok(number)
    } else {
        Err(item.error(format!(
            "{number} is out of range; write a number from 1 on"
        )))
    }
}

fn time(item: &Item<'_>) -> Result<Duration, ConfigError> {
    ban::finite(item, "write how long, such as \"10m\"")
}

fn share(item: &Item<'_>) -> Result<f64, ConfigError> {
    let share = item.number("a share from 0 to 1, such as 0.8")?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(item.error(format!(
            "{share} is out of range; write a share from 0 to 1"
        )))
    }
}

fn statuses(item: &Item<'_>) -> Result<Vec<u16>, ConfigError> {
    let items = item.list_of_at_most(MAX_NAMED, "a list of statuses, for example [401, 403]")?;
    items.iter().map(|item| item.integer(100..=999)).collect()
}

/// What is counted by.
fn tracked<T: From<Field>>(item: &Item<'_>) -> Result<T, ConfigError> {
    let name = item.string("a field in quotes, for example \"source\" or \"key\"")?;
    let field = name.parse::<Field>();
    field.map(T::from).map_err(|error| item.error(error))
}

fn texts(item: &Item<'_>, expected: &str) -> Result<Vec<String>, ConfigError> {
    let items = item.list_of_at_most(MAX_NAMED, expected)?;
    let text = |item: &Item<'_>| item.string(expected).map(str::to_owned);
    items.iter().map(text).collect()
}
