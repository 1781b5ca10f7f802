//! Interfaces that come and go, by themselves or because someone asked.

use std::collections::HashMap;

use super::{Engine, EngineError};
use crate::{
    api::types::{DetachRequest, Detached},
    dataplane::{dispatcher::Access, protected::Protection},
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

    /// Detaches from interfaces. If somebody else changes dispatchers meanwhile, nothing has changed; if
    /// anything else is wrong with one, the others are detached from.
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
        let mut access = Access::at_once();
        let names = interfaces.iter().map(String::as_str);
        let protected = self.dataplane.protected();
        protected.prepare_detach(names, &mut access)?;
        let mut done = Vec::new();
        let mut failed = None;
        for name in &interfaces {
            match self.dataplane.detach(name, &mut access) {
                Ok(_) => {
                    tracing::info!(interface = name, "detached");
                    done.push(name.as_str());
                }
                Err(error) => {
                    tracing::error!(interface = name, "{error}");
                    failed.get_or_insert(error);
                }
            }
        }
        self.names.interfaces = self.interface_names();
        if let Some(source) = failed {
            if done.is_empty() {
                return Err(source.into());
            }
            let done = format!("detached from {}", done.join(", "));
            return Err(EngineError::Partly { done, source });
        }
        Ok(Detached {
            stopped: self.dataplane.protected().is_empty(),
            interfaces,
        })
    }
}
