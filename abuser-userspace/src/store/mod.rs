//! What outlives the daemon: bans, their history and evidence, offences, throttles, allow entries
//! that were added by command, and how far sources were read.
//!
//! An `SQLite` database, written by one thread. Whoever changes something hands the changes over
//! and is told when they are on disk; all that gathers meanwhile is one transaction, so a
//! thousand calls wait for the disk once. Nothing ever waits for the store to enforce.
//!
//! The engine's books are what holds; the store is their copy. So a disk that is full or
//! read-only costs nothing but the copy: the store says so and forgets, enforcement goes on,
//! and when the disk is back, [`Store::revive`] and the engine's comparisons make the copy
//! whole.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `schema` | the tables, their versions, opening the file |
//! | [`rows`] | what is stored, as the engine has it |
//! | `changes` | changes to SQL |
//! | [`queries`] | what is asked of it |
//! | `place` | whether the file is still there |
//! | `writer` | the thread |

mod changes;
mod place;
pub mod queries;
pub mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crate::{locks::Holder, metrics::latency::Latency};

pub use self::{
    changes::Change,
    rows::{
        AllowRow, BanRow, ClockRow, EvidenceRow, HistoryRow, OffenderRow, Passed, PositionKey,
        PositionRow, Snapshot, ThrottleNote, ThrottleRow,
    },
};
pub(crate) use self::{place::HEAD, schema::immutable_uri};

/// The path that stands for a store in memory, which a restart empties.
pub const IN_MEMORY: &str = ":memory:";

/// Changes that may wait for the disk. Beyond, the disk is taken for gone.
const MAX_PENDING: usize = 1 << 19;

/// Rows that may wait to be compared.
const MAX_COMPARING: usize = 1 << 16;

/// `[store]`: where it is and how much it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The database, or [`IN_MEMORY`].
    pub path: PathBuf,
    /// How long a ban that is over is remembered.
    pub history: Duration,
    /// How many of them are remembered at most.
    pub history_max: u64,
    /// How many events are kept as evidence for each ban, the latest ones.
    pub evidence: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/abuser/abuser.db"),
            history: Duration::from_secs(90 * 86_400),
            history_max: 100_000,
            evidence: 10,
        }
    }
}

/// What keeps a store from being made where `config` wants it, if something does.
pub fn doubt(config: &StoreConfig) -> Option<String> {
    let around = config.path.parent()?.parent()?;
    (config.path != Path::new(IN_MEMORY) && !around.is_dir()).then(|| {
        format!(
            "[store] path: there is no folder {}, so nothing would be kept in {}; correct the path, or \
             make the folder",
            around.display(),
            config.path.display()
        )
    })
}

/// Why the store cannot be used at all. A disk that cannot be written is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "{} is in use by {holder}, probably another abuser; stop that one, or set [store] path to \
         another file",
        path.display()
    )]
    InUse {
        /// The other one.
        holder: Holder,
        /// The database.
        path: PathBuf,
    },
    /// A newer version made it.
    #[error(
        "{} was written by a newer abuser (schema {found}, this one knows {known}); install that \
         version, or set [store] path to another file",
        path.display()
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its schema's version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// Another program's.
    #[error(
        "{} is a database of another program; nothing in it is changed: set [store] path to another file",
        path.display()
    )]
    Foreign {
        /// The database.
        path: PathBuf,
    },
}

/// How it stands with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// What was acknowledged is on disk.
    Good,
    /// Nothing is written until this ends.
    Failed {
        /// What the system said.
        error: String,
        /// Since when.
        since: SystemTime,
    },
}

/// What both the thread and its users know.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    health: Mutex<Health>,
    /// Changes handed over and not yet dealt with.
    pending: AtomicUsize,
    /// Rows that wait to be compared.
    comparing: AtomicUsize,
    /// Rows that differed from the books and were put right.
    repairs: AtomicU64,
    /// Whether there are more bans than there should be.
    surplus: AtomicBool,
    /// Whether the store is back and lacks what happened meanwhile.
    revived: AtomicBool,
    /// Whether it could not even be read at the start, so that nobody knows what it holds.
    unread: AtomicBool,
    /// What it held when it was back, until the books have it: before that nothing is taken for
    /// surplus.
    found: Mutex<Option<Snapshot>>,
    /// Where damaged databases were moved.
    aside: Mutex<Vec<PathBuf>>,
    /// How long writing takes.
    transactions: Latency,
}

impl Shared {
    /// What a database that was opened holds; notes where a damaged one went.
    fn opened(&self, opened: schema::Opened) -> (rusqlite::Connection, Snapshot) {
        let schema::Opened {
            connection,
            snapshot,
            aside,
        } = opened;
        self.aside().extend(aside);
        (connection, snapshot)
    }

