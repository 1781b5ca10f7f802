//! Words for the reasons of findings.

use std::{borrow::Cow, time::Duration};

use crate::line::beginning;

/// Bytes of a text from a log that are repeated to people in quotes.
const QUOTED: usize = 64;
/// Bytes of a path, or of names that the configuration has, that are repeated to people.
const SHOWN: usize = 200;

/// A duration as it would be configured: `90ms`, `10m`, `1d 12h`.
pub(super) fn duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut words = Vec::new();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    for (unit, ms) in units {
        if rest >= ms {
            words.push(format!("{}{unit}", rest / ms));
            rest %= ms;
        }
    }
    if words.is_empty() {
        return "0s".to_owned();
    }
    words.join(" ")
}

/// `1 request`, `2 requests`.
pub(super) fn many(count: impl Into<u64>, what: &str) -> String {
    let count = count.into();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// A text from a log in quotes, with what could deceive on a terminal escaped, and cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text, QUOTED))
}

/// A text that is printable as it is, such as a [template](super::template), cut if it is long.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    cut(text, SHOWN)
}

/// A text of which no more than `most` bytes are told; one that was longer ends with `…`.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match beginning(text, most) {
        whole if whole.len() == text.len() => Cow::Borrowed(whole),
        cut => Cow::Owned(format!("{cut}…")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_configured() {
        let words = |ms| duration(Duration::from_millis(ms));
        assert_eq!(words(0), "0s");
        assert_eq!(words(90), "90ms");
        assert_eq!(words(600_000), "10m");
        assert_eq!(words(86_400_000 + 12 * 3_600_000), "1d 12h");
        assert_eq!(words(61_500), "1m 1s 500ms");
    }

    #[test]
    fn texts_of_attackers_are_short_and_harmless() {
        assert_eq!(quoted("bob"), "\"bob\"");
        assert_eq!(quoted("\u{1b}[2J\n"), r#""\u{1b}[2J\n""#);
        let long = "ä".repeat(100);
        assert_eq!(quoted(&long), format!("\"{}…\"", "ä".repeat(32)));
        assert_eq!(beginning("aä", 2), "a");
        assert_eq!(shown("/api/users/{}"), "/api/users/{}");
        let long = "/".to_owned() + &"ä".repeat(100);
        assert_eq!(shown(&long), format!("/{}…", "ä".repeat(99)));
        assert_eq!(many(1_u32, "request"), "1 request");
    }
}
