//! What a packet from an address would meet now, and why.

use std::net::IpAddr;

use abuser_common::prefix::PrefixKey;
use ipnet::IpNet;

use super::{Engine, EngineError, Reply, answer, covering, key, net};
use crate::{
    api::types::{
        BanInfo, Evidence, ExplainedBan, Explanation, LimitLevel, OffenceRecord, PastBan,
        ThrottleInfo,
    },
    config::{Action, Scope},
    daemon::clock,
    dataplane::{kernel_now, limits::LoadedLimit},
    policy::BanTime,
    store::{EvidenceRow, HistoryRow, queries, rows::from_millis},
};

/// Bans of the past that are told at most.
const MAX_PAST: usize = 20;

impl Engine {
    /// Answers as soon as the store has told what it knows.
    pub(super) fn explain(&mut self, address: IpAddr, reply: Reply<Explanation>) {
        let (explanation, covering) = match self.explain_now(address) {
            Ok(explained) => explained,
            Err(error) => return answer(reply, Err(error)),
        };
        self.store.query(move |connection| {
            let mut explanation = explanation;
            if let Some(connection) = connection
                && let Err(error) = complete(&mut explanation, connection, &covering)
            {
                tracing::warn!(%error, "cannot read the store");
            }
            answer(reply, Ok(explanation));
        });
    }

    /// All but what only the store knows, and the prefixes that cover the address.
    fn explain_now(
        &mut self,
        address: IpAddr,
    ) -> Result<(Explanation, Vec<PrefixKey>), EngineError> {
        let host = net(&key(&IpNet::from(address))?);
        let covering = covering(address)?;
        let bans = self.bans_covering(address)?;
        let allow = self.allow_list().into_iter();
        let allow: Vec<_> = allow.filter(|entry| entry.source.contains(&host)).collect();
        let throttles = self.throttles_covering(address)?;
        let loaded = self.dataplane.limits().loaded().iter();
        let applying = loaded.filter(|limit| {
            let by = |throttle: &ThrottleInfo| throttle.limit == limit.config.name;
            limit.config.only == Scope::All || throttles.iter().any(by)
        });
        let levels = applying.filter_map(|limit| self.level(limit, host.addr()));
        let limits: Vec<LimitLevel> = levels.collect();
        let exhausted =
            |level: &LimitLevel| level.left == 0 && level.action == Action::Drop.to_string();
        let verdict = if !allow.is_empty() {
            "allowed"
        } else if !bans.is_empty() {
            "banned"
        } else if limits.iter().any(exhausted) {
            "limited"
        } else {
            "passes"
        };
        let explanation = Explanation {
            address: host.addr().to_string(),
            verdict: verdict.to_owned(),
            observe: self.observe,
            allow,
            bans: bans.into_iter().map(without_evidence).collect(),
            throttles,
            limits,
            offences: self.remembered(&covering),
            history: Vec::new(),
        };
        Ok((explanation, covering))
    }

    /// What a limit has left for an address now.
    fn level(&self, limit: &LoadedLimit, address: IpAddr) -> Option<LimitLevel> {
        let config = &limit.config;
        let length = match address {
            IpAddr::V4(_) => config.ipv4_prefix,
            IpAddr::V6(_) => config.ipv6_prefix,
        };
        let masked = PrefixKey::new(address, length)?;
        let owners = self.dataplane.bucket_owners();
        let buckets = self.dataplane.buckets();
        let ahead = buckets.level(&owners, limit, &masked.source()?, kernel_now());
        Some(limit_level(limit, &masked, ahead))
    }

    /// What is remembered of any of these, under any policy.
    fn remembered(&self, sources: &[PrefixKey]) -> Vec<OffenceRecord> {
        let now = self.clock.now();
        let mut found = Vec::new();
        for (number, policy) in self.offenders.policies().iter().enumerate() {
            let number = u16::try_from(number).unwrap_or_default();
            for source in sources {
                let subject = (number, *source);
                let Some(record) = self.offenders.record(subject) else {
                    continue;
                };
                let recent = record.offences.iter();
                let recent =
                    recent.filter(|offence| now.saturating_sub(offence.at) <= policy.findtime);
                let evidence: Vec<_> = recent.map(|offence| told(&offence.evidence)).collect();
                let bans = self.offenders.repeats(subject, now);
                found.push(OffenceRecord {
                    policy: policy.name.clone(),
                    source: net(source),
                    offences: evidence.len(),
                    maxretry: policy.maxretry,
                    bans,
                    next_ban_seconds: match policy.ban_time(bans, 0.0) {
                        BanTime::Permanent => None,
                        BanTime::For(time) => Some(time.as_secs()),
                    },
                    evidence,
                });
            }
        }
        found
    }
}

/// What a limit has left for a source, masked as it says, whose bucket is `ahead` ticks from full.
pub(super) fn limit_level(limit: &LoadedLimit, source: &PrefixKey, ahead: u64) -> LimitLevel {
    let config = &limit.config;
    let rate = config.rate();
    // A unit that is spent in part is spent.
    let spent = u128::from(ahead) << 8;
    let spent = spent.div_ceil(u128::from(rate.period.max(1)));
    let capacity = config.burst.saturating_add(1);
    LimitLevel {
        limit: config.name.clone(),
        source: net(source),
        count: config.count.name().to_owned(),
        rate: config.rate.to_string(),
        capacity,
        left: capacity.saturating_sub(u64::try_from(spent).unwrap_or(u64::MAX)),
        action: config.action.to_string(),
    }
}

/// Adds what the store knows.
fn complete(
    explanation: &mut Explanation,
    connection: &rusqlite::Connection,
    covering: &[PrefixKey],
) -> rusqlite::Result<()> {
    for explained in &mut explanation.bans {
        if explained.ban.offences.is_some() {
            let evidence = queries::evidence(connection, explained.ban.id)?;
            explained.evidence = evidence.iter().map(told).collect();
        }
    }
    let past = queries::history(connection, covering, MAX_PAST)?;
    explanation.history = past.into_iter().map(past_ban).collect();
    Ok(())
}

fn without_evidence(ban: BanInfo) -> ExplainedBan {
    ExplainedBan {
        ban,
        evidence: Vec::new(),
    }
}

fn told(evidence: &EvidenceRow) -> Evidence {
    Evidence {
        time: clock::format(from_millis(evidence.at)),
        text: evidence.text.clone(),
    }
}

fn past_ban(past: HistoryRow) -> PastBan {
    let HistoryRow {
        ban,
        ended,
        how,
        hits,
    } = past;
    PastBan {
        id: ban.id,
        source: net(&ban.source).to_string(),
        created: ban.created.map(clock::format),
        ended: clock::format(ended),
        how,
        cause: ban.note.cause.name().to_owned(),
        reason: ban.note.reason.clone(),
        by: ban.note.by.clone(),
        hits,
    }
}
