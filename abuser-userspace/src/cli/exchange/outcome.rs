//! What became of a list that was imported, for people and for programs.

use serde::Serialize;

use super::{Chunk, Found};
use crate::{
    api::types::Imported,
    cli::output::{self, counted, grouped},
    exchange::BadLine,
};

/// Bad lines that are told.
const TOLD: usize = 20;

/// Bad lines that are told as JSON.
const TOLD_AS_JSON: usize = 1000;

/// What became of a list.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// What it was written in.
    pub(super) format: String,
    added: u64,
    extended: u64,
    duplicates: u64,
    /// Entries that were over before they were imported.
    expired: u64,
    /// Lines that are no entries, and entries that were refused.
    pub(super) skipped: u64,
    /// The first of them.
    problems: Vec<BadLine>,
}

impl Outcome {
    /// Forgets what the daemon said, as before it is asked in earnest.
    pub(super) fn begin_again(&mut self) {
        *self = Self {
            expired: self.expired,
            ..Self::default()
        };
    }

    fn skip(&mut self, line: BadLine) {
        self.skipped += 1;
        if self.problems.len() < TOLD_AS_JSON {
            self.problems.push(line);
        }
    }

    /// Takes note of what was found; entries are still to be imported.
    pub(super) fn take(&mut self, found: Found) -> Option<Chunk> {
        match found {
            Found::Entries(chunk) => return Some(chunk),
            Found::Bad(line) => self.skip(line),
            Found::Expired => self.expired += 1,
        }
        None
    }

    pub(super) fn count(&mut self, imported: Imported, numbers: &[u64]) {
        let Imported {
            added,
            extended,
            duplicates,
            refused,
        } = imported;
        self.added += added;
        self.extended += extended;
        self.duplicates += duplicates;
        for refused in refused {
            let number = numbers.get(refused.entry).copied().unwrap_or_default();
            let text = refused.source.to_string();
            self.skip(BadLine::new(number, &text, refused.error));
        }
    }

    /// Says on standard error what was left out.
    pub(super) fn complain(&mut self) {
        self.problems.sort_by_key(|line| line.number);
        for line in self.problems.iter().take(TOLD) {
            output::error(line);
        }
        let more = self.skipped.saturating_sub(TOLD as u64);
        if more > 0 {
            output::error(&format!("and {} more", grouped(more)));
        }
    }

    /// Entries that were some, whatever became of them.
    fn good(&self) -> u64 {
        self.added + self.extended + self.duplicates + self.expired
    }

    /// Whether there were lines, and none was any good.
    pub(super) fn is_nothing(&self) -> bool {
        self.skipped > 0 && self.good() == 0
    }

    /// Whether there was nothing in it, good or bad.
    pub(super) fn is_of_nobody(&self) -> bool {
        self.skipped == 0 && self.good() == 0
    }

    /// Sources that are banned now as they were not before.
    pub(super) fn imported(&self) -> String {
        counted(self.added + self.extended, "ban", "bans")
    }

    pub(super) fn summary(&self, dry_run: bool) -> String {
        let Self {
            extended,
            duplicates,
            expired,
            skipped,
            ..
        } = self;
        let done = if dry_run { "would import" } else { "imported" };
        let mut text = format!(
            "{done} {} of a list in {} format",
            self.imported(),
            self.format
        );
        for (count, one, many) in [
            (extended, "longer than before", "longer than before"),
            (duplicates, "duplicate", "duplicates"),
            (expired, "over already", "over already"),
            (skipped, "skipped", "skipped"),
        ] {
            if *count > 0 {
                text = format!("{text}, {}", counted(*count, one, many));
            }
        }
        text
    }
}
