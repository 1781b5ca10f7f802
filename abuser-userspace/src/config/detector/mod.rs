//! `[[detector]]`: what in a log is abuse, and what follows from it.

mod kinds;
mod together;

use std::{sync::Arc, time::Duration};

use abuser_detect::condition::Condition;

use super::{
    ban,
    error::{ConfigError, quote},
    limit,
    logs::FAIL2BAN,
    section::{Item, Section, not_there},
    source::Place,
};
use crate::policy::DEFAULT_POLICY;

pub use kinds::DetectorKind;

/// What a detector is in a file.
const TABLE: &str = "[[detector]]";
/// The most detectors there can be.
const MAX_DETECTORS: usize = 256;
/// How long who is throttled is so, unless the detector says.
const THROTTLE_FOR: Duration = Duration::from_secs(600);

/// A detector.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorConfig {
    /// What follows from what it finds.
    pub rule: Arc<DetectorRule>,
    /// The sources that it reads, by name; `None`: all that fit.
    pub sources: Option<Vec<String>>,
    /// The filter of fail2ban that reads their lines instead of their parsers.
    pub filter: Option<String>,
    /// Which records it is given: a condition that is known to be one.
    pub condition: Option<String>,
    /// What it looks for.
    pub kind: DetectorKind,
}

/// What follows from what a detector finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorRule {
    /// The detector's name.
    pub name: String,
    /// What happens to whom it finds.
    pub action: DetectorAction,
    /// The policy that says for how long.
    pub policy: String,
    /// The limit that holds for who is throttled; there is one if that is the action.
    pub limit: Option<String>,
    /// For how long who is throttled is so.
    pub throttle_for: Duration,
}

/// What happens to whom a detector finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectorAction {
    /// It is told.
    Alert,
    /// It gets a stricter limit for a while.
    Throttle,
    /// It is banned.
    Ban,
}

impl DetectorAction {
    const WORDS: [(&'static str, Self); 3] = [
        ("alert", Self::Alert),
        ("throttle", Self::Throttle),
        ("ban", Self::Ban),
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        let named = Self::WORDS.iter().find(|(_, action)| *action == self);
        named.map_or("", |(name, _)| name)
    }
}

/// A detector as far as its table tells, and where that names what must be elsewhere.
#[derive(Debug)]
pub(super) struct DetectorDraft {
    config: DetectorConfig,
    /// Whether a preset brought it, so that one of the same name takes its place.
    preset: bool,
    /// What a threshold leaves to its policy.
    from_policy: kinds::FromPolicy,
    place: Place,
    policy: Option<Place>,
    limit: Option<Place>,
    /// Where it says what it reads; empty if it does not say so itself.
    sources: Vec<Place>,
}

/// All detectors of all files.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    drafts: Vec<DetectorDraft>,
}

/// What detectors name, as it is when all files are read.
pub(super) struct Known<'c> {
    /// Sources by name, and whether they have a parser.
    pub(super) sources: Vec<(&'c str, bool)>,
    /// Policies.
    pub(super) policies: Vec<&'c crate::policy::BanPolicy>,
    /// Limits for who is throttled.
    pub(super) throttle_limits: Vec<&'c str>,
}

impl Drafts {
    /// Reads one `[[detector]]`; with `preset_of`, one of the preset of that source.
    pub(super) fn add(
        &mut self,
        section: &Section<'_>,
        preset_of: Option<&str>,
    ) -> Result<(), ConfigError> {
        let named = section.require("name", "\"stuffing\"")?;
        let name = limit::name(&named, "detector")?;
        let mut drafts = self.drafts.iter_mut();
        match (
            drafts.find(|draft| draft.config.rule.name == name),
            preset_of,
        ) {
            (None, _) => {}
            // Two sources of a preset share its detectors, and what took their place: it may
            // have been written before the preset was named.
            (Some(other), Some(source)) => {
                if !other.says_sources() {
                    let sources = other.config.sources.get_or_insert_default();
                    sources.push(source.to_owned());
                }
                return Ok(());
            }
            (Some(other), None) if !other.preset => {
                return Err(named.error(format!(
                    "\"{name}\" is taken by {}; choose another",
                    other.place.describe()
                )));
            }
            (Some(of_preset), None) => {
                let mut draft = read(section, name, &named)?;
                // It reads what the preset's did, unless it says what.
                if !draft.says_sources() {
                    draft.config.sources = of_preset.config.sources.take();
                }
                *of_preset = draft;
                return Ok(());
            }
        }
        let mut draft = read(section, name, &named)?;
        if let Some(source) = preset_of {
            draft.preset = true;
            draft.config.sources = Some(vec![source.to_owned()]);
        }
        if self.drafts.len() >= MAX_DETECTORS {
            return Err(section.place.error(format!(
                "this [[detector]] is one more than the {MAX_DETECTORS} there can be; remove one"
            )));
        }
        self.drafts.push(draft);
        Ok(())
    }

    /// The detectors, after the checks that only all files together allow.
    pub(super) fn finish(self, known: &Known<'_>) -> Result<Vec<DetectorConfig>, ConfigError> {
        self.drafts
            .into_iter()
            .map(|draft| draft.finish(known))
            .collect()
    }
}

