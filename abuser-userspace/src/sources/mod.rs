//! Reading lines from where applications write them.
//!
//! One thread reads all sources in turns of a bounded size, so that none keeps the others waiting, and
//! hands each line to a [`Sink`]. What outruns it waits in its file, its pipe or its socket; nothing
//! here grows with it. It sleeps until the kernel says that something was written, and looks once a
//! second at what the kernel does not tell of: files behind links, on mounts, and new ones.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `files`, `tail` | files and patterns; one file through its rotations |
//! | `journal` | systemd's journal |
//! | `syslog` | a datagram socket |
//! | `lines` | bytes into lines |

mod files;
mod journal;
mod lines;
mod syslog;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use abuser_detect::{pipeline::Line, time::Time};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use self::{files::Files, journal::Journal, lines::Lines, syslog::Syslog};
use crate::{
    config::{LogSource, Origin},
    store::{PositionKey, PositionRow},
};

/// The longest line that is read, in bytes; of a longer one its beginning is.
pub const MAX_LINE: usize = 64 * 1024;
/// What one source may read in a turn, in bytes.
const TURN: usize = 256 * 1024;
/// The datagrams that one may.
const TURN_DATAGRAMS: usize = 256;
/// How often to look at what the kernel does not tell of.
const LOOK: Duration = Duration::from_secs(1);

/// What takes lines.
pub trait Sink {
    /// Takes a line of a source, by its number.
    fn line(&mut self, source: usize, line: Line<'_>);

    /// Is told after each round of turns, before anybody waits.
    fn round(&mut self);
}

/// How it stands with a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that are followed.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes that are written and not read, where that can be known.
    pub lag: Option<u64>,
    /// Lines that were cut.
    pub cut: u64,
    /// Lines that are known to be lost.
    pub lost: u64,
    /// Why it cannot be read.
    pub error: Option<String>,
}

/// What is counted while a source is read.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    bytes: u64,
}

/// All sources.
pub struct Sources {
    feeds: Vec<Feed>,
    inotify: Option<Inotify>,
    buffer: Vec<u8>,
    next_look: Instant,
}

#[derive(Debug)]
struct Feed {
    source: LogSource,
    input: Input,
    counts: Counts,
    error: Option<String>,
}

#[derive(Debug)]
enum Input {
    Files(Files),
    Journal(Journal),
    Syslog(Syslog),
    Stdin(Lines),
    /// The end came, or it never began.
    Over,
}

impl Sources {
    /// Opens what the configuration names; `positions` is how far things were read. What cannot
    /// be opened is tried again if it may come, and told of by [`Sources::progress`].
    pub fn new(configured: &[LogSource], positions: &[PositionRow]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "logs are looked at once a second only: no inotify");
        }
        Self {
            feeds: configured
                .iter()
                .map(|source| Feed::new(source, positions))
                .collect(),
            inotify: inotify.ok(),
            buffer: vec![0; TURN],
            next_look: Instant::now(),
        }
    }

    /// Goes on with other sources; those that are as they were go on where they are.
    pub fn reconfigure(&mut self, configured: &[LogSource]) {
        let positions = self.positions();
        let mut before = std::mem::take(&mut self.feeds);
        let mut kept: Vec<_> = configured
            .iter()
            .map(|source| {
                let place = before.iter().position(|feed| feed.source == *source)?;
                Some(before.swap_remove(place))
            })
            .collect();
        // What is no more lets go of its socket before another one takes it.
        drop(before);
        self.feeds = configured
            .iter()
            .zip(&mut kept)
            .map(|(source, kept)| kept.take().unwrap_or_else(|| Feed::new(source, &positions)))
            .collect();
        self.next_look = Instant::now();
    }

    /// Gives every source its turn; whether there may be more to read.
    pub fn round(&mut self, sink: &mut impl Sink) -> bool {
        let now = Instant::now();
        if now >= self.next_look {
            self.look(now);
        }
        let arrived = wall_clock();
        let mut more = false;
        for (number, feed) in self.feeds.iter_mut().enumerate() {
            more |= feed.turn(&mut self.buffer, arrived, &mut |bytes, stated| {
                sink.line(
                    number,
                    Line {
                        bytes,
                        arrived,
                        stated,
                    },
                );
            });
        }
        sink.round();
        more
    }

    /// Waits until something was written, `wake` can be read, or `longest` is over.
    ///
    /// # Errors
    /// If the kernel cannot wait.
    pub fn wait(&mut self, wake: BorrowedFd<'_>, longest: Duration) -> io::Result<()> {
        let until_look = self.next_look.saturating_duration_since(Instant::now());
        let timeout = longest.min(until_look);
        let mut fds = vec![PollFd::new(wake, PollFlags::POLLIN)];
        let inotify = self.inotify.as_ref().map(AsFd::as_fd);
        fds.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let inputs = self.feeds.iter().filter_map(Feed::fd);
        fds.extend(inputs.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Not a millisecond too early, or the last one is spent in circles.
        let millis = timeout.as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.drain_inotify();
        Ok(())
    }

    /// Takes note of what the kernel told, which is only that there is something: what, is seen by
    /// looking. A file that came, went or was renamed calls for a look at once.
    fn drain_inotify(&mut self) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let came_and_went = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_Q_OVERFLOW;
        while let Ok(events) = inotify.read_events() {
            if events.iter().any(|event| event.mask.intersects(came_and_went)) {
                self.next_look = Instant::now();
            }
        }
    }

    /// Looks at what there is, and watches it.
    fn look(&mut self, now: Instant) {
        self.next_look = now + LOOK;
        for feed in &mut self.feeds {
            match &mut feed.input {
                Input::Files(files) => {
                    files.look(now);
                    if let Some(inotify) = &self.inotify {
                        watch(inotify, &files.watched());
                    }
                }
                Input::Journal(journal) => journal.look(now),
                Input::Syslog(_) | Input::Stdin(_) | Input::Over => {}
            }
        }
    }

    /// How far everything was read.
    pub fn positions(&self) -> Vec<PositionRow> {
        self.feeds.iter().flat_map(Feed::positions).collect()
    }

    /// How it stands with each source.
    pub fn progress(&self) -> Vec<Progress> {
        self.feeds.iter().map(Feed::progress).collect()
    }
}

