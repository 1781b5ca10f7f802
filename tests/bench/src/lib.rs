//! What a packet costs with `abuser`, and what it costs with what `abuser` replaces.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `scenario` | what is measured, and the budgets |
//! | `cost` | the scenarios that run a program on a frame over and over |
//! | `flood` | throughput over a veth pair, against nftables |
//! | `latency` | from an offence to its enforced ban, under that flood |
//! | `control` | the control plane: a million bans, restarts, memory |
//! | `detect` | detection: lines a second beside fail2ban, latency, memory, walks |
//! | `fleet` | from a ban on one node to the kernels of all |
//! | `rates` | offered against admitted, from 1/m to 1,000,000/s |
//! | `soak` | everything at once for hours: a verb of its own |
//! | `subject` | all that knows `abuser`'s tables and configuration |
//! | `timed` | its program with the clock in one's hands |
//! | `programs` | the bench's own XDP programs |
//! | `prefixes` | blocklists like those that are published |
//! | `statistics` | medians and percentiles |
//! | `report` | the table and the JSON |
//!
//! docs/PERFORMANCE.md says how to read the result, docs/SOAK.md that of the soak.

mod control;
mod cost;
mod cpu;
mod detect;
mod fleet;
mod flood;
mod latency;
mod prefixes;
mod programs;
pub mod rates;
mod report;
mod scenario;
pub mod soak;
mod statistics;
mod subject;
pub mod timed;
mod wire;

use std::{process::ExitCode, time::Instant};

use anyhow::bail;
use clap::{
    Parser, ValueEnum as _,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::{
    control::Shared,
    report::{Report, Row},
    scenario::Scenario,
};

/// Measure abuser against its budgets and against what it replaces
///
/// Needs root and `nft`. Touches no interface of the machine: programs run in the kernel's
/// test harness, or in network namespaces of their own. The exit status is 0 if every
/// scenario is within its budget, 1 if one is not or could not be measured.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Args {
    /// Measure only these
    #[arg(value_name = "SCENARIO", value_parser = choices())]
    scenarios: Vec<Choice>,

    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// What can be named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    One(Scenario),
    /// All of detection.
    Detection,
}

impl Choice {
    const DETECTION: &str = "detect";

    fn scenarios(self) -> impl Iterator<Item = Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(move |scenario| match self {
            Self::One(one) => one == *scenario,
            Self::Detection => scenario.is_of_detection(),
        })
    }
}

fn choices() -> impl TypedValueParser<Value = Choice> {
    let all = Scenario::value_variants().iter();
    let names = all.filter_map(Scenario::to_possible_value);
    let detection = PossibleValue::new(Choice::DETECTION).help("All whose names begin so");
    PossibleValuesParser::new(names.chain([detection]))
        .map(|name| Scenario::from_str(&name, false).map_or(Choice::Detection, Choice::One))
}

/// `abuser-bench`: measures what its arguments name.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for; whether all of it is within its budget.
fn run(args: &Args) -> anyhow::Result<bool> {
    if let Some(reason) = testkit::privilege::missing() {
        bail!("the bench loads XDP programs and makes network namespaces: {reason}");
    }
    let named = args.scenarios.iter();
    let mut chosen: Vec<_> = named.flat_map(|choice| choice.scenarios()).collect();
    if chosen.is_empty() {
        chosen.extend(Scenario::value_variants());
    }
    let mut shared = Shared::default();
    let mut report = Report::new(args.json);
    let started = Instant::now();
    for scenario in chosen {
        let since = Instant::now();
        eprint!("{:<19} ", scenario.name());
        if !control::shares(scenario) {
            shared.clear();
        }
        let row = Row::new(scenario, measure(scenario, &mut shared));
        eprintln!("{:5.1} s  {row}", since.elapsed().as_secs_f64());
        report.add(row)?;
    }
    eprintln!("measured in {:.0} s", started.elapsed().as_secs_f64());
    report.finish()
}

fn measure(scenario: Scenario, shared: &mut Shared) -> anyhow::Result<scenario::Measured> {
    match scenario {
        Scenario::Flood => flood::over(),
        Scenario::FloodWithin => flood::within(),
        Scenario::Latency => latency::measure(),
        Scenario::Clean => cost::clean(),
        Scenario::Dispatcher => cost::dispatcher(),
        Scenario::CleanLoaded => cost::clean_loaded(),
        Scenario::Unthrottled => cost::unthrottled(),
        Scenario::Throttled => cost::throttled(),
        Scenario::Banned => cost::banned(),
        Scenario::Conforming => cost::conforming(),
        Scenario::ConformingThree => cost::conforming_three(),
        Scenario::Over => cost::over(),
        Scenario::RandomLimit => cost::random_limit(),
        Scenario::RandomBans => cost::random_bans(),
        Scenario::Rates => rates::measure(),
        Scenario::MemoryRest => shared.measure(|million| Ok(control::memory_rest(million))),
        Scenario::Import => shared.measure(control::import),
        Scenario::Export => shared.measure(control::export),
        Scenario::ListMemory => shared.measure(control::list_memory),
        Scenario::Restart => shared.measure(control::restart),
        Scenario::MemoryBan => shared.measure(control::memory_ban),
        Scenario::ApiBans => control::api_bans(),
        Scenario::Top => control::top(),
        Scenario::DetectNginx => detect::nginx(),
        Scenario::DetectNginxRatio => detect::nginx_ratio(),
        Scenario::DetectSshdRatio => detect::sshd_ratio(),
        Scenario::DetectLatency => detect::latency(),
        Scenario::DetectLatencyBusy => detect::latency_busy(),
        Scenario::DetectMemory => detect::memory(),
        Scenario::DetectWalk => detect::walkers(),
        Scenario::DetectReaders => detect::readers(),
        Scenario::Fleet => fleet::steady(),
        Scenario::FleetKilled => fleet::killed(),
    }
}
