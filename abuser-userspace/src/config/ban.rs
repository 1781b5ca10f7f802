//! `[ban]` and `[[policy]]`: fail2ban's settings under fail2ban's names.

use std::time::Duration;

use toml::de::DeValue;

use crate::policy::{BanPolicy, BanTime, Rollup, WIDEST_IPV4, WIDEST_IPV6};

use super::{
    duration::parse_duration,
    error::{ConfigError, quote},
    section::{self, Item, Section},
    source::Place,
};

/// The most offences that a ban may take: their times are kept for every subject.
const MAX_MAXRETRY: u32 = 1000;

/// What a table says, and what it leaves to another.
#[derive(Debug, Default)]
pub(super) struct PolicyDraft {
    maxretry: Option<u32>,
    findtime: Option<Duration>,
    bantime: Option<BanTime>,
    increment: Option<bool>,
    factor: Option<f64>,
    multipliers: Option<Vec<f64>>,
    maxtime: Option<Duration>,
    rndtime: Option<Duration>,
    decay: Option<Duration>,
    rollup: Option<Rollup>,
    require_verified: Option<bool>,
    bantime_place: Option<Place>,
    maxtime_place: Option<Place>,
}

/// Reads `[ban]` or a `[[policy]]` over what is in `draft`.
pub(super) fn read(section: &Section<'_>, draft: &mut PolicyDraft) -> Result<(), ConfigError> {
    if let Some(item) = section.get("maxretry") {
        draft.maxretry = Some(item.integer(1..=MAX_MAXRETRY)?);
    }
    if let Some(item) = section.get("findtime") {
        let findtime = limited(&item, "write how long an offence counts, such as \"10m\"")?;
        at_least_a_second(&item, findtime)?;
        draft.findtime = Some(findtime);
    }
    if let Some(item) = section.get("bantime") {
        let bantime = time(&item)?;
        if let BanTime::For(time) = bantime {
            at_least_a_second(&item, time)?;
        }
        draft.bantime = Some(bantime);
        draft.bantime_place = Some(item.place);
    }
    if let Some(item) = section.get("increment") {
        draft.increment = Some(item.boolean()?);
    }
    if let Some(item) = section.get("factor") {
        let factor = item.number("a number above 0, such as 1.5")?;
        draft.factor = Some(positive(&item, factor)?);
    }
    if let Some(item) = section.get("multipliers") {
        draft.multipliers = Some(multipliers(&item)?);
    }
    if let Some(item) = section.get("maxtime") {
        let longest = limited(&item, "leave maxtime out for bans that grow without end")?;
        at_least_a_second(&item, longest)?;
        draft.maxtime = Some(longest);
        draft.maxtime_place = Some(item.place);
    }
    if let Some(item) = section.get("rndtime") {
        draft.rndtime = Some(limited(
            &item,
            "write the most to add at random, such as \"5m\"",
        )?);
    }
    if let Some(item) = section.get("decay") {
        let decay = limited(&item, "leave decay out to remember every ban for ever")?;
        at_least_a_second(&item, decay)?;
        draft.decay = Some(decay);
    }
    if let Some(item) = section.get("rollup") {
        draft.rollup = Some(rollup(&item)?);
    }
    if let Some(item) = section.get("require_verified") {
        draft.require_verified = Some(item.boolean()?);
    }
    Ok(())
}

impl PolicyDraft {
    /// The policy that this makes of `base`, with the check of what must go together.
    pub(super) fn finish(
        self,
        name: &str,
        base: &BanPolicy,
        label: &str,
    ) -> Result<BanPolicy, ConfigError> {
        let policy = BanPolicy {
            name: name.to_owned(),
            maxretry: self.maxretry.unwrap_or(base.maxretry),
            findtime: self.findtime.unwrap_or(base.findtime),
            bantime: self.bantime.unwrap_or(base.bantime),
            increment: self.increment.unwrap_or(base.increment),
            factor: self.factor.unwrap_or(base.factor),
            multipliers: self.multipliers.unwrap_or_else(|| base.multipliers.clone()),
            maxtime: self.maxtime.or(base.maxtime),
            rndtime: self.rndtime.unwrap_or(base.rndtime),
            decay: self.decay.or(base.decay),
            rollup: self.rollup.or(base.rollup),
            require_verified: self.require_verified.unwrap_or(base.require_verified),
        };
        let (Some(longest), BanTime::For(first)) = (policy.maxtime, policy.bantime) else {
            return Ok(policy);
        };
        // `maxtime` without effect is no reason to refuse a configuration.
        if !policy.increment || longest >= first {
            return Ok(policy);
        }
        match self.maxtime_place.as_ref().or(self.bantime_place.as_ref()) {
            Some(place) => Err(place.error(format!(
                "`maxtime` {label} ({} s) is shorter than `bantime` ({} s), so bans would shrink; \
                 raise maxtime or lower bantime",
                longest.as_secs(),
                first.as_secs()
            ))),
            None => Ok(policy),
        }
    }
}

fn rollup(item: &Item<'_>) -> Result<Rollup, ConfigError> {
    let expected = "a table: { hosts = 16, ipv4_prefix = 24, ipv6_prefix = 48 }";
    let section = item.section(&section::ROLLUP, expected)?;
    Ok(Rollup {
        hosts: section.require("hosts", "16")?.integer(2..=65_536)?,
        ipv4_prefix: match section.get("ipv4_prefix") {
            Some(item) => item.integer(WIDEST_IPV4..=31)?,
            None => 24,
        },
        ipv6_prefix: match section.get("ipv6_prefix") {
            Some(item) => item.integer(WIDEST_IPV6..=127)?,
            None => 48,
        },
    })
}

fn time(item: &Item<'_>) -> Result<BanTime, ConfigError> {
    const EXPECTED: &str = "a time such as \"10m\", or a number of seconds";
    let result = match item.value {
        DeValue::Integer(_) => parse_duration(&item.any_integer(EXPECTED)?.to_string()),
        _ => parse_duration(item.string(EXPECTED)?),
    };
    result.map_err(|error| item.error(error))
}

/// A time of at least a second and not without end.
pub(super) fn finite(item: &Item<'_>, hint: &str) -> Result<Duration, ConfigError> {
    let time = limited(item, hint)?;
    at_least_a_second(item, time)?;
    Ok(time)
}

fn limited(item: &Item<'_>, hint: &str) -> Result<Duration, ConfigError> {
    match time(item)? {
        BanTime::For(time) => Ok(time),
        BanTime::Permanent => Err(item.error(format!("cannot be without end; {hint}"))),
    }
}

fn at_least_a_second(item: &Item<'_>, time: Duration) -> Result<(), ConfigError> {
    if time < Duration::from_secs(1) {
        return Err(item.error("is too short; write at least \"1s\""));
    }
    Ok(())
}

fn positive(item: &Item<'_>, number: f64) -> Result<f64, ConfigError> {
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err(item.error(format!("{number} is out of range; write a number above 0")))
    }
}

fn multipliers(item: &Item<'_>) -> Result<Vec<f64>, ConfigError> {
    const EXPECTED: &str = "a list of numbers such as [1, 2, 4], or a string such as \"1 2 4\"";
    if let DeValue::String(text) = item.value {
        return text
            .split_whitespace()
            .map(|word| match word.parse() {
                Ok(number) => positive(item, number),
                Err(_) => Err(item.error(format!(
                    "{} is not a number; expected {EXPECTED}",
                    quote(word)
                ))),
            })
            .collect();
    }
    item.list(EXPECTED)?
        .iter()
        .map(|item| positive(item, item.number("a number above 0")?))
        .collect()
}
