//! `abuser check`.

use serde::Serialize;

use super::{CliError, args::CheckArgs, output};
use crate::{
    config::{self, AllowEntry},
    crowdsec,
    detection::Detection,
    notify,
};
use abuser_detect::pipeline::Clock;

/// What `check --json` prints.
#[derive(Serialize)]
struct Checked {
    config: String,
    interfaces: Vec<String>,
    limits: Vec<String>,
    allow: Vec<String>,
    sources: Vec<String>,
    detectors: Vec<String>,
    notify: Vec<String>,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    let CheckArgs { config: path, json } = args;
    let config = config::load(path)?;
    // Filters are files of their own, and only whoever builds them knows what is wrong with them.
    let detection = Detection::new(&config, Clock::Host)?;
    // These may not be there yet, or be another user's; the daemon looks again when it needs them.
    for complaint in config.notify.iter().flat_map(notify::complaints) {
        output::message(&format!("abuser: warning: {complaint}"));
    }
    // Who checks may be somebody else than who runs it, so this is no error.
    for problem in config.crowdsec.iter().flat_map(crowdsec::problems) {
        output::message(&format!("abuser: warning: [crowdsec]: {problem}"));
    }
    let checked = Checked {
        config: path.display().to_string(),
        interfaces: config.interfaces,
        limits: config.limits.into_iter().map(|limit| limit.name).collect(),
        allow: config
            .allow
            .into_iter()
            .map(|entry| match entry {
                AllowEntry::Prefix(prefix) => prefix.to_string(),
                AllowEntry::Name(name) => name,
            })
            .collect(),
        sources: config
            .sources
            .iter()
            .map(|source| source.name().to_owned())
            .collect(),
        detectors: detection
            .detectors
            .iter()
            .map(|detector| detector.rule.name.clone())
            .collect(),
        notify: config
            .notify
            .into_iter()
            .map(|notify| notify.name)
            .collect(),
    };
    if *json {
        output::json(&checked)?;
    } else {
        output::line(&format!(
            "{}: fine; interfaces: {}; limits: {}; allow entries: {}; sources: {}; detectors: {}; notify: {}",
            checked.config,
            or_none(&checked.interfaces),
            or_none(&checked.limits),
            checked.allow.len(),
            or_none(&checked.sources),
            or_none(&checked.detectors),
            or_none(&checked.notify),
        ))?;
    }
    Ok(())
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
