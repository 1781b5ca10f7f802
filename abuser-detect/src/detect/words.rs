//! Words for the reasons of findings.

use std::time::Duration;

use crate::line::beginning;

/// Bytes of a text from a log that are repeated to people.
const QUOTED: usize = 64;

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
    match beginning(text, QUOTED) {
        whole if whole.len() == text.len() => format!("{whole:?}"),
        cut => format!("{:?}", format!("{cut}…")),
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
        assert_eq!(many(1_u32, "request"), "1 request");
    }
}
