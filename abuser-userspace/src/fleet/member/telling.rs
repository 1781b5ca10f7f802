//! What the engine is told: who is banned and allowed by others, and what of that has changed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};

use super::{Member, Stopped, Told, now};
use crate::{
    daemon::{
        apart::apart,
        clock,
        engine::{
            Command,
            lists::{Listed, MAX_CHANGE, Outside, Update},
        },
    },
    fleet::state::Counts,
    store::rows::BanNote,
    words::counted,
};

impl Member {
    /// Whether there is something to tell the engine.
    pub(super) fn has_news(&self) -> bool {
        match self.told {
            Told::Nothing => false,
            Told::AllIsDue => true,
            Told::All => self.state.has_changed(),
        }
    }

    /// What is to be told to the engine: what has changed since it was told last.
    pub(super) async fn news(&mut self) -> Command {
        if self.told != Told::All {
            // Until it is, also if this is dropped halfway.
            self.told = Told::AllIsDue;
            let bans = self.state.take_all();
            tracing::info!(
                "fleet: other nodes ban {}",
                counted(bans.len() as u64, "source", "sources")
            );
            let entries = apart(move || {
                let bans = bans.iter();
                bans.map(|(source, banned)| listed(*source, banned))
                    .collect()
            });
            let all = Update::All(entries.await);
            self.told = Told::All;
            return Command::Outside(Outside::Fleet, all);
        }
        let (mut named, mut dropped) = (Vec::new(), Vec::new());
        for (source, banned) in self.state.take_changed(MAX_CHANGE) {
            match banned {
                Some(banned) => named.push(listed(source, &banned)),
                None => dropped.push(source),
            }
        }
        Command::Outside(Outside::Fleet, Update::Change { named, dropped })
    }

    /// Tells whom others allow, if that has changed: as a whole, and so not as often as they change it.
    pub(super) async fn tell_allowed(&mut self) -> Result<(), Stopped> {
        if self.told != Told::All || !self.state.has_changed_allowed() {
            return Ok(());
        }
        let time = Instant::now();
        let pace = &mut self.allowed_pace;
        let due = self.allowed_due;
        let due = due.unwrap_or_else(|| pace.next(time, fastrand::f64()));
        self.allowed_due = Some(due).filter(|due| *due > time);
        if self.allowed_due.is_some() {
            return Ok(());
        }
        // If this ends here, nothing of it is taken for told.
        let permit = self.around.commands.clone().reserve_owned().await;
        let permit = permit.map_err(|_| Stopped)?;
        let allowed = self.state.take_allowed().into_iter();
        let allowed = allowed.map(|(source, counts)| {
            let Counts { node, said, .. } = counts;
            let note = match &said.reason {
                Some(reason) => format!("{node}: {reason}"),
                None => node.to_string(),
            };
            (source, note)
        });
        permit.send(Command::FleetAllowed(allowed.collect()));
        Ok(())
    }
}

/// The entry of the engine's list for what another node says.
fn listed(source: PrefixKey, banned: &Counts) -> Listed {
    let Counts { node, until, said } = banned;
    let left = Duration::from_millis(until.saturating_sub(now()));
    Listed {
        source,
        expires_ns: clock::kernel_deadline(left),
        note: Arc::new(BanNote {
            cause: BanCause::Fleet,
            subject: Some(node.to_string()),
            policy: None,
            reason: Some(said.reason.clone().unwrap_or_else(|| said.cause.clone())),
            by: None,
        }),
    }
}
