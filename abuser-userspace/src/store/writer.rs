//! The thread that writes.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::Connection;

use super::{
    Change, Done, Health, Job, Shared, StoreConfig, changes,
    place::Place,
    schema::{self, Purpose},
};

/// How long the thread has nothing to do before it tidies up.
const IDLE: Duration = Duration::from_secs(1);

/// Changes of one transaction at most: whoever waits for the first waits for all.
const MAX_TOGETHER: usize = 20_000;

/// How long history may go untrimmed while there is always something to do.
const BUSY: Duration = Duration::from_secs(5);

/// How often history is trimmed while nothing is added to it.
const TRIM: Duration = Duration::from_secs(3600);

/// Starts the thread; without one, the store has failed for good.
pub(super) fn start(
    connection: Option<Connection>,
    config: StoreConfig,
    shared: &Arc<Shared>,
    inbox: mpsc::Receiver<Job>,
) -> Option<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name("abuser-store".to_owned())
        .spawn(move || {
            let mut writer = Writer {
                database: connection.map(|connection| Database::of(connection, &config)),
                damage: None,
                config,
                shared: for_thread,
                trimmed: None,
                tidy_by: Instant::now() + BUSY,
            };
            writer.work(&inbox);
        });
    match thread {
        Ok(thread) => Some(thread),
        Err(error) => {
            shared.fail(&error);
            None
        }
    }
}

/// A database that can be written.
struct Database {
    connection: Connection,
    /// Where it is, if it is in a file; it is let go of after the connection, as fields are dropped in their order.
    place: Option<Place>,
}

impl Database {
    fn of(connection: Connection, config: &StoreConfig) -> Self {
        let place = Place::of(&config.path);
        Self { connection, place }
    }
}

struct Writer {
    /// `None` from an error on, until it is revived.
    database: Option<Database>,
    /// What was wrong with the database if it was found damaged at work.
    damage: Option<String>,
    config: StoreConfig,
    shared: Arc<Shared>,
    /// When history was trimmed last; `None`: there is something to trim.
    trimmed: Option<SystemTime>,
    /// When to tidy up even if there is something else to do.
    tidy_by: Instant,
}

