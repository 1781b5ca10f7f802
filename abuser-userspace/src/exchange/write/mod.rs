//! The way back: bans as lists that other tools load.
//!
//! Written as it comes, in constant memory. What is written reads again as the same sources with
//! the same ends, in the formats that tell an end: for those that tell how much is left, the
//! part of a second that is left counts as one. A ban that is over is left out everywhere:
//! where 0 stands for good, it would be there for good.

mod nft;
mod text;

use std::{
    io::{self, Write},
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use serde::Serialize;

use crate::{daemon::clock, policy::MAX_BAN};

use self::{
    nft::Nft,
    text::{cleaned, unquoted},
};
use super::{Format, times::FOR_GOOD};

/// The longest reason in a format of lines; abuser's own are no longer.
const MAX_REASON: usize = 1000;
/// The longest comment that ipset takes.
const MAX_IPSET_COMMENT: usize = 255;
/// The longest timeout that ipset takes: not 25 days.
const MAX_IPSET_SECONDS: u64 = 2_147_483;

/// A ban as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whom it bans.
    pub source: IpNet,
    /// When it was made, if that is known.
    pub created: Option<SystemTime>,
    /// When it ends, if it does.
    pub expires: Option<SystemTime>,
    /// Why.
    pub reason: Option<&'a str>,
    /// What led to it: `manual`, `limit` or `rollup`.
    pub cause: &'a str,
    /// Who asked for it, if somebody did.
    pub by: Option<&'a str>,
    /// Packets that met it.
    pub hits: u64,
}

/// What became of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// So many are in the list.
    pub records: u64,
    /// Those of them that end earlier there than they do here: ipset keeps nothing for more
    /// than 24 days, but for good.
    pub shortened: u64,
    /// So many were left out because they are over.
    pub over: u64,
    /// So many were left out because a wider one lasts as long, and the format takes no address
    /// twice: nft.
    pub covered: u64,
}

/// Writes a list, record by record.
///
/// [`Format::Nft`] takes them only in the order of their sources, as [`IpNet`] orders them: a
/// set of nft takes no address twice, so a prefix is written without the parts that outlast it.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    now: SystemTime,
    body: Body,
    written: Written,
}

/// What is particular to a format.
#[derive(Debug)]
enum Body {
    Plain,
    Csv,
    Json,
    Ipset,
    Nft(Nft),
    Crowdsec,
}

impl<W: Write> Writer<W> {
    /// Begins a list of the bans that hold at `now`. fail2ban's cannot be written.
    pub fn new(format: Format, mut output: W, now: SystemTime) -> io::Result<Self> {
        let (body, begin) = match format {
            Format::Plain => (Body::Plain, ""),
            Format::Csv => (Body::Csv, "source,created,expires,reason,cause,by,hits\n"),
            Format::Json => (Body::Json, "["),
            Format::Ipset => (Body::Ipset, IPSET),
            Format::Nft => (Body::Nft(Nft::default()), nft::BEGIN),
            Format::Crowdsec => (Body::Crowdsec, "["),
            Format::Fail2ban => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "fail2ban's database belongs to fail2ban and is not written: write a list \
                     with --format plain, and have fail2ban ban what is in it with \
                     `fail2ban-client set JAIL banip ADDRESS`",
                ));
            }
        };
        output.write_all(begin.as_bytes())?;
        Ok(Self {
            output,
            now,
            body,
            written: Written::default(),
        })
    }

    /// Writes a ban, unless it is over.
    pub fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let left = match record.expires {
            None => None,
            Some(end) => match end.duration_since(self.now) {
                Ok(left) if !left.is_zero() => Some(seconds(left)),
                _ => {
                    self.written.over += 1;
                    return Ok(());
                }
            },
        };
        let is_first = self.written.records == 0;
        let output = &mut self.output;
        match &mut self.body {
            Body::Plain => plain(output, record)?,
            Body::Csv => csv(output, record)?,
            Body::Json => {
                element(output, is_first, &JsonRecord::of(record))?;
            }
            Body::Crowdsec => element(output, is_first, &Decision::of(record, left))?,
            Body::Ipset => {
                let is_long = left.is_some_and(|left| left > MAX_IPSET_SECONDS);
                ipset(output, record, left.map(|left| left.min(MAX_IPSET_SECONDS)))?;
                self.written.shortened += u64::from(is_long);
            }
            Body::Nft(nft) => {
                if !nft.record(output, record, left)? {
                    self.written.covered += 1;
                    return Ok(());
                }
            }
        }
        self.written.records += 1;
        Ok(())
    }

    /// Ends the list.
    pub fn finish(mut self) -> io::Result<Written> {
        match &mut self.body {
            Body::Plain | Body::Csv | Body::Ipset => {}
            Body::Json | Body::Crowdsec => {
                let is_empty = self.written.records == 0;
                let end = if is_empty { "]\n" } else { "\n]\n" };
                self.output.write_all(end.as_bytes())?;
            }
            Body::Nft(nft) => nft.finish(&mut self.output)?,
        }
        self.output.flush()?;
        Ok(self.written)
    }
}

