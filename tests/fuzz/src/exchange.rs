//! What must hold for any list of whom to ban, in any format.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{Seek as _, Write as _},
    time::{Duration, SystemTime},
};

use abuser::exchange::{Entry, Expiry, Format, Item, Record, Writer, read_any};
use ipnet::IpNet;
use tempfile::NamedTempFile;

use crate::shown;

/// The longest beginning of a bad line that is kept, in characters.
const SHOWN: usize = 60;
/// No format is made to be written with more in it here.
const MAX_WRITTEN: usize = 300;

thread_local! {
    /// fail2ban's database has to be a file.
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a file"));
}

/// Reads bytes in the format that the first of them names, or that they look like.
///
/// # Panics
///
/// If an entry names no prefix, a bad line is none that can be shown, or what is written of the entries
/// names others when it is read.
pub fn exchange(bytes: &[u8]) {
    let [format, bytes @ ..] = bytes else {
        return;
    };
    let format = Format::ALL
        .get(usize::from(*format))
        .map(|(_, format)| *format);
    let items = if format == Some(Format::Fail2ban) {
        database(bytes)
    } else {
        read(format, bytes).1
    };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        match item {
            Item::Entry(entry) => {
                assert_eq!(entry.source, entry.source.trunc(), "bits of a host");
                assert_ne!(entry.number, 0, "they are numbered from 1");
                let reason = entry.reason.as_deref();
                assert!(reason.is_none_or(|reason| !reason.is_empty() && reason.trim() == reason));
                entries.push(entry);
            }
            Item::Bad(bad) => {
                assert_ne!(bad.number, 0, "they are numbered from 1");
                assert!(bad.text.chars().count() <= SHOWN);
                assert!(!bad.problem.is_empty());
            }
            Item::Expired => {}
        }
    }
    write_again(&entries);
}

fn read(format: Option<Format>, bytes: &[u8]) -> (Format, Vec<Item>) {
    let mut items = Vec::new();
    let read = read_any(format, bytes, None, &mut |item| items.push(item));
    match read {
        Ok(format) => (format, items),
        // SQLite's, which has to be a file.
        Err(error) => {
            shown::is_one_plain_line(&error.to_string());
            (Format::Fail2ban, Vec::new())
        }
    }
}

fn database(bytes: &[u8]) -> Vec<Item> {
    FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        let written = file
            .as_file()
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(bytes));
        written.expect("a file that can be written");
        let mut items = Vec::new();
        // An error is one of the file.
        let _ = read_any(Some(Format::Fail2ban), &b""[..], Some(&path), &mut |item| {
            items.push(item);
        });
        items
    })
}

/// What is written of entries names the same sources when it is read.
fn write_again(entries: &[Entry]) {
    let now = SystemTime::now();
    let end = |entry: &Entry| match entry.expires {
        Expiry::Unsaid | Expiry::Never => None,
        Expiry::At(end) => Some(end),
        Expiry::In(left) => now.checked_add(left),
    };
    // In the order of sources, each once, as bans are.
    let bans: BTreeMap<IpNet, &Entry> = entries
        .iter()
        .filter(|entry| end(entry).is_none_or(|end| end > now + Duration::from_secs(60)))
        .take(MAX_WRITTEN)
        .map(|entry| (entry.source, entry))
        .collect();
    for format in [
        Format::Plain,
        Format::Csv,
        Format::Json,
        Format::Ipset,
        Format::Crowdsec,
    ] {
        let mut text = Vec::new();
        let mut writer = Writer::new(format, &mut text, now).expect("memory");
        for (source, entry) in &bans {
            let record = Record {
                source: *source,
                created: None,
                expires: end(entry),
                reason: entry.reason.as_deref(),
                cause: "import",
                by: None,
                hits: 0,
            };
            writer.record(&record).expect("memory");
        }
        writer.finish().expect("memory");
        let (_, items) = read(Some(format), &text);
        let sources: BTreeSet<IpNet> = items
            .into_iter()
            .map(|item| match item {
                Item::Entry(entry) => entry.source,
                other => panic!("{format}: {other:?} of {}", text.escape_ascii()),
            })
            .collect();
        let expected: BTreeSet<IpNet> = bans
            .keys()
            .flat_map(|source| as_written(format, *source))
            .collect();
        assert_eq!(sources, expected, "{format}: {}", text.escape_ascii());
    }
}

/// The prefixes that a source is written as: ipset has none that hold everybody.
fn as_written(format: Format, source: IpNet) -> Vec<IpNet> {
    if format == Format::Ipset && source.prefix_len() == 0 {
        return source
            .subnets(1)
            .map_or_else(|_| Vec::new(), Iterator::collect);
    }
    vec![source]
}
