//! Comparing the books with the maps and the store, and putting right what differs.
//!
//! The books are what holds. Somebody with bpftool may have deleted or forged an entry of a
//! map, somebody with sqlite3 a row, a disk may have been full for a while. A pass goes over
//! all of them in small steps, so that no ban waits for it.

use std::time::{Duration, Instant};

use abuser_common::{layout::Ban, prefix::PrefixKey};

use super::{Engine, EngineError, net, throttles::throttling};
use crate::{
    dataplane::{
        prefixes::Position,
        throttles::{entry, is_same},
    },
    store::Health,
};

/// From the start of one pass to the start of the next.
const PASS: Duration = Duration::from_secs(30);
/// From one step of a pass to the next.
const STEP: Duration = Duration::from_millis(10);
/// Entries that a step looks at: about a millisecond's worth.
const STEP_SIZE: usize = 1024;
/// How often it is tried to write a store again that failed.
const TRY_STORE: Duration = Duration::from_secs(5);

/// What was put right since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Repairs {
    /// Entries of maps that were missing, differed, or were nobody's.
    pub(super) kernel: u64,
    /// Passes that were finished.
    pub(super) passes: u64,
}

/// What a pass looks at next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Each ban of the books: whether the map and the store have it.
    Bans(Option<PrefixKey>),
    /// Each entry of the ban map: whether the books have it.
    BanMap(Option<Position>),
    /// Each throttled source of the books: whether the map has it.
    Throttles(Option<PrefixKey>),
    /// Each entry of the map of throttles: whether the books have it.
    ThrottleMap(Option<Position>),
    /// Both ways for the allow list, which is small.
    Allowed,
    /// Whether the store has more than the books.
    Store,
}

/// Where the comparison is.
#[derive(Debug)]
pub(super) struct Reconciler {
    stage: Option<Stage>,
    started: Instant,
    /// Whether ends differ because the machine has slept: that is nobody's doing.
    is_waking: bool,
    /// When it was last tried to write a store that failed.
    tried: Instant,
}

impl Reconciler {
    /// One that begins its first pass at once.
    pub(super) fn new() -> Self {
        Self {
            stage: Some(Stage::Bans(None)),
            started: Instant::now(),
            is_waking: false,
            tried: Instant::now(),
        }
    }

    /// Begins a pass at once.
    fn begin_now(&mut self) {
        self.stage = Some(Stage::Bans(None));
        self.started = Instant::now();
    }

    /// Begins a pass at once that is to bring the ends in the maps forward, after a sleep.
    pub(super) fn follow_sleep(&mut self) {
        self.begin_now();
        self.is_waking = true;
    }

    /// When the next step is due.
    pub(super) fn due(&self) -> Instant {
        match self.stage {
            Some(_) => Instant::now() + STEP,
            None => self.started + PASS,
        }
    }
}

impl Engine {
    /// Takes one step. To be called when [`Reconciler::due`].
    pub(super) fn reconcile(&mut self) {
        let stage = self.reconciler.stage.unwrap_or_else(|| {
            self.reconciler.started = Instant::now();
            Stage::Bans(None)
        });
        let next = match stage {
            Stage::Bans(after) => self.compare_bans(after),
            Stage::BanMap(position) => self.compare_ban_map(position),
            Stage::Throttles(after) => self.compare_throttles(after),
            Stage::ThrottleMap(position) => self.compare_throttle_map(position),
            Stage::Allowed => self.compare_allowed().map(|()| Some(Stage::Store)),
            Stage::Store => {
                self.compare_store();
                Ok(None)
            }
        };
        self.reconciler.stage = match next {
            Ok(Some(next)) => Some(next),
            Ok(None) => {
                self.repairs.passes += 1;
                self.reconciler.is_waking = false;
                self.write_clocks();
                None
            }
            Err(error) => {
                tracing::error!(%error, "cannot compare the kernel's maps with what they should hold");
                None
            }
        };
    }

    /// Tries a store again that failed, and brings one up to date that is back.
    pub(super) fn tend_store(&mut self) {
        if self.follow_store() {
            self.reconciler.begin_now();
        }
        let failed = matches!(self.store.health(), Health::Failed { .. });
        if failed && self.reconciler.tried.elapsed() >= TRY_STORE {
            self.reconciler.tried = Instant::now();
            self.store.revive();
        }
    }

    /// Whether a store is back that had failed. It lacks what happened meanwhile: what is not compared is
    /// written here.
    fn follow_store(&mut self) -> bool {
        if let Some(snapshot) = self.store.take_found() {
            let taken = self.take_in(snapshot);
            super::log_failure(taken);
        }
        let is_back = self.store.take_revived();
        if is_back {
            let rows_by_this_clock = self.clocks.followed().into_iter();
            self.keep(rows_by_this_clock.chain(self.all_offenders()));
            // Bans that have ended meanwhile; after a crash they would begin again.
            self.erase_surplus();
            // It may have been away when that was written.
            self.clocks.write_again();
            if let Some(tell) = &self.when_revived {
                tell();
            }
        }
        is_back
    }

