//! What is done about the difference: telling, and taking back.
//!
//! What a local API refuses holds up nothing else.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use abuser_common::prefix::PrefixKey;
use tokio::{sync::broadcast, time::Instant};

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

/// What a local API has made of a ban.
enum Became {
    /// Decisions.
    Made,
    /// Nothing.
    Nothing,
    /// It does not say.
    Unknown,
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
        let made = self.made_of(machine, alert).await?;
        Ok(made.is_some_and(|made| !made.is_empty()))
    }

    /// The decisions that the local API has made of this ban with this end, unless one was taken back from here; `None` if it
    /// cannot be asked about this one.
    async fn made_of(
        &self,
        machine: &mut Machine,
        alert: &Alert,
    ) -> Result<Option<Vec<u64>>, LapiError> {
        let latest = match machine.latest(&alert.source.value).await {
            Err(error) if error.is_about_what_was_sent() => return Ok(None),
            latest => latest?,
        };
        let same = latest.filter(|latest| {
            let meta = latest.meta.as_deref();
            alert.is_of_same_ban(meta.unwrap_or_default())
        });
        // A local API whose database fails halfway keeps an alert for which it has made none.
        let made = same.into_iter().flat_map(KnownAlert::own);
        let made: Vec<_> = made.map(|decision| decision.id).collect();
        let by_us = made.iter().any(|id| self.memory.withdrawn.contains(id));
        Ok(Some(if by_us { Vec::new() } else { made }))
    }

    /// Tells of these. If the local API refuses them together, it is told of each on its own, so that one holds up no
    /// other. Whether it has taken any.
    async fn tell(&mut self, machine: &mut Machine, to_tell: Vec<Told>) -> Result<bool, End_> {
        let mut batches = vec![to_tell];
        let mut refused = Vec::new();
        let mut has_taken = false;
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let error = match self.tell_together(machine, &batch).await? {
                Ok(()) => {
                    has_taken = true;
                    continue;
                }
                Err(error) => Arc::new(error),
            };
            let is_alone = batch.len() == 1;
            // The last one that is put there is told first.
            for told in batch.into_iter().rev() {
                match self.became(machine, &told, &error).await? {
                    // What it kept before it failed does not show that it is well now.
                    Became::Made => {}
                    Became::Nothing if !is_alone => batches.push(vec![told]),
                    Became::Nothing | Became::Unknown => refused.push((told, Arc::clone(&error))),
                }
            }
        }
        for (told, error) in refused {
            // One that takes nothing at all has another problem.
            if !has_taken && error.is_of_server() {
                return Err(End_::Failed(error));
            }
            self.tell_once_more(machine, told, error).await?;
        }
        Ok(has_taken)
    }

    /// Tells of these in one request; the inner error is one that may be about them.
    async fn tell_together(
        &mut self,
        machine: &mut Machine,
        batch: &[Told],
    ) -> Result<Result<(), LapiError>, End_> {
        let alerts: Vec<_> = batch.iter().map(|told| &told.alert).collect();
        let error = match machine.tell(&alerts).await {
            Ok(numbers) => return self.take_told(machine, &numbers, batch).await.map(Ok),
            Err(error) => error,
        };
        // It may have written some of it, or be about to.
        if error.is_of_server() || matches!(error, LapiError::Unreachable(_)) {
            for alert in alerts {
                self.memory.doubts.add(&alert.source.value, Instant::now());
            }
        }
        if error.is_about_what_was_sent() {
            Ok(Err(error))
        } else {
            Err(error.into())
        }
    }

    /// What has become of a ban that the local API answered with this error.
    ///
    /// If it failed, it keeps what it wrote before. To tell of that again would make another decision of the same ban, which
    /// nobody here knew of, and nobody took back with the ban. So what has been made is taken note of.
    async fn became(
        &mut self,
        machine: &mut Machine,
        told: &Told,
        error: &LapiError,
    ) -> Result<Became, End_> {
        if !error.is_of_server() {
            return Ok(Became::Nothing);
        }
        match self.made_of(machine, &told.alert).await? {
            None => Ok(Became::Unknown),
            Some(made) if made.is_empty() => Ok(Became::Nothing),
            Some(made) => {
                self.take_made(told, made).await?;
                Ok(Became::Made)
            }
        }
    }

    /// Tells of one that was refused, if the local API may take it now, or gives it up.
    async fn tell_once_more(
        &mut self,
        machine: &mut Machine,
        told: Told,
        error: Arc<LapiError>,
    ) -> Result<(), End_> {
        let mut error = error;
        // It may have had one for a moment, as with a database that is locked.
        if error.is_of_server() {
            tokio::time::sleep(ONCE_MORE).await;
            let mut became = self.became(machine, &told, &error).await?;
            if matches!(became, Became::Nothing) {
                let batch = std::slice::from_ref(&told);
                error = match self.tell_together(machine, batch).await? {
                    Ok(()) => return Ok(()),
                    Err(again) => Arc::new(again),
                };
                became = self.became(machine, &told, &error).await?;
            }
            if matches!(became, Became::Made) {
                return Ok(());
            }
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

    /// Looks for decisions without an alert about one source that is due, of which nobody can know whose they are, and takes
    /// them back.
    pub(super) async fn look_into_doubt(&mut self, machine: &mut Machine) -> Result<(), End_> {
        let Some((source, doubt)) = self.memory.doubts.due(Instant::now()) else {
            return Ok(());
        };
        let looked = if doubt.without_alert.is_empty() {
            let looked = self.look_first(machine, &source).await;
            self.tell_own.send(Own::Asked).await.map_err(|_| Gone)?;
            looked
        } else {
            self.look_again(machine, &source, doubt.without_alert).await
        };
        let Err(error) = looked else {
            return Ok(());
        };
        if self.memory.doubts.put_off(&source, Instant::now()) {
            let kind = if source.contains('/') { "range" } else { "ip" };
            tracing::error!(
                source,
                "CrowdSec at {}: it failed when it was told of a ban, and cannot be asked what it has \
                 made of it: {error}; `cscli decisions delete --{kind} {source}` ends what there is",
                self.config.address
            );
        }
        if error.is_about_what_was_sent() {
            Ok(())
        } else {
            Err(error.into())
        }
    }

    async fn look_first(&mut self, machine: &mut Machine, source: &str) -> Result<(), LapiError> {
        let in_force = machine.in_force(source).await?;
        let without_alert = machine.without_alert(source, in_force).await?;
        let doubts = &mut self.memory.doubts;
        doubts.seen(source, without_alert, Instant::now());
        Ok(())
    }

    async fn look_again(
        &mut self,
        machine: &mut Machine,
        source: &str,
        suspects: Vec<u64>,
    ) -> Result<(), LapiError> {
        for decision in machine.without_alert(source, suspects).await? {
            self.take_back(machine, decision).await?;
            self.memory.doubts.taken_back(source, decision);
            tracing::info!(
                source,
                "CrowdSec at {}: it failed halfway and left decision {decision} without an alert; it is \
                 taken back",
                self.config.address
            );
        }
        self.memory.doubts.settle(source, Instant::now());
        Ok(())
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
            match self.take_back(machine, decision).await {
                Ok(()) => is_well = true,
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

    /// Takes one decision back.
    async fn take_back(&mut self, machine: &mut Machine, decision: u64) -> Result<(), LapiError> {
        self.memory.withdraw(decision);
        machine.withdraw(decision).await?;
        let monitor = &self.surroundings.monitor;
        monitor.push(|status| status.withdrawn += 1);
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