impl Writer {
    fn work(&mut self, inbox: &mpsc::Receiver<Job>) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match inbox.recv_timeout(IDLE) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.tidy_up();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            let is_known = self.shared.found().is_none();
            match job {
                // What the books do not have yet is not surplus.
                Job::Count(_) | Job::Retain(_) | Job::Allowed(_) | Job::Throttles(_)
                    if !is_known => {}
                Job::Write(changes, done) => next = self.write(inbox, changes, done),
                Job::Compare(rows) => {
                    self.repair(|db| changes::compare(db, &rows));
                    self.shared
                        .comparing
                        .fetch_sub(rows.len(), Ordering::SeqCst);
                }
                Job::Retain(ids) => self.repair(|db| changes::retain(db, &ids)),
                Job::Allowed(rows) => self.repair(|db| changes::compare_allowed(db, &rows)),
                Job::Throttles(rows) => self.repair(|db| changes::compare_throttles(db, &rows)),
                Job::Count(expected) => {
                    let count = self
                        .connection()
                        .map(|connection| changes::count(connection));
                    let surplus = self.checked(count).is_some_and(|count| count > expected);
                    self.shared.surplus.store(surplus, Ordering::SeqCst);
                }
                Job::Read(query) => query(self.connection().map(|connection| &*connection)),
                Job::Revive => self.revive(),
            }
            // Who never rests would never tidy up.
            if Instant::now() >= self.tidy_by {
                self.tidy_up();
            }
        }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.database
            .as_mut()
            .map(|database| &mut database.connection)
    }

    /// Puts right what differs from the books, and counts it.
    fn repair(&mut self, repair: impl FnOnce(&Connection) -> rusqlite::Result<u64>) {
        self.look();
        let repaired = self.connection().map(|connection| {
            let transaction = connection.transaction()?;
            let repairs = repair(&transaction)?;
            transaction.commit()?;
            Ok(repairs)
        });
        let repairs = self.checked(repaired).unwrap_or_default();
        self.shared.repairs.fetch_add(repairs, Ordering::Relaxed);
    }

    /// Writes what is at hand as one transaction. Returns a job that came between.
    fn write(
        &mut self,
        inbox: &mpsc::Receiver<Job>,
        changes: Vec<Change>,
        done: Option<Done>,
    ) -> Option<Job> {
        let mut batches = vec![changes];
        let mut dones: Vec<Done> = done.into_iter().collect();
        let mut count: usize = batches.iter().map(Vec::len).sum();
        let mut next = None;
        while count < MAX_TOGETHER {
            match inbox.try_recv() {
                Ok(Job::Write(changes, done)) => {
                    count += changes.len();
                    batches.push(changes);
                    dones.extend(done);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let evidence = self.config.evidence;
        let begun = Instant::now();
        self.look();
        let written = self.connection().map(|connection| {
            let transaction = connection.transaction()?;
            for changes in &batches {
                changes::apply(&transaction, changes, evidence)?;
            }
            transaction.commit()
        });
        if self.checked(written).is_some() {
            self.shared.transactions.observe(begun.elapsed());
        }
        self.shared.pending.fetch_sub(count, Ordering::SeqCst);
        let over = |change: &Change| matches!(change, Change::Unban(_));
        if batches.iter().flatten().any(over) {
            self.trimmed = None;
        }
        for done in dones {
            done();
        }
        next
    }

    /// Lets go of a database that is not where it was opened any more.
    fn look(&mut self) {
        let place = self.database.as_mut().and_then(|db| db.place.as_mut());
        if let Some(misplaced) = place.and_then(Place::look) {
            self.lose(&misplaced.why, misplaced.is_damage);
        }
    }

    /// Lets go of the database: until it is revived there is no store.
    fn lose(&mut self, why: &dyn Display, is_damage: bool) {
        self.database = None;
        if is_damage {
            self.damage = Some(why.to_string());
        }
        self.shared.fail(why);
    }

    /// The result; after an error there is no store until it is revived.
    fn checked<T>(&mut self, result: Option<rusqlite::Result<T>>) -> Option<T> {
        match result? {
            Ok(value) => Some(value),
            Err(error) => {
                self.lose(&error, schema::is_damage(&error));
                None
            }
        }
    }

    /// Opens the database again if it failed; one that was found damaged is replaced. Only what can be
    /// written is back: on a full disk a database can be opened.
    fn revive(&mut self) {
        if self.database.is_some() && self.shared.health() == Health::Good {
            return;
        }
        self.database = None;
        let purpose = if self.shared.unread.load(Ordering::SeqCst) {
            Purpose::WriteAndRead
        } else {
            Purpose::Write
        };
        let opened = match &self.damage {
            Some(error) => schema::begin_anew(&self.config.path, error, purpose),
            None => schema::open(&self.config.path, purpose),
        };
        if let Ok(opened) = opened {
            self.damage = None;
            let (connection, snapshot) = self.shared.opened(opened);
            self.database = Some(Database::of(connection, &self.config));
            if self.shared.unread.swap(false, Ordering::SeqCst) {
                *self.shared.found() = Some(snapshot);
            }
            self.shared.set_health(Health::Good);
            self.shared.revived.store(true, Ordering::SeqCst);
            tracing::warn!(
                path = %self.config.path.display(),
                "the store can be written again; bringing it up to date"
            );
        }
    }

    fn tidy_up(&mut self) {
        self.tidy_by = Instant::now() + BUSY;
        self.look();
        let now = SystemTime::now();
        let rested = |trimmed: SystemTime| now.duration_since(trimmed).unwrap_or(TRIM) < TRIM;
        if self.trimmed.is_some_and(rested) {
            return;
        }
        let StoreConfig {
            history,
            history_max,
            ..
        } = self.config;
        let oldest = now.checked_sub(history).unwrap_or(SystemTime::UNIX_EPOCH);
        let more = self
            .connection()
            .map(|connection| changes::trim(connection, oldest, history_max));
        if self.checked(more) == Some(true) {
            // It goes on after the next job, or the next pause.
            self.tidy_by = Instant::now();
        } else {
            self.trimmed = Some(now);
        }
    }
}
