//! The last lines that a detector was given, to show with what it finds.
//!
//! Detectors count a million sources and keep no line of any. Here are the latest lines of all of
//! them together, within a bound of bytes; who is found has usually just written some of them.

use std::{collections::VecDeque, net::IpAddr};

use ipnet::IpNet;

use crate::time::Time;

/// Bytes of text that are kept for one detector.
const MAX_BYTES: usize = 1 << 20;
/// Lines that are kept for one detector: a look at all of them takes some 20 µs.
const MAX_LINES: usize = 4096;
/// The longest line that is kept, in bytes; of a longer one its beginning is.
pub const MAX_TEXT: usize = 500;
/// The most lines that are told for one finding.
pub const MAX_TOLD: usize = 20;

/// A line that led to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When it happened.
    pub at: Time,
    /// The line, at most [`MAX_TEXT`] bytes of it.
    pub text: String,
}

#[derive(Debug)]
struct Entry {
    source: Option<IpAddr>,
    at: Time,
    text: Box<str>,
}

/// The latest lines.
#[derive(Debug, Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    /// Keeps a line, and drops the oldest ones for it if need be.
    pub fn push(&mut self, source: Option<IpAddr>, at: Time, line: &str) {
        let text: Box<str> = beginning(line).into();
        self.bytes += text.len();
        self.entries.push_back(Entry { source, at, text });
        while self.bytes > MAX_BYTES || self.entries.len() > MAX_LINES {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.text.len());
        }
    }

    /// The latest lines of these sources, oldest first; of all lines if there are no sources. At
    /// most [`MAX_TOLD`].
    pub fn of(&self, sources: &[IpNet]) -> Vec<Evidence> {
        // Of many that act as one, a few show how.
        let shown = sources.get(..MAX_TOLD).unwrap_or(sources);
        let wanted = |entry: &&Entry| {
            let of_shown = |address: IpAddr| {
                shown
                    .iter()
                    .any(|shown| shown.contains(&address.to_canonical()))
            };
            shown.is_empty() || entry.source.is_some_and(of_shown)
        };
        let latest = self.entries.iter().rev().filter(wanted).take(MAX_TOLD);
        let mut told: Vec<_> = latest
            .map(|entry| Evidence {
                at: entry.at,
                text: entry.text.to_string(),
            })
            .collect();
        told.reverse();
        told
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
pub fn beginning(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn texts(evidence: &[Evidence]) -> Vec<&str> {
        evidence.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_latest_lines_of_a_source_are_told_oldest_first() {
        let mut recent = Recent::default();
        for number in 0..50 {
            let source = address(u8::from(number % 2 == 1));
            recent.push(Some(source), Time(number), &number.to_string());
        }
        let told = recent.of(&[IpNet::from(address(1))]);
        assert_eq!(told.len(), MAX_TOLD);
        assert_eq!(texts(&told[..2]), ["11", "13"]);
        assert_eq!(texts(&told[MAX_TOLD - 1..]), ["49"]);
        let mapped = "::ffff:192.0.2.9".parse().ok();
        recent.push(mapped, Time(50), "mapped");
        assert_eq!(texts(&recent.of(&[IpNet::from(address(9))])), ["mapped"]);
    }

    #[test]
    fn lines_without_a_source_are_told_only_if_no_source_is_asked_for() {
        let mut recent = Recent::default();
        recent.push(None, Time(1), "nobody");
        assert_eq!(texts(&recent.of(&[])), ["nobody"]);
        assert!(recent.of(&[IpNet::from(address(1))]).is_empty());
    }

    #[test]
    fn long_lines_and_many_lines_take_bounded_memory() {
        let mut recent = Recent::default();
        let long = "ä".repeat(1 << 20);
        for number in 0..10_000 {
            recent.push(Some(address(1)), Time(number), &long);
        }
        assert!(recent.bytes <= MAX_BYTES);
        let held: usize = recent.entries.iter().map(|entry| entry.text.len()).sum();
        assert_eq!(held, recent.bytes);
        for number in 0..10_000 {
            recent.push(Some(address(1)), Time(number), "x");
        }
        assert_eq!(recent.entries.len(), MAX_LINES);
    }
}
