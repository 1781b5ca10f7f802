//! What is kept of a run: a line of JSON for each sample and restart and one at the end, from which table
//! and picture can be made again.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{plan::Restart, sample::Sample, verdict::Verdict};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Sample(Sample),
    Restart(Restarted),
    End(End),
}

/// A restart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Restarted {
    /// Since the beginning.
    pub(super) seconds: f64,
    pub(super) kind: Restart,
    /// How long no daemon answered.
    pub(super) away_ms: f64,
}

/// What it came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) seconds: f64,
    pub(super) passed: bool,
    pub(super) verdicts: Vec<Verdict>,
    /// What is told without a verdict: what, and how much.
    pub(super) told: Vec<(String, String)>,
}

/// A run.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Each line is printed at once.
    json: bool,
    pub(super) samples: Vec<Sample>,
    pub(super) restarts: Vec<Restarted>,
    pub(super) end: End,
    text: String,
}

impl Record {
    /// Nothing yet.
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            ..Self::default()
        }
    }

    /// Reads one that was written.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut record = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = serde_json::from_str(line).with_context(|| {
                format!("{}, line {number}, is not of a record", path.display())
            })?;
            record.take(line);
        }
        if record.samples.is_empty() {
            bail!("{} has no samples", path.display());
        }
        record.text = text;
        Ok(record)
    }

    /// One more line.
    pub(super) fn add(&mut self, line: Line) -> Result<()> {
        let text = serde_json::to_string(&line).context("write a line of the record")?;
        if self.json {
            writeln!(io::stdout(), "{text}").context("write to stdout")?;
        }
        self.text += &text;
        self.text.push('\n');
        self.take(line);
        Ok(())
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Sample(sample) => self.samples.push(sample),
            Line::Restart(restarted) => self.restarts.push(restarted),
            Line::End(end) => self.end = end,
        }
    }

    /// All lines.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The result as a table of Markdown.
    pub(super) fn table(&self) -> String {
        let mut table = String::from("| promise | kept | |\n| --- | --- | --- |\n");
        for Verdict {
            promise,
            kept,
            figures,
            faults,
        } in &self.end.verdicts
        {
            let kept = if *kept { "yes" } else { "NO" };
            let words = [&[figures.clone()][..], faults].concat().join("; ");
            let _infallible = writeln!(table, "| {promise} | {kept} | {words} |");
        }
        table.push_str("\n| measured | |\n| --- | --- |\n");
        for (what, figure) in &self.end.told {
            let _infallible = writeln!(table, "| {what} | {figure} |");
        }
        table
    }
}
