//! What was spent on each target, of all runs: a line for each, in the target directory.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use super::{
    child::Ended,
    targets::{self, Target},
};
use crate::workspace::Workspace;

/// What was spent on a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    /// By the processor, in milliseconds.
    cpu: u64,
    runs: u64,
    /// Edges that were reached, the last time.
    edges: u64,
    inputs: u64,
    findings: u64,
}

/// Adds a run.
pub(super) fn add(workspace: &Workspace, target: &Target, ended: &Ended) -> Result<()> {
    let path = path(workspace);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let line = format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
        now.as_secs(),
        target.name,
        ended.wall.as_millis(),
        ended.cpu.as_millis(),
        ended.progress.runs,
        ended.progress.edges,
        ended.progress.inputs,
        u8::from(ended.finding.is_some()),
    );
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| format!("write to {}", path.display()))
}

/// Prints what was spent.
pub(super) fn show(workspace: &Workspace, targets: &[Target]) -> Result<()> {
    let path = path(workspace);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let spent = sum(&text);
    println!(
        "\n{:<10} {:>9} {:>14} {:>7} {:>7} {:>8}",
        "target", "CPU hours", "runs", "edges", "inputs", "findings"
    );
    let mut cpu = 0;
    for target in targets {
        let spent = spent.get(target.name.as_str()).copied().unwrap_or_default();
        cpu += spent.cpu;
        println!(
            "{:<10} {:>9} {:>14} {:>7} {:>7} {:>8}",
            target.name,
            hours(spent.cpu),
            spent.runs,
            spent.edges,
            spent.inputs,
            spent.findings
        );
    }
    println!(
        "{:<10} {:>9}   of all runs in {}",
        "all",
        hours(cpu),
        path.display()
    );
    Ok(())
}

/// By target.
fn sum(text: &str) -> BTreeMap<&str, Spent> {
    let mut sums: BTreeMap<&str, Spent> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, target, _, cpu, runs, edges, inputs, findings] = fields.as_slice() else {
            continue;
        };
        let number = |text: &&str| text.parse::<u64>().unwrap_or(0);
        let spent = sums.entry(target).or_default();
        spent.cpu += number(cpu);
        spent.runs += number(runs);
        spent.findings += number(findings);
        // One that found something at once reached nothing before.
        if number(edges) > 0 {
            (spent.edges, spent.inputs) = (number(edges), number(inputs));
        }
    }
    sums
}

fn hours(millis: u64) -> String {
    format!(
        "{:.2}",
        Duration::from_millis(millis).as_secs_f64() / 3600.0
    )
}

fn path(workspace: &Workspace) -> PathBuf {
    targets::home(workspace).join("account.tsv")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_target_are_added_and_the_last_edges_count() {
        let text = "1\ta\t1000\t900\t5\t10\t3\t0\n2\tb\t1\t1\t1\t1\t1\t1\nnonsense\n3\ta\t1\t100\t6\t12\t4\t1\n4\ta\t1\t0\t0\t0\t0\t1\n";
        let expected = Spent {
            cpu: 1000,
            runs: 11,
            edges: 12,
            inputs: 4,
            findings: 2,
        };
        assert_eq!(sum(text).get("a"), Some(&expected));
        assert_eq!(hours(5_400_000), "1.50");
    }
}
