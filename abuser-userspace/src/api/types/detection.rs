//! How it stands with logs and detectors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How it stands with logs and detectors, a second ago at most.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Detection {
    /// Why no log is read any more, if none is.
    pub error: Option<String>,
    /// The logs that are read, in the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// The detectors, in the order of the configuration.
    pub detectors: Vec<DetectorStatus>,
}

/// A log that is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// What makes records of its lines; `null` if only filters read it.
    pub parser: Option<String>,
    /// Files that are followed; 0 for what is no file.
    pub files: u64,
    /// Lines read since the daemon started, or since the source was configured as it is.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are written to files and not read yet.
    pub lag_bytes: u64,
    /// Lines that are known to be lost because they came faster than they were read.
    pub lost: u64,
    /// Lines of which only the first 64 KiB were read.
    pub cut: u64,
    /// Lines of which the parser could make no record.
    pub unparsed: u64,
    /// One of them: its first 500 bytes.
    pub unparsed_sample: Option<String>,
    /// What is wrong with that one.
    pub unparsed_error: Option<String>,
    /// Lines that were older than an hour when they were read, and had no effect.
    pub stale: u64,
    /// Lines that claimed to be from the future, and counted as of now.
    pub ahead: u64,
    /// When the last line was read.
    #[schema(format = DateTime)]
    pub read: Option<String>,
    /// When the last line was written, by its own account.
    #[schema(format = DateTime)]
    pub last: Option<String>,
    /// Why it cannot be read, if it cannot.
    pub error: Option<String>,
}

/// A detector.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DetectorStatus {
    /// Its name.
    pub name: String,
    /// What it looks for: `threshold`, `stuffing` and so on.
    pub kind: String,
    /// What happens to whom it finds: `alert`, `throttle` or `ban`.
    pub action: String,
    /// The sources that it reads.
    pub sources: Vec<String>,
    /// Records that it was given.
    pub matched: u64,
    /// What it found.
    pub found: u64,
    /// Sources, keys or whatever else it counts by that it remembers.
    pub tracked: u64,
    /// How many of them it has room for.
    pub capacity: u64,
    /// How many it forgot because there was no room.
    pub evicted: u64,
}
