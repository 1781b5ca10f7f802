//! Real files, sockets and clocks; `tests/e2e/sources.rs` has other people's programs.

mod files;
mod others;
mod positions;

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use super::*;
use crate::store::{Change, PositionKey, PositionRow};

/// What is waited for is there much sooner, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A line as it came.
type Came = (usize, String, Time);

/// Hands on what comes.
struct Channel(mpsc::Sender<Came>);

impl Sink for Channel {
    fn line(&mut self, source: usize, line: Line<'_>) {
        let text = String::from_utf8_lossy(line.bytes).into_owned();
        let _gone = self.0.send((source, text, line.arrived));
    }

    fn idle(&mut self) {}
}

/// A folder with logs, and what is kept of them.
struct Logs {
    folder: tempfile::TempDir,
    kept: Arc<Mutex<Vec<PositionRow>>>,
}

/// Sources that are read.
struct Reading {
    handle: Handle<Channel>,
    lines: mpsc::Receiver<Came>,
}

impl Logs {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            kept: Arc::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }

    fn files(&self, pattern: &str, begin: Begin) -> SourceConfig {
        SourceConfig {
            name: "web".to_owned(),
            kind: Kind::Files(vec![self.path(pattern).display().to_string()]),
            begin,
        }
    }

    /// Reads files with what is kept, and keeps what changes.
    fn read(&self, pattern: &str, begin: Begin) -> Reading {
        self.start(vec![self.files(pattern, begin)])
    }

    fn start(&self, sources: Vec<SourceConfig>) -> Reading {
        config::check(&sources).unwrap();
        let (sender, lines) = mpsc::channel();
        let kept = Arc::clone(&self.kept);
        let keep = move |changes| apply(&mut kept.lock().unwrap(), changes);
        let positions = self.kept.lock().unwrap().clone();
        let handle = Handle::start(sources, positions, Channel(sender), Box::new(keep)).unwrap();
        let reading = Reading { handle, lines };
        // What is written from now on is new.
        reading.settle();
        reading
    }
}

/// As the store does it.
fn apply(kept: &mut Vec<PositionRow>, changes: Vec<Change>) {
    let forget =
        |kept: &mut Vec<PositionRow>, key: &PositionKey| kept.retain(|row| row.key != *key);
    for change in changes {
        match change {
            Change::Position(row) => {
                forget(kept, &row.key);
                kept.push(row);
            }
            Change::PositionGone(key) => forget(kept, &key),
            other => panic!("{other:?} is not about positions"),
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

impl Reading {
    /// Waits until the sources are set up.
    fn settle(&self) {
        let (done, is_done) = mpsc::channel();
        self.handle.with(move |_| done.send(()).unwrap());
        is_done.recv_timeout(PATIENCE).unwrap();
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line").1
    }

    /// The next lines are these.
    fn expect(&self, lines: &[&str]) {
        let got: Vec<_> = lines.iter().map(|_| self.next()).collect();
        assert_eq!(got, lines);
    }

    /// There are no more lines than were expected, for as long as nobody tells of some.
    fn expect_no_more(&self) {
        let got = self.lines.recv_timeout(Duration::from_millis(2500));
        assert!(got.is_err(), "{got:?}");
    }

    fn status(&self) -> SourceStatus {
        self.handle.status().swap_remove(0)
    }

    /// Waits until the status is so.
    fn wait_for(&self, wanted: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops, and returns what came that nobody asked for.
    fn stop(self) -> Vec<String> {
        self.handle.stop();
        self.lines.try_iter().map(|(_, text, _)| text).collect()
    }
}
