//! Telling a local API of the bans that were made here, so that its other bouncers enforce them, and
//! taking back what has ended before its time.
//!
//! Nothing of it is kept for later: when there is an answer again, all bans are compared with what the
//! local API has from here. So neither its absence nor a restart of either side leaves a difference.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use ipnet::IpNet;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};

use super::{
    backoff::Backoff,
    client::{Lapi, LapiError},
    decisions::DecisionKey,
    follow::{Gone, Surroundings},
    ledger::{End, Ledger, Overruled, Pushed, Task},
    machine::{Alert, Event, KnownDecision, Machine, Meta, NewDecision, ORIGIN, Source},
};
use crate::{
    api::types::{BanInfo, EventKind, EventRecord, ExplainedBan, Explanation},
    config::{CrowdsecConfig, CrowdsecPush, parse_prefix},
    daemon::{clock, engine::Command},
    exchange::{self, Expiry},
};

/// Bans that are told in one request.
const BATCH: usize = 20;
/// How often to show that we are alive.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often to compare all bans without a need that is known of.
const COMPARE: Duration = Duration::from_secs(3600);
/// Evidence that is told of one ban.
const MAX_EVENTS: usize = 10;

/// Which decisions are our own.
#[derive(Debug)]
pub(super) enum Own {
    /// These are.
    All(HashSet<u64>),
    /// These are, too.
    More(Vec<DecisionKey>),
    /// Nobody knows at the moment.
    Unknown,
}

/// Why it does not go on.
enum End_ {
    /// The engine has gone.
    Gone,
    /// All is to be compared anew.
    Again,
    /// The local API did not answer.
    Failed(LapiError),
}

impl From<LapiError> for End_ {
    fn from(error: LapiError) -> Self {
        Self::Failed(error)
    }
}

impl From<Gone> for End_ {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Pushes until the engine ends.
pub(super) async fn keep_pushing(
    config: &CrowdsecConfig,
    push: &CrowdsecPush,
    surroundings: &Surroundings,
    tell_own: mpsc::Sender<Own>,
    over: mpsc::UnboundedReceiver<DecisionKey>,
) -> Gone {
    let mut pushing = Pushing {
        config,
        push,
        surroundings,
        tell_own,
        over,
        overruled: Overruled::new(),
        ledger: Ledger::default(),
        backoff: Backoff::default(),
    };
    let mut said = None;
    loop {
        let error = match pushing.push().await {
            End_::Gone => return Gone,
            End_::Again => continue,
            End_::Failed(error) => error.to_string(),
        };
        if pushing.tell_own.send(Own::Unknown).await.is_err() {
            return Gone;
        }
        surroundings.monitor.push(|status| {
            status.connected = false;
            status.failures += 1;
            status.error = Some(error.clone());
        });
        if said.as_ref() != Some(&error) {
            let address = &config.address;
            tracing::warn!(
                "CrowdSec at {address}: cannot tell it of bans: {error}; they are told when it is back"
            );
            said = Some(error);
        }
        tokio::time::sleep(pushing.backoff.next(fastrand::f64())).await;
    }
}

struct Pushing<'a> {
    config: &'a CrowdsecConfig,
    push: &'a CrowdsecPush,
    surroundings: &'a Surroundings,
    tell_own: mpsc::Sender<Own>,
    over: mpsc::UnboundedReceiver<DecisionKey>,
    overruled: Overruled,
    ledger: Ledger,
    backoff: Backoff,
}

