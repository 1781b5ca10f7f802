//! What an event tells, field by field.

use std::fmt::{self, Debug, Write as _};

use serde_json::Value;
use tracing::{
    Event,
    field::{Field, Visit},
};

/// The parts of an event.
pub(super) struct Parts {
    /// What happened.
    pub(super) message: String,
    /// Which part of the program tells it.
    pub(super) target: String,
    /// The rest, in the order in which it is told.
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Parts {
    pub(super) fn of(event: &Event) -> Self {
        let mut parts = Self {
            message: String::new(),
            target: event.metadata().target().to_owned(),
            fields: Vec::new(),
        };
        event.record(&mut parts);
        parts
    }

    /// The message and its fields in one line, as they are in a log of text.
    pub(super) fn text(&self) -> String {
        let mut text = self.message.clone();
        for (name, value) in &self.fields {
            let gap = if text.is_empty() { "" } else { " " };
            // To a string it does not fail.
            let _written = match value {
                Value::String(word) if is_word(word) => write!(text, "{gap}{name}={word}"),
                value => write!(text, "{gap}{name}={value}"),
            };
        }
        text
    }

    fn add(&mut self, field: &Field, value: Value) {
        // Events of libraries that know `log` only tell of themselves like that.
        match (field.name(), value) {
            ("log.target", Value::String(target)) => self.target = target,
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

/// Whether a text can stand without quotation marks.
fn is_word(text: &str) -> bool {
    let is_of_word = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    !text.is_empty() && text.chars().all(is_of_word)
}

impl Visit for Parts {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, value.into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = Text(value).to_string();
        match field.name() {
            "message" => self.message = text,
            _ => self.add(field, text.into()),
        }
    }
}

/// A value as it writes itself, which is as `Display` has it where the event says `%`.
struct Text<'v>(&'v dyn Debug);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
