//! What differs each time, and what it looks like in the documentation.
//!
//! | what | how it is compared | how it is written |
//! | --- | --- | --- |
//! | a time | not | as if the file were read on an evening of 2026 |
//! | a time before 2025, which is a log's | to the digit | as it is |
//! | a process, an XDP program | not | a number that is always the same |
//! | how long the daemon is up; the version | not | as it is |
//! | a duration of a minute and more | to two minutes | as it is |
//! | columns | not how wide they are | as they are |

use std::time::{Duration, SystemTime};

/// When the first command of each file is run, as far as readers are told.
const EXAMPLE: &str = "2026-11-23T19:42:00Z";

/// Durations that differ by what a test takes are alike.
const GRAIN_SECONDS: u64 = 120;

/// Whether both say the same.
pub(crate) fn alike(shown: &[String], printed: &[String]) -> bool {
    let masked = |lines: &[String]| lines.iter().map(|line| mask(line)).collect::<Vec<_>>();
    masked(shown) == masked(printed)
}

/// A line less what differs each time.
pub(crate) fn mask(line: &str) -> String {
    let line = replace(line, time, |_| "<time>".to_owned());
    let line = replace(&line, process, |_| "<process>".to_owned());
    let line = replace(&line, program, |_| "<program>".to_owned());
    let line = replace(&line, uptime, |_| "<uptime>".to_owned());
    let line = replace(&line, version, |_| "<version>".to_owned());
    let line = replace(&line, seconds, rounded_seconds);
    let line = replace(&line, duration, rounded);
    one_gap(line.trim_end())
}

/// A line as the documentation shows it.
pub(crate) fn example(line: &str, started: SystemTime) -> String {
    let line = replace(line, time, |text| moved(text, started));
    let line = replace(&line, process, |_| "4711".to_owned());
    replace(&line, program, |_| "58".to_owned())
}

/// Replaces all that `find` finds: it is given the text before a place and that from there on,
/// and says how long what begins there is.
fn replace(
    text: &str,
    find: fn(&str, &str) -> Option<usize>,
    replacement: impl Fn(&str) -> String,
) -> String {
    let mut result = String::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        if let Some(length) = find(&text[..at], &text[at..]) {
            result += &replacement(&text[at..at + length]);
            at += length;
        } else {
            result.push(next);
            at += next.len_utf8();
        }
    }
    result
}

/// `2026-11-23T19:42:48.464Z`, with any part of a second or none.
fn time(_before: &str, text: &str) -> Option<usize> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    let is_like = FORM.iter().zip(bytes).all(|(form, byte)| match form {
        b'0' => byte.is_ascii_digit(),
        form => form == byte,
    });
    let rest = bytes.get(FORM.len()..)?;
    let fraction = rest
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .count();
    let is_now = bytes.get(..4) >= Some(b"2025");
    (is_like && is_now && rest.get(fraction) == Some(&b'Z')).then_some(FORM.len() + fraction + 1)
}

/// The time as if the file had been run then, with as many digits.
fn moved(text: &str, started: SystemTime) -> String {
    let parse = |text| humantime::parse_rfc3339(text).expect("it is of this form");
    let time = parse(text);
    let then = match time.duration_since(started) {
        Ok(later) => parse(EXAMPLE) + later,
        Err(earlier) => parse(EXAMPLE) - earlier.duration(),
    };
    match text.len() {
        20 => humantime::format_rfc3339_seconds(then).to_string(),
        24 => humantime::format_rfc3339_millis(then).to_string(),
        27 => humantime::format_rfc3339_micros(then).to_string(),
        _ => humantime::format_rfc3339_nanos(then).to_string(),
    }
}

fn process(before: &str, text: &str) -> Option<usize> {
    digits_after(before, text, &["process ", "\"pid\": ", "\"pid\":"])
}

fn program(before: &str, text: &str) -> Option<usize> {
    digits_after(
        before,
        text,
        &["XDP program ", "\"program_id\": ", "\"program_id\":"],
    )
}

fn uptime(before: &str, text: &str) -> Option<usize> {
    before.ends_with(", up ").then(|| duration("", text))?
}

fn version(before: &str, text: &str) -> Option<usize> {
    let is_after = before.ends_with("abuser ") || before.ends_with("\"version\": \"");
    let is_of_it = |c: &char| c.is_ascii_digit() || *c == '.';
    let length = text.chars().take_while(is_of_it).count();
    (is_after && length >= 5 && !text[..length].ends_with('.')).then_some(length)
}

