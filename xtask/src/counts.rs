//! The numbers of a test run, summed over all test binaries, and why tests failed: a CI reader wants one line if
//! all is well, and the reasons at the end if not, below all that the tests printed.

use std::fmt;

/// How many tests passed, failed and were skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What tests that failed said of it, a line each.
    reasons: Vec<String>,
    /// Whether the last of them goes on.
    in_reason: bool,
}

/// Lines that end what a panic says: a test's output goes on with other things.
const ENDS: [&str; 3] = ["stack backtrace:", "note: ", "---- "];
/// Lines of one reason that are kept.
const MAX_LINES: usize = 12;

impl Counts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            passed,
            failed,
            skipped,
            reasons,
            in_reason: _,
        } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.reasons.extend(reasons.iter().cloned());
    }

    /// What tests that failed said of it; empty if none did.
    pub(crate) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// How many passed.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Adds a line of libtest's summary, or of what a test said that panicked; any other line adds nothing.
    pub(crate) fn add_line(&mut self, line: &str) {
        self.take_reason(line.trim_end());
        let Some((_, numbers)) = line
            .trim()
            .strip_prefix("test result: ")
            .and_then(|result| result.split_once(". "))
        else {
            return;
        };
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(kind)) =
                (words.next().map(str::parse::<u64>), words.next())
            else {
                continue;
            };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    fn take_reason(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.reasons.push(line.to_owned());
            self.in_reason = true;
            return;
        }
        self.in_reason &= !line.is_empty() && !ENDS.iter().any(|end| line.starts_with(end));
        if let (true, Some(reason)) = (self.in_reason, self.reasons.last_mut())
            && reason.lines().count() < MAX_LINES
        {
            reason.push_str("\n  ");
            reason.push_str(line);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 5 tests",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.50s\n",
        ] {
            counts.add_line(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 6,
                failed: 3,
                skipped: 1,
                ..Counts::default()
            }
        );
        assert_eq!(counts.to_string(), "6 passed, 3 failed, 1 skipped");
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut counts = Counts::default();
        counts.add_line("test result_is_parsed ... ok");
        counts.add_line("my test result: ok. 4 passed;");
        assert_eq!(counts, Counts::default());
    }

    #[test]
    fn what_a_test_said_when_it_panicked_is_kept() {
        let mut counts = Counts::default();
        for line in [
            "---- bans::one stdout ----\n",
            "\n",
            "thread 'bans::one' (17) panicked at tests/e2e/bans.rs:7:5:\n",
            "assertion `left == right` failed\n",
            "  left: 1\n",
            " right: 2\n",
            "stack backtrace:\n",
            "   0: begin_unwind\n",
            "thread 'main' panicked at src/main.rs:1:1:\n",
            "no\n",
            "\n",
            "failures:\n",
        ] {
            counts.add_line(line);
        }
        assert_eq!(
            counts.reasons(),
            [
                "thread 'bans::one' (17) panicked at tests/e2e/bans.rs:7:5:\n  assertion `left == right` failed\n    left: 1\n   right: 2",
                "thread 'main' panicked at src/main.rs:1:1:\n  no",
            ]
        );
    }
}
