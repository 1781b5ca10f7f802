//! An event as a JSON object, in one line.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Event;

use super::event::Parts;

/// The object. What an event has of its own stands apart, so that no name means two things.
#[derive(Serialize)]
struct Line {
    time: String,
    level: String,
    target: String,
    message: String,
    fields: Map<String, Value>,
}

pub(super) fn line(event: &Event) -> Vec<u8> {
    let Parts {
        message,
        target,
        fields,
    } = Parts::of(event);
    let fields = fields.into_iter();
    let line = Line {
        time: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        level: event.metadata().level().as_str().to_ascii_lowercase(),
        target,
        message,
        fields: fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    };
    // Nothing in it fails to be JSON.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
