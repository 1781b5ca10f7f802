//! Which `[[source]]` a log is of.

use std::path::{Path, absolute};

use super::CliError;
use crate::config::{Config, LogSource, nearest};

/// The source with a name.
pub(super) fn source<'c>(config: &'c Config, name: &str) -> Option<&'c LogSource> {
    config.sources.iter().find(|source| source.name() == name)
}

/// The name of the source that a file is a log of: one whose files it fits, or the only one there is.
pub(super) fn of_path(config: &Config, path: &Path) -> Option<String> {
    let source = match &*config.sources {
        [only] => Some(only),
        sources => sources.iter().find(|source| is_of(source, path)),
    };
    source.map(|source| source.name().to_owned())
}

/// Whether a file fits a source's files.
pub(super) fn is_of(source: &LogSource, path: &Path) -> bool {
    let names = [absolute(path).ok(), path.canonicalize().ok()];
    names
        .into_iter()
        .flatten()
        .any(|path| source.reads.covers(&path))
}

/// The error that there is no source with a name.
pub(super) fn no_source(config: &Config, name: &str) -> CliError {
    let names = config.sources.iter().map(LogSource::name);
    CliError::Usage(unknown("[[source]]", name, names))
}

/// That there is nothing of that name, and what may have been meant, or what there is.
pub(super) fn unknown<'n>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> String {
    let hint = match nearest(name, names.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => match names.collect::<Vec<_>>() {
            names if names.is_empty() => "the configuration has none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        },
    };
    format!("there is no {what} with the name {name:?} ({hint})")
}
