//! From what detectors find, and what applications tell of, to bans.
//!
//! Whoever an application has answered has completed a handshake, so its address is its own. What
//! may still be wrong is the log, or what the application takes for its client: an address on the
//! allow list, a trusted proxy, or a prefix that is too wide, is never banned for it.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use abuser_detect::{
    pipeline::Found,
    source::{Masks, Source},
    time::Time,
};
use ipnet::IpNet;

use super::{
    Changed, Engine, EngineError, MAX_REASON,
    convict::{Crime, Since},
    key, net,
    throttles::NewThrottle,
};
use crate::{
    api::types::{
        EventKind, EventRecord, MAX_OFFENCES, OffenceReport, OffencesRequest, OffencesTaken,
        RefusedOffence,
    },
    config::{DetectorAction, DetectorRule},
    daemon::clock,
    detection::Consequence,
    policy::{DEFAULT_POLICY, Offence, Sentence},
    store::{Change, EvidenceRow, ThrottleNote, rows::to_millis},
    words::counted,
};

/// What a detector found, and what is to be done about it.
#[derive(Debug)]
pub struct Detected {
    /// The detector as it is configured.
    pub rule: Arc<DetectorRule>,
    /// Whom it found.
    pub found: Found,
    /// When the line was read that gave it away.
    pub read: Time,
}

impl Engine {
    /// Acts on what detectors found.
    pub(super) fn act_on(&mut self, detected: Vec<Detected>) {
        let mut changes = Vec::new();
        for Detected { rule, found, read } in detected {
            // Who acts as one is told of one by one, so that each can be looked up.
            for source in &found.finding.sources {
                changes.extend(self.act_on_source(&rule, &found, source, read));
            }
            if found.finding.sources.is_empty() {
                self.tell(&rule, &found, None, "alert");
            }
        }
        changes.extend(self.forgotten_changes());
        self.keep(changes);
    }

    fn act_on_source(
        &mut self,
        rule: &DetectorRule,
        found: &Found,
        source: &IpNet,
        read: Time,
    ) -> Vec<Change> {
        let Ok(key) = key(source) else {
            return Vec::new();
        };
        let source = net(&key);
        // Lines from before the ban may still be under way.
        if rule.action == DetectorAction::Ban && self.is_banned(&key) {
            return Vec::new();
        }
        let mut consequence = Consequence::of(rule, &source, self.spared_within(&source));
        // Nobody is told of what cannot be.
        if let Consequence::Act(action) = consequence
            && let Err(error) = self.check_action(action, rule, &key)
        {
            consequence = Consequence::Spare(format!("nothing: {error}"));
        }
        self.tell(rule, found, Some(source), consequence.text());
        match consequence {
            Consequence::Spare(_) | Consequence::Act(DetectorAction::Alert) => Vec::new(),
            Consequence::Act(DetectorAction::Ban) => self.ban_found(rule, found, key, read),
            Consequence::Act(DetectorAction::Throttle) => self.throttle_found(rule, found, key),
        }
    }

    /// Whether an action can be taken. What was found before a reload may come after it.
    fn check_action(
        &mut self,
        action: DetectorAction,
        rule: &DetectorRule,
        key: &PrefixKey,
    ) -> Result<(), EngineError> {
        match action {
            DetectorAction::Alert => {}
            DetectorAction::Ban => {
                self.policy_of(rule)?;
                self.dataplane.bans().0.check_room(key)?;
            }
            DetectorAction::Throttle => {
                let limit = rule.limit.as_deref().unwrap_or_default();
                self.check_throttle(key, limit, false)?;
                self.dataplane.throttled().0.check_room(key)?;
            }
        }
        Ok(())
    }

    /// The number of a detector's policy.
    fn policy_of(&self, rule: &DetectorRule) -> Result<u16, EngineError> {
        let policy = &rule.policy;
        let number = self.offenders.policy_number(policy);
        number.ok_or_else(|| {
            EngineError::Refused(format!(
                "there is no policy {policy:?} in the configuration any more"
            ))
        })
    }

    fn ban_found(
        &mut self,
        rule: &DetectorRule,
        found: &Found,
        key: PrefixKey,
        read: Time,
    ) -> Vec<Change> {
        let Ok(number) = self.policy_of(rule) else {
            return Vec::new();
        };
        let subject = (number, key);
        let now = self.clock.now();
        let (time, repeats) = self.offenders.convict(subject, now, fastrand::f64());
        let offences = found.evidence.iter().map(|line| Offence {
            at: now,
            evidence: EvidenceRow {
                at: millis(line.at),
                text: line.text.clone(),
            },
        });
        let sentence = Sentence {
            time,
            repeats,
            offences: offences.collect(),
        };
        let crime = Crime {
            cause: BanCause::Detector,
            subject: Some(rule.name.clone()),
            reason: format!("{}: {}", rule.name, found.finding.reason),
            count: found.finding.count,
            by: None,
            since: Some(Since::Line(read)),
        };
        let mut changes = self.forgotten_changes();
        changes.push(self.offender_change(subject));
        changes.extend(self.ban_offender(subject, crime, sentence));
        changes
    }

