//! From an entry of the journal to a line, as fail2ban's systemd backend makes it: that is what
//! its filters expect.

use abuser_detect::time::Time;
use serde::Deserialize;
use serde_json::Value;

use super::super::syslog;

/// An entry, as `journalctl --output=json` prints it.
#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: Value,
    #[serde(rename = "__MONOTONIC_TIMESTAMP", default)]
    monotonic: Value,
    #[serde(rename = "_SOURCE_REALTIME_TIMESTAMP", default)]
    source_realtime: Value,
    #[serde(rename = "_SOURCE_MONOTONIC_TIMESTAMP", default)]
    source_monotonic: Value,
    #[serde(rename = "_HOSTNAME", default)]
    hostname: Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Value,
    #[serde(rename = "_COMM", default)]
    comm: Value,
    #[serde(rename = "SYSLOG_PID", default)]
    syslog_pid: Value,
    #[serde(rename = "_PID", default)]
    pid: Value,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

/// What is wanted of an entry.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub cursor: String,
    /// When the journal got it, in microseconds since 1970.
    pub written: u64,
    /// When it was sent, as the kernel says.
    pub stated: Time,
    /// What wrote it.
    pub program: Option<String>,
    host: Option<String>,
    pid: Option<String>,
    /// For the kernel's own messages: microseconds since it started.
    since_boot: Option<u64>,
    message: Vec<u8>,
}

impl Entry {
    /// Reads one; `None`: it is none.
    pub fn read(json: &[u8]) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(json).ok()?;
        let written = number(&fields.realtime)?;
        let sent = number(&fields.source_realtime).unwrap_or(written);
        let program = text(&fields.identifier).or_else(|| text(&fields.comm));
        let is_kernel = program.as_deref() == Some("kernel");
        let since_boot = number(&fields.source_monotonic).or_else(|| number(&fields.monotonic));
        Some(Self {
            cursor: fields.cursor,
            written,
            stated: Time(sent / 1000),
            host: text(&fields.hostname),
            pid: text(&fields.syslog_pid).or_else(|| text(&fields.pid)),
            since_boot: since_boot.filter(|_| is_kernel),
            program,
            message: all_bytes(&fields.message),
        })
    }

    /// Writes its line: `host program[pid]: message`.
    pub fn line(&self, into: &mut Vec<u8>) {
        syslog::push_origin(
            self.host.as_deref(),
            self.program.as_deref(),
            self.pid.as_deref(),
            into,
        );
        if let Some(micros) = self.since_boot {
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            into.extend_from_slice(format!("[{seconds:5}.{micros:06}] ").as_bytes());
        }
        syslog::push_message(&self.message, into);
    }
}

/// The first value of a field, as text; `None` if it has none.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        // Either bytes, because they are no text, or several values.
        Value::Array(values) => match values.first() {
            Some(first @ (Value::String(_) | Value::Array(_))) => text(first)?,
            _ => String::from_utf8_lossy(&bytes(values)).into_owned(),
        },
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        value => text(value)?.parse().ok(),
    }
}

/// All values of a field, one after the other.
fn all_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(values) if values.iter().all(Value::is_number) => bytes(values),
        Value::Array(values) => values.iter().map(all_bytes).collect::<Vec<_>>().join(&b' '),
        _ => Vec::new(),
    }
}

fn bytes(values: &[Value]) -> Vec<u8> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    values.iter().filter_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &str) -> (Entry, String) {
        let json = format!(
            r#"{{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1700000000123456","__MONOTONIC_TIMESTAMP":"7000042",{fields}}}"#
        );
        let entry = Entry::read(json.as_bytes()).unwrap();
        let mut line = Vec::new();
        entry.line(&mut line);
        (entry, String::from_utf8(line).unwrap())
    }

    #[test]
    fn an_entry_becomes_the_line_that_syslog_would_have_written() {
        let ssh = r#""_HOSTNAME":"web","SYSLOG_IDENTIFIER":"sshd","_COMM":"sshd-session","SYSLOG_PID":"12","_PID":"13","MESSAGE":"Failed password""#;
        let (entry, text) = line(ssh);
        assert_eq!(text, "web sshd[12]: Failed password");
        assert_eq!(entry.program.as_deref(), Some("sshd"));
        assert_eq!(
            (entry.stated, entry.written),
            (Time(1_700_000_000_123), 1_700_000_000_123_456)
        );
        let lines = [
            (r#""_COMM":"app","_PID":"9","MESSAGE":"m""#, "app[9]: m"),
            (r#""SYSLOG_IDENTIFIER":"app","MESSAGE":"m""#, "app: m"),
            (r#""MESSAGE":"only""#, "only"),
            (r#""_HOSTNAME":"web","MESSAGE":null"#, "web "),
            (
                r#""SYSLOG_IDENTIFIER":"kernel","MESSAGE":"oops""#,
                "kernel: [    7.000042] oops",
            ),
            // Several values, and bytes that are no text.
            (
                r#""SYSLOG_IDENTIFIER":["a","b"],"MESSAGE":["one","two"]"#,
                "a: one two",
            ),
            (r#""MESSAGE":[102,111,111,10,98]"#, "foo\\nb"),
            (r#""MESSAGE":["x",[102,111,111]]"#, "x foo"),
            (r#""MESSAGE":"one\nsshd[1]: two\r\n""#, "one\\nsshd[1]: two"),
            // Whoever writes to the journal chooses what he is called.
            (
                r#""_HOSTNAME":"web","SYSLOG_IDENTIFIER":"a\nweb sshd[1]: Failed","SYSLOG_PID":"1\n2","MESSAGE":"m""#,
                "web a\\nweb sshd[1]: Failed[1\\n2]: m",
            ),
        ];
        for (fields, expected) in lines {
            assert_eq!(line(fields).1, expected, "{fields}");
        }
    }

    #[test]
    fn the_time_is_when_it_was_sent() {
        let (entry, _) = line(r#""_SOURCE_REALTIME_TIMESTAMP":"1690000000999999","MESSAGE":"m""#);
        assert_eq!(entry.stated, Time(1_690_000_000_999));
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in [
            "",
            "{}",
            "[]",
            "-- No entries --",
            r#"{"__CURSOR":"c"}"#,
            "\0",
            r#"{"__CURSOR":1}"#,
        ] {
            assert!(Entry::read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
