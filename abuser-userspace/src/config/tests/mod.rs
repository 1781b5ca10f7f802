//! Whole configurations: what they mean, and what is said about those that mean nothing.

mod blocklists;
mod crowdsec;
mod detector_errors;
mod detectors;
mod errors;
mod files;
mod fleet;
mod logs;
mod notify;
mod presets;
mod samples;

use std::path::Path;

use super::{Config, ConfigError, parse};

fn read(text: &str) -> Result<Config, ConfigError> {
    parse(text, Path::new("a.toml"))
}

#[track_caller]
fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// A `[[limit]]` with the two keys that it must have, and `lines` from line 4 on.
fn limit(lines: &str) -> String {
    format!("[[limit]]\nname = \"web\"\nrate = \"60/m\"\n{lines}\n")
}

#[track_caller]
fn assert_error(text: &str, place: &str, phrases: &[&str]) {
    let error = match read(text) {
        Ok(config) => panic!("accepted:\n{text}\n{config:#?}"),
        Err(error) => error.to_string(),
    };
    let start = format!("a.toml:{place}: ");
    assert!(
        error.starts_with(&start),
        "{text}\n{error}\nis not at {place}"
    );
    for phrase in phrases {
        assert!(
            error.contains(phrase),
            "{text}\n{error}\ndoes not say: {phrase}"
        );
    }
    assert!(!error.contains('\n'), "{error}");
}
