//! The one task that owns the maps and all that is known of bans.
//!
//! A ban enters the map first, then the books, then the store and the event stream:
//! enforcement waits for nothing. Who asked for it is answered when it is on disk. Commands
//! that name several sources are checked for all of them before the first is acted on, so an
//! error has changed nothing.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `books` | what is known of each ban besides what the map holds |
//! | `command`, `answers` | what it can be asked, and how that is answered |
//! | `keys` | from prefixes to keys of the maps, and back |
//! | `bans` | bans made, renewed, ended |
//! | `by_hand`, `import` | bans that somebody asks for: a few, or thousands |
//! | [`lists`] | bans that block lists, `CrowdSec` and the fleet call for |
//! | [`listing`] | bans as they are told |
//! | `findings` | from what detectors find, and applications tell of, to bans and throttles |
//! | `convict` | the ban of an offender, and of the prefix it is in |
//! | `log_budget` | how many lines of the log may tell of what was found |
//! | `offences` | from an event to an offence, and from offences to a ban |
//! | `allow` | who is never dropped |
//! | `throttles` | sources to which stricter limits apply for a while |
//! | `reload` | another configuration |
//! | `safety` | who must not be locked out |
//! | `clocks` | a clock that is set, and a machine that sleeps |
//! | `restore` | the start: from the store and the map to the books |
//! | `late` | a store that is there only later |
//! | `reconcile` | comparing the books with the maps and the store |
//! | `explain` | what a packet from an address would meet |
//! | `links` | interfaces that come and go |
//! | `top` | who is busiest |
//! | `report` | status, limits and metrics, as the API tells them |

mod allow;
mod answers;
mod bans;
mod books;
mod by_hand;
mod clocks;
mod command;
mod convict;
mod explain;
mod findings;
mod import;
mod keys;
mod late;
mod links;
pub mod listing;
pub mod lists;
mod log_budget;
mod offences;
mod reconcile;
mod reload;
mod report;
mod restore;
mod safety;
mod throttles;
mod top;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use abuser_common::layout::BanCause;
use ipnet::IpNet;
use tokio::sync::{Notify, broadcast, mpsc};

pub use self::command::{Asker, Command, EngineError, Page, Reply, Stop, ask_again};
pub use self::findings::Detected;
use self::{
    allow::AllowBooks,
    answers::{answer, complete},
    books::Books,
    clocks::Clocks,
    keys::{covering, key, keys, net},
    lists::Lists,
    log_budget::LogBudget,
    offences::PolicyClock,
    reconcile::{Reconciler, Repairs},
    throttles::ThrottleBooks,
    top::Summary,
};
use super::{
    events::{EventReader, Names},
    names::ConfiguredAllow,
    service::{Pulse, ServiceManager},
};
use crate::{
    api::types::{EventKind, EventRecord, ObserveRequest, Observing},
    config::{Config, MAX_NAME_LENGTH},
    dataplane::{
        Dataplane, DataplaneError, buckets::sweep_interval, interfaces::Interface, kernel_now,
        links::NetlinkChanges,
    },
    host::Essential,
    metrics::Latencies,
    policy::{Doubts, MAX_OFFENDERS, Offenders, Rollups},
    store::{Change, EvidenceRow, Health, Snapshot, Store},
};

/// The longest reason that is kept, in bytes.
pub(crate) const MAX_REASON: usize = 1000;
// What a detector says fits with its name before it, and behind it how often there was a ban before.
const _: () = assert!(MAX_NAME_LENGTH + abuser_detect::detect::MAX_REASON + 64 <= MAX_REASON);
/// Own bans that who hands them on may be behind before it misses some.
const OWN_BANS_BACKLOG: usize = 8192;
/// How often expired bans are cleared away. They end in the kernel to the nanosecond.
const SWEEP: Duration = Duration::from_millis(500);
/// How soon to go on if there are many of them.
const SWEEP_ON: Duration = Duration::from_millis(10);

