//! What is written in arguments: sources, times and intervals.

use std::{net::IpAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use ipnet::IpNet;

use crate::{
    config::{parse_duration, parse_prefix},
    policy::BanTime,
};

pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    parse_prefix(text).map_err(|error| error.to_string())
}

pub(super) fn confirm_time(text: &str) -> Result<Duration, String> {
    seconds(text, "write how long to wait, such as \"60s\"")
}

pub(super) fn within_time(text: &str) -> Result<Duration, String> {
    seconds(text, "write how far back to look, such as \"1h\"")
}

/// How often something is done.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    const RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
    match humantime::parse_duration(text) {
        Ok(time) if RANGE.contains(&time) => Ok(time),
        Ok(_) => Err("write a time from 100ms to 1h".to_owned()),
        Err(error) => Err(format!(
            "{error}; write a time from 100ms to 1h, such as 500ms or 5s"
        )),
    }
}

/// How many.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, String> {
    let number = text.parse();
    number.map_err(|_| format!("{text:?} is no number that there can be; write for example 10"))
}

/// How many, of which there must be one.
pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    match number(text)? {
        0 => Err("write 1 or more".to_owned()),
        number => Ok(number),
    }
}

/// A time of at least a second; `hint` is for what is none.
fn seconds(text: &str, hint: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        BanTime::For(time) if time.as_secs() > 0 => Ok(time),
        _ => Err(hint.to_owned()),
    }
}

pub(in super::super) fn ban_time(text: &str) -> Result<BanTime, String> {
    time_of("ban", text)
}

pub(super) fn throttle_time(text: &str) -> Result<BanTime, String> {
    time_of("throttle", text)
}

fn time_of(what: &str, text: &str) -> Result<BanTime, String> {
    match parse_duration(text) {
        Ok(BanTime::For(time)) if time.as_secs() == 0 => Err(format!(
            "a {what} lasts at least a second; write for example \"10m\""
        )),
        time => time.map_err(|error| error.to_string()),
    }
}

/// One address; also as a prefix that holds one, as `ban list` prints it.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let prefix = prefix(text)?;
    if prefix.prefix_len() == prefix.max_prefix_len() {
        Ok(prefix.addr())
    } else {
        Err(format!("{text} is a prefix; name one address"))
    }
}
