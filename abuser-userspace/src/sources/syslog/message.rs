//! From a message of syslog to a line: RFC 3164 as programs really write it, and RFC 5424.

use abuser_detect::time::Time;
use jiff::Zoned;
use syslog_loose::{IncompleteDate, ProcId, Variant, parse_message_with_year_exact};

/// A message, as far as it is known what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was written.
    pub stated: Option<Time>,
    /// What wrote it.
    pub program: Option<String>,
    host: Option<String>,
    pid: Option<String>,
    text: Vec<u8>,
}

impl Message {
    /// Reads a datagram. What has no header of syslog is a message all the same.
    pub fn read(datagram: &[u8]) -> Self {
        let datagram = trimmed(datagram);
        let text = String::from_utf8_lossy(datagram);
        let parsed = match &text {
            // Without a priority it is none, whatever it looks like.
            text if text.starts_with('<') => {
                parse_message_with_year_exact(text, year, Variant::Either).ok()
            }
            _ => None,
        };
        let Some(parsed) = parsed else {
            return Self {
                stated: None,
                program: None,
                host: None,
                pid: None,
                text: without_priority(datagram).to_vec(),
            };
        };
        Self {
            stated: parsed
                .timestamp
                .and_then(|time| u64::try_from(time.timestamp_millis()).ok().map(Time)),
            program: parsed.appname.map(str::to_owned),
            host: parsed.hostname.map(str::to_owned),
            pid: parsed.procid.map(|pid| match pid {
                ProcId::PID(pid) => pid.to_string(),
                ProcId::Name(name) => name.to_owned(),
            }),
            text: as_sent(&text, datagram, parsed.msg),
        }
    }

    /// Writes its line: `host program[pid]: message`. `host` is this one, which sent what names none.
    pub fn line(&self, host: &str, into: &mut Vec<u8>) {
        let host = self.host.as_deref().unwrap_or(host);
        push_origin(
            Some(host),
            self.program.as_deref(),
            self.pid.as_deref(),
            into,
        );
        push_message(&self.text, into);
    }
}

/// What follows the priority. Programs that send no time (Python's `SysLogHandler` is one) send nothing
/// else before their message, or a tag as it is to be in the line.
fn without_priority(datagram: &[u8]) -> &[u8] {
    /// Facility 23, severity 7.
    const HIGHEST: u16 = 191;
    let read = || {
        let rest = datagram.strip_prefix(b"<")?;
        let end = rest.iter().take(4).position(|&byte| byte == b'>')?;
        let (number, message) = rest.split_at(end);
        let is_number = number.iter().all(u8::is_ascii_digit);
        let number: u16 = std::str::from_utf8(number).ok()?.parse().ok()?;
        (is_number && number <= HIGHEST).then(|| message.get(1..))?
    };
    read().unwrap_or(datagram)
}

/// The bytes of the message's text, which is the end of it, as they were sent.
fn as_sent(text: &str, datagram: &[u8], message: &str) -> Vec<u8> {
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    if text.as_bytes() == datagram {
        return message.as_bytes().to_vec();
    }
    // Its header is text; so what precedes the message is as long as it was sent.
    let start = text.len().checked_sub(message.len());
    start
        .filter(|&start| text.get(..start).is_some_and(str::is_ascii))
        .and_then(|start| datagram.get(start..))
        .unwrap_or(message.as_bytes())
        .to_vec()
}

/// Writes what precedes the text of a message: `host program[pid]: `, as far as it is known. Whoever
/// sends a message may choose these, and is to make no second line of them.
pub(in super::super) fn push_origin(
    host: Option<&str>,
    program: Option<&str>,
    pid: Option<&str>,
    into: &mut Vec<u8>,
) {
    if let Some(host) = host {
        push_message(host.as_bytes(), into);
        into.push(b' ');
    }
    if let Some(program) = program {
        push_message(program.as_bytes(), into);
        if let Some(pid) = pid {
            into.push(b'[');
            push_message(pid.as_bytes(), into);
            into.push(b']');
        }
        into.extend_from_slice(b": ");
    }
}

/// Writes the text of a message so that it is one line, whatever is in it.
pub(in super::super) fn push_message(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = trimmed(text);
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, more) = rest.split_at(end);
        into.extend_from_slice(line);
        into.extend_from_slice(b"\\n");
        rest = more.get(1..).unwrap_or_default();
    }
    into.extend_from_slice(rest);
}

