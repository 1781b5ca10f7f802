//! What is done about the difference: telling, and taking back.
//!
//! What a local API refuses holds up nothing else.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::prefix::PrefixKey;
use tokio::sync::broadcast;

use super::{COMPARE, End_, Own, Pushing, tell_overruled, written};
use crate::{
    api::types::EventRecord,
    crowdsec::{
        alert::{Alert, alert, key_of},
        client::LapiError,
        follow::Gone,
        ledger::{End, Pushed, Task},
        machine::{KnownAlert, Machine},
    },
    daemon::engine::Command,
};

/// Bans that are told in one request.
const BATCH: usize = 20;

/// How long to wait for a local API that could not take a ban, or that may not have written all of one.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// What is to be told of a ban.
struct Told {
    alert: Alert,
    source: PrefixKey,
    end: End,
}

impl Pushing<'_> {
    /// Does what there is to do.
    pub(super) async fn work(
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
            if tasks.is_empty() && self.ledger.queued() == 0 {
                return Ok(());
            }
            // Of a million sources most may be as they should be, and others wait for this thread.
            tokio::task::yield_now().await;
            self.note(false);
            self.do_tasks(machine, tasks).await?;
        }
    }

    async fn do_tasks(&mut self, machine: &mut Machine, tasks: Vec<Task>) -> Result<(), End_> {
        let mut to_tell = Vec::new();
        for task in tasks.iter().filter(|task| task.push) {
            match self.alert(task.source).await? {
                Some(told) if task.is_unsure && self.is_overruled(machine, &told.alert).await? => {
                    self.give_up(task.source, told.end);
                    tell_overruled(task.source);
                }
                Some(told) => to_tell.push(told),
                None => self.ledger.pushed(task.source, []),
            }
        }
        let told = self.tell(machine, to_tell).await;
        let has_taken = match &told {
            Ok(has_taken) => *has_taken,
            Err(End_::Failed(_)) => false,
            Err(_) => return told.map(drop),
        };
        // Others are not to be dropped because of what cannot be pushed.
        let withdraw = tasks.into_iter().flat_map(|task| task.withdraw);
        self.withdraw(machine, withdraw.collect(), has_taken)
            .await?;
        told.map(drop)
    }

    /// Whether this was told before, and its decision deleted by somebody else.
    async fn is_overruled(&self, machine: &mut Machine, alert: &Alert) -> Result<bool, LapiError> {
        // Of one that is deleted the alert still tells.
        Ok(!self.made_of(machine, alert).await?.is_empty())
    }

    /// The decisions that the local API has made of this ban with this end, unless one was taken back from here.
    async fn made_of(&self, machine: &mut Machine, alert: &Alert) -> Result<Vec<u64>, LapiError> {
        let latest = lenient(machine.latest(&alert.source.value).await)?;
        let same = latest.filter(|latest| {
            let meta = latest.meta.as_deref();
            alert.is_of_same_ban(meta.unwrap_or_default())
        });
        // A local API whose database fails halfway keeps an alert for which it has made none.
        let made = same.into_iter().flat_map(KnownAlert::own);
        let made: Vec<_> = made.map(|decision| decision.id).collect();
        let by_us = made.iter().any(|id| self.memory.withdrawn.contains(id));
        Ok(if by_us { Vec::new() } else { made })
    }

    /// Tells of these. One that the local API refuses is left out, so that it holds up no other: which one
    /// that is shows when each half is told on its own. Whether it has taken any.
    async fn tell(&mut self, machine: &mut Machine, to_tell: Vec<Told>) -> Result<bool, End_> {
        let mut batches = vec![to_tell];
        let mut refused = Vec::new();
        let mut has_taken = false;
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let alerts: Vec<_> = batch.iter().map(|told| &told.alert).collect();
            let error = match machine.tell(&alerts).await {
                Ok(numbers) => {
                    has_taken = true;
                    self.take_told(machine, &numbers, &batch).await?;
                    continue;
                }
                Err(error) if error.is_about_what_was_sent() => error,
                Err(error) => return Err(error.into()),
            };
            let count = batch.len();
            let mut rest = self.sort_out(machine, batch, &error).await?;
            has_taken |= rest.len() < count;
            if rest.len() == 1 {
                refused.extend(rest.pop().map(|told| (told, error)));
            } else {
                let half = rest.split_off(rest.len() / 2);
                batches.extend([half, rest]);
            }
        }
        for (told, error) in refused {
            // One that takes nothing at all has another problem.
            if !has_taken && error.is_of_server() {
                return Err(error.into());
            }
            self.tell_once_more(machine, told, error).await?;
        }
        Ok(has_taken)
    }

    /// Tells of one that was refused, if the local API may take it now, or gives it up.
    async fn tell_once_more(
        &mut self,
        machine: &mut Machine,
        told: Told,
        error: LapiError,
    ) -> Result<(), End_> {
        let (mut told, mut error) = (told, error);
        // It may have had one for a moment, as with a database that is locked.
        if error.is_of_server() {
            tokio::time::sleep(ONCE_MORE).await;
            error = match machine.tell(&[&told.alert]).await {
                Ok(numbers) => return self.take_told(machine, &numbers, &[told]).await,
                Err(again) if again.is_about_what_was_sent() => again,
                Err(again) => return Err(again.into()),
            };
            let mut rest = self.sort_out(machine, vec![told], &error).await?;
            told = match rest.pop() {
                Some(told) => told,
                None => return Ok(()),
            };
        }
        tracing::error!(
            source = written(told.source),
            "CrowdSec at {}: it refuses to be told of the ban: {error}; the ban stays, and is not \
             pushed again until it changes",
            self.config.address
        );
        self.give_up(told.source, told.end);
        let monitor = &self.surroundings.monitor;
        monitor.push(|status| status.refused += 1);
        Ok(())
    }

    /// What has become of these if the local API fails: those of them that it has not taken.
    ///
    /// It keeps what it wrote before it failed. To tell of that again would make another decision of the same
    /// ban, which nobody here knew of, and nobody took back with the ban. So what has been taken is taken note
    /// of; a decision without its alert, of which nobody can know whose it is, is taken back.
    async fn sort_out(
        &mut self,
        machine: &mut Machine,
        batch: Vec<Told>,
        error: &LapiError,
    ) -> Result<Vec<Told>, End_> {
        if !error.is_of_server() {
            return Ok(batch);
        }
        let mut rest = Vec::new();
        let mut suspects = Vec::new();
        for told in batch {
            let value = told.alert.source.value.clone();
            let in_force = lenient(machine.in_force(&value).await)?;
            let lost = lenient(machine.without_alert(&value, in_force).await)?;
            let made = self.made_of(machine, &told.alert).await?;
            if made.is_empty() {
                rest.push(told);
            } else {
                self.take_made(&told, made).await?;
            }
            if !lost.is_empty() {
                suspects.push((value, lost));
            }
        }
        if suspects.is_empty() {
            return Ok(rest);
        }
        // Of another node's it may have made the decision and be about to write the alert.
        tokio::time::sleep(ONCE_MORE).await;
        let mut lost = Vec::new();
        for (value, decisions) in suspects {
            lost.extend(lenient(machine.without_alert(&value, decisions).await)?);
        }
        if !lost.is_empty() {
            tracing::info!(
                "CrowdSec at {}: it failed halfway and has decisions without alerts: {}; they are taken back",
                self.config.address,
                lost.len()
            );
            self.withdraw(machine, lost, true).await?;
        }
        Ok(rest)
    }

    /// Takes note of what the local API has made of alerts: those with these numbers.
    async fn take_told(
        &mut self,
        machine: &mut Machine,
        numbers: &[String],
        told: &[Told],
    ) -> Result<(), End_> {
        let mut made: HashMap<PrefixKey, Vec<u64>> = HashMap::new();
        for number in numbers {
            for decision in machine.decisions(number).await? {
                if let Some(source) = key_of(&decision.value) {
                    made.entry(source).or_default().push(decision.id);
                }
            }
        }
        for told in told {
            // None, if there are lists there of whom nobody is to drop.
            let ids = made.remove(&told.source).unwrap_or_default();
            self.take_made(told, ids).await?;
        }
        Ok(())
    }

    /// Takes note of the decisions that were made of a ban.
    async fn take_made(&mut self, told: &Told, ids: Vec<u64>) -> Result<(), Gone> {
        let (source, end) = (told.source, told.end);
        let own = ids.iter().map(|id| (source, *id)).collect();
        self.tell_own.send(Own::More(own)).await.map_err(|_| Gone)?;
        if !ids.is_empty() {
            let monitor = &self.surroundings.monitor;
            monitor.push(|status| status.pushed += 1);
        }
        let pushed = ids.into_iter().map(|id| Pushed { id, end });
        self.ledger.pushed(source, pushed);
        Ok(())
    }

    /// Takes decisions back. One that the local API will not end is tried again when all is compared;
    /// `is_well` says whether it has just taken something.
    async fn withdraw(
        &mut self,
        machine: &mut Machine,
        decisions: Vec<u64>,
        is_well: bool,
    ) -> Result<(), End_> {
        let mut is_well = is_well;
        let mut refused = Vec::new();
        for decision in decisions {
            self.memory.withdraw(decision);
            match machine.withdraw(decision).await {
                Ok(()) => {
                    is_well = true;
                    let monitor = &self.surroundings.monitor;
                    monitor.push(|status| status.withdrawn += 1);
                }
                Err(error) if error.is_about_what_was_sent() => refused.push((decision, error)),
                Err(error) => return Err(error.into()),
            }
        }
        for (decision, error) in refused {
            if !is_well && error.is_of_server() {
                return Err(error.into());
            }
            tracing::error!(
                "CrowdSec at {}: it refuses to end decision {decision}: {error}; that is tried again \
                 within {} minutes, or `cscli decisions delete --id {decision}` ends it",
                self.config.address,
                COMPARE.as_secs() / 60
            );
            let monitor = &self.surroundings.monitor;
            monitor.push(|status| status.refused += 1);
        }
        Ok(())
    }

    /// Takes note that a ban is not to be pushed until it changes.
    fn give_up(&mut self, source: PrefixKey, end: End) {
        self.memory.given_up.insert(source, end);
        self.ledger.pushed(source, []);
    }

    /// What to tell of a ban; `None` if it has ended, or its source is never dropped here.
    async fn alert(&self, source: PrefixKey) -> Result<Option<Told>, End_> {
        let Some(address) = source.address() else {
            return Ok(None);
        };
        let explained = self.ask(|reply| Command::Explain(address, reply)).await?;
        let told = explained.and_then(|explained| alert(&explained, source, SystemTime::now()));
        Ok(told.map(|(alert, end)| Told { alert, source, end }))
    }
}

/// What was answered, or nothing: an address that cannot be asked about holds up no other.
fn lenient<T: Default>(answer: Result<T, LapiError>) -> Result<T, LapiError> {
    match answer {
        Err(error) if error.is_about_what_was_sent() => Ok(T::default()),
        answer => answer,
    }
}
