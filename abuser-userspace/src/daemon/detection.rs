//! What is made of the lines of logs, on the thread that reads them.
//!
//! Parsing a million lines a second must not hold up bans, so it is done where the lines are read
//! ([`crate::sources`]). What is found goes to the engine as a command. While the engine has no time
//! for it that thread waits, and the logs with it: nothing grows.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use abuser_detect::{
    pipeline::{self, Clock, FeedCounts, Found, WatchCounts},
    time::Time,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    clock,
    engine::{Command, Detected},
};
use crate::{
    api::types::{self, DetectorStatus, SourceStatus},
    config::{Config, DetectorConfig, LineParser, LogSource},
    detection::{Detection, DetectionError, Detector},
    sources::{self, Handle, Line, Sink},
    store::PositionRow,
};

/// How old what is told of detectors may be while there is much to read.
const REPORT: Duration = Duration::from_millis(200);
/// How long whoever asks for something waits until logs are followed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);
/// Findings that the engine is told of at once: those of a ban come with up to 10 KB of lines, and
/// many such commands may wait.
const HANDED_OVER: usize = 64;

/// What becomes of a thread that met what nobody had thought of.
const DEAD: &str = "the thread that reads logs has failed, and no log is read any more: restart \
                    abuser, and report what its log says";

/// Who reads logs, to be asked and told.
pub struct DetectionHandle {
    reader: Mutex<Option<Handle<Judge>>>,
    counts: Arc<Mutex<Counts>>,
}

/// What the pipeline had counted a moment ago; known to both sides.
#[derive(Default)]
struct Counts {
    sources: Vec<LogSource>,
    feeds: Vec<FeedCounts>,
    detectors: Vec<Detector>,
    watches: Vec<WatchCounts>,
}

/// All that lines are judged by.
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

    fn reads(&self) -> Vec<sources::SourceConfig> {
        let sources = self.sources.iter();
        sources.map(|source| source.reads.clone()).collect()
    }

    /// Takes over what `before` knows of sources and detectors that are as they were.
    fn adopt(&mut self, before: Self) {
        // Of a filter its files count, which may be others by now.
        let as_before = |number: usize, source: &LogSource| {
            let old = before.sources.iter().position(|old| old == source)?;
            let filters = |configured: &Self, number: usize| {
                configured.detection.source_filters.get(number).copied()
            };
            (filters(&before, old) == filters(self, number)).then_some(old)
        };
        let feeds = self.sources.iter().enumerate();
        let feeds: Vec<_> = feeds
            .map(|(number, source)| as_before(number, source))
            .collect();
        let is_kept = |name: &String| {
            let place = self.sources.iter().position(|source| source.name() == name);
            place.is_some_and(|place| feeds.get(place).is_some_and(Option::is_some))
        };
        let watches: Vec<_> = self
            .settings
            .iter()
            .zip(&self.detection.detectors)
            .map(|(settings, now)| {
                let old = before.settings.iter().position(|old| old == settings)?;
                let then = before.detection.detectors.get(old)?;
                let as_before = then.sources == now.sources
                    && then.filter == now.filter
                    && now.sources.iter().all(is_kept);
                as_before.then_some(old)
            })
            .collect();
        let pipeline = &mut self.detection.pipeline;
        pipeline.adopt(before.detection.pipeline, &feeds, &watches);
    }
}

/// A configuration, ready to be judged by.
pub(super) struct Prepared(Box<Configured>);

