//! `abuser ban import` and `abuser ban export`: lists that come from other programs, and go to
//! them.

mod outcome;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Mutex, mpsc, oneshot};

use self::outcome::Outcome;
use super::{
    CliError,
    args::{BanExportArgs, BanImportArgs},
    control::note_unwritten,
    output::{self, counted},
};
use crate::{
    api::{
        client::{Client, ClientError, Lines},
        types::{BanDuration, ImportEntry, ImportRequest},
    },
    exchange::{self, BadLine, Entry, Expiry, Format, Item},
    policy::BanTime,
};

/// Entries of one request: few enough that bans for offences do not wait for them.
const CHUNK: usize = 4096;

/// Bytes of reasons in one request: as JSON they may take six times as much, and a body has 8 MiB.
const CHUNK_REASONS: usize = 1 << 20;

/// Requests under way: one is written down while the next one is put in force.
const UNDER_WAY: usize = 2;

/// What is found in a list.
#[derive(Debug)]
enum Found {
    /// Some entries, and where in the list they stand.
    Entries(Chunk),
    /// Something that is none.
    Bad(BadLine),
    /// One that is over already.
    Expired,
}

/// Some entries, and where in the list they stand.
#[derive(Debug, Clone, Default)]
struct Chunk {
    numbers: Vec<u64>,
    entries: Vec<ImportEntry>,
    /// The length of their reasons.
    reasons: usize,
}

impl Chunk {
    fn add(&mut self, number: u64, entry: ImportEntry) {
        self.reasons += entry.reason.as_deref().map_or(0, str::len);
        self.numbers.push(number);
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= CHUNK || self.reasons >= CHUNK_REASONS
    }
}

/// Bans whom a list names.
pub(super) async fn import(
    socket: &Path,
    client: Client,
    args: BanImportArgs,
) -> Result<(), CliError> {
    let (strict, dry_run, json) = (args.strict, args.dry_run, args.json);
    let progress = ProgressBar::new_spinner();
    let (sender, mut found) = mpsc::channel(UNDER_WAY);
    // There is a daemon. It does not wait for a list that comes slowly.
    drop(client);
    let mut importer = Importer::new(socket, args.force);
    let list = List::open(args, &progress)?;
    let (told, read) = oneshot::channel();
    // A thread that nobody waits for when the daemon is gone: it may wait for input for ever.
    std::thread::spawn(move || {
        let _gone = told.send(list.read(&sender));
    });
    let read = async { read.await.map_err(anyhow::Error::from)? };
    let result = if strict {
        let chunks = importer.gather(&mut found).await;
        match read.await {
            Ok(format) => {
                let result = importer.import_all_or_none(chunks, dry_run).await;
                result.map(|()| format).map_err(CliError::from)
            }
            // What was read is not all.
            Err(error) => Err(error),
        }
    } else {
        match importer.import(found, dry_run).await {
            Ok(()) => read.await,
            Err(error) => Err(error.into()),
        }
    };
    progress.finish_and_clear();
    let mut outcome = importer.outcome.into_inner();
    outcome.complain();
    let format = match result {
        Ok(format) => format,
        Err(error) if dry_run => return Err(error),
        Err(error) => {
            return Err(CliError::Other(anyhow::anyhow!(
                "{error} ({} imported before that)",
                outcome.imported()
            )));
        }
    };
    outcome.format = format.to_string();
    if strict && outcome.skipped > 0 {
        return Err(CliError::Other(anyhow::anyhow!(
            "imported nothing, because --strict was given and {} cannot be imported",
            counted(outcome.skipped, "line", "lines")
        )));
    }
    if !dry_run && !outcome.is_nothing() {
        match Client::connect(socket).await {
            Ok(mut client) => note_unwritten(&mut client).await,
            Err(error) => output::error(&format!(
                "this is done; whether it is on disk, too, is not known: {error}"
            )),
        }
    }
    if outcome.is_of_nobody() {
        output::error(&"the list names nobody");
    }
    if json {
        output::json(&outcome)?;
    } else {
        output::line(&outcome.summary(dry_run))?;
    }
    if outcome.is_nothing() {
        return Err(CliError::Other(anyhow::anyhow!(
            "no line of it is an entry of a list in {format} format; if it is in another one, name \
             that with --format"
        )));
    }
    Ok(())
}

/// Who hands entries to the daemon.
struct Importer<'a> {
    socket: &'a Path,
    force: bool,
    outcome: Mutex<Outcome>,
}

impl<'a> Importer<'a> {
    fn new(socket: &'a Path, force: bool) -> Self {
        Self {
            socket,
            force,
            outcome: Mutex::new(Outcome::default()),
        }
    }

    /// Imports as it comes.
    async fn import(&self, found: mpsc::Receiver<Found>, dry_run: bool) -> Result<(), ClientError> {
        let found = Mutex::new(found);
        let imports = (0..UNDER_WAY).map(|_| self.take_part(&found, dry_run));
        try_join_all(imports).await?;
        Ok(())
    }

