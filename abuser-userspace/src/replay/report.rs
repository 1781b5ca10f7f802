//! What would have been done, for people and as JSON.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::{
    layout::{LimitCounters, Outcomes, Traffic},
    prefix::PrefixKey,
};
use serde::{Serialize, Serializer};

use super::judge::{self, net};
use crate::{daemon::clock, policy::BanTime};

/// Sources that are counted each by itself. When there are more, those with the fewest packets
/// make room.
const MAX_SOURCES: usize = 1 << 18;

/// What a replay came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was replayed.
    pub captures: Vec<CaptureReport>,
    /// When the first packet was captured that was replayed; `None` if there is none.
    pub from: Option<String>,
    /// When the last one was.
    pub to: Option<String>,
    /// The time between the two, in seconds.
    pub seconds: f64,
    /// Packets that came to the host.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// What would have become of them, by outcome.
    #[serde(serialize_with = "by_name")]
    pub outcomes: Outcomes,
    /// What would have been counted under each limit, in the order of the configuration.
    pub limits: Vec<LimitReport>,
    /// Offences that counted, and those that did not because anyone may have sent the packet.
    pub offences: OffencesReport,
    /// Bans that would have been made, in the order of time.
    pub bans: Vec<BanReport>,
    /// The sources that would have lost most.
    pub sources: Vec<SourceReport>,
    /// What is to be known about all this.
    pub notes: Vec<String>,
}

/// One capture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CaptureReport {
    /// The file.
    pub path: String,
    /// Frames in it.
    pub frames: u64,
    /// Those of them that came to the host and were replayed.
    pub replayed: u64,
    /// The addresses that were taken for the host's, if the capture does not tell each frame's
    /// way.
    pub hosts: Vec<String>,
    /// Why the rest of it was not read; `None` if all of it was.
    pub error: Option<String>,
    /// Whether that is how a capture ends whose writer was stopped.
    #[serde(skip)]
    pub is_cut: bool,
}

/// Writes outcomes by their names.
fn by_name<S: Serializer>(outcomes: &Outcomes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(outcomes.each().map(|(outcome, traffic)| {
        let Traffic { packets, bytes } = traffic;
        (outcome.name(), PacketsAndBytes { packets, bytes })
    }))
}

#[derive(Serialize)]
struct PacketsAndBytes {
    packets: u64,
    bytes: u64,
}

/// What was counted under one limit, in packets.
#[derive(Clone, Debug, Serialize)]
pub struct LimitReport {
    /// The limit.
    pub name: String,
    /// Within this limit and all others.
    pub passed: u64,
    /// Over it, and dropped for it.
    pub dropped: u64,
    /// Over it, and passed because it is only observed.
    pub observed: u64,
    /// Over it, and passed because the allow list says so.
    pub allowed: u64,
}

impl LimitReport {
    pub(super) fn new(name: &str, counters: LimitCounters) -> Self {
        Self {
            name: name.to_owned(),
            passed: counters.passed.packets,
            dropped: counters.dropped.packets,
            observed: counters.observed.packets,
            allowed: counters.allowed.packets,
        }
    }
}

/// Offences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OffencesReport {
    /// Those that counted.
    pub counted: u64,
    /// Those that did not, because anyone may have sent the packet in the source's name.
    pub unverified: u64,
}

/// One ban.
#[derive(Clone, Debug, Serialize)]
pub struct BanReport {
    /// Its number.
    pub id: u64,
    /// Whom it would have banned.
    pub source: String,
    /// When it would have been made.
    pub time: String,
    /// When it would have ended; `None`: never.
    pub expires: Option<String>,
    /// How long it would have lasted; `None`: for good.
    pub seconds: Option<u64>,
    /// What was offended against.
    pub cause: String,
    /// The policy that says for how long.
    pub policy: String,
    /// The offences that led to it.
    pub offences: u32,
    /// Why.
    pub reason: String,
    /// Later packets, or records of logs, that met it.
    pub hits: u64,
    /// What led to it.
    pub evidence: Vec<EvidenceReport>,
}

