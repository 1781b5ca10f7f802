//! What the daemon says of itself, on standard error or to the journal.
//!
//! Whoever reads it may stop reading: lines are written by a thread of their own, and those that it
//! cannot take are lost. Nobody waits for them.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `event` | what an event tells, field by field |
//! | `text` | as a line for people |
//! | `json` | as a JSON object a line |
//! | `journal` | as an entry of the journal, with fields of its own |

mod event;
mod journal;
mod json;
mod text;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use self::journal::Journal;

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
    /// An entry of systemd's journal, with fields to look for
    Journal,
}

impl Format {
    /// The journal's if that is where standard error goes, else text.
    pub fn usual() -> Self {
        if journal::is_stderr() {
            Self::Journal
        } else {
            Self::Text
        }
    }
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write to the journal at {}: {source}; without systemd, use --log-format text or json",
    path.display()
)]
pub struct LogError {
    path: &'static Path,
    source: io::Error,
}

/// What these say, `dataplane::links`, the fleet and whoever makes a request say in more words.
const QUIET: &str = "netlink_proto=error,rustls_platform_verifier=off,async_nats=off";

/// Tells of events of this level and above until the guard is dropped; `RUST_LOG` overrides it.
pub fn start(format: Format, level: &str) -> Result<WorkerGuard, LogError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Libraries talk about themselves below warnings.
        EnvFilter::new(match level {
            "debug" | "trace" => format!("warn,{QUIET},abuser={level}"),
            level => format!("{level},{QUIET}"),
        })
    });
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text => {
            let (writer, guard) = tracing_appender::non_blocking(io::stderr());
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .fmt_fields(text::PlainFields)
                .with_target(false)
                .with_ansi(io::stderr().is_terminal());
            registry.with(lines).init();
            Ok(guard)
        }
        Format::Json => {
            let (writer, guard) = tracing_appender::non_blocking(io::stderr());
            let encode = json::line;
            registry.with(Encoded { encode, writer }).init();
            Ok(guard)
        }
        Format::Journal => {
            let journal = Journal::open().map_err(|source| LogError {
                path: Path::new(journal::SOCKET),
                source,
            })?;
            let (writer, guard) = tracing_appender::non_blocking(journal);
            let encode = journal::entry;
            registry.with(Encoded { encode, writer }).init();
            Ok(guard)
        }
    }
}

/// Events, each as bytes that are written at once.
struct Encoded {
    encode: fn(&Event) -> Vec<u8>,
    writer: NonBlocking,
}

impl<S: Subscriber> Layer<S> for Encoded {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What the writing thread cannot take is lost, and counted by it.
        let _lost = self.writer.clone().write(&(self.encode)(event));
    }
}
