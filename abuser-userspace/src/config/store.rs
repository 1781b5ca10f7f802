//! `[store]`: where bans are written down, and how much of the past is kept.

use std::{path::PathBuf, time::Duration};

use crate::{
    policy::BanTime,
    store::{IN_MEMORY, StoreConfig},
};

use super::{
    draft::absolute_path,
    duration::parse_duration,
    error::ConfigError,
    section::{Item, Section},
};

/// Reads `[store]` over what is in `store`.
pub(super) fn read(section: &Section<'_>, store: &mut StoreConfig) -> Result<(), ConfigError> {
    if let Some(item) = section.get("path") {
        store.path = path(&item)?;
    }
    if let Some(item) = section.get("history") {
        store.history = history(&item)?;
    }
    if let Some(item) = section.get("history_max") {
        store.history_max = item.integer(0..=10_000_000)?;
    }
    if let Some(item) = section.get("evidence") {
        store.evidence = item.integer(0..=1_000)?;
    }
    Ok(())
}

fn path(item: &Item<'_>) -> Result<PathBuf, ConfigError> {
    if item.string("a path in quotes, or \":memory:\"")? == IN_MEMORY {
        return Ok(PathBuf::from(IN_MEMORY));
    }
    Ok(absolute_path(item)?.into())
}

fn history(item: &Item<'_>) -> Result<Duration, ConfigError> {
    let text = item.string("a time such as \"90d\"")?;
    match parse_duration(text).map_err(|error| item.error(error))? {
        BanTime::For(time) => Ok(time),
        BanTime::Permanent => Err(item.error(
            "cannot be without end; write a long time such as \"10y\", history_max bounds it, too",
        )),
    }
}
