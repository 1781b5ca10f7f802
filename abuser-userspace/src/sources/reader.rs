//! The thread that reads.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use abuser_detect::time::Time;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
    time::{ClockId, clock_gettime},
};

use super::{
    BUDGET, Keep, Kind, Line, MAX_LINE, Sink, SourceConfig,
    files::Files,
    handle::Shared,
    journal::Journal,
    lines::Piece,
    status::Gauge,
    stream::Stdin,
    syslog::Syslog,
    watches::{Told, Watches},
};
use crate::store::{Change, PositionKey, PositionRow};

/// How often a look is taken at what the kernel may not have told of.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// The room for what is read at once; a line of the greatest length fits.
const BUFFER: usize = BUDGET / 2;
const _: () = assert!(BUFFER > MAX_LINE + 1);

/// What the thread is asked to do.
pub(super) enum Message<S> {
    /// Reads other sources from now on.
    Replace(Vec<SourceConfig>, Box<dyn FnOnce(&mut S) + Send>),
    With(Box<dyn FnOnce(&mut S) + Send>),
    KeepAll,
    Stop,
}

/// A way of getting lines.
pub(super) trait Driver {
    /// What to wait for.
    fn fds<'d>(&'d self, into: &mut Vec<BorrowedFd<'d>>);

    /// Whether there is more to read without waiting.
    fn is_pending(&self) -> bool {
        false
    }

    /// When there is something to do even if nothing happens.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Reads up to [`BUDGET`] bytes. `ready`: there is something at one of [`Driver::fds`].
    fn turn(&mut self, ready: bool, turn: &mut Turn<'_>);

    /// Looks after what nobody tells of, once a second.
    fn tick(&mut self, turn: &mut Turn<'_>);

    /// There is something to look at: a file, or a folder.
    fn wake(&mut self, _file: Option<u64>) {}

    /// There may be something to look at anywhere.
    fn wake_all(&mut self) {}

    /// How far it is.
    fn positions(&self, _into: &mut Vec<PositionRow>) {}

    /// Lets go of what it holds.
    fn stop(&mut self, _watches: &mut Watches, _run: u64) {}
}

/// What a driver has at hand while it works.
pub(super) struct Turn<'t> {
    sink: &'t mut dyn Sink,
    index: usize,
    pub(super) gauge: &'t Gauge,
    pub(super) watches: &'t mut Watches,
    /// The number of this run of the source.
    pub(super) run: u64,
    pub(super) name: &'t str,
    pub(super) buffer: &'t mut [u8],
    pub(super) now: Instant,
    at: Time,
    /// What this round brought.
    round: &'t mut Round,
}

/// What a round brought.
#[derive(Debug, Default)]
struct Round {
    /// Whether a line was handed on.
    lines: bool,
    /// Whether a position has changed.
    moved: bool,
}

/// Hands lines on.
pub(super) struct Out<'o> {
    sink: &'o mut dyn Sink,
    index: usize,
    gauge: &'o Gauge,
    at: Time,
    round: &'o mut Round,
}

impl Turn<'_> {
    /// A turn of a source that runs alone.
    #[cfg(test)]
    pub(super) fn with(sink: &mut dyn Sink, gauge: &Gauge, act: impl FnOnce(&mut Turn<'_>)) {
        act(&mut Turn {
            sink,
            index: 0,
            gauge,
            watches: &mut Watches::new(),
            run: 1,
            name: "alone",
            buffer: &mut vec![0; BUFFER],
            now: Instant::now(),
            at: SystemTime::now().into(),
            round: &mut Round::default(),
        });
    }

    /// The buffer, and where lines go.
    pub(super) fn split(&mut self) -> (&mut [u8], Out<'_>) {
        let out = Out {
            sink: &mut *self.sink,
            index: self.index,
            gauge: self.gauge,
            at: self.at,
            round: self.round,
        };
        (self.buffer, out)
    }

    /// Takes note that a position has changed.
    pub(super) fn moved(&mut self) {
        self.round.moved = true;
    }
}

impl Out<'_> {
    /// Hands a line on that came without a time.
    pub(super) fn plain(&mut self, piece: Piece<'_>) {
        self.told(piece, None, None);
    }

    /// Hands a line on of which something is known.
    pub(super) fn told(&mut self, piece: Piece<'_>, stated: Option<Time>, program: Option<&str>) {
        self.gauge
            .line(piece.bytes.len() + piece.skipped + 1, self.at);
        if piece.skipped > 0 {
            self.gauge.cut();
        }
        self.round.lines = true;
        self.round.moved = true;
        let line = Line {
            bytes: piece.bytes,
            arrived: self.at,
            stated,
            program,
        };
        self.sink.line(self.index, line);
    }

    /// Takes note of messages that are lost.
    pub(super) fn lost(&self, count: u64) {
        self.gauge.lost(count);
    }
}

