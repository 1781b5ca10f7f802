//! What the readers make of real lists, what they refuse, and what the writer's lists become.
//!
//! The samples are what the tools print: nft 1.0.6, ipset 7.17, fail2ban 1.0.2's database;
//! crowdsec's are of its documented form.

mod bad;
mod databases;
mod properties;
mod samples;
mod written;

use std::{
    io::BufReader,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Entry, Expiry, Format, Item, read};

/// A time that all of these tests are at.
pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// All that is found in a text; read in small pieces, as a pipe may hand it over. Where entries
/// stand is left out: it has a test of its own.
pub(super) fn items(format: Format, text: impl AsRef<[u8]>) -> Vec<Item> {
    let mut items = numbered(format, text);
    for item in &mut items {
        if let Item::Entry(entry) = item {
            entry.number = 0;
        }
    }
    items
}

fn numbered(format: Format, text: impl AsRef<[u8]>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut input = BufReader::with_capacity(7, text.as_ref());
    read(format, &mut input, &mut |item| items.push(item)).unwrap();
    items
}

#[test]
fn an_entry_knows_where_it_stands() {
    for (format, text, expected) in [
        (
            Format::Plain,
            "\n192.0.2.1\n# no\n192.0.2.2-192.0.2.4\n",
            &[2, 4, 4][..],
        ),
        (
            Format::Csv,
            "ip,reason\n192.0.2.1,a\n\n192.0.2.2,b\n",
            &[2, 4],
        ),
        (Format::Json, "[\"192.0.2.1\",\n\n\"192.0.2.2\"]", &[1, 2]),
        (Format::Ipset, "create a hash:ip\nadd a 192.0.2.1\n", &[2]),
    ] {
        let numbers = numbered(format, text).into_iter().map(|item| match item {
            Item::Entry(entry) => entry.number,
            other => panic!("{format}: {other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), expected, "{format}");
    }
}

pub(super) fn entry(source: &str, expires: Expiry, reason: Option<&str>) -> Item {
    Item::Entry(Entry {
        number: 0,
        source: source.parse().unwrap(),
        expires,
        reason: reason.map(str::to_owned),
    })
}

pub(super) fn secs(seconds: u64) -> Expiry {
    Expiry::In(Duration::from_secs(seconds))
}

pub(super) fn at(time: &str) -> Expiry {
    Expiry::At(humantime::parse_rfc3339(time).unwrap())
}

/// An item in short: the source of an entry, the number and problem of a bad line.
pub(super) fn short(item: &Item) -> String {
    match item {
        Item::Entry(entry) => entry.source.to_string(),
        Item::Bad(bad) => format!("{}: {}", bad.number, bad.problem),
        Item::Expired => "expired".to_owned(),
    }
}

pub(super) fn shorts(format: Format, text: impl AsRef<[u8]>) -> Vec<String> {
    items(format, text).iter().map(short).collect()
}

/// Also where it is told what is wrong, and not how.
#[track_caller]
pub(super) fn assert_items(format: Format, text: impl AsRef<[u8]>, expected: &[&str]) {
    let found = shorts(format, text);
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            found == expected || (expected.contains(": ") && found.contains(expected))
        });
    assert!(matches, "found {found:#?}\nexpected {expected:#?}");
}
