//! Telling a local API of the bans that were made here, so that its other bouncers enforce them, and
//! taking back what has ended before its time.
//!
//! Nothing of it is kept for later: when there is an answer again, all bans are compared with what the
//! local API has from here. So neither its absence nor a restart of either side leaves a difference.

mod doubts;
mod work;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::prefix::PrefixKey;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};

use self::doubts::Doubts;
use super::{
    alert::{end, key, key_of},
    backoff::Backoff,
    client::{Lapi, LapiError},
    decisions::DecisionKey,
    follow::{Gone, Surroundings},
    ledger::{End, GivenUp, Ledger, Pushed},
    machine::{KnownDecision, Machine},
};
use crate::{
    api::types::{EventKind, EventRecord},
    config::{CrowdsecAddress, CrowdsecConfig, CrowdsecPush},
    daemon::{
        apart::{apart, drop_apart},
        engine::Command,
    },
    exchange::{self, Expiry},
};

/// How long to wait before all is compared anew: what was missed, was missed because there is much.
const AGAIN: Duration = Duration::from_secs(1);
/// How often to show that we are alive.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often to compare all bans without a need that is known of.
const COMPARE: Duration = Duration::from_secs(3600);
/// Decisions that were taken back and are remembered, the latest ones.
const MAX_WITHDRAWN: usize = 100_000;

/// Which decisions are our own.
#[derive(Debug)]
pub(super) enum Own {
    /// These are.
    All(HashSet<DecisionKey>),
    /// These are, too.
    More(Vec<DecisionKey>),
    /// Nobody knows at the moment.
    Unknown,
    /// The local API was asked for decisions meanwhile, and may leave what changed until then out of the stream: it keeps one
    /// time for all that a bouncer asks.
    Asked,
}

/// What outlasts a reload of the configuration.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Which local API and which machine it is about.
    about: Option<(CrowdsecAddress, String)>,
    given_up: GivenUp,
    /// Decisions that nobody else has deleted.
    withdrawn: BTreeSet<u64>,
    /// Of which sources there may be decisions that nobody knows of.
    doubts: Doubts,
}

impl Memory {
    /// Forgets it all if it is about another one.
    fn begin(&mut self, config: &CrowdsecConfig, push: &CrowdsecPush) {
        let about = (config.address.clone(), push.machine_id.clone());
        if self.about.as_ref() != Some(&about) {
            *self = Self {
                about: Some(about),
                ..Self::default()
            };
        }
    }

    fn withdraw(&mut self, decision: u64) {
        self.withdrawn.insert(decision);
        if self.withdrawn.len() > MAX_WITHDRAWN {
            self.withdrawn.pop_first();
        }
    }
}

/// Why it does not go on.
enum End_ {
    /// The engine has gone.
    Gone,
    /// All is to be compared anew.
    Again,
    /// The local API did not answer.
    Failed(Arc<LapiError>),
}

impl From<LapiError> for End_ {
    fn from(error: LapiError) -> Self {
        Self::Failed(Arc::new(error))
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
    memory: &mut Memory,
    tell_own: mpsc::Sender<Own>,
    over: mpsc::UnboundedReceiver<DecisionKey>,
) -> Gone {
    memory.begin(config, push);
    let mut pushing = Pushing {
        config,
        push,
        surroundings,
        tell_own,
        over,
        memory,
        ledger: Ledger::default(),
        backoff: Backoff::default(),
    };
    let mut said = None;
    loop {
        let error = match pushing.push().await {
            End_::Gone => return Gone,
            End_::Again => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
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
    memory: &'a mut Memory,
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
        let own = machine.own().await?;
        let known = apart(move || {
            let own: Vec<_> = own.iter().filter_map(known).collect();
            let keys = own.iter().map(|(source, decision)| (*source, decision.id));
            (keys.collect(), own)
        });
        let (keys, own) = known.await;
        self.tell_own.send(Own::All(keys)).await.map_err(|_| Gone)?;
        let wanted = self.wanted().await?;
        // What others have deleted meanwhile is known by what was pushed before.
        while let Ok(over) = self.over.try_recv() {
            self.take_over(over);
        }
        let before = std::mem::take(&mut self.ledger);
        // A copy: a reload may end this halfway, and what is remembered is to outlast it.
        let mut given_up = self.memory.given_up.clone();
        let compared = apart(move || {
            drop(before);
            (Ledger::new(wanted, own, &mut given_up), given_up)
        });
        (self.ledger, self.memory.given_up) = compared.await;
        let compare = Instant::now() + COMPARE;
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            self.look_into_doubt(&mut machine).await?;
            self.work(&mut machine, &mut events).await?;
            self.backoff.reset();
            self.note(true);
            let look = self.memory.doubts.next();
            tokio::select! {
                event = events.recv() => self.take(event)?,
                Some(over) = self.over.recv() => self.take_over(over),
                () = tokio::time::sleep_until(heartbeat) => {
                    machine.show_life().await?;
                    heartbeat = Instant::now() + HEARTBEAT;
                }
                () = tokio::time::sleep_until(look.unwrap_or(compare)), if look.is_some() => {}
                () = tokio::time::sleep_until(compare) => return Err(End_::Again),
            }
        }
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
            tell_overruled(source);
            self.memory.given_up.insert(source, end);
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

impl Drop for Pushing<'_> {
    fn drop(&mut self) {
        drop_apart(std::mem::take(&mut self.ledger));
    }
}

fn tell_overruled(source: PrefixKey) {
    tracing::info!(
        source = written(source),
        "CrowdSec: somebody deleted the decision that was made of a ban here; the ban stays, and is not \
         pushed again until it changes"
    );
}

fn written(source: PrefixKey) -> Option<String> {
    let address = source.address();
    address.map(|address| format!("{address}/{}", source.length))
}
