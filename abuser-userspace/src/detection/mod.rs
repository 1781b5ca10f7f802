//! From the configuration to a pipeline: what the daemon, `abuser test` and `abuser replay` run
//! is built here, so that it is the same.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use abuser_detect::{
    condition::Condition,
    filter::{self, Filter},
    parse::Parser,
    pipeline::{Clock, Feed, Pipeline, Watch},
};

use crate::config::{DetectorConfig, DetectorRule, LineParser, LogSource};

/// Where fail2ban's filters are, unless a path says.
const FAIL2BAN_FILTERS: &str = "/etc/fail2ban/filter.d";

/// Why a configuration makes no pipeline.
#[derive(Debug, thiserror::Error)]
pub enum DetectionError {
    /// A filter of fail2ban cannot be read.
    #[error("[[detector]] or [[source]] \"{of}\": {error}")]
    Filter {
        /// Which of them names it.
        of: String,
        /// What is wrong.
        error: filter::FilterError,
    },
}

/// A pipeline, and what its numbers stand for.
pub struct Detection {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The detectors, by their numbers in it.
    pub rules: Vec<Arc<DetectorRule>>,
}