impl DetectionHandle {
    /// Starts reading what was prepared, from where it was left.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(super) fn start(
        Prepared(configured): Prepared,
        positions: Vec<PositionRow>,
        commands: &mpsc::Sender<Command>,
    ) -> io::Result<Self> {
        let counts = Arc::<Mutex<Counts>>::default();
        let reads = configured.reads();
        let mut judge = Judge {
            configured: *configured,
            found: Vec::new(),
            read: Vec::new(),
            commands: commands.clone(),
            counts: Arc::clone(&counts),
            next_report: Instant::now(),
        };
        judge.report();
        let commands = commands.clone();
        let keep = move |changes| {
            // The engine listens until this thread has ended.
            let _gone = commands.blocking_send(Command::Positions(changes));
        };
        let reader = Handle::start(reads, positions, judge, Box::new(keep))?;
        Ok(Self {
            reader: Mutex::new(Some(reader)),
            counts,
        })
    }

    /// How it stands, a second ago at most.
    pub fn status(&self) -> types::Detection {
        let reader = lock(&self.reader);
        let read = reader.as_ref().map(Handle::status).unwrap_or_default();
        let counts = lock(&self.counts);
        let sources = counts.sources.iter().zip(&counts.feeds);
        let detectors = counts.detectors.iter().zip(&counts.watches);
        types::Detection {
            error: reader.as_ref().and_then(dead),
            sources: sources
                .map(|(source, counts)| {
                    let read = read.iter().find(|read| read.name == source.name());
                    source_status(source, counts, read.cloned().unwrap_or_default())
                })
                .collect(),
            detectors: detectors
                .map(|(detector, counts)| detector_status(detector, counts))
                .collect(),
        }
    }

    /// Has kept again how far everything was read, in a store that was away.
    pub(super) fn keep_all(&self) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.keep_all();
        }
    }

    /// Prepares for a configuration.
    ///
    /// # Errors
    /// If a filter cannot be read; nothing has changed then.
    pub(super) fn prepare(config: &Config) -> Result<Prepared, DetectionError> {
        Ok(Prepared(Box::new(Configured::new(config)?)))
    }

    /// Makes sure that what is prepared can be put in force.
    ///
    /// # Errors
    /// If nobody reads logs any more.
    pub(super) fn check(&self) -> Result<(), String> {
        lock(&self.reader)
            .as_ref()
            .and_then(dead)
            .map_or(Ok(()), Err)
    }

    /// Goes on with what was prepared. Sources and detectors that are as they were go on where they
    /// are.
    pub(super) fn replace(&self, Prepared(after): Prepared) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.replace(after.reads(), move |judge| judge.replace(*after));
        }
    }

    /// Ends when all logs of the latest configuration are followed: what is written from then on is new.
    /// It does not wait for ever, for a log may lie on a disk that does not answer.
    pub async fn followed(&self) {
        let (tell, told) = oneshot::channel();
        let tell = move |_: &mut Judge| {
            let _gone = tell.send(());
        };
        match &*lock(&self.reader) {
            Some(reader) => reader.with(tell),
            // Nothing is followed any more.
            None => drop(tell),
        }
        // Of one that has failed, which has been told, nothing comes.
        if tokio::time::timeout(FOLLOWED_WITHIN, told).await.is_err() {
            tracing::warn!(
                "logs are not followed yet: one of them may be on a disk that does not answer"
            );
        }
    }

    /// Stops reading. Returns when the engine was told of all that was found, and how far was read:
    /// it must listen meanwhile.
    pub(super) fn stop(&self) {
        let reader = lock(&self.reader).take();
        drop(reader);
    }
}

/// What is wrong with a thread that has ended before its time.
fn dead(reader: &Handle<Judge>) -> Option<String> {
    (!reader.is_alive()).then(|| DEAD.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes lines, and tells the engine what they give away.
struct Judge {
    configured: Configured,
    found: Vec<Found>,
    /// When the lines were read that gave it away.
    read: Vec<Time>,
    commands: mpsc::Sender<Command>,
    counts: Arc<Mutex<Counts>>,
    next_report: Instant,
}

impl Drop for Judge {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("{DEAD}");
        }
    }
}

impl Sink for Judge {
    fn line(&mut self, source: usize, line: Line<'_>) {
        let Line {
            bytes,
            arrived,
            stated,
            program: _,
        } = line;
        let line = pipeline::Line {
            bytes,
            arrived,
            stated,
        };
        let pipeline = &mut self.configured.detection.pipeline;
        pipeline.read(source, line, &mut self.found);
        self.read.resize(self.found.len(), arrived);
        if self.found.len() >= HANDED_OVER {
            self.hand_over();
        }
    }

