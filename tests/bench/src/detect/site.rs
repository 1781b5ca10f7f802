//! The real daemon, reading an access log in a network of its own.

use std::{
    fs::{File, OpenOptions},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use testkit::{Daemon, Namespace};

use crate::subject;

/// A daemon that reads a log.
pub(super) struct Site {
    // The daemon goes before its network and its log.
    pub(super) daemon: Daemon,
    log: PathBuf,
    _folder: tempfile::TempDir,
    _namespace: Namespace,
}

impl Site {
    /// Starts a daemon with a detector, `[[detector]]` and all, on a log that is empty.
    pub(super) fn start(detector: &str) -> Result<Self> {
        let namespace = Namespace::new()?;
        let folder = tempfile::tempdir().context("make a folder for a log")?;
        let log = folder.path().join("access.log");
        File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let config = format!(
            r#"{}
[[source]]
name = "web"
files = ["{}"]
parser = "nginx-combined"

{detector}"#,
            subject::generic_config("lo", subject::NO_MATCH),
            log.display()
        );
        let binary = testkit::abuser_binary()?;
        let daemon = Daemon::try_start(&binary, &namespace, &config)
            .context("start abuser to read a log")?;
        Ok(Self {
            daemon,
            log,
            _folder: folder,
            _namespace: namespace,
        })
    }

    /// The log, to write at its end.
    pub(super) fn append(&self) -> Result<File> {
        let file = OpenOptions::new().append(true).open(&self.log);
        file.with_context(|| format!("open {}", self.log.display()))
    }
}
