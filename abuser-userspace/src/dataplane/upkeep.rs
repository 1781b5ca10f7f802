//! Pins that somebody removes, replaces, or takes away with their file system.
//!
//! The daemon holds maps and links by descriptors, so the filter stays on and goes on without any pin. But
//! what a crash is to leave on, and the next start to find, is what is pinned. So all pins are looked at
//! whenever interfaces are, and what is not there is pinned again.

use std::{
    io,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use abuser_common::layout::maps;

use super::{
    error::DataplaneError,
    object::Object,
    pins::{PinDir, failed},
    protected::Protected,
};

/// How often to say again that something cannot be pinned.
const REMIND: Duration = Duration::from_secs(600);

/// The maps that are to be pinned, and how it stands with all pins.
#[derive(Debug)]
pub struct Upkeep {
    maps: Vec<(&'static str, Object)>,
    /// Pins that were made again.
    repairs: u64,
    failure: Option<Failure>,
}

/// Why there are no pins, or not all of them.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was tried, and why it did not do.
    pub error: String,
    /// Since when.
    pub since: SystemTime,
    said: Instant,
}

impl Upkeep {
    /// Holds the maps that have just been pinned, or adopted.
    pub(super) fn new(pins: &PinDir) -> Result<Self, DataplaneError> {
        let mut held = Vec::with_capacity(maps::ALL.len());
        for name in maps::ALL {
            let path = pins.map(name);
            let map = Object::pinned(&path).map_err(failed("open the pin", &path))?;
            held.push((name, map));
        }
        Ok(Self {
            maps: held,
            repairs: 0,
            failure: None,
        })
    }

    /// Pins what should be pinned and is not.
    pub(super) fn keep(&mut self, pins: &mut PinDir, protected: &mut Protected) {
        let mut renewed = Vec::new();
        let kept = self.keep_all(pins, protected, &mut renewed);
        self.repairs += renewed.len() as u64;
        if !renewed.is_empty() {
            tracing::warn!(
                path = %pins.base().display(),
                "pins were removed or replaced, or their file system was: {}; they are there again, and the filter \
                 has been on all the time",
                renewed.join(", ")
            );
        }
        match kept {
            Ok(()) => self.failure = None,
            Err(error) => self.fail(pins, error.to_string()),
        }
    }

    fn fail(&mut self, pins: &PinDir, error: String) {
        let before = self.failure.take();
        let since = before
            .as_ref()
            .map_or_else(SystemTime::now, |failure| failure.since);
        let said = before
            .filter(|before| before.error == error && before.said.elapsed() < REMIND)
            .map(|before| before.said);
        if said.is_none() {
            tracing::error!(
                path = %pins.base().display(),
                "pins are gone and cannot be made again: {error}; the filter is on for as long as this daemon \
                 runs, and no longer; trying again every ten seconds"
            );
        }
        self.failure = Some(Failure {
            error,
            since,
            said: said.unwrap_or_else(Instant::now),
        });
    }

    fn keep_all(
        &self,
        pins: &mut PinDir,
        protected: &mut Protected,
        renewed: &mut Vec<String>,
    ) -> Result<(), DataplaneError> {
        pins.renew()?;
        // One that cannot be pinned keeps none of the others from it.
        let mut all = Ok(());
        let mut note = |what: String, path: &Path, kept: io::Result<bool>| match kept {
            Ok(true) => renewed.push(what),
            Err(error) if all.is_ok() => all = Err(failed("pin", path)(error)),
            Ok(false) | Err(_) => {}
        };
        for (name, map) in &self.maps {
            let path = pins.map(name);
            note((*name).to_owned(), &path, map.keep_pinned(&path));
        }
        for attachment in protected.attachments_mut() {
            let path = pins.own().link(attachment.index);
            let kept = attachment.keep_pinned();
            note(format!("the link on {}", attachment.name), &path, kept);
        }
        all
    }

    /// Pins that were made again since the start.
    pub fn repairs(&self) -> u64 {
        self.repairs
    }

    /// Why not all is pinned that should be, if that is so.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}
