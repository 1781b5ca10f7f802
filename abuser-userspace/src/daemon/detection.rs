//! The thread that reads logs.
//!
//! Parsing a million lines a second must not hold up bans, so it has a thread of its own. What it
//! finds goes to the engine as a command. While the engine has no time for it the thread waits, and
//! the logs with it: nothing grows.

use std::{
    collections::{HashMap, HashSet},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, UNIX_EPOCH},
};

use abuser_detect::{
    pipeline::{Clock, Found, Line},
    time::Time,
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc;

use super::{
    clock,
    engine::{Command, Detected},
};
use crate::{
    api::types::{self, DetectorStatus, SourceStatus, UnparsedLine},
    config::{Config, DetectorConfig, LineParser, LogSource},
    detection::{Detection, DetectionError, Detector},
    sources::{Sink, Sources},
    store::{Change, PositionKey, PositionRow},
};

/// How often it is told how things stand, and how far was read.
const REPORT: Duration = Duration::from_secs(1);

/// Who reads logs, to be asked and told.
pub struct DetectionHandle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Vec<Change>>>>,
}

struct Shared {
    status: Mutex<types::Detection>,
    order: Mutex<Option<Order>>,
    /// Written to when there is an order.
    wake: EventFd,
}

/// What the thread is to do.
enum Order {
    /// Go on with this instead.
    Replace(Box<Configured>),
    /// Stop.
    Stop,
}

/// All that the thread works by.
struct Configured {
    sources: Vec<LogSource>,
    settings: Vec<DetectorConfig>,
    detection: Detection,
}

impl Configured {
    fn new(config: &Config) -> Result<Self, DetectionError> {
        Ok(Self {
            sources: config.sources.clone(),
            settings: config.detectors.clone(),
            detection: Detection::new(config, Clock::Host)?,
        })
    }
}

impl DetectionHandle {
    /// Starts reading what the configuration names, from where it was left.
    ///
    /// # Errors
    /// If there can be no thread, or a filter cannot be read.
    pub(super) fn start(
        config: &Config,
        positions: Vec<PositionRow>,
        commands: &mpsc::Sender<Command>,
    ) -> anyhow::Result<Self> {
        let configured = Configured::new(config)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            status: Mutex::default(),
            order: Mutex::default(),
            wake,
        });
        let worker = Worker::new(configured, positions, Arc::clone(&shared), commands.clone());
        let thread = std::thread::Builder::new()
            .name("detection".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// How it stands, a second ago at most.
    pub fn status(&self) -> types::Detection {
        lock(&self.shared.status).clone()
    }

    /// Prepares for another configuration.
    ///
    /// # Errors
    /// If a filter cannot be read; then all stays as it is.
    pub(super) fn prepare(config: &Config) -> Result<Prepared, DetectionError> {
        Ok(Prepared(Box::new(Configured::new(config)?)))
    }

    /// Goes on with what was prepared. Sources and detectors that are as they were go on where they
    /// are.
    pub(super) fn replace(&self, prepared: Prepared) {
        self.order(Order::Replace(prepared.0));
    }

    /// Stops reading; how far was read.
    pub(super) fn stop(&self) -> Vec<Change> {
        self.order(Order::Stop);
        let thread = lock(&self.thread).take();
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }

    fn order(&self, order: Order) {
        *lock(&self.shared.order) = Some(order);
        // It is only full if the thread was woken before.
        let _full = self.shared.wake.write(1);
    }
}

