//! The journal, as `journalctl` reads it: the tool that comes with it knows its format best.

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use abuser_detect::time::Time;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{prctl, signal::Signal},
};
use serde_json::Value;

use super::{Counts, lines::Lines};
use crate::config::From;

/// The longest entry that is read, in bytes of JSON.
const MAX_ENTRY: usize = 512 * 1024;
/// How soon a `journalctl` that ended is started again; twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// And at the latest.
const AGAIN_MOST: Duration = Duration::from_secs(60);

/// The journal, followed.
#[derive(Debug)]
pub(super) struct Journal {
    matches: Vec<String>,
    from: From,
    cursor: Option<String>,
    running: Option<Running>,
    error: Option<String>,
    start_at: Instant,
    pause: Duration,
    /// Entries that were cut, by those that do not run any more.
    cut: u64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    output: ChildStdout,
    lines: Lines,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Journal {
    /// Not started yet; `cursor` is the last entry that was read.
    pub(super) fn new(matches: &[String], from: From, cursor: Option<String>) -> Self {
        Self {
            matches: matches.to_vec(),
            from,
            cursor,
            running: None,
            error: None,
            start_at: Instant::now(),
            pause: AGAIN,
            cut: 0,
        }
    }

    /// Starts `journalctl` if it does not run and is due.
    pub(super) fn look(&mut self, now: Instant) {
        if self.running.is_some() || now < self.start_at {
            return;
        }
        self.start_at = now + self.pause;
        self.pause = (self.pause * 2).min(AGAIN_MOST);
        match self.start() {
            Ok(running) => self.running = Some(running),
            Err(error) => self.failed(format!("cannot run journalctl: {error}")),
        }
    }

    fn start(&self) -> io::Result<Running> {
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--follow", "--quiet", "--all"]);
        match (&self.cursor, self.from) {
            (Some(cursor), _) => command.arg(format!("--after-cursor={cursor}")).arg("--lines=all"),
            (None, From::End) => command.arg("--lines=0"),
            (None, From::Start) => command.arg("--lines=all"),
        };
        // Matches are what follows, whatever they look like.
        command.arg("--").args(&self.matches);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Running {
            child,
            output,
            lines: Lines::new(MAX_ENTRY),
        })
    }

    fn failed(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::warn!("{error}; it is tried again within a minute");
        }
        self.error = Some(error);
    }

    /// Reads at most a buffer, and gives the entries to `take`; whether there may be more.
    pub(super) fn turn(
        &mut self,
        buffer: &mut [u8],
        counts: &mut Counts,
        take: &mut dyn FnMut(&[u8], Option<Time>),
    ) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        let ended = match running.output.read(buffer) {
            Ok(0) => running.child.wait().map_or_else(
                |error| error.to_string(),
                |status| format!("it ended: {status}"),
            ),
            Ok(read) => {
                counts.bytes += read as u64;
                let cursor = &mut self.cursor;
                let bytes = buffer.get(..read).unwrap_or_default();
                running.lines.push(bytes, &mut |line| {
                    if let Some(entry) = Entry::new(line) {
                        take(entry.line.as_bytes(), entry.time);
                        *cursor = entry.cursor.or(cursor.take());
                    }
                });
                // It runs, so the next failure is a new one.
                self.pause = AGAIN;
                self.error = None;
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => error.to_string(),
        };
        self.cut += running.lines.cut();
        self.running = None;
        self.failed(format!("journalctl cannot be read: {ended}"));
        false
    }

    /// What to wait for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.output.as_fd())
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    pub(super) fn error(&self) -> Option<String> {
        self.error.clone()
    }

    pub(super) fn cut(&self) -> u64 {
        self.cut + self.running.as_ref().map_or(0, |running| running.lines.cut())
    }
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// The line that a syslog daemon would have written of it, without the date.
    line: String,
    time: Option<Time>,
    cursor: Option<String>,
}

impl Entry {
    /// Reads what `journalctl -o json` writes (systemd's docs/JOURNAL_EXPORT_FORMATS.md).
    fn new(line: &[u8]) -> Option<Self> {
        let fields: Value = serde_json::from_slice(line).ok()?;
        let text = |name| fields.get(name).and_then(text_of);
        let mut line = String::new();
        if let Some(host) = text("_HOSTNAME") {
            line.push_str(&host);
            line.push(' ');
        }
        let program = text("SYSLOG_IDENTIFIER").or_else(|| text("_COMM"));
        if let Some(program) = program {
            line.push_str(&program);
            if let Some(pid) = text("SYSLOG_PID").or_else(|| text("_PID")) {
                line.push_str(&format!("[{pid}]"));
            }
            line.push_str(": ");
        } else if text("_TRANSPORT").as_deref() == Some("kernel") {
            line.push_str("kernel: ");
        }
        // An entry may have several lines; a log's line is one.
        line.push_str(&text("MESSAGE")?.replace('\n', " "));
        let micros = text("_SOURCE_REALTIME_TIMESTAMP").or_else(|| text("__REALTIME_TIMESTAMP"));
        let micros = micros.and_then(|micros| micros.parse::<u64>().ok());
        Some(Self {
            line,
            time: micros.map(|micros| Time(micros / 1000)),
            cursor: text("__CURSOR").map(std::borrow::Cow::into_owned),
        })
    }
}

/// A field: text, or a list of bytes where it is not UTF-8, or a list of several values.
fn text_of(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Array(items) => {
            let byte = |item: &Value| item.as_u64().and_then(|byte| u8::try_from(byte).ok());
            match items.iter().map(byte).collect::<Option<Vec<_>>>() {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned().into()),
                None => items.first().and_then(text_of),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_the_line_that_a_log_file_would_have() {
        let entry = Entry::new(
            br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1709632800123456","_HOSTNAME":"host",
            "SYSLOG_IDENTIFIER":"sshd","SYSLOG_PID":"17","MESSAGE":"Invalid user x from 192.0.2.7"}"#,
        );
        let entry = entry.expect("an entry");
        assert_eq!(entry.line, "host sshd[17]: Invalid user x from 192.0.2.7");
        assert_eq!(entry.time, Some(Time(1_709_632_800_123)));
        assert_eq!(entry.cursor.as_deref(), Some("s=1;i=2"));
    }

    #[test]
    fn what_is_not_text_and_what_is_no_entry_is_survived() {
        let line = |json: &[u8]| Entry::new(json).map(|entry| entry.line);
        assert_eq!(line(br#"{"MESSAGE":[97,255,98]}"#).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(line(br#"{"MESSAGE":["one","two"]}"#).as_deref(), Some("one"));
        assert_eq!(line(br#"{"MESSAGE":"a\nb"}"#).as_deref(), Some("a b"));
        for json in [&b"{}"[..], b"[]", b"", b"{", br#"{"MESSAGE":null}"#, b"\xff"] {
            assert_eq!(line(json), None);
        }
    }
}
