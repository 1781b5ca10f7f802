//! What must hold for any filter of fail2ban's, and any line that it reads.

use std::path::{Path, PathBuf};

use abuser_detect::{
    filter::{Error, Filter, Match, Options, Step},
    line,
    time::Time,
};

use crate::shown;

/// A line between a filter, what it includes, and the lines that it reads.
const NEXT: &str = "\n----\n";
/// When the lines are read.
const NOW: Time = Time(1_700_000_000_000);
/// The longest filter here: larger ones take long, and say nothing new.
const MAX_FILTER: usize = 4096;

/// Compiles a filter, and has it read lines. The first byte says how.
///
/// # Panics
///
/// If an error is none that can be shown, two filters find two things in one log, or what is found
/// contradicts itself.
pub fn filter(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, NEXT);
    let main = parts.next().unwrap_or_default();
    let (included, lines) = match (parts.next(), parts.next()) {
        (Some(included), Some(lines)) => (included, lines),
        (Some(lines), None) => ("", lines),
        _ => ("", ""),
    };
    if main.len() + included.len() > MAX_FILTER {
        return;
    }
    let files = |path: &Path| {
        Ok(match path.to_str() {
            Some("/f/x.conf") => Some(main.to_owned()),
            Some("/f/common.conf") => Some(included.to_owned()),
            _ => None,
        })
    };
    let options = Options {
        journal: how & 1 != 0,
        every: how & 2 != 0,
        options: if how & 4 != 0 {
            vec![("mode".to_owned(), "aggressive".to_owned())]
        } else {
            Vec::new()
        },
        ..Options::default()
    };
    let load = || Filter::load("x", &[PathBuf::from("/f")], &options, &files);
    let (mut one, mut other) = match (load(), load()) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(error), Err(again)) => {
            assert_eq!(error.to_string(), again.to_string(), "read twice");
            return refused(&error, [main, included]);
        }
        (one, other) => panic!("read twice: {:?} and {:?}", one.err(), other.err()),
    };
    let mut count = 0;
    for line in lines.split('\n').take(20) {
        let line = line::text(line.as_bytes());
        let found = one.observe(&line, NOW);
        assert_eq!(found, other.observe(&line, NOW), "found twice");
        assert_eq!(one.step(), other.step());
        count += 1;
        assert_eq!(one.counters().lines, count);
        if let Step::Failure(regex) = one.step() {
            assert!(regex < one.failregexes().count());
        }
        for found in &found {
            is_consistent(found, one.failregexes().count());
        }
    }
}

fn refused(error: &Error, files: [&str; 2]) {
    // Expressions may have more than one line; who shows them escapes that.
    assert!(!error.to_string().is_empty());
    if let Error::Syntax { line, what, .. } = error {
        let most = files.map(|file| file.lines().count()).into_iter().max();
        assert!((1..=most.unwrap_or(0).max(1)).contains(line), "line {line}");
        shown::is_one_plain_line(what);
    }
}

fn is_consistent(found: &Match, regexes: usize) {
    assert!(found.regex < regexes);
    if let Some(prefix) = found.prefix {
        let bits = match found.source {
            Some(source) if source.is_ipv6() => 128,
            _ => 32,
        };
        assert!(prefix <= bits || found.source.is_none(), "{found:?}");
    }
    let record = found.record();
    assert_eq!(record.source, found.source);
    assert_eq!(record.time, found.time);
    let users: Vec<_> = found.users().collect();
    assert!(users.iter().all(|user| !user.is_empty()), "{users:?}");
}
