//! `threshold`, `detection_filter`, `event_filter` and `suppress`.

use std::collections::BTreeMap;

use super::{
    super::{Imported, Place, Table, expression::Test},
    syntax::{Rule, pairs},
};

/// The generator of rules.
const RULES: &str = "1";

/// How often a detector must match, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Threshold {
    kind: &'static str,
    count: u32,
    seconds: u32,
}

/// What stands outside of rules.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// By `sig_id`; `0` is for all rules that have none of their own.
    events: BTreeMap<String, (Place, Pairs)>,
    suppressed: BTreeMap<String, Place>,
    /// Of whom rules say nothing.
    spared: Vec<(String, Vec<Test>)>,
}

type Pairs = Vec<(String, String)>;

fn value<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let pair = pairs.iter().find(|(known, _)| known == name);
    pair.map(|(_, value)| value.as_str())
}

impl Filters {
    /// Takes a statement in.
    pub(super) fn add(
        &mut self,
        kind: &str,
        pairs: &[(String, String)],
        place: &Place,
        imported: &mut Imported,
    ) {
        let sid = value(pairs, "sig_id").unwrap_or_default();
        let written: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let what = format!("{kind} {}", written.join(", "));
        let mut skip = |why: &str| imported.note(place, what.clone(), why);
        if value(pairs, "gen_id") != Some(RULES) {
            // 0 with sig_id 0 is for everything.
            if !(value(pairs, "gen_id") == Some("0") && sid == "0" && kind != "rate_filter") {
                return skip("it is not for rules, but for what Snort itself finds in the traffic");
            }
        }
        if sid.is_empty() || !sid.bytes().all(|byte| byte.is_ascii_digit()) {
            return skip("it has no sig_id");
        }
        match kind {
            "event_filter" | "threshold" => {
                self.events
                    .insert(sid.to_owned(), (place.clone(), pairs.to_vec()));
            }
            "suppress" if value(pairs, "track").is_none() => {
                self.suppressed.insert(sid.to_owned(), place.clone());
            }
            "suppress" => {
                let sources = value(pairs, "ip").and_then(super::sources);
                match sources.filter(|_| value(pairs, "track") == Some("by_src")) {
                    Some(sources) => self.spared.push((sid.to_owned(), sources)),
                    None => skip("it is for who is asked, or for no list of addresses"),
                }
            }
            _ => skip(
                "it changes what a rule does when there are many; give the rule's detector this \
                 count and an action of its own",
            ),
        }
    }

    /// Where it is said that a rule does nothing.
    pub(super) fn suppressed(&self, gid: &str, sid: &str) -> Option<&Place> {
        (gid == RULES).then(|| {
            self.suppressed
                .get(sid)
                .or_else(|| self.suppressed.get("0"))
        })?
    }

    /// That it is none of those of whom a rule says nothing.
    pub(super) fn spared(&self, gid: &str, sid: &str) -> Vec<Test> {
        let spared = self
            .spared
            .iter()
            .filter(|(of, _)| gid == RULES && (of == sid || of == "0"));
        spared
            .map(|(_, sources)| Test::Not(sources.clone()))
            .collect()
    }

    /// What is said for this rule, or for all.
    pub(super) fn of(&self, gid: &str, sid: &str) -> Option<(&Place, &Pairs, bool)> {
        if gid != RULES {
            return None;
        }
        if let Some((place, pairs)) = self.events.get(sid) {
            return Some((place, pairs, true));
        }
        let (place, pairs) = self.events.get("0")?;
        Some((place, pairs, false))
    }
}

impl Threshold {
    /// Whether the first match is enough. A `limit` bounds how often that is told.
    pub(super) fn is_met_at_once(&self) -> bool {
        self.count == 1 || self.kind == "limit"
    }

    /// What is in force for a rule.
    pub(super) fn of(
        rule: &Rule,
        filter: Option<(&Place, &Pairs, bool)>,
        is_answer: bool,
        imported: &mut Imported,
    ) -> Result<Self, String> {
        let own = rule.option("threshold").map(pairs);
        let detection = rule.option("detection_filter").map(pairs);
        let outside = filter.filter(|(_, _, is_its)| *is_its || own.is_none());
        if let Some(detection) = detection {
            if own.is_some() || outside.is_some() {
                imported.note(
                    &rule.place,
                    format!("{}: threshold", super::title(rule)),
                    "a detector has one, and that is the rule's detection_filter",
                );
            }
            return Self::read("detection_filter", &detection, is_answer);
        }
        let pairs = match (&own, outside) {
            (_, Some((_, pairs, _))) => pairs,
            (Some(own), None) => own,
            // Every match is one.
            (None, None) => {
                return Ok(Self {
                    kind: "threshold",
                    count: 1,
                    seconds: 60,
                });
            }
        };
        let kind = match value(pairs, "type") {
            Some("limit") => "limit",
            Some("threshold") => "threshold",
            Some("both") => "both",
            other => {
                return Err(format!(
                    "its threshold has the type {:?}, which detectors do not have",
                    other.unwrap_or_default()
                ));
            }
        };
        Self::read(kind, pairs, is_answer)
    }

    fn read(
        kind: &'static str,
        pairs: &[(String, String)],
        is_answer: bool,
    ) -> Result<Self, String> {
        // Who gets an answer has asked.
        let client = if is_answer { "by_dst" } else { "by_src" };
        match value(pairs, "track") {
            Some("by_both") => {}
            Some(track) if track == client => {}
            other => {
                return Err(format!(
                    "it is counted {}, and a log tells only who asked",
                    other.unwrap_or("by nothing")
                ));
            }
        }
        let number = |name: &str| -> Result<u32, String> {
            let text = value(pairs, name).unwrap_or_default();
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| format!("`{name}` is {text:?}, and no number above 0"))
        };
        Ok(Self {
            kind,
            count: number("count")?,
            seconds: number("seconds")?,
        })
    }

    /// Says so in a detector.
    pub(super) fn write(&self, table: Table) -> Table {
        table
            .with("kind", "threshold")
            .with("type", self.kind)
            .with("track", "source")
            .with("count", i64::from(self.count))
            .with("within", format!("{}s", self.seconds))
    }
}
