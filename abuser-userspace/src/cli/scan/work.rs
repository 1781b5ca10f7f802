//! Several threads that count blocks of lines, each for itself; what they have counted is added up
//! at the end. Reading and decompressing is another thread's, and never far ahead of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::SystemTime,
};

use abuser_detect::{
    line::text,
    parse::{self, Parser, Unparsed},
    scan::{Scan, Settings},
};
use memchr::memchr_iter;

use crate::cli::CliError;

/// Blocks that wait to be counted, for each thread.
const WAITING: usize = 2;

/// A log, as far as its lines must know.
struct Log {
    name: String,
    parser: parse::Settings,
}

/// Lines of a log.
struct Block {
    log: Arc<Log>,
    /// Which of all blocks.
    number: u64,
    lines: Vec<u8>,
}

/// What was counted, and what could not be.
pub(super) struct Outcome {
    pub(super) scan: Scan,
    /// Lines that are no records.
    pub(super) unparsed: u64,
    /// The first of them.
    pub(super) sample: Option<Sample>,
}

/// A line that is no record.
pub(super) struct Sample {
    /// The block that it is in.
    block: u64,
    pub(super) log: String,
    pub(super) line: String,
    pub(super) why: Unparsed,
}

/// The threads, for who reads.
pub(super) struct Team<'a> {
    blocks: &'a SyncSender<Block>,
    log: Option<Arc<Log>>,
    number: u64,
}

impl Team<'_> {
    /// What follows are lines of another log.
    pub(super) fn begin(&mut self, parser: parse::Settings, name: &str) {
        let name = name.to_owned();
        self.log = Some(Arc::new(Log { name, parser }));
    }

    /// Has lines counted; `false` if nobody does any more.
    pub(super) fn count(&mut self, lines: Vec<u8>) -> bool {
        let Some(log) = self.log.clone() else {
            return true;
        };
        self.number += 1;
        let block = Block {
            log,
            number: self.number,
            lines,
        };
        self.blocks.send(block).is_ok()
    }
}

/// Has `read` hand lines to as many threads as there are CPUs; what they have counted.
pub(super) fn with_team(
    settings: &Settings,
    read: impl FnOnce(&mut Team<'_>) -> Result<(), CliError>,
) -> Result<Outcome, CliError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (sender, blocks) = sync_channel(threads * WAITING);
    let blocks = Mutex::new(blocks);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| count(&blocks, settings)))
            .collect();
        let mut team = Team {
            blocks: &sender,
            log: None,
            number: 0,
        };
        let result = read(&mut team);
        drop(sender);
        let mut whole = Outcome::new(settings);
        for worker in workers {
            match worker.join() {
                Ok(part) => whole.merge(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result.map(|()| whole)
    })
}

/// Counts blocks until there are no more.
fn count(blocks: &Mutex<Receiver<Block>>, settings: &Settings) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::new(settings);
    let mut current: Option<(Arc<Log>, Parser)> = None;
    let next = || {
        let blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.recv().ok()
    };
    while let Some(block) = next() {
        let parser = match &mut current {
            Some((log, parser)) if Arc::ptr_eq(log, &block.log) => parser,
            current => {
                let parser = Parser::new(block.log.parser.clone());
                let mut parser = parser.map_err(|error| CliError::Usage(error.to_string()))?;
                parser.set_now(SystemTime::now().into());
                &mut current.insert((Arc::clone(&block.log), parser)).1
            }
        };
        outcome.count(&block, parser);
    }
    Ok(outcome)
}

impl Outcome {
    fn new(settings: &Settings) -> Self {
        Self {
            scan: Scan::new(settings.clone()),
            unparsed: 0,
            sample: None,
        }
    }

    fn count(&mut self, block: &Block, parser: &mut Parser) {
        let lines = block.lines.strip_suffix(b"\n").unwrap_or(&block.lines);
        let mut start = 0;
        for end in memchr_iter(b'\n', lines).chain([lines.len()]) {
            let line = text(lines.get(start..end).unwrap_or_default());
            start = end + 1;
            match parser.parse(&line) {
                Ok(record) => self.scan.add(&record),
                Err(Unparsed::Empty) => {}
                Err(why) => {
                    self.unparsed += 1;
                    self.sample.get_or_insert_with(|| Sample {
                        block: block.number,
                        log: block.log.name.clone(),
                        line: line.into_owned(),
                        why,
                    });
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.scan.merge(other.scan);
        self.unparsed += other.unparsed;
        let samples = [self.sample.take(), other.sample];
        let samples = samples.into_iter().flatten();
        self.sample = samples.min_by_key(|sample| sample.block);
    }
}
