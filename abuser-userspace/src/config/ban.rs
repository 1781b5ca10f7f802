//! `[ban]`: fail2ban's settings under fail2ban's names.

use std::time::Duration;

use toml::de::DeValue;

use crate::policy::{BanPolicy, BanTime};

use super::{
    duration::parse_duration,
    error::{ConfigError, quote},
    section::{Item, Section},
    source::Place,
};

/// The most offences that a ban may take: their times are kept for every subject.
const MAX_MAXRETRY: u32 = 1000;

/// Where the values are that have to go together.
#[derive(Debug, Default)]
pub(super) struct Places {
    bantime: Option<Place>,
    maxtime: Option<Place>,
}

/// Reads `[ban]` over what is in `policy`.
pub(super) fn read(
    section: &Section<'_>,
    policy: &mut BanPolicy,
    places: &mut Places,
) -> Result<(), ConfigError> {
    if let Some(item) = section.get("maxretry") {
        policy.maxretry = item.integer(1..=MAX_MAXRETRY)?;
    }
    if let Some(item) = section.get("findtime") {
        policy.findtime = limited(&item, "write how long an offence counts, such as \"10m\"")?;
        at_least_a_second(&item, policy.findtime)?;
    }
    if let Some(item) = section.get("bantime") {
        policy.bantime = time(&item)?;
        if let BanTime::For(time) = policy.bantime {
            at_least_a_second(&item, time)?;
        }
        places.bantime = Some(item.place);
    }
    if let Some(item) = section.get("increment") {
        policy.increment = item.boolean()?;
    }
    if let Some(item) = section.get("factor") {
        policy.factor = positive(&item, item.number("a number above 0, such as 1.5")?)?;
    }
    if let Some(item) = section.get("multipliers") {
        policy.multipliers = multipliers(&item)?;
    }
    if let Some(item) = section.get("maxtime") {
        let longest = limited(&item, "leave maxtime out for bans that grow without end")?;
        at_least_a_second(&item, longest)?;
        policy.maxtime = Some(longest);
        places.maxtime = Some(item.place);
    }
    if let Some(item) = section.get("require_verified") {
        policy.require_verified = item.boolean()?;
    }
    if let Some(item) = section.get("rndtime") {
        policy.rndtime = limited(&item, "write the most to add at random, such as \"5m\"")?;
    }
    Ok(())
}

/// Checks what only all files together decide.
pub(super) fn check(policy: &BanPolicy, places: &Places) -> Result<(), ConfigError> {
    let (Some(longest), BanTime::For(first)) = (policy.maxtime, policy.bantime) else {
        return Ok(());
    };
    // `maxtime` without effect is no reason to refuse a configuration.
    if !policy.increment || longest >= first {
        return Ok(());
    }
    match places.maxtime.as_ref().or(places.bantime.as_ref()) {
        Some(place) => Err(place.error(format!(
            "`maxtime` in [ban] ({} s) is shorter than `bantime` ({} s), so bans would shrink; \
             raise maxtime or lower bantime",
            longest.as_secs(),
            first.as_secs()
        ))),
        None => Ok(()),
    }
}

fn time(item: &Item<'_>) -> Result<BanTime, ConfigError> {
    const EXPECTED: &str = "a time such as \"10m\", or a number of seconds";
    let result = match item.value {
        DeValue::Integer(_) => parse_duration(&item.any_integer(EXPECTED)?.to_string()),
        _ => parse_duration(item.string(EXPECTED)?),
    };
    result.map_err(|error| item.error(error))
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