    /// Has the daemon import what is found, until nothing is any more.
    async fn take_part(
        &self,
        found: &Mutex<mpsc::Receiver<Found>>,
        dry_run: bool,
    ) -> Result<(), ClientError> {
        loop {
            let Some(found) = found.lock().await.recv().await else {
                return Ok(());
            };
            let Some(chunk) = self.outcome.lock().await.take(found) else {
                continue;
            };
            let Chunk {
                numbers, entries, ..
            } = chunk;
            let request = ImportRequest {
                entries,
                force: self.force,
                dry_run,
            };
            // The daemon hangs up on who is silent for as long as a list may take to come.
            let mut client = Client::connect(self.socket).await?;
            let imported = client.post("/v1/bans/import", &request).await?;
            self.outcome.lock().await.count(imported, &numbers);
        }
    }

    /// Takes what is found until nothing is any more, and imports none of it yet.
    async fn gather(&mut self, found: &mut mpsc::Receiver<Found>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while let Some(found) = found.recv().await {
            chunks.extend(self.outcome.get_mut().take(found));
        }
        chunks
    }

    /// Imports if all of it can be.
    async fn import_all_or_none(
        &mut self,
        chunks: Vec<Chunk>,
        dry_run: bool,
    ) -> Result<(), ClientError> {
        let checked = self.import(feed(chunks.clone()), true).await;
        let outcome = self.outcome.get_mut();
        if checked.is_ok() && (outcome.skipped > 0 || dry_run) {
            return Ok(());
        }
        outcome.begin_again();
        checked?;
        self.import(feed(chunks), false).await
    }
}

/// Chunks one after the other.
fn feed(chunks: Vec<Chunk>) -> mpsc::Receiver<Found> {
    let (sender, found) = mpsc::channel(UNDER_WAY);
    tokio::spawn(async move {
        for chunk in chunks {
            if sender.send(Found::Entries(chunk)).await.is_err() {
                return;
            }
        }
    });
    found
}

/// A list that is to be read.
struct List {
    input: Box<dyn Read + Send>,
    args: BanImportArgs,
}

impl List {
    fn open(args: BanImportArgs, progress: &ProgressBar) -> Result<Self, CliError> {
        let input: Box<dyn Read + Send> = match args.path() {
            None => Box::new(io::stdin()),
            Some(path) => {
                let opened = File::open(path).and_then(|file| {
                    let size = file.metadata()?.len();
                    Ok((file, size))
                });
                let (file, size) =
                    opened.map_err(|error| unreadable(&path.display().to_string(), &error))?;
                progress.set_length(size);
                progress.set_style(style());
                Box::new(file)
            }
        };
        let input = Box::new(progress.wrap_read(input));
        Ok(Self { input, args })
    }

    /// Reads it to its end, or until nobody wants more; what it was written in.
    fn read(self, found: &mpsc::Sender<Found>) -> Result<Format, CliError> {
        let Self { input, args } = self;
        let mut chunk = Chunk::default();
        let send = |chunk: &mut Chunk| {
            let _gone = found.blocking_send(Found::Entries(std::mem::take(chunk)));
        };
        let now = SystemTime::now();
        let mut sink = |item| match item {
            Item::Entry(entry) => match to_import(&args, entry, now) {
                Some((number, entry)) => {
                    chunk.add(number, entry);
                    if chunk.is_full() {
                        send(&mut chunk);
                    }
                }
                None => {
                    let _gone = found.blocking_send(Found::Expired);
                }
            },
            Item::Bad(line) => {
                let _gone = found.blocking_send(Found::Bad(line));
            }
            Item::Expired => {
                let _gone = found.blocking_send(Found::Expired);
            }
        };
        let path = args.path();
        let read = exchange::read_any(args.format, input, path, &mut sink);
        send(&mut chunk);
        let name = path.map(|path| path.display().to_string());
        read.map_err(|error| unreadable(name.as_deref().unwrap_or("standard input"), &error))
    }
}

fn unreadable(name: &str, error: &io::Error) -> CliError {
    CliError::Other(anyhow::anyhow!("cannot read {name}: {error}"))
}

/// An entry with its place; `None` if it is over.
fn to_import(args: &BanImportArgs, entry: Entry, now: SystemTime) -> Option<(u64, ImportEntry)> {
    let duration = match entry.expires {
        Expiry::Never => BanDuration::Permanent,
        Expiry::In(time) => BanDuration::Seconds(time.as_secs().max(1)),
        Expiry::At(time) => {
            let left = time.duration_since(now).ok()?;
            BanDuration::Seconds(left.as_secs().max(1))
        }
        Expiry::Unsaid => match args.time {
            Some(BanTime::For(time)) => BanDuration::Seconds(time.as_secs()),
            Some(BanTime::Permanent) | None => BanDuration::Permanent,
        },
    };
    let import = ImportEntry {
        source: entry.source,
        duration,
        reason: entry.reason.or_else(|| args.reason.clone()),
    };
    Some((entry.number, import))
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Prints the bans in a format that others read.
pub(super) async fn export(client: Client, args: &BanExportArgs) -> Result<(), CliError> {
    let path = format!("/v1/bans/export?format={}", args.format);
    copy(client.read(&path).await?).await
}

/// Prints an answer as it comes.
pub(super) async fn copy(mut answer: Lines) -> Result<(), CliError> {
    while let Some(part) = answer.next_part().await? {
        output::bytes(&part)?;
    }
    Ok(())
}