/// What is left, in seconds, where programs are told.
fn seconds(before: &str, text: &str) -> Option<usize> {
    const NAMES: [&str; 5] = [
        "timeout ",
        "\"timeout\":",
        "\"timeout\": ",
        "_seconds\": ",
        "_seconds\":",
    ];
    digits_after(before, text, &NAMES)
}

fn digits_after(before: &str, text: &str, names: &[&str]) -> Option<usize> {
    let length = text.chars().take_while(char::is_ascii_digit).count();
    let is_named = names.iter().any(|name| before.ends_with(name));
    (is_named && length > 0).then_some(length)
}

fn rounded_seconds(text: &str) -> String {
    let count: u64 = text.parse().expect("these are digits");
    ((count + GRAIN_SECONDS / 2) / GRAIN_SECONDS * GRAIN_SECONDS).to_string()
}

/// `1day 2h`, `59m 58s`, `3h59m59s`.
fn duration(before: &str, text: &str) -> Option<usize> {
    let begins = !before.ends_with(|c: char| c.is_alphanumeric() || "/.:-_".contains(c));
    let mut length = 0;
    while let Some(part) = text.get(length..).and_then(part) {
        length += part;
        if text[length..]
            .strip_prefix(' ')
            .is_some_and(|rest| self::part(rest).is_some())
        {
            length += 1;
        }
    }
    (begins && length > 0).then_some(length)
}

/// The length of a number with a unit.
fn part(text: &str) -> Option<usize> {
    const UNITS: [&str; 13] = [
        "years", "year", "months", "month", "days", "day", "h", "ms", "us", "ns", "m", "s", "d",
    ];
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let rest = text.get(digits..).filter(|_| digits > 0)?;
    let unit = UNITS.into_iter().find(|unit| rest.starts_with(unit))?;
    let after = rest[unit.len()..].chars().next();
    let ends = after.is_none_or(|c| c.is_ascii_digit() || !c.is_alphanumeric());
    ends.then_some(digits + unit.len())
}

fn rounded(text: &str) -> String {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_secs(60) => {
            format!("<{}s>", rounded_seconds(&time.as_secs().to_string()))
        }
        _ => text.to_owned(),
    }
}

/// The line with two spaces wherever there are more between words.
fn one_gap(line: &str) -> String {
    let mut result = String::new();
    let mut spaces = 0;
    for c in line.chars() {
        if c == ' ' {
            spaces += 1;
            if spaces > 2 && !result.trim().is_empty() {
                continue;
            }
        } else {
            spaces = 0;
        }
        result.push(c);
    }
    result
}

#[test]
fn only_what_differs_each_time_is_overlooked() {
    for (one, other) in [
        (
            "banned 203.0.113.7/32 until 2026-11-24T19:42:05.120Z (1day)",
            "banned 203.0.113.7/32 until 2031-01-01T00:00:00.000Z (1day)",
        ),
        (
            "abuser 0.1.0, process 4711, up 2m 3s",
            "abuser 10.2.33, process 1, up 1s",
        ),
        ("a  59m 58s  1  x", "a    1h     1  x"),
        (
            "add a 192.0.2.1 timeout 3598",
            "add a 192.0.2.1 timeout 3600",
        ),
        ("\"duration\": \"3h59m58s\"", "\"duration\": \"3h59m59s\""),
    ] {
        assert_eq!(mask(one), mask(other));
    }
    for (one, other) in [
        ("(1day)", "(2days)"),
        ("10m", "15m"),
        ("3 packets", "4 packets"),
        ("203.0.113.7/32", "203.0.113.8/32"),
        ("limit 60/m", "limit 61/m"),
        ("   indented", "  indented"),
        ("for 30s", "for 31s"),
        ("at 2024-01-15T10:00:00Z", "at 2024-01-15T10:00:01Z"),
    ] {
        assert_ne!(mask(one), mask(other));
    }
}

#[test]
fn times_are_moved_and_keep_their_distance() {
    let started = humantime::parse_rfc3339("2031-05-05T05:05:05Z").expect("a time");
    assert_eq!(
        example(
            "a 2031-05-05T05:05:06.123Z process 99 b 2031-05-05T05:15:05Z",
            started
        ),
        "a 2026-11-23T19:42:01.123Z process 4711 b 2026-11-23T19:52:00Z"
    );
}
