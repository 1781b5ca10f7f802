//! What is known of each source: written by the thread that reads, read by anybody at any time,
//! even while the sink holds the thread up.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use abuser_detect::time::Time;

/// How it stands with a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Lines handed on since it was started.
    pub lines: u64,
    /// Bytes of them, with their ends.
    pub bytes: u64,
    /// When the last one was.
    pub last: Option<Time>,
    /// Bytes that are written and not read yet, of files.
    pub lag: u64,
    /// Lines that were longer than [`MAX_LINE`](super::MAX_LINE), and cut.
    pub cut: u64,
    /// Messages that are known to be lost: datagrams that the kernel dropped, entries of the journal that could
    /// not be read, and one for each time that a file was cut off before all of it was read.
    pub lost: u64,
    /// Why nothing is read, or not all of it.
    pub error: Option<String>,
    /// Whether it has ended, as standard input does.
    pub ended: bool,
    /// The files that are followed.
    pub files: Vec<FileStatus>,
}

/// How it stands with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// What it is called, or was until it was rotated.
    pub path: PathBuf,
    /// How far it is read, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
    /// Whether it was renamed or deleted, and is followed for what its writer may still add.
    pub rotated: bool,
}

/// The numbers of a source.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    name: String,
    lines: AtomicU64,
    bytes: AtomicU64,
    last: AtomicU64,
    cut: AtomicU64,
    lost: AtomicU64,
    detail: Mutex<Detail>,
}

/// What changes rarely.
#[derive(Debug, Default)]
struct Detail {
    error: Option<String>,
    ended: bool,
    files: Vec<Arc<FileGauge>>,
}

/// The numbers of a file.
#[derive(Debug)]
pub(super) struct FileGauge {
    pub(super) path: PathBuf,
    pub(super) rotated: bool,
    pub(super) offset: AtomicU64,
    pub(super) size: AtomicU64,
}

impl Gauge {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Takes note of a line of so many bytes, with its end.
    pub(super) fn line(&self, bytes: usize, at: Time) {
        self.lines.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.last.store(at.0, Relaxed);
    }

    /// Takes note of a line that was cut.
    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Relaxed);
    }

    /// Takes note of messages that are lost.
    pub(super) fn lost(&self, count: u64) {
        self.lost.fetch_add(count, Relaxed);
    }

    /// Says what is wrong, aloud if it is something else than before; `None`: nothing any more.
    pub(super) fn set_error(&self, error: Option<String>) {
        let mut detail = self.detail();
        if detail.error == error {
            return;
        }
        if let Some(error) = &error {
            tracing::warn!(source = self.name, "{error}");
        } else {
            tracing::info!(
                source = self.name,
                "what was wrong with this source is over"
            );
        }
        detail.error = error;
    }

    pub(super) fn set_ended(&self) {
        self.detail().ended = true;
    }

    pub(super) fn set_files(&self, files: Vec<Arc<FileGauge>>) {
        self.detail().files = files;
    }

    fn detail(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> SourceStatus {
        let detail = self.detail();
        let files: Vec<_> = detail.files.iter().map(|file| file.status()).collect();
        let last = self.last.load(Relaxed);
        SourceStatus {
            name: self.name.clone(),
            lines: self.lines.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            last: (last > 0).then_some(Time(last)),
            lag: files
                .iter()
                .map(|file| file.size.saturating_sub(file.offset))
                .sum(),
            cut: self.cut.load(Relaxed),
            lost: self.lost.load(Relaxed),
            error: detail.error.clone(),
            ended: detail.ended,
            files,
        }
    }
}

impl FileGauge {
    fn status(&self) -> FileStatus {
        FileStatus {
            path: self.path.clone(),
            offset: self.offset.load(Relaxed),
            size: self.size.load(Relaxed),
            rotated: self.rotated,
        }
    }
}
