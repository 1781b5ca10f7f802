//! Interfaces that come and go, by themselves or because someone asked.

use std::collections::HashMap;

use super::{Engine, EngineError};
use crate::{
    api::types::{DetachRequest, Detached},
    dataplane::protected::Protection,
};

impl Engine {
    /// Attaches to what came back, lets go of what went.
    pub(super) async fn follow_links(&mut self) {
        match self.dataplane.follow_links().await {
            Ok(true) => self.names.interfaces = self.interface_names(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether an interface came or went");
            }
        }
    }

    /// The names of the interfaces that events can be about.
    pub(super) fn interface_names(&self) -> HashMap<u32, String> {
        let attachments = self.dataplane.protected().attachments().iter();
        attachments
            .map(|attachment| (attachment.index, attachment.name.clone()))
            .collect()
    }

    pub(super) fn detach(&mut self, request: &DetachRequest) -> Result<Detached, EngineError> {
        let mut known = Vec::new();
        let mut configured = Vec::new();
        for state in self.dataplane.protected().states() {
            match state {
                Protection::Attached(attachment) => {
                    known.push(attachment.name.clone());
                    configured.push(attachment.configured.clone());
                }
                Protection::Missing { name } => known.push(name.to_owned()),
                Protection::Refused { interface, .. } => known.push(interface.name.clone()),
            }
        }
        if let Some(unknown) = request
            .interfaces
            .iter()
            .find(|name| !known.contains(name) && !configured.contains(name))
        {
            return Err(EngineError::NotFound(format!(
                "abuser is not attached to {unknown:?}; it is to: {}",
                known.join(", ")
            )));
        }
        let mut interfaces = if request.interfaces.is_empty() {
            known
        } else {
            request.interfaces.clone()
        };
        // Naming one twice is no harm.
        interfaces.sort_unstable();
        interfaces.dedup();
        for name in &interfaces {
            self.dataplane.detach(name);
            tracing::info!(interface = name, "detached");
        }
        self.names.interfaces = self.interface_names();
        Ok(Detached {
            stopped: self.dataplane.protected().is_empty(),
            interfaces,
        })
    }
}