    fn throttle_found(
        &mut self,
        rule: &DetectorRule,
        found: &Found,
        key: PrefixKey,
    ) -> Vec<Change> {
        let Some(limit) = &rule.limit else {
            return Vec::new();
        };
        let note = ThrottleNote {
            limit: limit.as_str().into(),
            reason: Some(format!("{}: {}", rule.name, found.finding.reason)),
            by: None,
        };
        let new = NewThrottle {
            source: key,
            expires_ns: clock::kernel_deadline(rule.throttle_for),
            note: Arc::new(note),
        };
        self.throttle(vec![new], false).map_or_else(
            |error| {
                tracing::error!(source = %net(&key), %error, "cannot throttle");
                Vec::new()
            },
            |throttled| throttled.changes,
        )
    }

    /// Tells the log and the stream what was found.
    fn tell(&mut self, rule: &DetectorRule, found: &Found, source: Option<IpNet>, action: &str) {
        let source = source.map(|source| source.to_string());
        let reason = &found.finding.reason;
        if tracing::enabled!(tracing::Level::INFO) && self.log_budget.take(Instant::now()) {
            tracing::info!(
                detector = rule.name,
                source = source.as_deref().unwrap_or("?"),
                action,
                reason,
                "detected"
            );
        }
        self.publish(EventRecord {
            source,
            reason: Some(reason.clone()),
            detector: Some(rule.name.clone()),
            action: Some(action.to_owned()),
            ..EventRecord::new(EventKind::Detect, clock::now())
        });
    }

    /// Tells the log how much of what was found it was not told.
    pub(super) fn tell_unsaid(&mut self) {
        let findings = self.log_budget.take_unsaid();
        if findings > 0 {
            tracing::info!(
                findings,
                "more was detected than the log is told of; `abuser events` shows all"
            );
        }
    }

    /// Counts offences that an application tells of.
    pub(super) fn offences_reported(
        &mut self,
        request: &OffencesRequest,
        by: &str,
    ) -> Result<Changed<OffencesTaken>, EngineError> {
        let OffencesRequest { offences } = request;
        if offences.is_empty() || offences.len() > MAX_OFFENCES {
            return Err(EngineError::Refused(format!(
                "{} in one request; tell of 1 to {MAX_OFFENCES} at a time",
                counted(offences.len() as u64, "offence", "offences")
            )));
        }
        let mut taken = OffencesTaken {
            counted: 0,
            banned: Vec::new(),
            refused: Vec::new(),
        };
        let mut changes = Vec::new();
        for report in offences {
            match self.offence_reported(report, by, &mut changes) {
                Ok(banned) => {
                    taken.counted += 1;
                    taken.banned.extend(banned);
                }
                Err(error) => taken.refused.push(RefusedOffence {
                    source: report.source,
                    error,
                }),
            }
        }
        Ok(Changed {
            value: taken,
            changes,
        })
    }

    /// Counts one; who is banned for it, if somebody is.
    fn offence_reported(
        &mut self,
        report: &OffenceReport,
        by: &str,
        changes: &mut Vec<Change>,
    ) -> Result<Option<IpNet>, String> {
        let OffenceReport {
            source,
            policy,
            reason,
        } = report;
        if reason.len() > MAX_REASON {
            let length = reason.len();
            return Err(format!(
                "a reason of {length} bytes is too long; say it in {MAX_REASON}"
            ));
        }
        let policy = policy.as_deref().unwrap_or(DEFAULT_POLICY);
        let number = self
            .offenders
            .policy_number(policy)
            .ok_or_else(|| format!("there is no policy {policy:?} in the configuration"))?;
        // As limits count: an IPv4 address, an IPv6 /64.
        let masks = Masks::default();
        let source = Source::new(*source, masks).net(masks);
        let key = key(&source).map_err(|error| error.to_string())?;
        if let Some(spared) = self.spared_within(&source) {
            return Err(spared.to_string());
        }
        if self.is_banned(&key) {
            return Ok(None);
        }
        let subject = (number, key);
        let evidence = EvidenceRow {
            at: to_millis(SystemTime::now()),
            text: format!("told by {by}: {reason}"),
        };
        let now = self.clock.now();
        let sentence = self
            .offenders
            .offence(subject, now, fastrand::f64(), evidence);
        changes.extend(self.forgotten_changes());
        changes.push(self.offender_change(subject));
        let Some(sentence) = sentence else {
            return Ok(None);
        };
        let count = u32::try_from(sentence.offences.len()).unwrap_or(u32::MAX);
        let offended = counted(count.into(), "offence", "offences");
        let crime = Crime {
            cause: BanCause::Application,
            subject: None,
            reason: format!("{offended}, the last one: {reason}"),
            count,
            by: Some(by.to_owned()),
            since: None,
        };
        changes.extend(self.ban_offender(subject, crime, sentence));
        Ok(self.is_banned(&key).then_some(source))
    }
}

fn millis(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
