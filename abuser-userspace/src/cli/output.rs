//! Writing to standard output and standard error: the only place that does.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

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

/// A line of data.
pub(super) fn line(text: &str) -> io::Result<()> {
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
    line(&text.map_err(io::Error::other)?)
}

/// A table: with a header for a terminal, else tab-separated values without one. The
/// columns whose numbers are in `right` are aligned to the right.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> io::Result<()> {
    if !io::stdout().is_terminal() {
        for row in rows {
            let row: Vec<_> = row.iter().map(|cell| plain(cell)).collect();
            line(&row.join("\t"))?;
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
        line(row.trim_end())?;
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
    fn a_span_shows_its_two_largest_parts() {
        assert_eq!(span(0), "0s");
        assert_eq!(span(61), "1m 1s");
        assert_eq!(span(90_061), "1day 1h");
    }
}