/// Without the ends that some programs send.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_end = |&byte: &u8| matches!(byte, b'\n' | b'\r' | b'\0');
    let length = text
        .iter()
        .rposition(|byte| !is_end(byte))
        .map_or(0, |last| last + 1);
    text.get(..length).unwrap_or_default()
}

/// The year of a date that has none: the one that brings it closest to now.
fn year((month, ..): IncompleteDate) -> i32 {
    let now = Zoned::now();
    let year = i32::from(now.year());
    match i64::from(month) - i64::from(now.month()) {
        7.. => year - 1,
        ..=-7 => year + 1,
        _ => year,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(datagram: &[u8]) -> String {
        let mut line = Vec::new();
        Message::read(datagram).line("here", &mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    #[test]
    fn a_message_becomes_the_line_that_syslogd_would_have_written() {
        let lines: [(&[u8], &str); 16] = [
            (b"<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed\n", "mymachine su[77]: 'su root' failed"),
            (b"<34>Oct  1 22:14:15 mymachine su: failed", "mymachine su: failed"),
            // What glibc's syslog(3) sends has no host.
            (b"<86>Nov 26 01:41:38 sshd[812]: Failed password for root from 203.0.113.7 port 4 ssh2\0", "here sshd[812]: Failed password for root from 203.0.113.7 port 4 ssh2"),
            (b"<190>Nov 26 01:41:38 web nginx: 203.0.113.7 - - \"GET / HTTP/1.1\" 200", "web nginx: 203.0.113.7 - - \"GET / HTTP/1.1\" 200"),
            (b"<165>1 2003-10-11T22:14:15.003Z host evntslog 12 ID47 [a@1 b=\"c\"] An event", "host evntslog[12]: An event"),
            ("<165>1 2003-10-11T22:14:15.003Z host app - - - \u{feff}An event".as_bytes(), "host app: An event"),
            (b"<13>1 - - - - - - only", "here only"),
            (b"no header at all", "here no header at all"),
            // What Python's SysLogHandler sends has no time either.
            (b"<38>sshd[812]: Failed password\0", "here sshd[812]: Failed password"),
            (b"<14>denied \xff", "here denied \u{fffd}"),
            (b"<192>denied", "here <192>denied"),
            (b"<+14>denied", "here <+14>denied"),
            (b"<>denied", "here <>denied"),
            (b"", "here "),
            (b"<34>Oct 11 22:14:15 mymachine su[77]: one\nOct 11 22:14:15 mymachine su[77]: two", "mymachine su[77]: one\\nOct 11 22:14:15 mymachine su[77]: two"),
            (b"<34>Oct 11 22:14:15 mymachine su[77]: \xff\0x", "mymachine su[77]: \u{fffd}\0x"),
        ];
        for (datagram, expected) in lines {
            assert_eq!(
                line(datagram),
                expected,
                "{}",
                String::from_utf8_lossy(datagram)
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_what_they_are() {
        let message = Message::read(b"<34>Oct 11 22:14:15 mymachine su[77]: \xff\xfex");
        assert_eq!(message.text, b"\xff\xfex");
    }

    #[test]
    fn time_and_program_are_known_apart() {
        let message = Message::read(b"<165>1 2003-10-11T22:14:15.003Z host app 1 - - m");
        assert_eq!(message.stated, Some(Time(1_065_910_455_003)));
        assert_eq!(message.program.as_deref(), Some("app"));
        // A date without a year is at most half a year from now.
        let now = Time::from(std::time::SystemTime::now());
        for month in ["Jan", "Mar", "May", "Jul", "Sep", "Nov"] {
            let text = format!("<34>{month} 11 22:14:15 mymachine su: m");
            let stated = Message::read(text.as_bytes()).stated.unwrap();
            assert!(stated.0.abs_diff(now.0) < 220 * 86_400_000, "{month}");
        }
    }

    proptest! {
        #[test]
        fn any_datagram_makes_one_line(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = Vec::new();
            Message::read(&datagram).line("here", &mut line);
            prop_assert!(!line.contains(&b'\n'));
        }

        #[test]
        fn any_text_after_a_priority_makes_one_line(text in "<[0-9]{1,4}>[ -~\n]{0,80}") {
            let mut line = Vec::new();
            Message::read(text.as_bytes()).line("here", &mut line);
            prop_assert!(!line.contains(&b'\n'));
        }
    }
}