/// A source that is read.
struct Running {
    config: SourceConfig,
    gauge: Arc<Gauge>,
    run: u64,
    driver: Box<dyn Driver>,
    ready: bool,
}

/// The thread's own.
pub(super) struct Reader<S> {
    sink: S,
    keep: Keep,
    /// Positions as `keep` has them.
    kept: HashMap<PositionKey, PositionRow>,
    shared: Arc<Shared>,
    watches: Watches,
    running: Vec<Running>,
    /// The number of the next run.
    next_run: u64,
    buffer: Vec<u8>,
    round: Round,
    ticked: Instant,
}

impl<S: Sink> Reader<S> {
    pub(super) fn new(
        sink: S,
        keep: Keep,
        positions: Vec<PositionRow>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            sink,
            keep,
            kept: positions
                .into_iter()
                .map(|row| (row.key.clone(), row))
                .collect(),
            shared,
            watches: Watches::new(),
            running: Vec::new(),
            next_run: 0,
            buffer: vec![0; BUFFER],
            round: Round::default(),
            ticked: Instant::now(),
        }
    }

    /// Reads until it is told to stop.
    pub(super) fn work(&mut self, inbox: &mpsc::Receiver<Message<S>>, bell: &EventFd) {
        loop {
            if self.wait(bell) {
                let _count = bell.read();
                loop {
                    match inbox.try_recv() {
                        Ok(Message::Replace(sources, change)) => {
                            self.stop_all_but(&sources);
                            change(&mut self.sink);
                            self.configure(sources);
                        }
                        Ok(Message::With(work)) => work(&mut self.sink),
                        Ok(Message::KeepAll) => {
                            self.kept.clear();
                            self.keep_positions();
                        }
                        Ok(Message::Stop) | Err(mpsc::TryRecvError::Disconnected) => {
                            self.sink.idle();
                            self.keep_positions();
                            return;
                        }
                        Err(mpsc::TryRecvError::Empty) => break,
                    }
                }
            }
            self.round();
        }
    }

    /// Waits until there is something to do. Whether there is a message.
    fn wait(&mut self, bell: &EventFd) -> bool {
        let mut until = self.ticked + TICK;
        for due in self.running.iter().filter_map(|source| source.driver.due()) {
            until = until.min(due);
        }
        let timeout = if self.running.iter().any(|source| source.driver.is_pending()) {
            PollTimeout::ZERO
        } else {
            // Rounded up, or the last millisecond would be spent awake.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::ZERO)
        };
        let mut fds = vec![bell.as_fd()];
        fds.extend(self.watches.fd());
        let own = fds.len();
        let mut owners = Vec::new();
        for (index, source) in self.running.iter().enumerate() {
            source.driver.fds(&mut fds);
            owners.resize(fds.len() - own, index);
        }
        let mut fds: Vec<_> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            // A signal, or no memory: the next round is a look at everything at worst.
            Err(Errno::EINTR) | Ok(_) => {}
            Err(errno) => {
                tracing::error!(
                    "cannot wait for sources ({errno}); they are looked at each second"
                );
                std::thread::sleep(TICK);
            }
        }
        let ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        let (ours, theirs) = ready.split_at(own);
        for source in &mut self.running {
            source.ready = false;
        }
        for (&index, &is_ready) in owners.iter().zip(theirs) {
            if let Some(source) = self.running.get_mut(index) {
                source.ready |= is_ready;
            }
        }
        if ours.get(1).copied().unwrap_or_default() {
            match self.watches.read() {
                Told::Everything => self
                    .running
                    .iter_mut()
                    .for_each(|source| source.driver.wake_all()),
                Told::Some(targets) => {
                    for target in targets {
                        let source = self
                            .running
                            .iter_mut()
                            .find(|source| source.run == target.run);
                        if let Some(source) = source {
                            source.driver.wake(target.file);
                        }
                    }
                }
            }
        }
        ours.first().copied().unwrap_or_default()
    }

    /// Gives each source its turn.
    fn round(&mut self) {
        self.round.lines = false;
        self.each(|source, ready, turn| source.turn(ready, turn));
        let is_time = self.ticked.elapsed() >= TICK;
        if is_time {
            self.ticked = Instant::now();
            self.each(|source, _, turn| source.tick(turn));
        }
        if is_time || self.round.lines {
            self.sink.idle();
        }
        if is_time && std::mem::take(&mut self.round.moved) {
            self.keep_positions();
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Driver, bool, &mut Turn<'_>)) {
        let (at, now) = (SystemTime::now().into(), Instant::now());
        for (index, source) in self.running.iter_mut().enumerate() {
            let mut turn = Turn {
                sink: &mut self.sink,
                index,
                gauge: &source.gauge,
                watches: &mut self.watches,
                run: source.run,
                name: &source.config.name,
                buffer: &mut self.buffer,
                now,
                at,
                round: &mut self.round,
            };
            act(source.driver.as_mut(), source.ready, &mut turn);
        }
    }

    /// Stops the sources that are not among these as they are.
    fn stop_all_but(&mut self, sources: &[SourceConfig]) {
        self.sink.idle();
        self.keep_positions();
        let (running, watches) = (&mut self.running, &mut self.watches);
        running.retain_mut(|source| {
            let stays = sources.contains(&source.config);
            if !stays {
                source.driver.stop(watches, source.run);
            }
            stays
        });
    }

    /// Reads these sources, of which some may run already. What is kept of others is forgotten.
    pub(super) fn configure(&mut self, sources: Vec<SourceConfig>) {
        let mut before = std::mem::take(&mut self.running);
        let names: HashSet<_> = sources.iter().map(|source| source.name.clone()).collect();
        for config in sources {
            let running = before.iter().position(|source| source.config == config);
            let source = if let Some(index) = running {
                before.swap_remove(index)
            } else {
                self.start(config, &names)
            };
            self.running.push(source);
        }
        let gauges = self.running.iter().map(|source| Arc::clone(&source.gauge));
        self.shared.set(gauges.collect());
        // Who is told that they are configured finds sockets where they are to be.
        self.each(|source, _, turn| source.tick(turn));
        self.each(|source, _, turn| source.turn(false, turn));
        self.sink.idle();
        self.keep_positions();
    }

    fn start(&mut self, config: SourceConfig, names: &HashSet<String>) -> Running {
        self.next_run += 1;
        let own = |row: &&PositionRow| row.key.source == config.name;
        let driver: Box<dyn Driver> = match &config.kind {
            Kind::Files(patterns) => {
                let mut rows: Vec<_> = self.kept.values().filter(own).cloned().collect();
                if rows.is_empty() {
                    // It may have had another name.
                    let orphans = self
                        .kept
                        .values()
                        .filter(|row| !names.contains(&row.key.source));
                    rows = orphans
                        .filter(|row| row.cursor.is_none())
                        .cloned()
                        .collect();
                }
                Box::new(Files::new(patterns, config.begin, rows))
            }
            Kind::Journal(journal) => {
                let row = self.kept.values().find(own);
                let cursor = row.and_then(|row| row.cursor.clone());
                Box::new(Journal::new(&config.name, journal, config.begin, cursor))
            }
            Kind::Syslog(syslog) => Box::new(Syslog::new(syslog)),
            Kind::Stdin => Box::new(Stdin::new()),
        };
        Running {
            gauge: Arc::new(Gauge::new(&config.name)),
            config,
            run: self.next_run,
            driver,
            ready: false,
        }
    }

    /// Hands on what has changed of the positions since the last time.
    fn keep_positions(&mut self) {
        let at = file_clock();
        let mut rows = Vec::new();
        for source in &self.running {
            source.driver.positions(&mut rows);
        }
        let mut gone = std::mem::take(&mut self.kept);
        let mut changes = Vec::new();
        for mut row in rows {
            let before = gone.remove(&row.key);
            row.at = before.as_ref().map_or(at, |before| before.at);
            if before.as_ref() != Some(&row) {
                row.at = at;
                changes.push(Change::Position(row.clone()));
            }
            self.kept.insert(row.key.clone(), row);
        }
        changes.extend(gone.into_keys().map(Change::PositionGone));
        if !changes.is_empty() {
            (self.keep)(changes);
        }
    }
}

/// The clock that the kernel stamps files by. It is behind the real one, by a tick at the most.
fn file_clock() -> SystemTime {
    // It cannot fail on Linux; if it did, what is a tick younger than that would count as known.
    clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map_or_else(
        |_| SystemTime::now(),
        |time| UNIX_EPOCH + Duration::from(time),
    )
}