    fn idle(&mut self) {
        self.hand_over();
        if Instant::now() >= self.next_report {
            self.report();
        }
    }
}

impl Judge {
    /// Tells the engine what was found.
    fn hand_over(&mut self) {
        if self.found.is_empty() {
            return;
        }
        let detectors = &self.configured.detection.detectors;
        let found = self.found.drain(..).zip(self.read.drain(..));
        let detected = found.filter_map(|(found, read)| {
            let rule = Arc::clone(&detectors.get(found.watch)?.rule);
            Some(Detected { rule, found, read })
        });
        let command = Command::Detected(detected.collect());
        // The engine listens until this thread has ended.
        let _gone = self.commands.blocking_send(command);
    }

    fn replace(&mut self, after: Configured) {
        self.hand_over();
        let before = std::mem::replace(&mut self.configured, after);
        self.configured.adopt(before);
        self.report();
    }

    /// Tells how things stand.
    fn report(&mut self) {
        self.next_report = Instant::now() + REPORT;
        let Configured {
            sources,
            settings: _,
            detection,
        } = &self.configured;
        *lock(&self.counts) = Counts {
            sources: sources.clone(),
            feeds: detection.pipeline.feed_counts().cloned().collect(),
            detectors: detection.detectors.clone(),
            watches: detection.pipeline.watch_counts().collect(),
        };
    }
}

fn source_status(
    source: &LogSource,
    counts: &FeedCounts,
    read: sources::SourceStatus,
) -> SourceStatus {
    let sample = counts.unparsed_sample.as_ref();
    SourceStatus {
        name: source.name().to_owned(),
        parser: source.parser.as_ref().map(LineParser::to_string),
        files: read.files.len() as u64,
        lines: counts.lines,
        bytes: read.bytes,
        lag_bytes: read.lag,
        lost: read.lost,
        cut: read.cut,
        unparsed: counts.unparsed,
        unparsed_sample: sample.map(|(line, _)| line.clone()),
        unparsed_error: sample.map(|(_, error)| error.to_string()),
        stale: counts.stale,
        ahead: counts.ahead,
        read: read.last.map(shown),
        last: counts.last.map(shown),
        error: read.error,
    }
}

fn detector_status(detector: &Detector, counts: &WatchCounts) -> DetectorStatus {
    let Detector {
        rule,
        kind,
        sources,
        filter: _,
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
}

fn shown(time: Time) -> String {
    let since = Duration::from_millis(time.0);
    clock::format(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    /// A thread that has nothing to read, and where the engine would listen.
    fn started() -> (DetectionHandle, mpsc::Receiver<Command>) {
        let config = config::parse("", Path::new("test")).expect("a configuration");
        let prepared = DetectionHandle::prepare(&config).expect("a pipeline");
        let (commands, inbox) = mpsc::channel(1);
        let handle = DetectionHandle::start(prepared, Vec::new(), &commands).expect("a thread");
        (handle, inbox)
    }

    #[test]
    fn a_thread_that_has_failed_is_told_of_and_nothing_is_put_in_force_any_more() {
        let (handle, _inbox) = started();
        assert_eq!((handle.status().error, handle.check()), (None, Ok(())));
        let fail: fn(&mut Judge) = |_| panic!("as the test asks");
        lock(&handle.reader).as_ref().expect("a reader").with(fail);
        let deadline = Instant::now() + Duration::from_secs(30);
        while handle.status().error.is_none() {
            assert!(Instant::now() < deadline, "nobody told of it");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(handle.status().error.as_deref(), Some(DEAD));
        assert_eq!(handle.check(), Err(DEAD.to_owned()));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_has_stopped() {
        let (handle, _inbox) = started();
        for stopped in [false, true] {
            let begun = Instant::now();
            handle.followed().await;
            assert!(begun.elapsed() < FOLLOWED_WITHIN, "stopped: {stopped}");
            handle.stop();
        }
    }
}
