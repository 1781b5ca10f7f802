//! Lines of logs through detectors and policies, on the logs' own clock.

use std::time::Duration;

use abuser_common::prefix::PrefixKey;
use abuser_detect::{
    evidence,
    pipeline::{Clock, Found, Line, Outcome},
    time::Time,
};
use ipnet::IpNet;

use super::judge::{Ban, Evidence, Judge};
use crate::{
    config::{Config, DetectorAction, DetectorRule},
    detection::{Consequence, Detection, DetectionError},
};

/// Detectors and policies of a configuration, without a daemon.
pub struct Lines {
    detection: Detection,
    judge: Judge,
    found: Vec<Found>,
    /// When logs are read: for lines that name no year, or no time at all.
    now: Time,
}

/// What became of a line.
#[derive(Debug)]
pub struct Read {
    /// Whether it was a record, and one that a detector wanted.
    pub outcome: Outcome,
    /// Whether a ban that would have been in force would have kept its source from having it
    /// written.
    pub spared: bool,
    /// What follows from it.
    pub verdicts: Vec<Verdict>,
}

/// What a detector has found, and what follows for one source.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The detector, by its number in the configuration.
    pub detector: usize,
    /// Whom it found; `None` if it knows of no address.
    pub source: Option<IpNet>,
    /// The key or user it is about, where that is what is counted by.
    pub subject: Option<String>,
    /// When.
    pub at: Time,
    /// Why.
    pub reason: String,
    /// What would have been done, in words.
    pub action: String,
    /// The bans that would have been made: none, its own, or also that of the prefix it lies in.
    pub bans: Vec<Ban>,
}

impl Lines {
    /// Nothing was read yet. `config` may be [part](crate::detection::only) of the configuration that the
    /// judge was made of, who spares also whom only the rest of it names.
    ///
    /// # Errors
    /// If a filter of fail2ban cannot be read.
    pub fn new(config: &Config, judge: Judge, now: Time) -> Result<Self, DetectionError> {
        Ok(Self {
            detection: Detection::new(config, Clock::Log)?,
            judge,
            found: Vec::new(),
            now,
        })
    }

    /// The pipeline, for what it has counted.
    pub fn detection(&self) -> &Detection {
        &self.detection
    }

    /// Who was judged.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Reads a line of a source, by its number in the configuration.
    pub fn read(&mut self, source: usize, bytes: &[u8]) -> Read {
        let line = Line {
            bytes,
            arrived: self.now,
            stated: None,
        };
        let pipeline = &mut self.detection.pipeline;
        let outcome = pipeline.read(source, line, &mut self.found);
        let spared = outcome
            .source
            .zip(outcome.at)
            .is_some_and(|(source, at)| self.judge.meets(source, Duration::from_millis(at.0)));
        let mut verdicts = Vec::new();
        for found in std::mem::take(&mut self.found) {
            let detector = self.detection.detectors.get(found.watch);
            if let Some(detector) = detector {
                let rule = std::sync::Arc::clone(&detector.rule);
                self.judge_found(&rule, &found, &mut verdicts);
            }
        }
        Read {
            outcome,
            spared,
            verdicts,
        }
    }

    fn judge_found(&mut self, rule: &DetectorRule, found: &Found, verdicts: &mut Vec<Verdict>) {
        let finding = &found.finding;
        let at = Duration::from_millis(finding.at.0);
        let verdict = |source, action: &str, bans| Verdict {
            detector: found.watch,
            source,
            subject: finding.subject.clone(),
            at: finding.at,
            reason: finding.reason.clone(),
            action: action.to_owned(),
            bans,
        };
        if finding.sources.is_empty() {
            verdicts.push(verdict(None, DetectorAction::Alert.name(), Vec::new()));
        }
        for source in &finding.sources {
            let Some(key) = PrefixKey::new(source.addr(), source.prefix_len()) else {
                continue;
            };
            if rule.action == DetectorAction::Ban && self.judge.is_banned(&key, at) {
                continue;
            }
            let spared = self.judge.spared_within(source);
            let consequence = Consequence::of(rule, source, spared);
            let bans = if consequence == Consequence::Act(DetectorAction::Ban) {
                let policy = self.judge.policy(&rule.policy);
                let cause = format!("detector {}", rule.name);
                let lines = found.evidence.iter().map(told).collect();
                self.judge.ban(key, policy, &cause, at, lines).to_vec()
            } else {
                Vec::new()
            };
            verdicts.push(verdict(Some(*source), consequence.text(), bans));
        }
    }
}

fn told(line: &evidence::Evidence) -> Evidence {
    Evidence {
        at: Duration::from_millis(line.at.0),
        text: line.text.clone(),
    }
}