    fn aside(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Health {
        let health = self.health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    fn found(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says loudly, once, that nothing is written any more.
    fn fail(&self, error: &dyn std::fmt::Display) {
        if matches!(self.health(), Health::Failed { .. }) {
            return;
        }
        tracing::error!(
            path = %self.path.display(),
            "cannot write to the store: {error}. Bans and limits go on; what changes from now on \
             is kept in memory only, until the store can be written again"
        );
        self.set_health(Health::Failed {
            error: error.to_string(),
            since: SystemTime::now(),
        });
    }
}

/// Called when changes are on disk, or when it is clear that they will not be.
pub type Done = Box<dyn FnOnce() + Send>;

/// What is done with the database, or without one.
type Query = Box<dyn FnOnce(Option<&rusqlite::Connection>) + Send>;

/// What the thread is asked to do.
enum Job {
    Write(Vec<Change>, Option<Done>),
    /// Makes rows like these, which the books have, and counts what differed.
    Compare(Vec<BanRow>),
    /// Finds out whether there are other bans than so many.
    Count(usize),
    /// Deletes bans but those with these numbers, in order.
    Retain(Vec<u64>),
    /// Makes the allow entries these.
    Allowed(Vec<AllowRow>),
    /// Makes the throttles these.
    Throttles(Vec<ThrottleRow>),
    Read(Query),
    Revive,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the database, makes it if there is none, and reads what it holds. One that is
    /// damaged is moved aside, and one that cannot be made or written is done without, both
    /// with a loud word.
    pub fn open(config: &StoreConfig) -> Result<(Self, Snapshot), StoreError> {
        let shared = Arc::new(Shared {
            path: config.path.clone(),
            health: Mutex::new(Health::Good),
            pending: AtomicUsize::new(0),
            comparing: AtomicUsize::new(0),
            repairs: AtomicU64::new(0),
            surplus: AtomicBool::new(false),
            revived: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            found: Mutex::new(None),
            aside: Mutex::default(),
            transactions: Latency::default(),
        });
        let (connection, snapshot) = match schema::open(&config.path, schema::Purpose::Start) {
            Ok(opened) => {
                let (connection, snapshot) = shared.opened(opened);
                (Some(connection), snapshot)
            }
            Err(schema::OpenError::Unusable(error)) => return Err(error),
            Err(schema::OpenError::Failed(error)) => {
                shared.fail(&error);
                let snapshot = schema::read_only(&config.path);
                shared.unread.store(snapshot.is_none(), Ordering::SeqCst);
                (None, snapshot.unwrap_or_default())
            }
        };
        let (jobs, inbox) = mpsc::channel();
        let thread = writer::start(connection, config.clone(), &shared, inbox);
        let store = Self {
            shared,
            jobs: Some(jobs),
            thread,
        };
        Ok((store, snapshot))
    }

    /// Hands changes over, which are written in order and all at once, and returns at once.
    pub fn write(&self, changes: Vec<Change>, done: Option<Done>) {
        let count = changes.len();
        let before = self.shared.pending.fetch_add(count, Ordering::SeqCst);
        if before + count > MAX_PENDING && before > 0 {
            self.shared.pending.fetch_sub(count, Ordering::SeqCst);
            self.shared
                .fail(&format!("{before} changes wait for the disk already"));
            if let Some(done) = done {
                done();
            }
            return;
        }
        self.send(Job::Write(changes, done));
    }

    /// Makes the rows of these bans as given; what differs is counted as a repair. With a disk
    /// that is slower than the books they wait for the next time.
    pub fn compare(&self, rows: Vec<BanRow>) {
        let count = rows.len();
        let before = self.shared.comparing.fetch_add(count, Ordering::SeqCst);
        if before > MAX_COMPARING {
            self.shared.comparing.fetch_sub(count, Ordering::SeqCst);
            return;
        }
        self.send(Job::Compare(rows));
    }

    /// Has the store's thread do something with the database, or without one.
    pub fn query(&self, query: impl FnOnce(Option<&rusqlite::Connection>) + Send + 'static) {
        self.send(Job::Read(Box::new(query)));
    }

    /// Finds out whether there are more bans than the `count` that were compared;
    /// [`Store::take_surplus`] says so later.
    pub fn count(&self, count: usize) {
        self.send(Job::Count(count));
    }

    /// Whether there were too many bans when they were last counted: [`Store::retain`] helps.
    pub fn take_surplus(&self) -> bool {
        self.shared.surplus.swap(false, Ordering::SeqCst)
    }

    /// Deletes the bans that have none of these numbers, and counts them as repairs.
    pub fn retain(&self, mut ids: Vec<u64>) {
        ids.sort_unstable();
        self.send(Job::Retain(ids));
    }

    /// Makes the allow entries these; what differs is counted as a repair.
    pub fn compare_allowed(&self, rows: Vec<AllowRow>) {
        self.send(Job::Allowed(rows));
    }

    /// Makes the throttles these; what differs is counted as a repair.
    pub fn compare_throttles(&self, rows: Vec<ThrottleRow>) {
        self.send(Job::Throttles(rows));
    }

    /// Tries to open a store again that failed, and can be written. [`Store::take_revived`] says whether that
    /// helped.
    pub fn revive(&self) {
        self.send(Job::Revive);
    }

    /// Whether the store is back: whatever is not compared is to be handed over again.
    pub fn take_revived(&self) -> bool {
        self.shared.revived.swap(false, Ordering::SeqCst)
    }

    /// What a store holds that could not be read at the start and is back: the books are to have
    /// it, too.
    pub fn take_found(&self) -> Option<Snapshot> {
        self.shared.found().take()
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Where databases are, the latest last, that were found damaged since the start and moved aside.
    pub fn aside(&self) -> Vec<PathBuf> {
        self.shared.aside().clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Rows that differed from the books and were put right, since the start.
    pub fn repairs(&self) -> u64 {
        self.shared.repairs.load(Ordering::Relaxed)
    }

    /// How long it takes to write what was handed over, from the begin of a transaction to the disk.
    pub fn transactions(&self) -> &Latency {
        &self.shared.transactions
    }

    fn send(&self, job: Job) {
        // The thread should end with this value, not before.
        if let Some(jobs) = &self.jobs {
            let Err(mpsc::SendError(job)) = jobs.send(job) else {
                return;
            };
            // It panicked, or never began. Nobody is to wait for it.
            self.shared.fail(&"the thread that writes has ended");
            match job {
                Job::Write(_, Some(done)) => done(),
                Job::Read(query) => query(None),
                _ => {}
            }
        }
    }
}

impl Drop for Store {
    /// Waits until all that was handed over is on disk.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
