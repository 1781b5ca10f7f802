//! What `abuser ban list --json` prints: an array, or an object a line. Also arrays of texts.
//!
//! A file that does not begin with an array is read record by record, a record beginning with
//! each line that begins with `{`: one that is broken costs only itself. So it is for an object
//! a line, and also for the indented objects that `jq '.[]'` prints.

use std::io::{self, BufRead};

use serde_json::{Value, value::RawValue};

use super::{
    BadLine, Expiry, Item, Sink,
    elements::{self, Elements, problem},
    entries, lines,
    times::expiry,
};

/// What an element may call its source.
const SOURCE: [&str; 5] = ["source", "ip", "address", "prefix", "value"];

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    match elements::begin(input)? {
        (Some(b'['), skipped) => {
            let mut number = 0;
            elements::documents(input, skipped, sink, |source, sink| {
                let each = |value: &RawValue| {
                    number += 1;
                    match serde_json::from_str(value.get()) {
                        Ok(value) => element(number, &value, sink),
                        Err(error) => bad(number, value.get(), &problem(&error), sink),
                    }
                };
                serde::de::DeserializeSeed::deserialize(Elements(each), source)
            })
        }
        (_, skipped) => records(input, skipped, sink),
    }
}

/// Reads what begins with a `{` at the beginning of a line, each for itself.
fn records(input: &mut dyn BufRead, skipped: u64, sink: Sink<'_>) -> io::Result<()> {
    let mut pending = Record::default();
    lines::each(input, sink, |number, line, sink| {
        if line.starts_with('{') || pending.text.starts_with('"') {
            std::mem::take(&mut pending).read(sink);
        }
        if pending.text.is_empty() {
            pending.line = number + skipped;
        }
        if pending.text.len() < lines::MAX_LINE {
            pending.text.push_str(line.trim_end());
            pending.text.push('\n');
        } else {
            pending.is_cut = true;
        }
    })?;
    pending.read(sink);
    Ok(())
}

/// A record that is being put together.
#[derive(Default)]
struct Record {
    line: u64,
    text: String,
    is_cut: bool,
}

impl Record {
    fn read(self, sink: Sink<'_>) {
        if self.is_cut {
            let problem = format!("the record is longer than {} bytes", lines::MAX_LINE);
            return bad(self.line, &self.text, &problem, sink);
        }
        for value in serde_json::Deserializer::from_str(&self.text).into_iter() {
            match value {
                Ok(Value::Null) => {}
                Ok(value) => element(self.line, &value, sink),
                Err(error) => bad(self.line, &self.text, &problem(&error), sink),
            }
        }
    }
}

fn element(number: u64, value: &Value, sink: Sink<'_>) {
    let text = value.to_string();
    if let Value::String(source) = value {
        return entries(number, &text, source, Expiry::Unsaid, None, sink);
    }
    let source = SOURCE.iter().find_map(|name| value.get(name)?.as_str());
    let Some(source) = source else {
        let problem = "neither a text nor an object with a `source`";
        return bad(number, &text, problem, sink);
    };
    let expires = match (value.get("expires"), value.get("duration")) {
        (Some(Value::Null), _) => Ok(Expiry::Never),
        (Some(Value::String(time)), _) => expiry(Some(time), None),
        (None, Some(Value::String(duration))) => expiry(None, Some(duration)),
        (None, None | Some(Value::Null)) => Ok(Expiry::Unsaid),
        (Some(_), _) => Err("`expires` is no text such as \"2026-11-24T12:00:00Z\"".to_owned()),
        (None, Some(_)) => Err("`duration` is no text such as \"10m\"".to_owned()),
    };
    match expires {
        Ok(expires) => {
            let reason = value.get("reason").and_then(Value::as_str);
            entries(number, &text, source, expires, reason, sink);
        }
        Err(problem) => bad(number, &text, &problem, sink),
    }
}

fn bad(number: u64, text: &str, problem: &str, sink: Sink<'_>) {
    sink(Item::Bad(BadLine::new(number, text, problem)));
}
