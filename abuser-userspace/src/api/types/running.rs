//! What is done to the daemon while it runs: another configuration, and the end.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks to detach.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachRequest {
    /// From which interfaces; none: from all, and stop the daemon.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// What was detached.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// The interfaces, by name.
    pub interfaces: Vec<String>,
    /// Whether a daemon was stopped.
    pub stopped: bool,
}

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Interfaces that are protected now and were not.
    pub attached: Vec<String>,
    /// Interfaces that were and are not any more.
    pub detached: Vec<String>,
    /// Interfaces that are not to be protected any more and could not be detached from: the log says why,
    /// and the next reload tries again.
    pub still_attached: Vec<String>,
    /// Limits that are new.
    pub limits_added: Vec<String>,
    /// Limits that are gone.
    pub limits_removed: Vec<String>,
    /// Limits that are not as they were; their buckets are full again.
    pub limits_changed: Vec<String>,
    /// Other settings that have changed: `[ban]`, `[[policy]]` and so on.
    pub settings: Vec<String>,
    /// Settings that differ and are as they were until the daemon is restarted.
    pub needs_restart: Vec<String>,
}

impl fmt::Display for Reloaded {
    /// In words, on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "reloaded")?;
        let parts = [
            ("attached to", &self.attached),
            ("detached from", &self.detached),
            ("COULD NOT DETACH FROM", &self.still_attached),
            ("new limits", &self.limits_added),
            ("removed limits", &self.limits_removed),
            ("changed limits", &self.limits_changed),
            ("changed settings", &self.settings),
            ("needs a restart", &self.needs_restart),
        ];
        if parts.iter().all(|(_, names)| names.is_empty()) {
            write!(formatter, "; nothing has changed")?;
        }
        for (what, names) in parts {
            if !names.is_empty() {
                write!(formatter, "; {what}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}
