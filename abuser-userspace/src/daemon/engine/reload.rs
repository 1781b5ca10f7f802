//! Another configuration in place of the one in force, without detaching.

use std::collections::HashSet;

use abuser_common::layout::AllowOrigin;

use super::{Engine, EngineError, Names, allow};
use crate::{
    api::types::Reloaded,
    config::Config,
    daemon::names::ConfiguredAllow,
    dataplane::{dispatcher::Access, interfaces::Interface, limits::LoadedLimit},
};

impl Engine {
    /// Puts a checked configuration in force as a difference: bans stay, and so do the buckets
    /// of limits that are as they were. What can fail is done first; if it does, nothing has
    /// changed.
    pub(super) async fn reload(
        &mut self,
        config: &Config,
        allow: &[ConfiguredAllow],
    ) -> Result<Reloaded, EngineError> {
        let allowed = allow::configured(allow)?;
        let new = self.new_interfaces(config).await?;
        let before = self.dataplane.limits().loaded().to_vec();
        let wanted = self.dataplane.protected().wanted().into_iter();
        let gone: Vec<_> = wanted
            .filter(|name| !config.interfaces.contains(name))
            .collect();
        let mut access = Access::at_once();
        let protected = self.dataplane.protected();
        protected.prepare_detach(gone.iter().map(String::as_str), &mut access)?;
        self.dataplane
            .attach_more(&new, config.xdp.how(), &mut access)?;
        let throttled = self.throttles.throttled();
        let set = self
            .dataplane
            .set_limits(&config.limits, self.observe, &throttled);
        if let Err(error) = set {
            self.dataplane.detach_again(&new, &mut access);
            return Err(error.into());
        }
        // From here on there is no way back, and what fails is tried again by the reconciler.
        super::log_failure(self.replace_allowed(AllowOrigin::Config, allowed));
        self.trusted = config.trusted_proxies();
        self.reconsider_fleet();
        self.unban_trusted();
        self.end_throttles_without_limit();
        self.automatic = config.allow_automatic.0;
        let followed = self.follow_essential(None);
        super::log_failure(followed);
        self.offenders.set_policies(config.all_policies());
        let forgotten = self.forgotten_changes();
        self.keep(forgotten);
        self.count_for_rollup();
        self.evidence = config.store.evidence;
        self.persist = config.xdp.persist;
        let (mut detached, mut still_attached) = (Vec::new(), Vec::new());
        for name in gone {
            match self.dataplane.detach(&name, &mut access) {
                Ok(_) => detached.push(name),
                // The next reload tries again.
                Err(error) => {
                    tracing::error!(interface = name, "{error}");
                    still_attached.push(name);
                }
            }
        }
        self.name_things();
        self.next_bucket_sweep = tokio::time::Instant::now();
        let limits = LimitChanges::between(&before, self.dataplane.limits().loaded());
        Ok(Reloaded {
            attached: new.into_iter().map(|interface| interface.name).collect(),
            detached,
            still_attached,
            limits_added: limits.added,
            limits_removed: limits.removed,
            limits_changed: limits.changed,
            settings: Vec::new(),
            needs_restart: Vec::new(),
        })
    }

    /// The interfaces that are to be protected and are not yet.
    async fn new_interfaces(&self, config: &Config) -> Result<Vec<Interface>, EngineError> {
        let wanted = self.dataplane.protected().wanted();
        let new = config
            .interfaces
            .iter()
            .filter(|name| !wanted.contains(name));
        let new: Vec<_> = new.cloned().collect();
        Ok(self
            .dataplane
            .find_interfaces(&new, config.xdp.how())
            .await?)
    }

    /// Notes the names of the limits and interfaces that events can be about.
    pub(super) fn name_things(&mut self) {
        let limits = self.dataplane.limits().loaded().iter();
        self.names = Names {
            limits: limits
                .map(|limit| (limit.id, limit.config.name.clone()))
                .collect(),
            interfaces: self.interface_names(),
        };
    }
}

/// Names of limits, by what became of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct LimitChanges {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl LimitChanges {
    fn between(before: &[LoadedLimit], after: &[LoadedLimit]) -> Self {
        let ids: HashSet<_> = before.iter().map(|limit| limit.id).collect();
        let names = |limits: &[LoadedLimit]| -> HashSet<String> {
            let names = limits.iter().map(|limit| limit.config.name.clone());
            names.collect()
        };
        let (old, new) = (names(before), names(after));
        let mut changes = Self::default();
        for limit in after.iter().filter(|limit| !ids.contains(&limit.id)) {
            let name = limit.config.name.clone();
            if old.contains(&name) {
                changes.changed.push(name);
            } else {
                changes.added.push(name);
            }
        }
        let gone = before.iter().map(|limit| &limit.config.name);
        let gone = gone.filter(|name| !new.contains(*name));
        changes.removed.extend(gone.cloned());
        changes
    }
}