/// What is left, in seconds; what is left of one is one.
fn seconds(left: Duration) -> u64 {
    let left = left.min(MAX_BAN);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// An address by itself, as people write it, or a prefix.
fn shown(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

fn time(time: SystemTime) -> String {
    clock::format(time.max(UNIX_EPOCH))
}

fn plain(output: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let source = shown(record.source);
    match record.reason.and_then(|reason| cleaned(reason, MAX_REASON)) {
        Some(reason) => writeln!(output, "{source} # {reason}"),
        None => writeln!(output, "{source}"),
    }
}

fn csv(output: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let text = |text: Option<&str>| {
        let text = text.and_then(|text| cleaned(text, MAX_REASON));
        text.unwrap_or_default()
    };
    let mut writer = csv::Writer::from_writer(output);
    writer.write_record([
        shown(record.source),
        record.created.map(time).unwrap_or_default(),
        record.expires.map_or_else(|| "never".to_owned(), time),
        text(record.reason),
        text(Some(record.cause)),
        text(record.by),
        record.hits.to_string(),
    ])?;
    writer.flush()
}

/// An element of an array, a line of its own.
fn element(output: &mut impl Write, is_first: bool, value: &impl Serialize) -> io::Result<()> {
    output.write_all(if is_first { b"\n" } else { b",\n" })?;
    serde_json::to_writer(output, value)?;
    Ok(())
}

/// The keys are those of `abuser ban list --json`.
#[derive(Serialize)]
struct JsonRecord<'a> {
    source: IpNet,
    created: Option<String>,
    expires: Option<String>,
    cause: &'a str,
    reason: Option<&'a str>,
    by: Option<&'a str>,
    hits: u64,
}

impl<'a> JsonRecord<'a> {
    fn of(record: &Record<'a>) -> Self {
        Self {
            source: record.source,
            created: record.created.map(time),
            expires: record.expires.map(time),
            cause: record.cause,
            reason: record.reason,
            by: record.by,
            hits: record.hits,
        }
    }
}

/// What `cscli decisions import` takes.
#[derive(Serialize)]
struct Decision<'a> {
    duration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    scope: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

impl<'a> Decision<'a> {
    fn of(record: &Record<'a>, left: Option<u64>) -> Self {
        let left = left.unwrap_or(FOR_GOOD.as_secs());
        let is_address = record.source.prefix_len() == record.source.max_prefix_len();
        Self {
            duration: format!("{left}s"),
            reason: record.reason,
            scope: if is_address { "Ip" } else { "Range" },
            kind: "ban",
            value: shown(record.source),
        }
    }
}

/// As many elements as there may be: memory is taken for those that there are.
const IPSET: &str = "\
create abuser4 hash:net family inet maxelem 4294967295 timeout 0 comment
create abuser6 hash:net family inet6 maxelem 4294967295 timeout 0 comment
";

fn ipset(output: &mut impl Write, record: &Record<'_>, left: Option<u64>) -> io::Result<()> {
    let (set, halves) = match record.source.addr() {
        IpAddr::V4(_) => ("abuser4", ["0.0.0.0/1", "128.0.0.0/1"]),
        IpAddr::V6(_) => ("abuser6", ["::/1", "8000::/1"]),
    };
    let reason = record
        .reason
        .and_then(|reason| cleaned(&unquoted(reason), MAX_IPSET_COMMENT));
    let options = format!("timeout {}", left.unwrap_or(0))
        + &reason.map_or_else(String::new, |reason| format!(" comment \"{reason}\""));
    if record.source.prefix_len() > 0 {
        return writeln!(output, "add {set} {} {options}", shown(record.source));
    }
    // hash:net has no prefix of no length.
    for half in halves {
        writeln!(output, "add {set} {half} {options}")?;
    }
    Ok(())
}
