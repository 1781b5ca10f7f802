//! Comma-separated values with a header.
//!
//! A record is a line: a quotation mark that nobody closed takes its own line with it, and not
//! the rest of the list. In return, a field cannot hold a line end.

use std::io::{self, BufRead};

use csv_core::{ReaderBuilder, Terminator};

use super::{BadLine, Item, Sink, entries, lines, times::expiry};

/// What the columns are called that matter.
const SOURCE: [&str; 5] = ["source", "ip", "address", "prefix", "value"];
const EXPIRES: [&str; 2] = ["expires", "until"];
const DURATION: [&str; 2] = ["duration", "timeout"];
const REASON: [&str; 2] = ["reason", "comment"];

/// Where they stand.
struct Columns {
    source: usize,
    expires: Option<usize>,
    duration: Option<usize>,
    reason: Option<usize>,
}

impl Columns {
    fn of(header: &[&str]) -> Option<Self> {
        let column = |names: &[&str]| {
            let is_named =
                |column: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
            header.iter().position(is_named)
        };
        Some(Self {
            source: column(&SOURCE)?,
            expires: column(&EXPIRES),
            duration: column(&DURATION),
            reason: column(&REASON),
        })
    }
}

/// Whether a line is a header with a column of sources.
pub(super) fn is_header(line: &str) -> bool {
    Columns::of(&Splitter::new().fields(line)).is_some()
}

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    let mut splitter = Splitter::new();
    let mut columns: Option<Columns> = None;
    let mut has_no_header = false;
    lines::each(input, sink, |number, line, sink| {
        let text = line.trim();
        if has_no_header || text.is_empty() || text.starts_with('#') {
            return;
        }
        let mut bad = |problem: String| sink(Item::Bad(BadLine::new(number, line, problem)));
        let record = splitter.fields(text);
        let Some(columns) = &columns else {
            columns = Columns::of(&record);
            has_no_header = columns.is_none();
            if has_no_header {
                let names = SOURCE.join(", ");
                bad(format!(
                    "the header has none of the columns {names}; nothing after it is read"
                ));
            }
            return;
        };
        let value = |column: Option<usize>| {
            let value = column.and_then(|column| record.get(column)).copied();
            value.filter(|value| !value.is_empty())
        };
        let Some(source) = value(Some(columns.source)) else {
            return bad("it names no source".to_owned());
        };
        match expiry(value(columns.expires), value(columns.duration)) {
            Ok(expires) => entries(number, line, source, expires, value(columns.reason), sink),
            Err(problem) => bad(problem),
        }
    })
}

/// Splits lines into their fields. What it is made of is dear to make, so it is made once.
struct Splitter {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Splitter {
    fn new() -> Self {
        let mut builder = ReaderBuilder::new();
        // Lines come without their end, so whatever else ends one elsewhere is text.
        let reader = builder.terminator(Terminator::Any(b'\n')).build();
        Self {
            reader,
            text: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn fields(&mut self, line: &str) -> Vec<&str> {
        self.reader.reset();
        // No line has more text or fields than this, so there is always room.
        self.text.resize(line.len() + 1, 0);
        self.ends.resize(line.len() + 2, 0);
        let (mut written, mut count) = (0, 0);
        // No more input is what ends the record.
        for input in [line.as_bytes(), b""] {
            let text = self.text.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(count..).unwrap_or_default();
            let (_, _, more_text, more_ends) = self.reader.read_record(input, text, ends);
            written += more_text;
            count += more_ends;
        }
        let mut begin = 0;
        let ends = self.ends.iter().take(count);
        let fields = ends.map(|end| {
            let field = self.text.get(begin..*end).unwrap_or_default();
            begin = *end;
            str::from_utf8(field).unwrap_or_default().trim()
        });
        fields.collect()
    }
}
