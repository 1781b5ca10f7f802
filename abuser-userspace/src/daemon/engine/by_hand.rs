//! Bans that somebody asks for, and asks to lift.

use std::{collections::HashMap, sync::Arc, time::Duration};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use ipnet::IpNet;

use super::{
    Changed, Engine, EngineError, Page,
    bans::{NewBan, end},
    check_reason, keys, net,
};
use crate::{
    api::types::{BanDuration, BanInfo, BanRequest, RemoveRequest},
    policy::{BanTime, DEFAULT_POLICY, WIDEST_IPV4, WIDEST_IPV6, ends::outlasts, is_wide},
    store::{Change, rows::BanNote},
};

impl Engine {
    /// For how long a ban is to be that somebody asks for.
    pub(super) fn time_of(&self, duration: BanDuration) -> Result<BanTime, EngineError> {
        match duration {
            BanDuration::Policy => {
                let policy = self.offenders.policy(0);
                Ok(policy.ban_time(0, fastrand::f64()))
            }
            BanDuration::Permanent => Ok(BanTime::Permanent),
            BanDuration::Seconds(0) => Err(EngineError::Refused(
                "a ban of no time at all bans nobody; say for how long".to_owned(),
            )),
            BanDuration::Seconds(seconds) => Ok(BanTime::For(Duration::from_secs(seconds))),
        }
    }

    pub(super) fn ban_by_hand(
        &mut self,
        request: &BanRequest,
        by: &str,
    ) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let BanRequest {
            sources,
            duration,
            reason,
            force,
        } = request;
        check_reason(reason.as_deref())?;
        let expires_ns = end(self.time_of(*duration)?);
        let keys = keys(sources, "ban")?;
        if !force {
            // As the map has it: an IPv4-mapped prefix is narrow only as it is written.
            for source in keys.iter().map(net) {
                check_width(&source)?;
                self.check_essential(&source)?;
            }
        }
        // Who asks for no time in particular does not ask to shorten a ban.
        let mut longer = HashMap::new();
        if *duration == BanDuration::Policy {
            for key in &keys {
                if let Some(ban) = self.ban_in_force(key)?
                    && !BanCause::from_number(ban.cause).is_some_and(BanCause::is_listed)
                    && outlasts(ban.expires_ns, expires_ns)
                {
                    longer.insert(*key, self.ban_info(key, &ban));
                }
            }
        }
        let note = Arc::new(BanNote {
            cause: BanCause::Manual,
            subject: None,
            policy: (*duration == BanDuration::Policy).then(|| DEFAULT_POLICY.to_owned()),
            reason: reason.clone(),
            by: Some(by.to_owned()),
        });
        let new = keys.iter().filter(|key| !longer.contains_key(*key));
        let new = new.map(|source| NewBan::new(*source, expires_ns, &note));
        let new = new.collect();
        let Changed { value, changes } = self.ban(new)?;
        let mut banned = value.into_iter();
        // As they were asked for.
        let bans = keys
            .iter()
            .filter_map(|key| longer.get(key).cloned().or_else(|| banned.next()));
        Ok(Changed {
            value: bans.collect(),
            changes,
        })
    }

    pub(super) fn unban_by_hand(
        &mut self,
        request: &RemoveRequest,
        by: &str,
    ) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        if request.all {
            return Err(EngineError::Refused(
                "all bans are removed by a request of their own, which names no sources".to_owned(),
            ));
        }
        let keys = keys(&request.sources, "unban")?;
        if let Some(missing) = keys.iter().find(|key| !self.bans.contains(key)) {
            let missing = net(missing);
            let covering = self.bans_covering(missing.addr())?;
            return Err(not_banned(&missing, &covering));
        }
        for key in &keys {
            self.check_not_listed(key)?;
        }
        let lifted = self.lift(&keys, by, false)?;
        for info in &lifted.value {
            tracing::info!(source = %info.source, hits = info.hits, by, "unbanned");
        }
        Ok(lifted)
    }

    /// Removes some of all bans, those after the one of `after`; what lists of others name stays.
    pub(super) fn unban_page(
        &mut self,
        after: Option<PrefixKey>,
        by: &str,
    ) -> Result<Changed<Page<BanInfo>>, EngineError> {
        /// What takes long is to have each page on disk.
        const PAGE_SIZE: usize = 4096;
        let mut next = None;
        let mut keys = Vec::new();
        for (key, record) in self.bans.page(after, PAGE_SIZE) {
            next = Some(*key);
            if !record.note.cause.is_listed() {
                keys.push(*key);
            }
        }
        let Changed { value, changes } = self.lift(&keys, by, true)?;
        if !value.is_empty() {
            tracing::info!(by, "unbanned {} of all sources", value.len());
        }
        Ok(Changed {
            value: Page { items: value, next },
            changes,
        })
    }

    fn lift(
        &mut self,
        keys: &[PrefixKey],
        by: &str,
        among_all: bool,
    ) -> Result<Changed<Vec<BanInfo>>, EngineError> {
        let how = format!("removed by {by}");
        let mut removed = Changed::<Vec<_>>::default();
        for key in keys {
            let listed = self.listed(key);
            let Changed { value, changes } = self.end_ban(key, &how, among_all)?;
            removed.value.extend(value);
            removed.changes.extend(changes);
            self.offenders.forgive(*key);
            removed.changes.push(Change::Forgive(*key));
            if let Some(listed) = listed {
                removed.changes.extend(self.ban(vec![listed])?.changes);
            }
        }
        Ok(removed)
    }
}

/// Refuses a prefix that is banned by force only.
pub(super) fn check_width(source: &IpNet) -> Result<(), EngineError> {
    if is_wide(source) {
        return Err(EngineError::Refused(format!(
            "{source} is wider than /{WIDEST_IPV4} (IPv4) or /{WIDEST_IPV6} (IPv6) and may lock out \
             many, you among them; use --force if you mean it"
        )));
    }
    Ok(())
}

fn not_banned(source: &IpNet, bans: &[BanInfo]) -> EngineError {
    let covering = bans.iter().find(|ban| ban.source.contains(source));
    EngineError::NotFound(covering.map_or_else(
        || format!("{source} is not banned; `abuser ban list` shows who is"),
        |ban| {
            format!(
                "{source} is not banned by itself but as part of {}; remove that ban, or allow \
                 {source} with `abuser allow add`",
                ban.source
            )
        },
    ))
}