    fn compare_bans(&mut self, after: Option<PrefixKey>) -> Result<Option<Stage>, EngineError> {
        let (table, hints) = self.dataplane.bans();
        let mut rows = Vec::new();
        let (mut wrong, mut late) = (Vec::new(), Vec::new());
        for (key, record) in self.bans.page(after, STEP_SIZE) {
            rows.push(record.row(key));
            let found = table.get(key)?;
            let entry = record.entry(found);
            if found == Some(entry) {
                continue;
            }
            let expires_ns = entry.expires_ns;
            let is_late = found.is_some_and(|found| {
                Ban {
                    expires_ns,
                    ..found
                } == entry
            });
            if is_late && self.reconciler.is_waking {
                late.push((*key, entry));
            } else {
                wrong.push((*key, entry));
            }
        }
        let Some(last) = rows.last().map(|row| row.source) else {
            return Ok(Some(Stage::BanMap(None)));
        };
        table.insert(hints, &late)?;
        table.insert(hints, &wrong)?;
        for (key, _) in &wrong {
            tracing::warn!(
                source = %net(key),
                "the ban of {} was missing in the kernel, or not as it should be; it is in force \
                 again",
                net(key)
            );
        }
        self.repairs.kernel += wrong.len() as u64;
        self.store.compare(rows);
        Ok(Some(Stage::Bans(Some(last))))
    }

    fn compare_ban_map(
        &mut self,
        position: Option<Position>,
    ) -> Result<Option<Stage>, EngineError> {
        let (entries, next) = self.dataplane.bans().0.page(position, STEP_SIZE)?;
        let forged = entries.iter().map(|(key, _)| *key);
        let forged: Vec<_> = forged.filter(|key| !self.bans.contains(key)).collect();
        let (table, hints) = self.dataplane.bans();
        for key in forged {
            tracing::warn!(
                source = %net(&key),
                "the kernel had a ban of {} that nobody made; it is removed",
                net(&key)
            );
            table.remove(hints, &key)?;
            self.repairs.kernel += 1;
        }
        Ok(Some(next.map_or(Stage::Throttles(None), |next| {
            Stage::BanMap(Some(next))
        })))
    }

    fn compare_throttles(
        &mut self,
        after: Option<PrefixKey>,
    ) -> Result<Option<Stage>, EngineError> {
        let (table, hints, limits) = self.dataplane.throttled();
        let mut last = None;
        let mut wrong = Vec::new();
        for (key, records) in self.throttles.page(after, STEP_SIZE) {
            last = Some(*key);
            let entry = entry(&throttling(records), limits.configs(), limits.bank());
            let found = table.get(key)?;
            if !found.is_some_and(|found| is_same(&found, &entry, limits.bank())) {
                wrong.push((*key, entry));
            }
        }
        table.insert(hints, &wrong)?;
        if self.reconciler.is_waking {
            wrong.clear();
        }
        for (key, _) in &wrong {
            tracing::warn!(
                source = %net(key),
                "the throttle of {} was missing in the kernel, or not as it should be; it is in \
                 force again",
                net(key)
            );
        }
        self.repairs.kernel += wrong.len() as u64;
        Ok(Some(match last {
            Some(last) => Stage::Throttles(Some(last)),
            None => Stage::ThrottleMap(None),
        }))
    }

    fn compare_throttle_map(
        &mut self,
        position: Option<Position>,
    ) -> Result<Option<Stage>, EngineError> {
        let (table, hints, _) = self.dataplane.throttled();
        let (entries, next) = table.page(position, STEP_SIZE)?;
        for (key, _) in entries {
            if self.throttles.contains(&key) {
                continue;
            }
            tracing::warn!(
                source = %net(&key),
                "the kernel had a throttle of {} that nobody made; it is removed",
                net(&key)
            );
            table.remove(hints, &key)?;
            self.repairs.kernel += 1;
        }
        Ok(Some(next.map_or(Stage::Allowed, |next| {
            Stage::ThrottleMap(Some(next))
        })))
    }

    fn compare_allowed(&mut self) -> Result<(), EngineError> {
        let found = self.dataplane.allowed().0.read_all()?;
        let mut wrong: Vec<PrefixKey> = Vec::new();
        let mut right = 0;
        for (key, value) in &found {
            if self.allowed.value(key) == Some(*value) {
                right += 1;
            } else {
                wrong.push(*key);
            }
        }
        if right < self.allowed.len() {
            let present: std::collections::HashSet<_> = found.iter().map(|(key, _)| *key).collect();
            let missing = self.allowed.keys().filter(|key| !present.contains(key));
            wrong.extend(missing);
        }
        for key in &wrong {
            tracing::warn!(
                source = %net(key),
                "the kernel's allow list was not as it should be about {}; it is now",
                net(key)
            );
        }
        self.repairs.kernel += wrong.len() as u64;
        self.write_allowed(&wrong)
    }

    /// All that the books have was compared row by row: what is left are rows too many.
    fn compare_store(&mut self) {
        self.store.compare_allowed(self.allowed.rows());
        self.store.compare_throttles(self.throttles.rows());
        if self.store.take_surplus() {
            self.erase_surplus();
        }
        self.store.count(self.bans.iter().count());
    }

    /// Has the store forget bans that there are not.
    fn erase_surplus(&self) {
        let ids = self.bans.iter().map(|(_, record)| record.id);
        self.store.retain(ids.collect());
    }
}
