//! `abuser check`.

use serde::Serialize;

use super::{CliError, args::CheckArgs, output};
use crate::config::{self, AllowEntry};

/// What `check --json` prints.
#[derive(Serialize)]
struct Checked {
    config: String,
    interfaces: Vec<String>,
    limits: Vec<String>,
    allow: Vec<String>,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    let CheckArgs { config: path, json } = args;
    let config = config::load(path)?;
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
    };
    if *json {
        output::json(&checked)?;
    } else {
        output::line(&format!(
            "{}: fine; interfaces: {}; limits: {}; allow entries: {}",
            checked.config,
            or_none(&checked.interfaces),
            or_none(&checked.limits),
            checked.allow.len(),
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
