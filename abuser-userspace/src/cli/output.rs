//! Writing to standard output and standard error: the only place that does.
//!
//! Whatever is for people may have words of others in it (reasons, lines of logs, names, answers of
//! peers), and goes through [`plain`]; JSON and what other programs read goes as it is.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::words::is_plain;

pub(super) use crate::words::{counted, grouped, plain};

/// An error, in one line.
pub(super) fn error(error: &dyn Display) {
    // If standard error is closed there is nobody left to tell.
    let _closed = writeln!(io::stderr(), "abuser: {}", plain(&error.to_string()));
}

/// A message that may have words of others in it, in one line.
pub(super) fn message(text: &str) {
    // If standard error is closed there is nobody left to tell.
    let _closed = writeln!(io::stderr(), "{}", plain(text));
}

/// A line for people, which may have words of others in it.
pub(super) fn line(text: &str) -> io::Result<()> {
    raw_line(&plain(text))
}

/// JSON that is in one line already, as the daemon wrote it.
pub(super) fn json_line(json: &str) -> io::Result<()> {
    raw_line(&json_for(json, is_terminal()))
}

/// A part of JSON, for whoever has written the rest.
pub(super) fn json_part(json: &str) -> io::Result<()> {
    bytes(json_for(json, is_terminal()).as_bytes())
}

/// JSON for programs as it is, and for a terminal with what [`plain`] would write out as the escapes
/// that JSON has for it: to whoever parses it that is the same.
fn json_for(json: &str, terminal: bool) -> Cow<'_, str> {
    let shows = |c: char| c == '\n' || is_plain(c);
    if !terminal || json.chars().all(shows) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if shows(c) {
            escaped.push(c);
        } else {
            // It can be within strings only.
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    Cow::Owned(escaped)
}

fn raw_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Many lines of data: they are written some thousand bytes at a time, and by
/// [`Lines::finish`] at the latest.
pub(super) struct Lines(io::BufWriter<io::Stdout>);

impl Lines {
    /// Nothing was written yet.
    pub(super) fn new() -> Self {
        Self(io::BufWriter::with_capacity(1 << 16, io::stdout()))
    }

    /// A line for people, which may have words of others in it.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.0, "{}", plain(text))
    }

    /// A value as JSON in a line.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value).map_err(io::Error::from)?;
        self.0.write_all(b"\n")
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Help or the version, in colours for a terminal.
pub(super) fn help(said: &clap::Error) -> io::Result<()> {
    said.print()?;
    io::stdout().flush()
}

/// Data as it is.
pub(super) fn bytes(data: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(data)
}

/// A value as JSON: indented for a terminal, else in one line.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    json_line(&text.map_err(io::Error::other)?)
}

/// A table: with a header for a terminal, else tab-separated values without one. The
/// columns whose numbers are in `right` are aligned to the right.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        for row in rows {
            let row: Vec<_> = row.iter().map(|cell| plain(cell)).collect();
            raw_line(&row.join("\t"))?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in table.lines() {
        raw_line(row.trim_end())?;
    }
    Ok(())
}

/// The beginning of a line, which says what it is.
pub(super) fn start(text: &str) -> String {
    /// In characters.
    const SHOWN: usize = 200;
    let mut start: String = text.chars().take(SHOWN).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start
}

/// A time span in words: `1h 2m 3s`; only its two largest parts.
pub(super) fn span(seconds: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_commands_no_terminal_and_means_the_same() {
        let value =
            serde_json::json!({ "a": "\u{9b}2J\u{202e}\u{e0041}\u{1b}", "b": "gr\u{fc}\u{df}e" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(json_for(&json, false), json);
        let shown = json_for(&json, true);
        assert!(
            shown.lines().all(|line| line.chars().all(is_plain)),
            "{shown}"
        );
        assert!(shown.contains("gr\u{fc}\u{df}e"), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn a_span_shows_its_two_largest_parts() {
        assert_eq!(span(0), "0s");
        assert_eq!(span(61), "1m 1s");
        assert_eq!(span(90_061), "1day 1h");
    }
}
