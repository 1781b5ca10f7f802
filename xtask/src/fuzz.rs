//! `cargo xtask fuzz`: looks for inputs that make something not hold that must hold for any input; see
//! `docs/FUZZING.md`.
//!
//! The targets are built once with `cargo-fuzz`, and run here: its own runner takes one target at a time,
//! and keeps no account. New inputs go to the target directory, where the next run goes on from; what is
//! worth keeping of them is committed by `--minimize`.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `build` | building the targets |
//! | `targets` | which there are, and where their inputs are |
//! | `campaign` | the time shared among targets, some at once |
//! | `child` | one target that runs, and what it says |
//! | `account` | the time that was spent on each, of all runs |
//! | `minimize` | few inputs that reach all that many do |
//! | `coverage` | which lines and regions they reach |

mod account;
mod build;
mod campaign;
mod child;
mod coverage;
mod minimize;
mod targets;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};

use self::targets::Target;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The targets, as the files in `tests/fuzz/fuzz_targets` are called; all by default
    targets: Vec<String>,
    /// How long to run, all targets together
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// How many targets run at once
    #[arg(long, value_name = "J", default_value_t = 1)]
    jobs: usize,
    /// Instead: put the fewest inputs that reach all that was reached into tests/fuzz/corpus
    #[arg(long, conflicts_with_all = ["coverage", "account"])]
    minimize: bool,
    /// Instead: tell which lines of what is tested the committed inputs reach
    #[arg(long, conflicts_with = "account")]
    coverage: bool,
    /// Instead: tell what was spent on each target so far
    #[arg(long)]
    account: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let targets = chosen(targets::all(workspace)?, &args.targets)?;
    if args.account {
        account::show(workspace, &targets)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.coverage {
        coverage::run(workspace, &targets)?;
        return Ok(ExitCode::SUCCESS);
    }
    let binaries = build::targets(workspace, &targets)?;
    if args.minimize {
        for target in &targets {
            minimize::run(&binaries, target)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.minutes == 0 || args.jobs == 0 {
        bail!("--minutes and --jobs are at least 1");
    }
    let time = Duration::from_secs(args.minutes * 60);
    let found = campaign::run(workspace, &binaries, &targets, time, args.jobs)?;
    account::show(workspace, &targets)?;
    if found.is_empty() {
        println!("Nothing was found.");
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &found {
        println!("\n{finding}");
    }
    Ok(ExitCode::FAILURE)
}

/// Those of the targets that were named.
fn chosen(all: Vec<Target>, named: &[String]) -> Result<Vec<Target>> {
    if named.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = named
        .iter()
        .find(|name| !all.iter().any(|target| target.name == **name))
    {
        let known: Vec<_> = all.iter().map(|target| target.name.as_str()).collect();
        bail!(
            "there is no target {unknown:?}; there are {}",
            known.join(", ")
        );
    }
    let chosen = all
        .into_iter()
        .filter(|target| named.contains(&target.name));
    Ok(chosen.collect())
}