impl DetectorDraft {
    /// Whether it says itself what it reads.
    fn says_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    fn finish(self, known: &Known<'_>) -> Result<DetectorConfig, ConfigError> {
        let Self {
            mut config,
            preset: _,
            from_policy,
            place,
            policy: policy_place,
            limit: limit_place,
            sources: source_places,
        } = self;
        let rule = &config.rule;
        let policies = known.policies.iter();
        let policy = policies.clone().find(|policy| policy.name == rule.policy);
        let Some(policy) = policy else {
            let names = policies.map(|policy| policy.name.as_str());
            let place = policy_place.unwrap_or(place);
            return Err(not_there(
                &place,
                "policy",
                TABLE,
                "[[policy]]",
                &rule.policy,
                names,
            ));
        };
        from_policy.fill(&mut config.kind, policy);
        if let Some(limit) = &rule.limit
            && !known.throttle_limits.contains(&limit.as_str())
        {
            let names = known.throttle_limits.iter().copied();
            let place = limit_place.unwrap_or(place);
            let what = "[[limit]] with only = \"throttled\"";
            return Err(not_there(&place, "limit", TABLE, what, limit, names));
        }
        for (number, source) in config.sources.iter().flatten().enumerate() {
            let place = source_places.get(number).unwrap_or(&place);
            let there = known.sources.iter().find(|(name, _)| name == source);
            match there {
                None => {
                    let known = known.sources.iter().map(|(name, _)| *name);
                    return Err(not_there(
                        place,
                        "sources",
                        TABLE,
                        "[[source]]",
                        source,
                        known,
                    ));
                }
                Some((_, false)) if config.filter.is_none() => {
                    return Err(place.error(format!(
                        "`sources` in [[detector]]: \"{source}\" has no parser to make records of its \
                         lines; give it one, for example parser = \"nginx-combined\""
                    )));
                }
                Some(_) => {}
            }
        }
        let fits = |(_, parsed): &(&str, bool)| *parsed || config.filter.is_some();
        if config.sources.is_none() && !known.sources.iter().any(fits) {
            return Err(place.error(format!(
                "[[detector]] \"{}\" has nothing to read: there is no [[source]]{}",
                config.rule.name,
                if known.sources.is_empty() {
                    ""
                } else {
                    " with a parser"
                },
            )));
        }
        Ok(config)
    }
}

fn read(
    section: &Section<'_>,
    name: String,
    named: &Item<'_>,
) -> Result<DetectorDraft, ConfigError> {
    let action = match section.get("action") {
        Some(item) => item.word(&DetectorAction::WORDS)?,
        None => DetectorAction::Alert,
    };
    let limit_item = section.get("limit");
    let limit = match (&limit_item, action) {
        (Some(item), DetectorAction::Throttle) => Some(limit::name(item, "limit")?),
        (Some(item), _) => {
            return Err(
                item.error("only action = \"throttle\" takes a limit; remove one of the two")
            );
        }
        (None, DetectorAction::Throttle) => {
            return Err(section
                .require("limit", "\"slow\"")
                .err()
                .unwrap_or_else(|| named.error("action = \"throttle\" needs a limit")));
        }
        (None, _) => None,
    };
    let throttle_for = match section.get("throttle_for") {
        Some(item) if action != DetectorAction::Throttle => {
            return Err(item.error("it is for action = \"throttle\""));
        }
        Some(item) => ban::finite(&item, "write how long, such as \"10m\"")?,
        None => THROTTLE_FOR,
    };
    let policy_item = section.get("policy");
    let policy = match &policy_item {
        Some(item) => limit::name(item, "policy")?,
        None => DEFAULT_POLICY.to_owned(),
    };
    let filter = section
        .get("filter")
        .map(|item| filter(&item))
        .transpose()?;
    let condition = section
        .get("where")
        .map(|item| condition(&item))
        .transpose()?;
    let (kind, from_policy) = kinds::read(section, filter.is_some())?;
    let settings = together::Settings {
        section,
        action,
        kind: &kind,
        from_policy: &from_policy,
        filtered: filter.is_some(),
    };
    settings.check()?;
    let source_items = match section.get("sources") {
        Some(item) => {
            let items = item.list("a list of the names of sources, for example [\"web\"]")?;
            if items.is_empty() {
                return Err(item.error("it names no source; leave sources out for all that fit"));
            }
            items
        }
        None => Vec::new(),
    };
    let sources = source_items.iter().map(|item| limit::name(item, "source"));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    Ok(DetectorDraft {
        config: DetectorConfig {
            rule: Arc::new(DetectorRule {
                name,
                action,
                policy,
                limit,
                throttle_for,
            }),
            sources: (!sources.is_empty()).then_some(sources),
            filter,
            condition,
            kind,
        },
        preset: false,
        from_policy,
        place: named.place.clone(),
        policy: policy_item.map(|item| item.place),
        limit: limit_item.map(|item| item.place),
        sources: source_items.into_iter().map(|item| item.place).collect(),
    })
}

/// A filter's name without the prefix that says whose it is.
fn filter(item: &Item<'_>) -> Result<String, ConfigError> {
    const EXPECTED: &str = "a filter of fail2ban, for example \"fail2ban:sshd\"";
    let text = item.string(EXPECTED)?;
    match text.strip_prefix(FAIL2BAN) {
        Some(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        _ => Err(item.error(format!("{} is not {EXPECTED}", quote(text)))),
    }
}

fn condition(item: &Item<'_>) -> Result<String, ConfigError> {
    let text = item.string("a condition in quotes, for example 'status == 401'")?;
    text.parse::<Condition>()
        .map_err(|error| item.error(error))?;
    Ok(text.to_owned())
}