impl Feed {
    fn new(source: &LogSource, positions: &[PositionRow]) -> Self {
        let mut error = None;
        let mut listen = |socket: io::Result<Syslog>| {
            socket.map_or_else(
                |failed| {
                    let said = format!("cannot listen: {failed}");
                    tracing::error!(source = source.name, "{said}");
                    error = Some(said);
                    Input::Over
                },
                Input::Syslog,
            )
        };
        let input = match &source.origin {
            Origin::Files(patterns) => {
                let files = positions.iter().filter(|row| row.key.source == source.name);
                Input::Files(Files::new(patterns, source.from, files.cloned().collect()))
            }
            Origin::Journal(matches) => {
                let mut of_source = positions.iter().filter(|row| row.key.source == source.name);
                let cursor = of_source.find_map(|row| row.cursor.clone());
                Input::Journal(Journal::new(matches, source.from, cursor))
            }
            Origin::SyslogSocket(path) => listen(Syslog::unix(path)),
            Origin::SyslogUdp(address) => listen(Syslog::udp(*address)),
            Origin::Stdin => Input::Stdin(Lines::new(MAX_LINE)),
        };
        Self {
            source: source.clone(),
            input,
            counts: Counts::default(),
            error,
        }
    }

    /// Reads a turn's worth; whether there may be more.
    fn turn(
        &mut self,
        buffer: &mut [u8],
        arrived: Time,
        take: &mut dyn FnMut(&[u8], Option<Time>),
    ) -> bool {
        let counts = &mut self.counts;
        match &mut self.input {
            Input::Files(files) => files.turn(buffer, counts, &mut |line| take(line, None)),
            Input::Journal(journal) => journal.turn(buffer, counts, take),
            Input::Syslog(socket) => {
                let turn = socket.turn(TURN_DATAGRAMS, arrived, &mut |line, stated| {
                    counts.bytes += line.len() as u64;
                    take(line, stated);
                });
                turn.unwrap_or_else(|error| {
                    self.error = Some(format!("cannot read: {error}"));
                    false
                })
            }
            Input::Stdin(lines) => match read_stdin(buffer) {
                Ok(None) => false,
                Ok(Some(0)) => {
                    // What has no end of line is a line, too.
                    lines.push(b"\n", &mut |line| {
                        if !line.is_empty() {
                            take(line, None);
                        }
                    });
                    self.error = Some("standard input has ended".to_owned());
                    self.input = Input::Over;
                    false
                }
                Ok(Some(read)) => {
                    counts.bytes += read as u64;
                    lines.push(buffer.get(..read).unwrap_or_default(), &mut |line| take(line, None));
                    true
                }
                Err(error) => {
                    self.error = Some(format!("cannot read standard input: {error}"));
                    self.input = Input::Over;
                    false
                }
            },
            Input::Over => false,
        }
    }

    /// What to wait for.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.input {
            Input::Journal(journal) => journal.fd(),
            Input::Syslog(socket) => Some(socket.fd()),
            Input::Stdin(_) => Some(STDIN),
            Input::Files(_) | Input::Over => None,
        }
    }

    fn positions(&self) -> Vec<PositionRow> {
        match &self.input {
            Input::Files(files) => files.positions(&self.source.name),
            Input::Journal(journal) => {
                let position = journal.cursor().map(|cursor| PositionRow {
                    key: PositionKey {
                        source: self.source.name.clone(),
                        device: 0,
                        inode: 0,
                    },
                    path: PathBuf::new(),
                    beginning: Vec::new(),
                    offset: 0,
                    cursor: Some(cursor.to_owned()),
                    at: SystemTime::now(),
                });
                position.into_iter().collect()
            }
            Input::Syslog(_) | Input::Stdin(_) | Input::Over => Vec::new(),
        }
    }

    fn progress(&self) -> Progress {
        let mut progress = Progress {
            bytes: self.counts.bytes,
            error: self.error.clone(),
            ..Progress::default()
        };
        match &self.input {
            Input::Files(files) => {
                progress.files = files.count();
                progress.lag = Some(files.lag());
                progress.cut = files.cut();
                progress.error = files.error();
            }
            Input::Journal(journal) => {
                progress.cut = journal.cut();
                progress.error = journal.error();
            }
            Input::Stdin(lines) => progress.cut = lines.cut(),
            Input::Syslog(_) | Input::Over => {}
        }
        progress
    }
}

/// The daemon's standard input. It is never closed.
// SAFETY: descriptor 0 is open as long as the process: the standard library opens it if nobody did.
const STDIN: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(0) };

/// Reads what standard input has; `None` if that is nothing. Whoever shares it does not expect it
/// not to block, so it is asked first.
fn read_stdin(buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut fds = [PollFd::new(STDIN, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR | Errno::EAGAIN) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match nix::unistd::read(STDIN, buffer) {
        Ok(read) => Ok(Some(read)),
        Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Watches files and folders; those that are watched already are so once.
fn watch(inotify: &Inotify, paths: &[PathBuf]) {
    let mask = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM;
    for path in paths {
        // What cannot be watched is looked at once a second.
        let _unwatched = inotify.add_watch(path, mask);
    }
}

fn wall_clock() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}
