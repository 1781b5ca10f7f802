//! The time shared among targets, some at once.
//!
//! Each has its turn, of some minutes at most, again and again: whenever a run is cut short, all have had
//! their part.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    account,
    build::Binaries,
    child::{Finding, Running},
    targets::Target,
};
use crate::workspace::Workspace;

/// The longest turn.
const TURN: Duration = Duration::from_secs(180);
/// How often a target is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often is told how far they are.
const TELL: Duration = Duration::from_secs(30);

/// Runs the targets for a time, `jobs` at once, and tells what was found. A target that found something
/// has no more turns: it would find it again.
pub(super) fn run(
    workspace: &Workspace,
    binaries: &Binaries,
    targets: &[Target],
    time: Duration,
    jobs: usize,
) -> Result<Vec<Finding>> {
    let end = Instant::now() + time;
    let jobs = jobs.min(targets.len());
    let turn = turn(time, targets.len(), jobs);
    let mut running: Vec<(&Target, Running)> = Vec::new();
    let mut found = Vec::new();
    let mut out: BTreeSet<&str> = BTreeSet::new();
    let mut next = targets.iter().cycle();
    let mut told = Instant::now();
    loop {
        while running.len() < jobs && end > Instant::now() {
            let is_free = |target: &&Target| {
                let runs = running.iter().any(|(other, _)| other.name == target.name);
                !runs && !out.contains(target.name.as_str())
            };
            let Some(target) = next.by_ref().take(targets.len()).find(is_free) else {
                break;
            };
            let left = end.saturating_duration_since(Instant::now());
            running.push((target, Running::start(binaries, target, turn.min(left))?));
        }
        if running.is_empty() {
            return Ok(found);
        }
        thread::sleep(LOOK);
        let mut index = 0;
        while let Some((_, one)) = running.get_mut(index) {
            if !one.has_ended()? {
                index += 1;
                continue;
            }
            let (target, one) = running.swap_remove(index);
            let ended = one.end(target)?;
            account::add(workspace, target, &ended)?;
            if let Some(finding) = ended.finding {
                println!("{finding}");
                out.insert(&target.name);
                found.push(finding);
            }
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            let left = end.saturating_duration_since(told);
            for (target, one) in &running {
                tell(target, one, left);
            }
        }
    }
}

/// How long a turn is: everybody has one at least.
fn turn(time: Duration, targets: usize, jobs: usize) -> Duration {
    let share = time.as_secs_f64() * as_number(jobs) / as_number(targets.max(1));
    Duration::from_secs_f64(share).min(TURN)
}

fn as_number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn tell(target: &Target, running: &Running, left: Duration) {
    let progress = running.progress();
    println!(
        "{:<10} {:>8} runs/s  {:>6} edges  {:>5} inputs  {:>4} s of its turn, {:>4} min in all",
        target.name,
        progress.runs_a_second,
        progress.edges,
        progress.inputs,
        running.left().as_secs(),
        left.as_secs() / 60,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_shared_and_no_turn_is_long() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        assert_eq!(turn(minutes(10), 10, 1), minutes(1));
        assert_eq!(turn(minutes(10), 10, 2), minutes(2));
        assert_eq!(turn(minutes(480), 10, 2), TURN);
    }
}