/// Something that led to a ban.
#[derive(Clone, Debug, Serialize)]
pub struct EvidenceReport {
    /// When.
    pub time: String,
    /// What happened.
    pub text: String,
}

impl BanReport {
    /// What is told of it.
    pub fn new(ban: &judge::Ban) -> Self {
        let evidence = ban.evidence.iter().map(|evidence| EvidenceReport {
            time: time(evidence.at),
            text: evidence.text.clone(),
        });
        Self {
            id: ban.id,
            source: net(&ban.source).to_string(),
            time: time(ban.at),
            expires: ban.ends().map(time),
            seconds: match ban.time {
                BanTime::Permanent => None,
                BanTime::For(time) => Some(time.as_secs()),
            },
            cause: ban.cause.clone(),
            policy: ban.policy.clone(),
            offences: ban.offences,
            reason: ban.reason.clone(),
            hits: ban.hits,
            evidence: evidence.collect(),
        }
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// The address.
    pub source: String,
    /// Packets from it.
    pub packets: u64,
    /// Those of them that would have been dropped.
    pub dropped: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// A time since 1970 as JSON has it.
pub(crate) fn time(since: Duration) -> String {
    clock::format(
        UNIX_EPOCH
            .checked_add(since)
            .unwrap_or_else(SystemTime::now),
    )
}

/// Packets by their sources.
#[derive(Default)]
pub(super) struct Sources {
    seen: HashMap<PrefixKey, Source, foldhash::fast::FixedState>,
    /// Whether some made room for others.
    pub(super) forgot: bool,
}

#[derive(Clone, Copy, Default)]
struct Source {
    packets: u64,
    dropped: u64,
    bytes: u64,
}

impl Sources {
    pub(super) fn count(&mut self, source: PrefixKey, dropped: bool, bytes: u64) {
        if self.seen.len() >= MAX_SOURCES && !self.seen.contains_key(&source) {
            self.make_room();
        }
        let seen = self.seen.entry(source).or_default();
        seen.packets += 1;
        seen.dropped += u64::from(dropped);
        seen.bytes += bytes;
    }

    /// Forgets the half with the fewest packets.
    fn make_room(&mut self) {
        self.forgot = true;
        // A fixed order among equals, so that a replay always says the same.
        let place = |key: &PrefixKey| foldhash::fast::FixedState::default().hash_one(key);
        let mut all: Vec<_> = self.seen.drain().collect();
        let half = all.len() / 2;
        all.select_nth_unstable_by_key(half, |(key, seen)| (seen.packets, place(key)));
        self.seen.extend(all.drain(half..));
    }

    /// The `count` sources with the most packets dropped, then the most packets.
    pub(super) fn top(&self, count: usize) -> Vec<SourceReport> {
        let mut all: Vec<_> = self.seen.iter().collect();
        all.sort_unstable_by_key(|(key, seen)| {
            let Source {
                packets, dropped, ..
            } = **seen;
            (std::cmp::Reverse((dropped, packets)), **key)
        });
        let top = all.into_iter().take(count);
        top.map(|(key, seen)| SourceReport {
            source: key
                .address()
                .map_or_else(String::new, |address| address.to_string()),
            packets: seen.packets,
            dropped: seen.dropped,
            bytes: seen.bytes,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_most_is_remembered_however_many_there_are() {
        let mut sources = Sources::default();
        let key = |n: u32| PrefixKey::new(n.to_be_bytes().into(), 32).unwrap();
        for round in 0..3 {
            for n in 0..200_000 {
                sources.count(key(1 << 24 | round << 20 | n), false, 60);
                if n % 1_000 == 0 {
                    sources.count(key(7), n % 2_000 == 0, 60);
                }
            }
        }
        assert!(sources.forgot && sources.seen.len() <= MAX_SOURCES);
        let [top] = &sources.top(1)[..] else {
            panic!("one source");
        };
        assert_eq!(
            (top.source.as_str(), top.packets, top.dropped),
            ("0.0.0.7", 600, 300)
        );
    }
}