impl Pushing<'_> {
    async fn push(&mut self) -> End_ {
        match self.try_push().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Compares all bans, then follows what happens to them.
    async fn try_push(&mut self) -> Result<std::convert::Infallible, End_> {
        let lapi = Lapi::new(self.config)?;
        let mut machine = Machine::log_in(&lapi, self.push).await?;
        // From here on nothing is missed.
        let events = self.surroundings.events.upgrade().ok_or(Gone)?;
        let mut events = {
            let sender = events;
            sender.subscribe()
        };
        let own: Vec<_> = machine.own().await?.iter().filter_map(known).collect();
        let ids = own.iter().map(|(_, decision)| decision.id).collect();
        self.tell_own.send(Own::All(ids)).await.map_err(|_| Gone)?;
        let wanted = self.wanted().await?;
        // What others have deleted meanwhile is known by what was pushed before.
        while let Ok(over) = self.over.try_recv() {
            self.take_over(over);
        }
        self.ledger = Ledger::new(wanted, own, &mut self.overruled);
        let compare = Instant::now() + COMPARE;
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            self.work(&mut machine, &mut events).await?;
            self.backoff.reset();
            self.note(true);
            tokio::select! {
                event = events.recv() => self.take(event)?,
                Some(over) = self.over.recv() => self.take_over(over),
                () = tokio::time::sleep_until(heartbeat) => {
                    machine.show_life().await?;
                    heartbeat = Instant::now() + HEARTBEAT;
                }
                () = tokio::time::sleep_until(compare) => return Err(End_::Again),
            }
        }
    }

    /// Does what there is to do.
    async fn work(
        &mut self,
        machine: &mut Machine,
        events: &mut broadcast::Receiver<Arc<EventRecord>>,
    ) -> Result<(), End_> {
        loop {
            // What has happened meanwhile may spare some of it.
            loop {
                match events.try_recv() {
                    Ok(event) => self.take(Ok(event))?,
                    Err(broadcast::error::TryRecvError::Empty) => break,
                    Err(broadcast::error::TryRecvError::Closed) => return Err(End_::Gone),
                    Err(broadcast::error::TryRecvError::Lagged(_)) => return Err(End_::Again),
                }
            }
            let tasks = self.ledger.tasks(BATCH, SystemTime::now());
            if tasks.is_empty() {
                return Ok(());
            }
            self.note(false);
            self.do_tasks(machine, tasks).await?;
        }
    }

    async fn do_tasks(&mut self, machine: &mut Machine, tasks: Vec<Task>) -> Result<(), End_> {
        let mut alerts = Vec::new();
        let mut sources = Vec::new();
        for task in tasks.iter().filter(|task| task.push) {
            match self.alert(task.source).await? {
                Some((alert, end)) => {
                    alerts.push(alert);
                    sources.push((task.source, end));
                }
                None => self.ledger.pushed(task.source, []),
            }
        }
        if !alerts.is_empty() {
            let numbers = machine.tell(&alerts).await?;
            if numbers.len() != alerts.len() {
                return Err(LapiError::Malformed(format!(
                    "it was told of {} alerts and has taken {}",
                    alerts.len(),
                    numbers.len()
                ))
                .into());
            }
            for (number, (source, end)) in numbers.iter().zip(sources) {
                let decisions = machine.alert(number).await?.decisions.unwrap_or_default();
                let ids: Vec<_> = decisions.iter().map(|decision| decision.id).collect();
                let own = ids.iter().map(|id| (source, *id)).collect();
                self.tell_own.send(Own::More(own)).await.map_err(|_| Gone)?;
                if !ids.is_empty() {
                    self.surroundings.monitor.push(|status| status.pushed += 1);
                }
                self.ledger
                    .pushed(source, ids.into_iter().map(|id| Pushed { id, end }));
            }
        }
        for task in tasks {
            for decision in task.withdraw {
                machine.withdraw(decision).await?;
                self.surroundings
                    .monitor
                    .push(|status| status.withdrawn += 1);
            }
        }
        Ok(())
    }

    /// Takes note of what has happened.
    fn take(
        &mut self,
        event: Result<Arc<EventRecord>, broadcast::error::RecvError>,
    ) -> Result<(), End_> {
        let event = match event {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(_)) => return Err(End_::Again),
            Err(broadcast::error::RecvError::Closed) => return Err(End_::Gone),
        };
        let source = || event.source.as_deref().and_then(key_of);
        match event.kind {
            EventKind::Ban => {
                let Some(source) = source() else {
                    return Ok(());
                };
                if self.is_pushed(event.cause.as_deref().unwrap_or_default()) {
                    self.ledger.want(source, end(event.expires.as_deref()));
                } else {
                    self.ledger.drop(source);
                }
            }
            EventKind::Unban => {
                if let Some(source) = source() {
                    self.ledger.drop(source);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes note that a decision of ours is no more.
    fn take_over(&mut self, (source, id): DecisionKey) {
        if let Some(end) = self.ledger.over(source, id, SystemTime::now()) {
            tracing::info!(
                source = source
                    .address()
                    .map(|address| format!("{address}/{}", source.length)),
                "CrowdSec: somebody deleted the decision that was made of a ban here; the ban stays, and is \
                 not pushed again"
            );
            self.overruled.insert(source, end);
        }
    }

    fn is_pushed(&self, cause: &str) -> bool {
        self.push.causes.iter().any(|pushed| pushed.name() == cause)
    }

    fn note(&self, done: bool) {
        let (queued, active) = (self.ledger.queued(), self.ledger.active());
        self.surroundings.monitor.push(|status| {
            status.queued = queued as u64;
            status.active = active as u64;
            status.connected |= done;
            if done {
                status.error = None;
            }
        });
    }

    /// The bans that are to be there.
    async fn wanted(&self) -> Result<Vec<(PrefixKey, End)>, End_> {
        let mut wanted = Vec::new();
        let mut after = None;
        loop {
            let page = self.ask(|reply| Command::BanPage(after, reply)).await?;
            let Some(page) = page else {
                return Err(End_::Again);
            };
            let pushed = page
                .items
                .iter()
                .filter(|ban| self.is_pushed(ban.exported(false).cause));
            wanted.extend(pushed.filter_map(|ban| {
                let ban = ban.exported(false);
                Some((key(&ban.source)?, ban.expires))
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(wanted),
            }
        }
    }

    /// What to tell of a ban; `None` if it has ended, or its source is never dropped here.
    async fn alert(&self, source: PrefixKey) -> Result<Option<(Alert, End)>, End_> {
        let Some(address) = source.address() else {
            return Ok(None);
        };
        let explained = self.ask(|reply| Command::Explain(address, reply)).await?;
        Ok(explained.and_then(|explained| alert(&explained, source, SystemTime::now())))
    }

    /// Asks the engine; `None` if it refuses.
    async fn ask<T>(
        &self,
        command: impl FnOnce(crate::daemon::engine::Reply<T>) -> Command,
    ) -> Result<Option<T>, Gone> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        self.surroundings
            .commands
            .send(command)
            .await
            .map_err(|_| Gone)?;
        Ok(answer.await.map_err(|_| Gone)?.ok())
    }
}

/// A decision that is there, as the ledger has it.
fn known(decision: &KnownDecision) -> Option<(PrefixKey, Pushed)> {
    let source = key_of(&decision.value)?;
    let end = match exchange::left(&decision.duration).ok()? {
        Expiry::In(left) if left.is_zero() => return None,
        Expiry::In(left) => SystemTime::now().checked_add(left),
        _ => None,
    };
    let id = decision.id;
    Some((source, Pushed { id, end }))
}

/// What to tell of the ban of exactly this source, and when that ends.
fn alert(explained: &Explanation, source: PrefixKey, now: SystemTime) -> Option<(Alert, End)> {
    let ExplainedBan { ban, evidence } = explained
        .bans
        .iter()
        .find(|explained| key(&explained.ban.source) == Some(source))?;
    // Whoever is never dropped here is not to be dropped elsewhere.
    if explained
        .allow
        .iter()
        .any(|allow| allow.source.contains(&ban.source))
    {
        return None;
    }
    let end = end(ban.expires.as_deref());
    let left = match end {
        Some(end) => end.duration_since(now).ok()?,
        // It has no word for good.
        None => exchange::FOR_GOOD,
    };
    let scenario = scenario(ban);
    let told = clock::format(now);
    let events: Vec<_> = evidence.iter().rev().take(MAX_EVENTS).rev().collect();
    let begin = events.first().map(|event| event.time.clone());
    let begin = begin
        .or_else(|| ban.created.clone())
        .unwrap_or_else(|| told.clone());
    let subject = of(&ban.source);
    Some((
        Alert {
            message: ban
                .reason
                .clone()
                .unwrap_or_else(|| format!("banned by {ORIGIN} ({})", ban.cause)),
            scenario: scenario.clone(),
            scenario_hash: "",
            scenario_version: env!("CARGO_PKG_VERSION"),
            events_count: ban.offences.unwrap_or(1),
            start_at: begin,
            stop_at: told,
            capacity: 0,
            leakspeed: "0s",
            simulated: false,
            remediation: true,
            events: events
                .into_iter()
                .map(|event| Event {
                    timestamp: event.time.clone(),
                    meta: vec![
                        Meta {
                            key: "source_ip",
                            value: subject.value.clone(),
                        },
                        Meta {
                            key: "evidence",
                            value: event.text.clone(),
                        },
                    ],
                })
                .collect(),
            decisions: [NewDecision {
                duration: format!("{}ms", left.as_millis()),
                origin: ORIGIN,
                scenario,
                scope: subject.scope,
                kind: "ban",
                value: subject.value.clone(),
            }],
            source: subject,
        },
        end,
    ))
}

/// What a ban is for, in words that others may filter by.
fn scenario(ban: &BanInfo) -> String {
    let subject = ban.limit.as_ref().or(ban.detector.as_ref());
    let subject = subject.filter(|_| {
        let causes = [BanCause::Limit, BanCause::Detector];
        causes.iter().any(|cause| cause.name() == ban.cause)
    });
    format!("{ORIGIN}/{}", subject.unwrap_or(&ban.cause))
}

fn of(source: &IpNet) -> Source {
    let is_host = source.prefix_len() == source.max_prefix_len();
    let (address, prefix) = (source.addr().to_string(), source.to_string());
    if is_host {
        Source {
            scope: "Ip",
            value: address.clone(),
            ip: Some(address),
            range: None,
        }
    } else {
        Source {
            scope: "Range",
            value: prefix.clone(),
            ip: None,
            range: Some(prefix),
        }
    }
}

fn key(source: &IpNet) -> Option<PrefixKey> {
    PrefixKey::new(source.addr(), source.prefix_len())
}

fn key_of(text: &str) -> Option<PrefixKey> {
    key(&parse_prefix(text).ok()?)
}

/// When what is written so ends; a time that cannot be read is none.
fn end(expires: Option<&str>) -> End {
    humantime::parse_rfc3339_weak(expires?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::types::{AllowInfo, Evidence};

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn explained(expires: Option<&str>) -> Explanation {
        let ban = json!({
            "id": 7, "source": "203.0.113.0/24", "created": "2026-11-24T11:00:00.000Z",
            "expires": expires, "remaining_seconds": null, "cause": "detector", "limit": null,
            "blocklist": null, "detector": "ssh", "crowdsec": null, "node": null, "policy": "default",
            "offences": 12, "reason": "ssh: 12 failures", "by": null, "hits": 3, "last_hit": null,
        });
        let evidence = (0..20).map(|number| Evidence {
            time: format!("2026-11-24T11:59:{number:02}.000Z"),
            text: format!("line {number}"),
        });
        Explanation {
            address: "203.0.113.0".to_owned(),
            verdict: "banned".to_owned(),
            observe: false,
            allow: Vec::new(),
            bans: vec![ExplainedBan {
                ban: serde_json::from_value(ban).unwrap(),
                evidence: evidence.collect(),
            }],
            throttles: Vec::new(),
            limits: Vec::new(),
            offences: Vec::new(),
            history: Vec::new(),
        }
    }

    fn told(explained: &Explanation) -> Option<serde_json::Value> {
        let source = key_of("203.0.113.0/24").unwrap();
        let now = end(Some(NOW)).unwrap();
        let (alert, _) = alert(explained, source, now)?;
        Some(serde_json::to_value(alert).unwrap())
    }

    #[test]
    fn an_alert_says_who_why_how_long_and_what_led_to_it() {
        let told = told(&explained(Some("2026-11-24T13:00:00.500Z"))).unwrap();
        assert_eq!(told["scenario"], "abuser/ssh");
        assert_eq!(told["message"], "ssh: 12 failures");
        assert_eq!(told["events_count"], 12);
        assert_eq!(
            (&told["simulated"], &told["remediation"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(told["stop_at"], "2026-11-24T12:00:00.000Z");
        assert_eq!(
            told["source"],
            json!({"scope": "Range", "value": "203.0.113.0/24", "range": "203.0.113.0/24"})
        );
        assert_eq!(
            told["decisions"],
            json!([{
                "duration": "3600500ms", "origin": "abuser", "scenario": "abuser/ssh", "scope": "Range",
                "type": "ban", "value": "203.0.113.0/24",
            }])
        );
        let events = told["events"].as_array().unwrap();
        assert_eq!(events.len(), MAX_EVENTS, "the latest");
        assert_eq!(told["start_at"], "2026-11-24T11:59:10.000Z");
        assert_eq!(
            events[9]["meta"][1],
            json!({"key": "evidence", "value": "line 19"})
        );
    }

    #[test]
    fn what_has_ended_or_is_allowed_is_not_told() {
        assert!(told(&explained(Some("2026-11-24T11:59:59Z"))).is_none());
        let mut allowed = explained(None);
        assert!(told(&allowed).is_some());
        let allow = json!({"source": "203.0.0.0/16", "origin": "config", "note": null, "created": null, "by": null});
        allowed.allow = vec![serde_json::from_value::<AllowInfo>(allow).unwrap()];
        assert!(told(&allowed).is_none());
        let mut other = explained(None);
        other.bans[0].ban.source = "203.0.113.0/25".parse().unwrap();
        assert!(told(&other).is_none(), "another prefix");
    }

    #[test]
    fn hosts_are_addresses_and_networks_are_ranges() {
        for (source, scope, value) in [
            ("203.0.113.7/32", "Ip", "203.0.113.7"),
            ("2001:db8::1/128", "Ip", "2001:db8::1"),
            ("2001:db8::/64", "Range", "2001:db8::/64"),
        ] {
            let told = of(&source.parse().unwrap());
            assert_eq!((told.scope, told.value.as_str()), (scope, value));
        }
    }
}
