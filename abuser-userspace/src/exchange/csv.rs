//! Comma-separated values with a header.
//!
//! A record is a line: a quotation mark that nobody closed takes its own line with it, and not
//! the rest of the list. In return, a field cannot hold a line end.

use std::io::{self, BufRead};

use csv::{ReaderBuilder, StringRecord, Trim};

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
    fn of(header: &StringRecord) -> Option<Self> {
        let column = |names: &[&str]| {
            let is_named =
                |column: &str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
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
    fields(line).is_ok_and(|header| Columns::of(&header).is_some())
}

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    let mut columns: Option<Columns> = None;
    let mut has_no_header = false;
    lines::each(input, sink, |number, line, sink| {
        let text = line.trim();
        if has_no_header || text.is_empty() || text.starts_with('#') {
            return;
        }
        let mut bad = |problem: String| sink(Item::Bad(BadLine::new(number, line, problem)));
        let record = match fields(text) {
            Ok(record) => record,
            Err(error) => return bad(error.to_string()),
        };
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
            let value = column.and_then(|column| record.get(column));
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

/// The fields of a line.
fn fields(line: &str) -> Result<StringRecord, csv::Error> {
    let mut record = StringRecord::new();
    ReaderBuilder::new()
        .has_headers(false)
        .trim(Trim::All)
        .buffer_capacity(line.len().max(1))
        .from_reader(line.as_bytes())
        .read_record(&mut record)?;
    Ok(record)
}
