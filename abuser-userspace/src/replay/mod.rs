//! `abuser replay`: what a configuration would have done, found out without a kernel.
//!
//! Captures run through the very function that decides in the kernel
//! ([`decide`](abuser_common::verdict::decide)), over the same tables as ordinary collections, and
//! its events through the same policies as in the daemon, all on the captures' own clock. Logs run
//! through the daemon's detectors and those policies.
//!
//! What cannot be known offline: names of the allow list are not resolved, what the daemon allows
//! by itself (this host's addresses, gateways, resolvers, your SSH session) is not known, and
//! block lists are not read. And a capture tells what clients did while nothing was dropped; some
//! would have given up.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `capture` | frames out of a file |
//! | `frame` | those of any link as Ethernet frames |
//! | `direction` | which of them came to this host |
//! | `stream` | several captures as one |
//! | `sockets` | which connections the host had |
//! | [`lines`] | lines of logs through detectors |
//! | [`logs`] | whole logs, and what would have been done |
//! | `text`, `merge` | lines out of a log; several logs as one |
//! | [`packets`] | the packet path over frames |
//! | [`judge`] | from offences to bans |
//! | [`report`] | what would have been done |

mod capture;
mod direction;
mod frame;
pub mod judge;
pub mod lines;
pub mod logs;
mod merge;
pub mod packets;
pub mod report;
mod sockets;
mod stream;
mod text;

use std::{io::Read, time::Duration};

use ipnet::IpNet;

pub use capture::CaptureError;
pub use text::LineReader;

use self::{
    judge::Judge,
    packets::Path,
    report::{BanReport, Report, time},
    stream::Stream,
};
use crate::{
    config::{AllowEntry, Config},
    words::counted,
};

/// A capture that is to be replayed.
pub struct Input {
    /// What it is called.
    pub path: String,
    /// Its contents.
    pub contents: Box<dyn Read + Send>,
}

/// A capture that cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
#[error("{path} {error}")]
pub struct ReplayError {
    /// What it is called.
    path: String,
    /// What is wrong with it.
    #[source]
    error: CaptureError,
}

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Packets to these come in; empty: see `direction`.
    pub to: Vec<IpNet>,
    /// How many sources the report names.
    pub top: usize,
}

/// Replays captures as one stream in the order of time.
///
/// # Errors
///
/// A capture that cannot be read at all. One that breaks off is replayed as far as it goes, and
/// its report says so.
pub fn replay(
    config: &Config,
    captures: Vec<Input>,
    options: &Options,
) -> Result<Report, ReplayError> {
    let mut stream = Stream::open(captures)?;
    let mut judge = Judge::new(config);
    let mut path = Path::new(config, &judge);
    while let Some((frame, way)) = stream.next(&options.to) {
        path.frame(frame, way, &mut judge);
    }
    path.count_hits(&mut judge);
    let span = path.span();
    let total = path.outcomes.total();
    let limits = path.limits();
    let notes = notes(config, &path, &judge, &limits);
    Ok(Report {
        captures: stream.reports(),
        from: span.map(|(from, _)| time(from)),
        to: span.map(|(_, to)| time(to)),
        seconds: span.map_or(0.0, |(from, to)| seconds(to.saturating_sub(from))),
        packets: total.packets,
        bytes: total.bytes,
        outcomes: path.outcomes,
        limits,
        offences: path.offences(&judge),
        bans: judge.bans().iter().map(BanReport::new).collect(),
        sources: path.sources.top(options.top),
        notes,
    })
}

/// A time in seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis).as_secs_f64()
}

/// What is to be known about a replay.
fn notes(
    config: &Config,
    path: &Path,
    judge: &Judge,
    limits: &[report::LimitReport],
) -> Vec<String> {
    let mut notes = Vec::new();
    if path.unverified > 0 {
        let offences = counted(path.unverified, "offence", "offences");
        let why = if path.spoke() {
            "the captures show no connection of their sources at that time"
        } else {
            "the captures have no packet from this host, so they show no connections"
        };
        notes.push(format!(
            "{offences} did not count, because anyone may have sent the packets: {why}; with \
             require_verified = false they count"
        ));
    }
    if path.backwards > 0 {
        let packets = counted(path.backwards, "packet is", "packets are");
        notes.push(format!(
            "{packets} dated earlier than the one before, and taken to have come with it"
        ));
    }
    if path.cut_short > 0 {
        let packets = counted(path.cut_short, "packet", "packets");
        notes.push(format!(
            "of {packets} too little was captured to read the headers, and they count as \
             malformed; capture at least 128 bytes of each (tcpdump -s 128)"
        ));
    }
    let dropped = |limit: &report::LimitReport| limit.dropped > 0 || limit.observed > 0;
    let acts = limits.iter().any(dropped);
    notes.extend(setting_notes(config, judge, path.sources.forgot, acts));
    notes
}

/// What is to be known about a replay, whatever was replayed: if sources were too many, and, where somebody
/// may be acted on, who else is spared.
fn setting_notes(config: &Config, judge: &Judge, forgot: bool, acts: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if judge.no_room() > 0 {
        let bans = counted(judge.no_room(), "ban was", "bans were");
        notes.push(format!(
            "{bans} not made: there were as many as there can be"
        ));
    }
    if forgot {
        notes.push("there were too many sources to count each of them".to_owned());
    }
    let names = config.allow.iter().filter_map(|entry| match entry {
        AllowEntry::Name(name) => Some(name.as_str()),
        AllowEntry::Prefix(_) => None,
    });
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        notes.push(format!(
            "names of the allow list were not resolved and allowed nobody: {}",
            names.join(", ")
        ));
    }
    if config.allow_automatic.0 && acts {
        notes.push(
            "the daemon also allows this host's addresses, gateways and resolvers and your SSH \
             session, which are not known here"
                .to_owned(),
        );
    }
    if !config.blocklists.is_empty() {
        notes.push("block lists were not applied".to_owned());
    }
    if config.crowdsec.is_some() {
        notes.push("decisions of CrowdSec were not applied".to_owned());
    }
    notes
}
