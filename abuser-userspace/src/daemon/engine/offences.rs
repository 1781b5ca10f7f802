//! From an event of the program to an offence, and from offences to a ban.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::{
    event::{Event, Reason, Verdict},
    gcra::KernelTime,
    layout::{BanCause, Count},
    prefix::PrefixKey,
};

use super::{
    Engine,
    convict::{Crime, Since},
    net,
};
use crate::{
    api::types::EventRecord,
    config::LimitConfig,
    dataplane::kernel_now,
    policy::{Moved, Offence, Record, Spared, Subject, is_wide},
    store::{Change, EvidenceRow, OffenderRow, rows::to_millis},
    words::counted,
};

/// The clock of offences: the wall clock as it stood when the daemon started, going on with
/// the kernel's. If the wall clock is set, it and all offences are moved at once: so no step lengthens or
/// shortens `findtime`, and what an earlier daemon wrote down has its place on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PolicyClock {
    /// What it showed at kernel time 0.
    zero: Duration,
}

impl PolicyClock {
    pub(super) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let since_boot = Duration::from_nanos(kernel_now().0);
        Self {
            zero: wall.unwrap_or_default().saturating_sub(since_boot),
        }
    }

    /// Goes on from this much later: the kernel's clock stood still for so long.
    pub(super) fn forward(&mut self, by: Duration) {
        self.zero = self.zero.saturating_add(by);
    }

    /// Follows the wall clock, which was set.
    pub(super) fn step(&mut self, moved: Moved) {
        self.zero = moved.since_epoch(self.zero);
    }

    /// What it shows at a kernel time.
    pub(super) fn at(&self, time_ns: u64) -> Duration {
        self.zero.saturating_add(Duration::from_nanos(time_ns))
    }

    pub(super) fn now(&self) -> Duration {
        self.at(kernel_now().0)
    }
}

impl Engine {
    pub(super) fn handle_event(&mut self, event: &Event) {
        let Some(record) = self.names.record(event) else {
            tracing::warn!(?event, "an event that makes no sense");
            return;
        };
        self.met.note(event);
        if (event.verdict(), event.reason()) == (Some(Verdict::Drop), Some(Reason::Limit)) {
            self.publish(record.clone());
            self.count_offence(event, &record);
        } else {
            self.publish(record);
        }
    }

    /// An over-limit drop is an offence of whoever the limit counts: the source, or the
    /// prefix it lies in. Unless anyone may have sent it in the source's name.
    fn count_offence(&mut self, event: &Event, record: &EventRecord) {
        let loaded = self.dataplane.limits().loaded();
        let limit = loaded.iter().find(|loaded| loaded.id == event.cause);
        let (Some(limit), Some(address)) = (limit, event.source.address()) else {
            return;
        };
        let LimitConfig {
            name,
            policy,
            count,
            ..
        } = &limit.config;
        let (name, count) = (name.clone(), *count);
        let number = self.offenders.policy_number(policy).unwrap_or_default();
        let prefix = u8::try_from(event.prefix).unwrap_or(u8::MAX);
        let Some(key) = PrefixKey::new(address, prefix) else {
            return;
        };
        // A limit may count by wide prefixes; nobody is banned for so many neighbours.
        if is_wide(&net(&key)) {
            return;
        }
        // Nor for a proxy's other clients: what is too much of it is dropped, and no more.
        if Spared::within(&net(&key), &self.trusted, []).is_some() {
            return;
        }
        let policy = self.offenders.policy(number);
        // The ring keeps what nobody read while no daemon ran.
        let age = Duration::from_nanos(kernel_now().since_ns(KernelTime(event.time_ns)));
        if age > policy.findtime {
            return;
        }
        // Events sent before the ban took hold may still be under way.
        if self.is_banned(&key) {
            return;
        }
        let now = Duration::from_nanos(event.time_ns);
        if policy.require_verified && !self.is_verified(event, count, &key, now) {
            return;
        }
        let evidence = EvidenceRow {
            at: to_millis(SystemTime::now()) - i64::try_from(age.as_millis()).unwrap_or(0),
            text: evidence(record),
        };
        let subject = (number, key);
        let at = self.clock.at(event.time_ns);
        let sentence = self
            .offenders
            .offence(subject, at, fastrand::f64(), evidence);
        // Before what is remembered: whom the same call forgot may be back.
        let mut changes = self.forgotten_changes();
        changes.push(self.offender_change(subject));
        if let Some(sentence) = sentence {
            let count = u32::try_from(sentence.offences.len()).unwrap_or(u32::MAX);
            let offended = counted(count.into(), "offence", "offences");
            let crime = Crime {
                cause: BanCause::Limit,
                subject: Some(name.clone()),
                reason: format!("{offended} against limit {name}"),
                count,
                by: None,
                since: Some(Since::Packet(KernelTime(event.time_ns))),
            };
            changes.extend(self.ban_offender(subject, crime, sentence));
        }
        self.store.write(changes, None);
    }

