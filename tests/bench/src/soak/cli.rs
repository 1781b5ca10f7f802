//! `cargo xtask soak`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use super::{plan::Plan, plot, record::Record, soak};

/// Everything at once for as long as it takes: a flood, bans, a log, people, reloads and restarts
///
/// Needs root and `nft`. Touches no interface of the machine. The exit status is 0 if every promise was
/// kept, and 1 if one was not, which standard error tells when it happens.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Args {
    /// How long it goes on
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,

    /// How long it goes on, instead, to try it: growth is judged from five minutes on
    #[arg(long, value_name = "N", conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(20..))]
    seconds: Option<u64>,

    /// Keep the record (soak.jsonl), the tables (soak.md) and the picture (soak.svg) in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print one JSON object a line, as it happens, instead of the tables
    #[arg(long)]
    json: bool,

    /// Soak nothing: make tables and picture again from the record in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["minutes", "seconds", "out", "json"])]
    redraw: Option<PathBuf>,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    match try_main(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn try_main(args: &Args) -> Result<bool> {
    if let Some(folder) = &args.redraw {
        let record = Record::read(&folder.join("soak.jsonl"))?;
        keep(&record, folder)?;
        return Ok(record.end.passed);
    }
    if let Some(reason) = testkit::privilege::missing() {
        bail!("the soak loads XDP programs and makes network namespaces: {reason}");
    }
    if let Some(folder) = &args.out {
        // Not after an hour.
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let time = Duration::from_secs(args.seconds.unwrap_or(args.minutes * 60));
    let mut record = Record::new(args.json);
    let soaked = soak(&Plan::of(time), &mut record);
    // What was seen until something failed is worth having, too.
    if let Some(folder) = &args.out {
        keep(&record, folder)?;
    }
    soaked?;
    if !args.json {
        print_table(&record)?;
    }
    for verdict in record.end.verdicts.iter().filter(|verdict| !verdict.kept) {
        eprintln!(
            "not kept: {}: {}",
            verdict.promise,
            verdict.faults.join("; ")
        );
    }
    Ok(record.end.passed)
}

fn print_table(record: &Record) -> Result<()> {
    use std::io::Write as _;
    std::io::stdout()
        .write_all(record.table().as_bytes())
        .context("write to stdout")
}

fn keep(record: &Record, folder: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("soak.jsonl", record.text())?;
    write("soak.md", &record.table())?;
    write("soak.svg", &plot::draw(record)?)
}