/// What a command brought about, and what of it the store is to know before it is told.
#[derive(Debug, Default)]
struct Changed<T> {
    value: T,
    changes: Vec<Change>,
}

/// The engine's state.
pub struct Engine {
    dataplane: Dataplane,
    store: Store,
    offenders: Offenders<EvidenceRow>,
    rollups: Rollups,
    doubts: Doubts,
    clock: PolicyClock,
    clocks: Clocks,
    /// How many events are kept as evidence for a ban.
    evidence: usize,
    bans: Books,
    lists: Lists,
    allowed: AllowBooks,
    /// The proxies that sources of logs trust: no policy bans anybody together with one.
    trusted: Vec<IpNet>,
    throttles: ThrottleBooks,
    log_budget: LogBudget,
    reconciler: Reconciler,
    repairs: Repairs,
    names: Names,
    /// Who met limits and bans most of late.
    met: Summary,
    events: broadcast::Sender<Arc<EventRecord>>,
    own_bans: broadcast::Sender<Arc<EventRecord>>,
    observe: bool,
    started: (SystemTime, Instant),
    /// Whether who is essential to this host is allowed without being named, and who that is.
    automatic: bool,
    essential: Essential,
    /// Whether the program is to stay on when a signal stops the daemon.
    persist: bool,
    next_bucket_sweep: tokio::time::Instant,
    /// When to give up unless somebody confirms.
    confirm_by: Option<tokio::time::Instant>,
    latencies: Arc<Latencies>,
    /// Who else has things kept in the store is told here that it is back.
    when_revived: Option<Box<dyn Fn() + Send>>,
    /// The service manager is told here that the engine works.
    pulse: Pulse,
    /// Who shares the allow list is told here that a command has changed it.
    when_allowed: Arc<Notify>,
}

impl Engine {
    /// Takes over the data plane and the store. What is in force stays so until
    /// [`Engine::attach`].
    pub fn new(
        dataplane: Dataplane,
        store: Store,
        config: &Config,
        observe: bool,
        events: broadcast::Sender<Arc<EventRecord>>,
    ) -> Self {
        let latencies = Latencies::new(store.transactions().clone());
        Self {
            dataplane,
            store,
            offenders: Offenders::new(config.all_policies(), MAX_OFFENDERS),
            rollups: Rollups::default(),
            doubts: Doubts::default(),
            clock: PolicyClock::start(),
            clocks: Clocks::default(),
            evidence: config.store.evidence,
            bans: Books::default(),
            lists: Lists::default(),
            allowed: AllowBooks::default(),
            trusted: config.trusted_proxies(),
            throttles: ThrottleBooks::default(),
            log_budget: LogBudget::new(Instant::now()),
            reconciler: Reconciler::new(),
            repairs: Repairs::default(),
            names: Names::default(),
            met: Summary::default(),
            events,
            own_bans: broadcast::channel(OWN_BANS_BACKLOG).0,
            observe,
            started: (SystemTime::now(), Instant::now()),
            automatic: config.allow_automatic.0,
            essential: Essential::new(),
            persist: config.xdp.persist,
            next_bucket_sweep: tokio::time::Instant::now(),
            confirm_by: None,
            latencies: Arc::new(latencies),
            when_revived: None,
            pulse: Pulse::default(),
            when_allowed: Arc::new(Notify::new()),
        }
    }

    /// Attaches to the interfaces and puts bans and the configuration in force. Whoever is
    /// banned or allowed is so before the first packet is filtered.
    pub fn attach(
        &mut self,
        interfaces: &[Interface],
        config: &Config,
        allow: &[ConfiguredAllow],
        essential: Essential,
        snapshot: Snapshot,
    ) -> Result<(), EngineError> {
        self.restore(snapshot, allow, &config.limits)?;
        self.follow_essential(Some(essential))?;
        self.dataplane.protect(
            interfaces,
            config.xdp.how(),
            &config.limits,
            self.observe,
            &self.throttles.throttled(),
        )?;
        self.drop_stale_allow_entries()?;
        self.drop_stale_throttles()?;
        self.unban_trusted();
        self.dataplane.settle();
        self.name_things();
        Ok(())
    }