    /// Whether an offence against a limit that counts `count` is its subject's own, by all that
    /// is known.
    fn is_verified(
        &mut self,
        event: &Event,
        count: Count,
        subject: &PrefixKey,
        now: Duration,
    ) -> bool {
        let of_connections = count == Count::Connections;
        self.doubts
            .is_own(event.verified(), of_connections, subject, now)
    }

    /// What is remembered of a subject, for the store.
    pub(super) fn offender_change(&self, subject: Subject) -> Change {
        let (number, source) = subject;
        let policy = self.offenders.policy(number).name.clone();
        let Some(record) = self.offenders.record(subject) else {
            return Change::Forget(source, policy);
        };
        Change::Offender(OffenderRow {
            source,
            policy,
            bans: record.bans,
            since: UNIX_EPOCH
                .checked_add(record.since)
                .unwrap_or(UNIX_EPOCH + Duration::from_secs(1 << 40)),
            offences: record
                .offences
                .iter()
                .map(|offence| offence.evidence.clone())
                .collect(),
        })
    }

    /// Whom there was no reason or no room to remember, for the store.
    pub(super) fn forgotten_changes(&mut self) -> Vec<Change> {
        let forgotten = self.offenders.take_forgotten().into_iter();
        forgotten
            .map(|(source, policy)| Change::Forget(source, policy))
            .collect()
    }

    /// All that is remembered and nothing else, for a store that missed some of it.
    pub(super) fn all_offenders(&self) -> Vec<Change> {
        let subjects = self.offenders.records().map(|(subject, _)| subject);
        let remembered = subjects.map(|subject| self.offender_change(subject));
        std::iter::once(Change::ForgetAll)
            .chain(remembered)
            .collect()
    }

    /// Remembers what an earlier daemon wrote down; what of it the store is to forget.
    pub(super) fn restore_offenders(&mut self, mut rows: Vec<OffenderRow>) -> Vec<Change> {
        let mut changes = Vec::new();
        let at = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or_default());
        rows.sort_by_key(|row| {
            let last = row.offences.last().map_or(0, |offence| offence.at);
            last.max(to_millis(row.since))
        });
        for row in rows {
            let Some(number) = self.offenders.policy_number(&row.policy) else {
                changes.push(Change::Forget(row.source, row.policy));
                continue;
            };
            let since = row.since.duration_since(UNIX_EPOCH).unwrap_or_default();
            let offences = row.offences.into_iter().map(|evidence| Offence {
                at: at(evidence.at),
                evidence,
            });
            let record = Record {
                bans: row.bans,
                since,
                offences: offences.collect(),
            };
            self.offenders.restore((number, row.source), record);
        }
        changes.extend(self.forgotten_changes());
        changes
    }
}

/// An event as evidence: what `abuser events` shows of it, without time and source.
fn evidence(record: &EventRecord) -> String {
    let mut text = record.kind.name().to_owned();
    let known = [
        record.interface.clone(),
        record.protocol.as_ref().map(|protocol| {
            record
                .port
                .map_or_else(|| protocol.clone(), |port| format!("{protocol}/{port}"))
        }),
        record.limit.as_ref().map(|limit| format!("limit {limit}")),
        record
            .drops
            .map(|drops| counted(drops, "packet", "packets")),
    ];
    for part in known.into_iter().flatten() {
        let _infallible = write!(text, " {part}");
    }
    text
}
