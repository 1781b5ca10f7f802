//! How it stands with a local API: told to whoever asks for the daemon's status.

use std::sync::{Arc, Mutex, PoisonError};

use super::{element::Ignored, wire::Answer};
use crate::{
    api::types::{CrowdsecPushStatus, CrowdsecStatus},
    config::CrowdsecConfig,
    daemon::clock,
};

/// What is known of it now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Monitor(Arc<Mutex<Option<CrowdsecStatus>>>);

impl Monitor {
    /// How it stands; `None` if none is configured.
    pub fn status(&self) -> Option<CrowdsecStatus> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// There is none any more.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Another one is followed, or the same one anew: what was counted goes on.
    pub(super) fn begin(&self, config: &CrowdsecConfig, pushes: bool) {
        let before = self.status();
        let before_push = before.as_ref().and_then(|before| before.push.clone());
        let status = CrowdsecStatus {
            url: config.address.to_string(),
            connected: false,
            last_answer: before
                .as_ref()
                .and_then(|before| before.last_answer.clone()),
            failures: before.as_ref().map_or(0, |before| before.failures),
            error: None,
            decisions: before.as_ref().map_or(0, |before| before.decisions),
            ignored: before.map(|before| before.ignored).unwrap_or_default(),
            push: pushes.then(|| CrowdsecPushStatus {
                connected: false,
                error: None,
                ..before_push.unwrap_or_default()
            }),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// It has answered; there are so many decisions now.
    pub(super) fn answered(&self, answer: &Answer, whole: bool, decisions: usize) {
        self.with(|status| {
            status.connected = true;
            status.last_answer = Some(clock::now());
            status.error = None;
            status.decisions = decisions as u64;
            if whole {
                status.ignored.clear();
            }
            for why in Ignored::ALL {
                let count = answer.ignored.get(&why).copied().unwrap_or_default();
                *status.ignored.entry(why.name().to_owned()).or_default() += count;
            }
        });
    }

    /// There are so many decisions now.
    pub(super) fn decisions(&self, decisions: usize) {
        self.with(|status| status.decisions = decisions as u64);
    }

    /// It has not answered; whether this was not known yet.
    pub(super) fn failed(&self, error: &str) -> bool {
        let mut is_new = false;
        self.with(|status| {
            is_new = status.error.as_deref() != Some(error);
            status.connected = false;
            status.failures += 1;
            status.error = Some(error.to_owned());
        });
        is_new
    }

    /// Notes something about pushing.
    pub(super) fn push(&self, note: impl FnOnce(&mut CrowdsecPushStatus)) {
        self.with(|status| {
            if let Some(push) = &mut status.push {
                note(push);
            }
        });
    }

    fn with(&self, note: impl FnOnce(&mut CrowdsecStatus)) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = status.as_mut() {
            note(status);
        }
    }
}
