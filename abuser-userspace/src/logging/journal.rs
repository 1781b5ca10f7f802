//! An event as an entry of systemd's journal, in its native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
//!
//! `tracing-journald` would wait in the engine for a journal that does not read. Here a datagram is
//! written by the thread that all lines are written by.

use std::{
    borrow::Cow,
    env,
    io::{self, Write},
    os::{linux::fs::MetadataExt as _, unix::net::UnixDatagram},
};

use serde_json::Value;
use tracing::{Event, Level};

use super::event::Parts;
use crate::words::beginning;

/// Where the journal takes entries.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// What of a value is told, in bytes: a datagram has an end.
const MAX_VALUE: usize = 16 << 10;

/// Whether standard error is a stream to the journal, which is then told so by whoever made it.
pub(super) fn is_stderr() -> bool {
    let stream = env::var("JOURNAL_STREAM").ok();
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    match (stream, stderr) {
        (Some(stream), Some(stderr)) => {
            stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
        }
        _ => false,
    }
}

/// A socket to it.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// An error if no journal listens.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self(UnixDatagram::unbound()?))
    }
}

impl Write for Journal {
    /// Sends an entry. By name each time: a journal that was started anew may have another socket.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.send_to(entry, SOCKET)?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The entry's fields: the journal's own, and those of the event as `ABUSER_NAME`.
pub(super) fn entry(event: &Event) -> Vec<u8> {
    let metadata = event.metadata();
    let parts = Parts::of(event);
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "PRIORITY", priority(*metadata.level()));
    put(&mut entry, "SYSLOG_IDENTIFIER", "abuser");
    put(&mut entry, "MESSAGE", &parts.text());
    put(&mut entry, "ABUSER_TARGET", &parts.target);
    for (name, value) in &parts.fields {
        let text = match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        };
        put(&mut entry, &field_name(name), &text);
    }
    entry
}

/// The number that syslog has for a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// What the journal takes as a name: capitals, digits and underscores, 64 of them at most.
fn field_name(name: &str) -> String {
    let name = name.chars().map(|c| match c {
        'a'..='z' | '0'..='9' => c.to_ascii_uppercase(),
        'A'..='Z' => c,
        _ => '_',
    });
    "ABUSER_".chars().chain(name).take(64).collect()
}

/// A field: `NAME=value` and a newline; with a newline in the value, its length comes before it.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    let value = beginning(value, MAX_VALUE);
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_is_one_value() {
        let mut entry = Vec::new();
        put(&mut entry, "MESSAGE", "one\nPRIORITY=0");
        put(&mut entry, "PRIORITY", "6");
        let expected = b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=6\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_value_that_no_datagram_holds_is_cut_between_characters() {
        let mut entry = Vec::new();
        put(&mut entry, "M", &"ä".repeat(MAX_VALUE));
        let text = String::from_utf8(entry).expect("UTF-8");
        assert_eq!(text, format!("M={}\n", "ä".repeat(MAX_VALUE / 2)));
    }

    #[test]
    fn a_field_has_a_name_that_the_journal_takes() {
        assert_eq!(field_name("pin_dir"), "ABUSER_PIN_DIR");
        assert_eq!(field_name("log.target"), "ABUSER_LOG_TARGET");
        assert_eq!(field_name(&"x".repeat(100)).len(), 64);
    }
}
