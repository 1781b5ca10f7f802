//! Block lists in the formats that people have them in.
//!
//! Pure: text in, entries out. A line that cannot be read is told with its number, and takes
//! nothing else with it. What is large is read as it comes: a million lines, or a JSON array
//! of a million elements, take no more memory than their entries.
//!
//! | module | what it reads |
//! | --- | --- |
//! | `plain` | an address, prefix or range a line |
//! | `csv` | comma-separated values with a header |
//! | `json` | what `abuser ban list --json` prints, and plain arrays |
//! | `fail2ban` | its database |
//! | `ipset` | `ipset save` |
//! | `nft` | `nft -j list set` or `list ruleset` |
//! | `crowdsec` | `cscli decisions list -l 0 -o json` |
//! | `lines`, `elements` | what text and JSON formats are made of |
//! | `times` | until when |
//! | `write` | the way back |

mod crowdsec;
mod csv;
mod elements;
mod fail2ban;
mod ipset;
mod json;
mod lines;
mod nft;
mod plain;
#[cfg(test)]
mod tests;
mod times;
mod write;

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
    net::IpAddr,
    path::Path,
    str::FromStr,
    time::{Duration, SystemTime},
};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;

use crate::{config::parse_prefix, store};

pub(crate) use self::times::{FOR_GOOD, left};
pub use self::write::{Record, Writer, Written};

/// How much of a bad line is shown.
const SHOWN: usize = 60;

/// Until when an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It does not say.
    Unsaid,
    /// For good.
    Never,
    /// Until then.
    At(SystemTime),
    /// For so long from now on.
    In(Duration),
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands, from 1: the line or, where there are none, the element.
    pub number: u64,
    /// Whom it names.
    pub source: IpNet,
    /// Until when.
    pub expires: Expiry,
    /// Why.
    pub reason: Option<String>,
}

/// Something that is no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number, from 1: of the line or, where there are none, of the element.
    #[serde(rename = "line")]
    pub number: u64,
    /// Its beginning.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl BadLine {
    /// One of which no more than the beginning is kept.
    pub fn new(number: u64, text: &str, problem: impl fmt::Display) -> Self {
        let text = text.chars().take(SHOWN).collect();
        Self {
            number,
            text,
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for BadLine {
    /// In words, on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            text,
            problem,
        } = self;
        // Some problems quote what they are about, and once is enough.
        if problem.starts_with(text.as_str()) || problem.starts_with(&format!("{text:?}")) {
            return write!(formatter, "line {number}: {problem}");
        }
        write!(formatter, "line {number}: {text:?}: {problem}")
    }
}

/// What is found in a list, one after the other. An entry that names the time of its end
/// ([`Expiry::At`]) may be over as well: only formats that say how much is left, and
/// fail2ban's, are told as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An entry.
    Entry(Entry),
    /// Something that is none.
    Bad(BadLine),
    /// One that is over already.
    Expired,
}

/// Where items go.
pub type Sink<'a> = &'a mut dyn FnMut(Item);

/// The format of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An address, prefix or range a line; `#` begins a comment, after an entry its reason.
    Plain,
    /// Comma-separated values with a header.
    Csv,
    /// What `abuser ban list --json` prints.
    Json,
    /// fail2ban's database.
    Fail2ban,
    /// `ipset save`.
    Ipset,
    /// `nft -j list set` or `nft -j list ruleset`.
    Nft,
    /// `cscli decisions list -l 0 -o json`.
    Crowdsec,
}

