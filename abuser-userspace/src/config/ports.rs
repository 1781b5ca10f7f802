//! Lists of ports: numbers and ranges.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::{
    error::{ConfigError, quote},
    section::Item,
};

const EXPECTED: &str = "a list of ports and ranges, for example [80, 443, \"8000-8100\"]";

/// Reads a list such as `[80, 443, "8000-8100"]`.
pub(super) fn read(item: &Item<'_>) -> Result<Vec<RangeInclusive<u16>>, ConfigError> {
    let list = item.list(EXPECTED)?;
    if list.is_empty() {
        return Err(item.error("is an empty list; name a port, or leave ports out for all ports"));
    }
    list.iter().map(range).collect()
}

fn range(item: &Item<'_>) -> Result<RangeInclusive<u16>, ConfigError> {
    let text = match item.value {
        DeValue::Integer(_) => {
            let port = item.integer(1..=u16::MAX)?;
            return Ok(port..=port);
        }
        DeValue::String(text) => text,
        _ => return Err(item.wrong_type("a port such as 80, or a range such as \"8000-8100\"")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(item.error(format!(
            "{} is not a range of ports; write two numbers from 1 to 65535, such as \"8000-8100\"",
            quote(text)
        )));
    };
    if first > last {
        return Err(item.error(format!(
            "the range {first}-{last} is empty; write \"{last}-{first}\""
        )));
    }
    Ok(first..=last)
}

fn port(text: &str) -> Option<u16> {
    let text = text.trim();
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok().filter(|port| *port != 0)
}
