//! Names that our configuration takes, each once.

use std::collections::{HashMap, HashSet};

/// The longest name of a limit, source, detector or policy, in characters.
const MAX_LENGTH: usize = 32;

/// The names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The last number that a name was told apart by.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// A name that says `wanted` as nearly as it can, and that nothing else has.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        self.take_with(wanted, "")
    }

    /// A name for a log, or for a pattern of logs: `/var/log/nginx/api_access.log` is `api_access`,
    /// `/var/log/nginx/*access.log` is `nginx-access`.
    pub(super) fn take_log(&mut self, path: &str) -> String {
        let mut parts = path.rsplit('/');
        let file = parts.next().unwrap_or_default();
        let stem = clean(file.strip_suffix(".log").unwrap_or(file));
        if matches!(stem.as_str(), "" | "access" | "error" | "current" | "log") {
            let folder = parts.map(clean).find(|folder| !folder.is_empty());
            return self.take_with(folder.as_deref().unwrap_or_default(), &stem);
        }
        self.take(&stem)
    }

    /// A name as by [`Names::take`], with `end` behind it; if both are too long together, `wanted` is shortened first.
    pub(super) fn take_with(&mut self, wanted: &str, end: &str) -> String {
        let (mut wanted, end) = (clean(wanted), clean(end));
        if wanted.is_empty() && end.is_empty() {
            "imported".clone_into(&mut wanted);
        }
        let plain = joined(&wanted, &end, MAX_LENGTH);
        let mut name = plain.clone();
        while self.taken.contains(&name) {
            let number = self.numbers.entry(plain.clone()).or_insert(1);
            *number += 1;
            // Never cut: two names of which only the number differs would be the same.
            let number = format!("-{number}");
            name = joined(&wanted, &end, MAX_LENGTH - number.len()) + &number;
        }
        self.taken.insert(name.clone());
        name
    }
}

/// `text` with a hyphen for each run of what a name cannot have.
pub(super) fn clean(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches('-').to_owned()
}

/// `begin-end` in at most `room` characters: `begin` is shortened first, then `end`.
fn joined(begin: &str, end: &str, room: usize) -> String {
    let end = first(end, room);
    if end.is_empty() {
        return first(begin, room).to_owned();
    }
    match first(begin, room.saturating_sub(end.len() + 1)) {
        "" => end.to_owned(),
        begin => format!("{begin}-{end}"),
    }
}

/// As much of a name as there is `room` for.
fn first(name: &str, room: usize) -> &str {
    name[..room.min(name.len())].trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_what_it_may_have_and_is_taken_once() {
        let mut names = Names::default();
        assert_eq!(names.take("api_limit"), "api_limit");
        assert_eq!(names.take("api_limit"), "api_limit-2");
        assert_eq!(names.take("api limit!"), "api-limit");
        assert_eq!(names.take("--"), "imported");
        assert_eq!(names.take("\u{fc}"), "imported-2");
        assert_eq!(names.take_with("", "7"), "7");
        assert_eq!(names.take_with("", "7"), "7-2");
        let long = names.take_with(&"long ".repeat(20), "1000001");
        assert_eq!(long, "long-long-long-long-long-1000001");
        assert_eq!(names.take(&"x".repeat(99)), "x".repeat(32));
        assert_eq!(names.take(&"x".repeat(99)), "x".repeat(30) + "-2");
    }

    #[test]
    fn a_name_that_is_too_long_is_told_apart_by_its_number() {
        let mut names = Names::default();
        let nines = "9".repeat(99);
        assert_eq!(names.take_with("a", &nines), "9".repeat(32));
        for number in 2..=100 {
            let name = names.take_with("a", &nines);
            assert_eq!(name.len(), 32);
            assert!(name.ends_with(&format!("9-{number}")), "{name}");
        }
        let nines = "9".repeat(28);
        let end = format!("{nines}-{nines}");
        assert_eq!(names.take_with("", &end), format!("{nines}-999"));
        assert_eq!(names.take_with("", &end), format!("{nines}-9-2"));
    }

    #[test]
    fn a_log_is_called_after_its_file_or_its_folder() {
        let mut names = Names::default();
        assert_eq!(
            names.take_log("/var/log/nginx/api_access.log"),
            "api_access"
        );
        assert_eq!(names.take_log("/var/log/nginx/*access.log"), "nginx-access");
        assert_eq!(names.take_log("/var/log/auth.log"), "auth");
        assert_eq!(names.take_log("/var/log/syslog"), "syslog");
        assert_eq!(names.take_log("/*/*"), "imported");
    }
}
