//! The last lines that a detector was given, to show with what it finds.
//!
//! Detectors count a million sources and keep no line of any. Here are the latest lines of all of
//! them together, within a bound of bytes; who is found has usually just written some of them.

use std::{collections::VecDeque, hash::BuildHasher as _, net::IpAddr};

use foldhash::quality::RandomState;
use ipnet::IpNet;

use crate::{line, time::Time};

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
    /// The number of the line before it whose source has the same head; 0 if there was none.
    before: u64,
}

/// The latest lines.
///
/// Where most lines are failures, one of five may lead to a finding: to look at all lines for
/// each would take longer than all else. So each is linked to the one before it of the same source, or of
/// another with the same hash, whose links begin at the same head.
#[derive(Debug, Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The number of the last line; the first has 1.
    last: u64,
    /// For each hash of a source the number of its last line; empty until there is a line.
    heads: Box<[u64]>,
    hasher: RandomState,
}

impl Recent {
    /// Keeps a line, and drops the oldest ones for it if need be.
    pub fn push(&mut self, source: Option<IpAddr>, at: Time, line: &str) {
        if self.heads.is_empty() {
            self.heads = vec![0; MAX_LINES].into();
        }
        let source = source.map(|source| source.to_canonical());
        self.last += 1;
        let head = source.map(|source| self.head(source));
        let head = head.and_then(|head| self.heads.get_mut(head));
        let before = head.map_or(0, |head| std::mem::replace(head, self.last));
        let text: Box<str> = beginning(line).into();
        self.bytes += text.len();
        self.entries.push_back(Entry {
            source,
            at,
            text,
            before,
        });
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
            let of_shown = |address: IpAddr| shown.iter().any(|shown| shown.contains(&address));
            shown.is_empty() || entry.source.is_some_and(of_shown)
        };
        let mut told: Vec<_> = match shown {
            [one] if has_one_head(one) => tell(self.linked(one.addr()).filter(wanted)),
            _ => tell(self.entries.iter().rev().filter(wanted)),
        };
        told.reverse();
        told
    }

    /// The lines of a source and of those that share its head, newest first.
    fn linked(&self, source: IpAddr) -> impl Iterator<Item = &Entry> {
        let first = self.heads.get(self.head(source));
        let first = self.numbered(first.copied().unwrap_or_default());
        std::iter::successors(first, |entry| self.numbered(entry.before))
    }

    /// The line of that number, if it is still kept.
    fn numbered(&self, number: u64) -> Option<&Entry> {
        let newer = usize::try_from(self.last - number).ok()?;
        let place = self.entries.len().checked_sub(newer + 1)?;
        self.entries.get(place)
    }

    /// Where the links of a source begin.
    fn head(&self, source: IpAddr) -> usize {
        // What is often one source has one head.
        let bits = match source {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                [a, b, c, d]
                    .into_iter()
                    .fold(0, |bits, part| bits << 16 | u64::from(part))
            }
        };
        let hash = self.hasher.hash_one(bits) % MAX_LINES as u64;
        usize::try_from(hash).unwrap_or_default()
    }
}

/// Whether all lines of a prefix are linked to the same head.
fn has_one_head(net: &IpNet) -> bool {
    net.prefix_len() >= if net.addr().is_ipv4() { 32 } else { 64 }
}

fn tell<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<Evidence> {
    let told = entries.take(MAX_TOLD).map(|entry| Evidence {
        at: entry.at,
        text: entry.text.to_string(),
    });
    told.collect()
}

/// At most [`MAX_TEXT`] bytes of a text.
pub fn beginning(text: &str) -> &str {
    line::beginning(text, MAX_TEXT)
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
    fn each_source_of_more_than_there_are_heads_has_its_own_lines_as_long_as_they_are_kept() {
        let mut recent = Recent::default();
        let lines = MAX_LINES as u64;
        let source = |number: u64| {
            let [.., a, b, c] = (number % 3000).to_be_bytes();
            IpAddr::from([10, a, b, c])
        };
        for number in 0..3 * lines {
            recent.push(Some(source(number)), Time(number), &number.to_string());
        }
        for number in 0..3000 {
            let kept = (2 * lines..3 * lines).filter(|line| line % 3000 == number);
            let kept: Vec<_> = kept.map(|line| line.to_string()).collect();
            let told = recent.of(&[IpNet::from(source(number))]);
            assert_eq!(texts(&told), kept);
        }
        assert!(recent.of(&[IpNet::from(address(1))]).is_empty());
    }

    #[test]
    fn prefixes_have_the_lines_of_all_addresses_in_them() {
        let mut recent = Recent::default();
        for (number, source) in ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.9"]
            .into_iter()
            .enumerate()
        {
            recent.push(source.parse().ok(), Time(number as u64), source);
        }
        for (net, lines) in [
            ("2001:db8::/64", ["2001:db8::1", "2001:db8::2"].as_slice()),
            ("2001:db8::/32", &["2001:db8::1", "2001:db8::2"]),
            ("2001:db8::2/128", &["2001:db8::2"]),
            ("192.0.2.0/24", &["192.0.2.1", "192.0.2.9"]),
            ("192.0.2.9/32", &["192.0.2.9"]),
        ] {
            let net: IpNet = net.parse().expect("a prefix");
            assert_eq!(texts(&recent.of(&[net])), lines, "{net}");
        }
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
        assert_eq!(recent.heads.len(), MAX_LINES);
    }
}
