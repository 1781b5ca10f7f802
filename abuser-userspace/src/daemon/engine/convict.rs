//! The ban of an offender: what led to it, whom it is told of, and whether the whole prefix
//! goes with it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::{gcra::KernelTime, layout::BanCause, prefix::PrefixKey};
use abuser_detect::time::Time;

use super::{
    Engine, EngineError,
    bans::{NewBan, end},
    net,
};
use crate::{
    dataplane::kernel_now,
    metrics::latency::Trigger,
    policy::{Rollup, Sentence, Spared, Subject, with_repeats},
    store::{Change, EvidenceRow, rows::BanNote},
};

/// What an offender is banned for.
#[derive(Debug)]
pub(super) struct Crime {
    pub(super) cause: BanCause,
    /// The limit or detector, by name.
    pub(super) subject: Option<String>,
    /// Why, for people.
    pub(super) reason: String,
    /// How many offences, or lines of a log, led to it.
    pub(super) count: u32,
    /// Who told of it, if somebody did.
    pub(super) by: Option<String>,
    /// What led to it was there since then.
    pub(super) since: Option<Since>,
}

/// When what led to a ban was there, by the clock of whoever saw it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Since {
    /// The packet came.
    Packet(KernelTime),
    /// The line was read.
    Line(Time),
}

impl Since {
    /// What it was, and how long ago.
    fn elapsed(self) -> (Trigger, Duration) {
        match self {
            Self::Packet(time) => {
                let elapsed = Duration::from_nanos(kernel_now().since_ns(time));
                (Trigger::Packet, elapsed)
            }
            Self::Line(time) => {
                let now = Time::from(SystemTime::now());
                let elapsed = Duration::from_millis(now.0.saturating_sub(time.0));
                (Trigger::Line, elapsed)
            }
        }
    }
}

impl Engine {
    /// Bans an offender and, if that makes too many in its prefix, all of that. What cannot be
    /// banned is told to the log: nobody waits for it.
    pub(super) fn ban_offender(
        &mut self,
        subject: Subject,
        crime: Crime,
        sentence: Sentence<EvidenceRow>,
    ) -> Vec<Change> {
        let source = net(&subject.1);
        self.try_ban_offender(subject, crime, sentence)
            .unwrap_or_else(|error| {
                tracing::error!(%source, %error, "cannot ban");
                Vec::new()
            })
    }

    fn try_ban_offender(
        &mut self,
        (number, key): Subject,
        crime: Crime,
        sentence: Sentence<EvidenceRow>,
    ) -> Result<Vec<Change>, EngineError> {
        let Sentence {
            time,
            repeats,
            offences,
        } = sentence;
        let Crime {
            cause,
            subject,
            reason,
            count,
            by,
            since,
        } = crime;
        let reason = with_repeats(reason, repeats);
        let kept = self.evidence;
        let evidence = offences.into_iter().map(|offence| offence.evidence);
        let mut evidence: Vec<_> = evidence.collect();
        evidence.drain(..evidence.len().saturating_sub(kept));
        let policy = self.offenders.policy(number);
        let rule = policy.rollup;
        let note = BanNote {
            cause,
            subject,
            policy: Some(policy.name.clone()),
            reason: Some(reason),
            by,
        };
        let new = NewBan {
            source: key,
            expires_ns: end(time),
            offences: count,
            note: Arc::new(note),
            evidence,
        };
        let mut changes = self.ban(vec![new])?.changes;
        if let Some((trigger, delay)) = since.map(Since::elapsed) {
            self.latencies.banned(trigger, delay);
        }
        if let Some(rule) = rule
            && let Some(prefix) = self.rollups.banned(number, rule, &key)
        {
            match self.roll_up(number, rule, prefix) {
                Ok(rolled_up) => changes.extend(rolled_up),
                // The host is banned all the same.
                Err(error) => tracing::error!(prefix = %net(&prefix), %error, "cannot ban"),
            }
        }
        Ok(changes)
    }

    /// Bans a prefix for the hosts in it, unless that bans one that is allowed or a trusted proxy.
    fn roll_up(
        &mut self,
        number: u16,
        rule: Rollup,
        prefix: PrefixKey,
    ) -> Result<Vec<Change>, EngineError> {
        if self.is_banned(&prefix) {
            return Ok(Vec::new());
        }
        let subject = (number, prefix);
        let range = net(&prefix);
        if let Some(spared) = self.spared_within(&range) {
            tracing::warn!(
                prefix = %range,
                "{} hosts of {range} are banned, and not all of it because {spared}",
                rule.hosts
            );
            return Ok(Vec::new());
        }
        self.dataplane.bans().0.check_room(&prefix)?;
        let (time, _) = self
            .offenders
            .convict(subject, self.clock.now(), fastrand::f64());
        let note = BanNote {
            cause: BanCause::Rollup,
            subject: None,
            policy: Some(self.offenders.policy(number).name.clone()),
            reason: Some(rule.reason()),
            by: None,
        };
        let new = NewBan::new(prefix, end(time), &Arc::new(note));
        let mut changes = self.ban(vec![new])?.changes;
        changes.extend(self.forgotten_changes());
        changes.push(self.offender_change(subject));
        Ok(changes)
    }

    /// Ends the bans that are not to be since a proxy is trusted: it may have been banned for what others
    /// sent through it, which is when somebody comes to trust it. Those by hand and by lists stay.
    pub(super) fn unban_trusted(&mut self) {
        if self.trusted.is_empty() {
            return;
        }
        let by_policy = |note: &BanNote| is_for_offences(note) || note.cause == BanCause::Rollup;
        let ending = self.bans.iter().filter(|(key, record)| {
            by_policy(&record.note) && Spared::within(&net(key), &self.trusted, []).is_some()
        });
        let ending: Vec<_> = ending.map(|(key, _)| *key).collect();
        let mut changes = Vec::new();
        for key in ending {
            match self.unban(&key, "a trusted proxy is in it") {
                Ok(ended) => changes.extend(ended.changes),
                Err(error) => {
                    tracing::error!(source = %net(&key), %error, "cannot unban a trusted proxy");
                }
            }
        }
        self.keep(changes);
    }

    /// Takes note that a ban is over.
    pub(super) fn forget_for_rollup(&mut self, key: &PrefixKey, note: &BanNote) {
        if let Some((number, rule)) = self.rollup_rule(note) {
            self.rollups.unbanned(number, rule, key);
        }
    }

    /// Counts the bans that there are, as after a start.
    pub(super) fn count_for_rollup(&mut self) {
        self.rollups.clear();
        let counted: Vec<_> = self
            .bans
            .iter()
            .filter_map(|(key, record)| Some((*key, self.rollup_rule(&record.note)?)))
            .collect();
        for (key, (number, rule)) in counted {
            // Whoever is one too many next time rolls them up.
            let _enough = self.rollups.banned(number, rule, &key);
        }
    }

    /// The policy and rule by which a ban counts.
    fn rollup_rule(&self, note: &BanNote) -> Option<(u16, Rollup)> {
        if !is_for_offences(note) {
            return None;
        }
        let number = self.offenders.policy_number(note.policy.as_deref()?)?;
        Some((number, self.offenders.policy(number).rollup?))
    }
}

/// Whether a ban is for what its source did itself.
fn is_for_offences(note: &BanNote) -> bool {
    matches!(
        note.cause,
        BanCause::Limit | BanCause::Detector | BanCause::Application
    )
}