impl Format {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("plain", Self::Plain),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("fail2ban", Self::Fail2ban),
        ("ipset", Self::Ipset),
        ("nft", Self::Nft),
        ("crowdsec", Self::Crowdsec),
    ];

    /// What a list is by its beginning, some kilobytes of it.
    pub fn detect(beginning: &[u8]) -> Self {
        if beginning.starts_with(store::HEAD) {
            return Self::Fail2ban;
        }
        let text = String::from_utf8_lossy(beginning);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with(['{', '[']) || text.starts_with("null") {
            return Self::detect_json(text);
        }
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        let first = first.unwrap_or_default();
        if first.starts_with("create ") || first.starts_with("add ") {
            Self::Ipset
        } else if csv::is_header(first) {
            Self::Csv
        } else {
            Self::Plain
        }
    }

    /// By the keys of whatever stands first: those of nft and crowdsec say what they are.
    fn detect_json(text: &str) -> Self {
        let has = |key: &str| text.contains(&format!("\"{key}\""));
        let first_key = text.trim_start_matches(|c: char| c == '{' || c.is_whitespace());
        if first_key.starts_with("\"nftables\"") {
            Self::Nft
        } else if text.starts_with("null")
            || has("decisions")
            || (has("new") && has("deleted"))
            || (has("value") && (has("scope") || has("scenario")))
        {
            Self::Crowdsec
        } else {
            Self::Json
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, format)| format == self);
        formatter.pad(named.map_or("", |(name, _)| name))
    }
}

/// A text that names no [`Format`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format; write plain, csv, json, fail2ban, ipset, nft or crowdsec")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let named = Self::ALL.iter().find(|(name, _)| *name == text);
        named
            .map(|(_, format)| *format)
            .ok_or_else(|| FormatError(text.to_owned()))
    }
}

/// How much of a list tells what it is written in.
const BEGINNING: u64 = 8192;

/// Reads a list to its end, by default in the format that it looks like; which one that was. An
/// error is one of reading, not of what is read.
///
/// fail2ban's database cannot be read as it comes: it must be the file at `path`.
pub fn read_any(
    format: Option<Format>,
    mut input: impl Read,
    path: Option<&Path>,
    sink: Sink<'_>,
) -> io::Result<Format> {
    let mut beginning = Vec::new();
    input.by_ref().take(BEGINNING).read_to_end(&mut beginning)?;
    let format = format.unwrap_or_else(|| Format::detect(&beginning));
    match path {
        Some(path) if format == Format::Fail2ban => {
            fail2ban::read(path, SystemTime::now(), sink)?;
        }
        _ => {
            let mut input = BufReader::new(beginning.as_slice().chain(input));
            read(format, &mut input, sink)?;
        }
    }
    Ok(format)
}

/// Reads a list that comes as a stream.
fn read(format: Format, input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    match format {
        Format::Plain => plain::read(input, sink),
        Format::Csv => csv::read(input, sink),
        Format::Json => json::read(input, sink),
        Format::Ipset => ipset::read(input, sink),
        Format::Nft => nft::read(input, sink),
        Format::Crowdsec => crowdsec::read(input, sink),
        Format::Fail2ban => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "fail2ban's database is read from a file, not from a stream",
        )),
    }
}

/// The prefixes that a text names: an address, a prefix, or a range `FIRST-LAST`, which is 254
/// prefixes at the worst.
fn sources(text: &str) -> Result<Vec<IpNet>, String> {
    let Some((first, last)) = text.split_once('-') else {
        return parse_prefix(text)
            .map(|source| vec![source])
            .map_err(|error| error.to_string());
    };
    let address = |text: &str| -> Result<IpAddr, String> {
        let text = text.trim();
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is not an address"))?;
        Ok(address.to_canonical())
    };
    let subnets: Vec<IpNet> = match (address(first)?, address(last)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
            return Err("the range ends before it begins".to_owned());
        }
        _ => return Err("the range begins in one family and ends in the other".to_owned()),
    };
    Ok(subnets)
}

/// Hands on the entries that a text names, or that it names none. A time of nothing is over.
fn entries(
    number: u64,
    line: &str,
    text: &str,
    expires: Expiry,
    reason: Option<&str>,
    sink: Sink<'_>,
) {
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    match sources(text.trim()) {
        Ok(_) if expires == Expiry::In(Duration::ZERO) => sink(Item::Expired),
        Ok(sources) => {
            for source in sources {
                sink(Item::Entry(Entry {
                    number,
                    source,
                    expires,
                    reason: reason.map(str::to_owned),
                }));
            }
        }
        Err(problem) => sink(Item::Bad(BadLine::new(number, line, problem))),
    }
}
