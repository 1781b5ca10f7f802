//! What a guest says: one line for each test as it ends, and what the failed ones said.

use std::{fmt::Write as _, time::Instant};

use testkit::guest::inside::BEGINS;

use crate::counts::Counts;

/// One guest's.
pub(super) struct Progress {
    kernel: &'static str,
    suite: String,
    /// The test that said something, and so is on a line that was not ended yet.
    running: Option<String>,
    since: Instant,
    said: String,
    /// Those that failed, by their names.
    pub(super) failed: Vec<String>,
    pub(super) counts: Counts,
}

impl Progress {
    pub(super) fn new(kernel: &'static str) -> Self {
        Self {
            kernel,
            suite: String::new(),
            running: None,
            since: Instant::now(),
            said: String::new(),
            failed: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: &str) {
        self.counts.add_line(line);
        if let Some(suite) = line.strip_prefix(BEGINS) {
            if self.suite.is_empty() {
                self.show("has booted");
            }
            suite.clone_into(&mut self.suite);
            return;
        }
        if let Some((name, rest)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        {
            self.running = Some(name.to_owned());
            if self.ends(rest) {
                return;
            }
        } else if self.ends(line) {
            return;
        }
        let _written = writeln!(self.said, "{line}");
    }

    /// Whether this is how the running test ended.
    fn ends(&mut self, verdict: &str) -> bool {
        let verdict = verdict.trim();
        if !matches!(verdict, "ok" | "FAILED") {
            return false;
        }
        let Some(name) = self.running.take() else {
            return false;
        };
        let name = format!("{}::{name}", self.suite);
        self.show(&format!("{name} ... {verdict}"));
        if verdict == "FAILED" {
            self.failed.push(name);
        }
        true
    }

    fn show(&mut self, what: &str) {
        let took = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        println!("Linux {:<5} {took:>6.1} s  {what}", self.kernel);
    }

    /// What was said that is not of tests that passed.
    pub(super) fn failures(&self) -> &str {
        &self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_and_only_what_failed_ones_said_is_kept() {
        let mut progress = Progress::new("6.1");
        for line in [
            "guest: ready",
            "guest: begins netns",
            "running 3 tests",
            "test bans::one ... ok",
            "test bans::two ... a word of a thread",
            "ok",
            "test bans::three ... FAILED",
            "failures:",
            "thread panicked at bans.rs",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s",
        ] {
            progress.take(line);
        }
        assert_eq!(progress.counts.passed(), 2);
        assert_eq!(progress.counts.failed(), 1);
        assert_eq!(progress.failed, ["netns::bans::three"]);
        let said = progress.failures();
        assert!(said.contains("panicked"), "{said}");
        assert!(!said.contains("bans::one"), "{said}");
    }
}
