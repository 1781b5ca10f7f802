//! What an event tells, for people: in one line, and nothing of it commands their terminal.

use std::fmt;

use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
};

use crate::words::plain;

/// The message and fields as they usually are, with what others wrote in them as it shows.
pub(super) struct PlainFields;

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&plain(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_others_wrote_stays_in_its_line_and_commands_no_terminal() {
        let shared = Shared::default();
        let writer = shared.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .fmt_fields(PlainFields);
        let subscriber = tracing_subscriber::registry().with(lines.with_ansi(false));
        let hostile = "a\nERROR: b\u{202e}c\u{1b}[2J\u{9b}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(error = %hostile, count = 3, "a peer said {hostile}");
        });
        let written = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1, "{written:?}");
        let line = written.trim_end();
        assert_eq!(plain(line), line);
        for phrase in ["a peer said a\\nERROR: b", "error=a\\nERROR: b", "count=3"] {
            assert!(line.contains(phrase), "no {phrase} in {line}");
        }
    }
}
