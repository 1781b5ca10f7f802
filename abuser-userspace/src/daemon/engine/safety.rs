//! Nobody is locked out: who is essential to this host is allowed by itself, and what would
//! ban it is refused.

use std::time::Duration;

use abuser_common::layout::AllowOrigin;
use ipnet::IpNet;

use super::{Engine, EngineError, allow::AllowRecord, key};
use crate::host::Essential;

impl Engine {
    /// Allows who is essential to this host, and nobody who was and is not any more; `now` if
    /// that has changed.
    pub(super) fn follow_essential(&mut self, now: Option<Essential>) -> Result<(), EngineError> {
        if let Some(now) = now {
            self.essential = now;
        }
        let essential = self.essential.iter().filter(|_| self.automatic);
        let entries = essential.map(|(address, role)| {
            let record = AllowRecord::new(AllowOrigin::Automatic, Some(role.to_string()));
            Ok((key(&IpNet::from(*address))?, record))
        });
        let entries = entries.collect::<Result<Vec<_>, EngineError>>()?;
        self.replace_allowed(AllowOrigin::Automatic, entries)
    }

    /// Refuses a ban that holds an essential address, unless that is what is meant.
    pub(super) fn check_essential(&self, source: &IpNet) -> Result<(), EngineError> {
        if !self.automatic {
            return Ok(());
        }
        let range = source.network()..=source.broadcast();
        match self.essential.range(range).next() {
            None => Ok(()),
            Some((_, role)) if source.prefix_len() == source.max_prefix_len() => {
                Err(EngineError::Refused(format!(
                    "{source} stays allowed ({role}), so that a ban of it would stop nothing; use \
                     --force to note one all the same"
                )))
            }
            Some((address, role)) => Err(EngineError::Refused(format!(
                "{source} holds {address}, which stays allowed ({role}); use --force \
                 to ban the rest of it"
            ))),
        }
    }

    /// Lets the daemon go on that was started with `--confirm`.
    pub(super) fn confirm(&mut self) -> Result<(), EngineError> {
        if self.confirm_by.take().is_none() {
            return Err(EngineError::Refused(
                "there is nothing to confirm: the daemon was not started with --confirm, or is \
                 confirmed already"
                    .to_owned(),
            ));
        }
        tracing::info!("confirmed");
        Ok(())
    }

    /// Detaches after `time` unless somebody confirms before.
    pub fn expect_confirmation(&mut self, time: Option<Duration>) {
        self.confirm_by = time.map(|time| tokio::time::Instant::now() + time);
    }
}
