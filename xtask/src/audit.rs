//! `cargo xtask audit`: whether what is depended on may be: its licences, where it comes from, and whether
//! anybody knows a fault of it, has withdrawn it or has given it up. `deny.toml` says what is let through. And whether it
//! is built once.
//!
//! The faults are in a database that cargo-deny fetches. Where that cannot be had, and no earlier copy is
//! there, all else is checked, and the report says what was not: a machine without that network is to be
//! able to run the tests.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{cargo_tool::DENY, features, process, workspace::Workspace};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Do without the network: known faults are those of the copy fetched last
    #[arg(long)]
    offline: bool,
}

/// What needs no database.
const WITHOUT_DATABASE: [&str; 3] = ["bans", "licenses", "sources"];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    features::check(workspace)?;
    let tool = DENY.ensure(workspace)?;
    let deny = || {
        let mut command = Command::new(&tool);
        command.current_dir(&workspace.root);
        command
    };
    if !args.offline {
        // Those for other systems, too, which no build gets: cargo-deny reads all, and without the database it is told not
        // to get anything.
        process::run(process::cargo(workspace).args(["fetch", "--locked"]))?;
    }
    let mut check = deny();
    if args.offline || process::run(deny().args(["fetch", "db"])).is_err() {
        check.arg("--offline");
    }
    check.arg("check");
    let has_copy = has_copy();
    if !has_copy {
        check.args(WITHOUT_DATABASE);
    }
    process::run(&mut check).context("what is depended on. deny.toml says what is let through")?;
    if !has_copy {
        println!(
            "NOT CHECKED: known faults and withdrawn versions, for want of their database. With a network: cargo xtask audit"
        );
    }
    Ok(())
}

/// Whether a copy of the database is where cargo-deny has it by default.
fn has_copy() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok())
        .is_some_and(|mut copies| copies.any(|copy| copy.is_ok_and(|copy| copy.path().is_dir())))
}