    /// The data plane, for what only the start needs.
    pub fn dataplane_mut(&mut self) -> &mut Dataplane {
        &mut self.dataplane
    }

    /// Where it is noted how long things take.
    pub fn latencies(&self) -> Arc<Latencies> {
        Arc::clone(&self.latencies)
    }

    /// Has somebody told when a store is back that could not be written.
    pub fn when_revived(&mut self, tell: impl Fn() + Send + 'static) {
        self.when_revived = Some(Box::new(tell));
    }

    /// Has the service manager told, turn by turn, that the engine works.
    pub(super) fn report_to(&mut self, manager: &ServiceManager) {
        self.pulse = manager.pulse();
    }

    /// The bans that no list of others calls for, and their ends: for who hands them on. A flood of drops
    /// does not make such a reader miss any.
    pub fn own_bans(&self) -> broadcast::WeakSender<Arc<EventRecord>> {
        self.own_bans.downgrade()
    }

    /// Where it is told that a command has changed the allow list.
    pub fn when_allowed(&self) -> Arc<Notify> {
        Arc::clone(&self.when_allowed)
    }

    /// Gives up a start that failed; what an earlier daemon left is kept as it is.
    pub fn abandon(self) {
        self.dataplane.abandon();
    }

    /// Works until `stop` comes or all interfaces were given up.
    pub(super) async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        mut reader: EventReader,
        links: NetlinkChanges,
        stop: impl Future<Output = &'static str>,
    ) -> io::Result<Stop> {
        let mut sweep = Instant::now() + SWEEP;
        let mut reconcile = self.reconciler.due();
        tokio::pin!(stop);
        loop {
            let lists = self.lists.due().map(Into::into);
            let links_again = self.dataplane.protected().retry().map(Into::into);
            // Whatever the last turn was for: under a flood it is always for events.
            if self.pulse.is_due() {
                self.pulse.beat(self.summary());
            }
            tokio::select! {
                // Bans come first: a flood of commands must not delay them, and the
                // kernel bounds how many events there can be.
                biased;
                signal = &mut stop => return Ok(Stop::Signal(signal)),
                // Whoever is locked out is let in, however busy it is.
                () = until(self.confirm_by) => return Ok(Stop::Unconfirmed),
                events = reader.read() => {
                    let events = events?;
                    // The machine may have slept while this waited.
                    self.follow_clocks();
                    for event in events {
                        self.handle_event(&event);
                    }
                }
                () = links.changed() => self.follow_links().await,
                () = until(links_again) => self.follow_links().await,
                () = tokio::time::sleep_until(sweep.into()) => {
                    // What has ended is known by the clocks.
                    self.follow_clocks();
                    self.tend_store();
                    let more = self.sweep() | self.sweep_throttles();
                    sweep = Instant::now() + if more { SWEEP_ON } else { SWEEP };
                    // What was noticed may call for a pass.
                    reconcile = reconcile.min(self.reconciler.due());
                }
                () = tokio::time::sleep_until(reconcile.into()) => {
                    self.follow_clocks();
                    self.reconcile();
                    reconcile = self.reconciler.due();
                }
                () = until(lists) => {
                    self.follow_clocks();
                    self.follow_lists();
                }
                () = until(self.pulse.due()) => {}
                () = tokio::time::sleep_until(self.next_bucket_sweep) => self.sweep_buckets(),
                // The last, because there is no end of them, and all before comes in small parts.
                Some(command) = commands.recv() => {
                    self.follow_clocks();
                    if let Some(stop) = self.handle_command(command).await {
                        return Ok(stop);
                    }
                }
            }
        }
    }

    /// Listens to who reads logs until it has ended, so that nothing is lost that was found in what
    /// will not be read again. Whoever else asks for something is told that the daemon stops.
    pub(super) async fn finish(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        reading: impl Future<Output = ()>,
    ) {
        let mut take = |command| match command {
            Command::Detected(detected) => self.act_on(detected),
            Command::Positions(changes) => self.keep(changes),
            _ => {}
        };
        tokio::pin!(reading);
        loop {
            tokio::select! {
                () = &mut reading => break,
                Some(command) = commands.recv() => take(command),
            }
        }
        while let Ok(command) = commands.try_recv() {
            take(command);
        }
        self.tell_unsaid();
    }

    fn sweep_buckets(&mut self) {
        let scales = self.dataplane.limits().scales();
        self.next_bucket_sweep = tokio::time::Instant::now() + sweep_interval(&scales);
        let buckets = Arc::clone(self.dataplane.buckets());
        // Bans do not wait for it.
        tokio::task::spawn_blocking(move || buckets.sweep(&scales, kernel_now()));
    }

    /// Drops nothing from now on, or drops again; until the next start, which begins as it is told.
    fn observe(&mut self, request: ObserveRequest, by: &str) -> Result<Observing, EngineError> {
        let ObserveRequest { observe } = request;
        self.dataplane.set_observe(observe)?;
        let before = std::mem::replace(&mut self.observe, observe);
        if observe != before {
            let now = if observe {
                "only observes: nothing is dropped until that is taken back, or the daemon starts again"
            } else {
                "enforces limits and bans again"
            };
            tracing::warn!(by, "abuser {now}");
        }
        Ok(Observing { observe, before })
    }

    /// Whether the program is to stay on when a signal stops the daemon.
    pub fn persists(&self) -> bool {
        self.persist
    }

    /// Has the store write what has changed, if anything has; nobody waits for it.
    fn keep(&self, changes: impl IntoIterator<Item = Change>) {
        let changes: Vec<_> = changes.into_iter().collect();
        if !changes.is_empty() {
            self.store.write(changes, None);
        }
    }

    /// Detaches from everything and leaves no pin behind; an error says what it could not detach from.
    pub fn shut_down(self) -> Result<(), DataplaneError> {
        if let Health::Failed { error, .. } = self.store.health() {
            tracing::error!(
                path = %self.store.path().display(),
                "the store cannot be written ({error}): what has changed since it failed ends with \
                 this stop"
            );
        }
        self.dataplane.shut_down()
    }

    /// Leaves the program on its interfaces, for the next daemon to adopt.
    pub fn leave(self) {
        self.dataplane.leave();
    }

    fn publish(&self, record: EventRecord) {
        let record = Arc::new(record);
        // Without readers there is nobody to tell.
        if is_of_own_ban(&record) {
            let _readers = self.own_bans.send(Arc::clone(&record));
        }
        let _readers = self.events.send(record);
    }

    /// Whether anybody follows what becomes of bans.
    fn is_followed(&self) -> bool {
        self.events.receiver_count() + self.own_bans.receiver_count() > 0
    }
}

fn is_of_own_ban(record: &EventRecord) -> bool {
    let is_listed = |name: &str| {
        let mut causes = BanCause::ALL.into_iter();
        causes.any(|cause| cause.is_listed() && cause.name() == name)
    };
    matches!(record.kind, EventKind::Ban | EventKind::Unban)
        && !record.cause.as_deref().is_some_and(is_listed)
}

/// A reason is kept as long as what it is for, so it must not be a book.
fn check_reason(reason: Option<&str>) -> Result<(), EngineError> {
    match reason.map(str::len) {
        Some(length) if length > MAX_REASON => Err(EngineError::Refused(format!(
            "a reason of {length} bytes is too long; say it in {MAX_REASON}"
        ))),
        _ => Ok(()),
    }
}

/// Waits until then, or for ever.
async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What nobody asked for has nobody else to tell; the reconciler tries again.
fn log_failure(result: Result<(), EngineError>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot put in force what has changed");
    }
}