/// Another configuration, ready to be worked by.
pub(super) struct Prepared(Box<Configured>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's own.
struct Worker {
    reader: Sources,
    judge: Judge,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    next_report: Instant,
    /// What was kept last.
    kept: HashMap<PositionKey, PositionRow>,
}

/// Takes lines, and tells the engine what they give away.
struct Judge {
    configured: Configured,
    found: Vec<Found>,
    commands: mpsc::Sender<Command>,
    /// Whether the engine is gone.
    is_over: bool,
}

impl Sink for Judge {
    fn line(&mut self, source: usize, line: Line<'_>) {
        let pipeline = &mut self.configured.detection.pipeline;
        pipeline.read(source, line, &mut self.found);
    }

    fn round(&mut self) {
        if self.found.is_empty() {
            return;
        }
        let detectors = &self.configured.detection.detectors;
        let detected = self.found.drain(..).filter_map(|found| {
            let rule = Arc::clone(&detectors.get(found.watch)?.rule);
            Some(Detected { rule, found })
        });
        let command = Command::Detected(detected.collect());
        self.is_over |= self.commands.blocking_send(command).is_err();
    }
}

impl Worker {
    fn new(
        configured: Configured,
        positions: Vec<PositionRow>,
        shared: Arc<Shared>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            reader: Sources::new(&configured.sources, &positions),
            judge: Judge {
                configured,
                found: Vec::new(),
                commands: commands.clone(),
                is_over: false,
            },
            shared,
            commands,
            next_report: Instant::now(),
            kept: by_key(positions),
        }
    }

    /// Works until it is told to stop, or nobody is there to tell; how far was read.
    fn run(mut self) -> Vec<Change> {
        loop {
            let order = lock(&self.shared.order).take();
            match order {
                Some(Order::Stop) => return self.last(),
                Some(Order::Replace(configured)) => self.replace(*configured),
                None => {}
            }
            let more = self.reader.round(&mut self.judge);
            if self.judge.is_over {
                return self.last();
            }
            let now = Instant::now();
            if now >= self.next_report {
                self.next_report = now + REPORT;
                self.report();
            }
            if more {
                continue;
            }
            let until_report = self.next_report.saturating_duration_since(now);
            let wake = &self.shared.wake;
            if let Err(error) = self.reader.wait(wake.as_fd(), until_report) {
                tracing::error!(%error, "cannot wait for logs to be written");
                std::thread::sleep(REPORT);
            }
            let _nothing = wake.read();
        }
    }

    /// How far was read when it ends.
    fn last(&self) -> Vec<Change> {
        changes(&self.kept, &self.reader.positions())
    }

    fn replace(&mut self, configured: Configured) {
        let before = std::mem::replace(&mut self.judge.configured, configured);
        let after = &mut self.judge.configured;
        self.reader.reconfigure(&after.sources);
        let same = |sources: &[LogSource], name: &str| {
            sources.iter().position(|source| source.name == name)
        };
        let feeds: Vec<_> = after
            .sources
            .iter()
            .map(|source| before.sources.iter().position(|old| old == source))
            .collect();
        let watches: Vec<_> = after
            .settings
            .iter()
            .map(|detector| {
                let old = before.settings.iter().position(|old| old == detector)?;
                let read = &before.detection.detectors.get(old)?.sources;
                let new = &after.detection.detectors.iter().find(|new| new.rule == detector.rule)?;
                let as_before = *read == new.sources && read.iter().all(|name| {
                    let (old, new) = (same(&before.sources, name), same(&after.sources, name));
                    old.is_some() && new.is_some_and(|new| feeds.get(new) == Some(&old))
                });
                as_before.then_some(old)
            })
            .collect();
        let pipeline = &mut after.detection.pipeline;
        pipeline.adopt(before.detection.pipeline, &feeds, &watches);
        self.next_report = Instant::now();
    }

    /// Tells how things stand, and has kept how far was read.
    fn report(&mut self) {
        *lock(&self.shared.status) = self.status();
        let positions = self.reader.positions();
        let changes = changes(&self.kept, &positions);
        if changes.is_empty() {
            return;
        }
        // If the engine has no time, it is told of the next ones.
        if self.commands.try_send(Command::Positions(changes)).is_ok() {
            self.kept = by_key(positions);
        }
    }

    fn status(&self) -> types::Detection {
        let Configured {
            sources,
            settings: _,
            detection,
        } = &self.judge.configured;
        let progress = self.reader.progress().into_iter();
        let counts = detection.pipeline.feed_counts();
        let sources = sources.iter().zip(progress).zip(counts);
        let watches = detection.pipeline.watch_counts();
        types::Detection {
            sources: sources
                .map(|((source, progress), counts)| SourceStatus {
                    name: source.name.clone(),
                    parser: source.parser.as_ref().map(LineParser::to_string),
                    files: progress.files,
                    lines: counts.lines,
                    bytes: progress.bytes,
                    lag_bytes: progress.lag,
                    lost: progress.lost,
                    cut: progress.cut,
                    unparsed: counts.unparsed,
                    unparsed_sample: counts.unparsed_sample.as_ref().map(|(line, error)| {
                        UnparsedLine {
                            line: line.clone(),
                            error: error.to_string(),
                        }
                    }),
                    stale: counts.stale,
                    ahead: counts.ahead,
                    last: counts.last.map(shown),
                    error: progress.error,
                })
                .collect(),
            detectors: detection
                .detectors
                .iter()
                .zip(watches)
                .map(|(detector, counts)| {
                    let Detector {
                        rule,
                        kind,
                        sources,
                    } = detector;
                    DetectorStatus {
                        name: rule.name.clone(),
                        kind: (*kind).to_owned(),
                        action: rule.action.name().to_owned(),
                        sources: sources.clone(),
                        matched: counts.matched,
                        found: counts.found,
                        tracked: counts.occupancy.tracked as u64,
                        capacity: counts.occupancy.capacity as u64,
                        evicted: counts.occupancy.evicted,
                    }
                })
                .collect(),
        }
    }
}

fn by_key(rows: Vec<PositionRow>) -> HashMap<PositionKey, PositionRow> {
    rows.into_iter().map(|row| (row.key.clone(), row)).collect()
}

/// What has changed since rows were kept.
fn changes(kept: &HashMap<PositionKey, PositionRow>, rows: &[PositionRow]) -> Vec<Change> {
    let is_news = |row: &&PositionRow| {
        kept.get(&row.key).is_none_or(|kept| {
            let place = |row: &PositionRow| (row.offset, row.cursor.clone(), row.path.clone());
            place(kept) != place(row)
        })
    };
    let there: HashSet<_> = rows.iter().map(|row| &row.key).collect();
    let gone = kept.keys().filter(|key| !there.contains(key));
    let news = rows.iter().filter(is_news).cloned().map(Change::Position);
    gone.cloned().map(Change::PositionGone).chain(news).collect()
}

fn shown(time: Time) -> String {
    clock::format(
        UNIX_EPOCH
            .checked_add(Duration::from_millis(time.0))
            .unwrap_or(UNIX_EPOCH),
    )
}
