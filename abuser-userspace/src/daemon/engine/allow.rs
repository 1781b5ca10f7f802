//! Who is never dropped.

use abuser_common::{layout::AllowOrigin, prefix::PrefixKey};

use super::{Engine, EngineError, check_reason, key, keys, net};
use crate::{
    api::types::{AllowInfo, AllowRequest, RemoveRequest},
    daemon::names::ConfiguredAllow,
};

/// What is known of an allow entry.
#[derive(Debug, Clone)]
pub(super) struct AllowRecord {
    origin: AllowOrigin,
    note: Option<String>,
}

impl Engine {
    /// Takes over what was allowed by command, adds what the configuration says, and returns
    /// what an earlier configuration said: to be dropped when all else is in force, so that
    /// who stays allowed is so without a gap.
    pub(super) fn adopt_allow_list(
        &mut self,
        configured: &[ConfiguredAllow],
    ) -> Result<Vec<PrefixKey>, EngineError> {
        let before = self.dataplane.allowed().0.entries()?;
        for (key, origin) in &before {
            if *origin == AllowOrigin::Command as u64 {
                let record = AllowRecord {
                    origin: AllowOrigin::Command,
                    note: None,
                };
                self.allowed.insert(*key, record);
            }
        }
        let configured = configured.iter().map(|ConfiguredAllow { prefix, name }| {
            let record = AllowRecord {
                origin: AllowOrigin::Config,
                note: name.clone(),
            };
            Ok((key(prefix)?, record))
        });
        let configured = configured.collect::<Result<Vec<_>, EngineError>>()?;
        self.allow(configured)?;
        let stale = before.into_iter().map(|(key, _)| key);
        Ok(stale
            .filter(|key| !self.allowed.contains_key(key))
            .collect())
    }

    /// Drops entries of an earlier configuration.
    pub(super) fn drop_stale_allow_entries(
        &mut self,
        stale: &[PrefixKey],
    ) -> Result<(), EngineError> {
        let (table, hints) = self.dataplane.allowed();
        for key in stale {
            table.remove(hints, key)?;
        }
        Ok(())
    }

    /// Map first, then the books.
    fn allow(&mut self, new: Vec<(PrefixKey, AllowRecord)>) -> Result<(), EngineError> {
        let entries: Vec<_> = new
            .iter()
            .map(|(key, record)| (*key, record.origin as u64))
            .collect();
        let (table, hints) = self.dataplane.allowed();
        table.insert(hints, &entries)?;
        self.allowed.extend(new);
        Ok(())
    }

    pub(super) fn allow_list(&self) -> Vec<AllowInfo> {
        self.allowed
            .iter()
            .map(|(key, record)| allow_info(key, record))
            .collect()
    }

    pub(super) fn allow_by_hand(
        &mut self,
        request: &AllowRequest,
    ) -> Result<Vec<AllowInfo>, EngineError> {
        let AllowRequest { sources, reason } = request;
        check_reason(reason.as_deref())?;
        let keys = keys(sources, "allow")?;
        let record = AllowRecord {
            origin: AllowOrigin::Command,
            note: reason.clone(),
        };
        let new: Vec<_> = keys.into_iter().map(|key| (key, record.clone())).collect();
        let infos = new
            .iter()
            .map(|(key, record)| allow_info(key, record))
            .collect();
        self.allow(new)?;
        Ok(infos)
    }

    pub(super) fn disallow_by_hand(
        &mut self,
        request: &RemoveRequest,
    ) -> Result<Vec<AllowInfo>, EngineError> {
        if request.all {
            return Err(EngineError::Refused(
                "name the allow entries to remove; there is no --all for them".to_owned(),
            ));
        }
        let keys = keys(&request.sources, "remove from the allow list")?;
        if let Some(missing) = keys.iter().find(|key| !self.allowed.contains_key(key)) {
            return Err(EngineError::NotFound(format!(
                "{} is not in the allow list; `abuser allow list` shows what is",
                net(missing)
            )));
        }
        let mut removed = Vec::new();
        for key in keys {
            let (table, hints) = self.dataplane.allowed();
            table.remove(hints, &key)?;
            if let Some(record) = self.allowed.remove(&key) {
                removed.push(allow_info(&key, &record));
            }
        }
        Ok(removed)
    }
}

fn allow_info(key: &PrefixKey, record: &AllowRecord) -> AllowInfo {
    AllowInfo {
        source: net(key),
        origin: record.origin.name().to_owned(),
        note: record.note.clone(),
    }
}
