//! `cargo xtask vm`: the kernel and namespace tests in guests with Debian's kernels.
//!
//! What abuser stands on changes from kernel to kernel: the verifier, the helpers, how links and
//! interfaces behave. So all that depends on that runs with each of [`KERNELS`], emulated, in one
//! guest each, side by side. Which tests that are, and why not all, is in `chosen`.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `binaries` | building what runs in the guests |
//! | `chosen` | which tests run there |
//! | `progress` | what a guest says, told and remembered |

mod binaries;
mod chosen;
mod progress;

use std::{
    collections::BTreeSet,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use testkit::{
    guest::{self, Guest, KERNELS, Kernel, PROGRAMS, Suite},
    peers,
};

use self::{
    binaries::{Binaries, TestBinary},
    progress::Progress,
};
use crate::{counts::Counts, workspace::Workspace};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kernel: 6.1 or 6.12; may be given twice
    #[arg(long = "kernel", value_name = "KERNEL", value_parser = kernel)]
    kernels: Vec<&'static Kernel>,
    /// All tests, also those that take too long or measure time: half an hour and more, some may fail
    #[arg(long)]
    all: bool,
    /// Only tests with one of these in their name, as in `netns::dispatcher`
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

fn kernel(name: &str) -> Result<&'static Kernel, String> {
    KERNELS
        .iter()
        .find(|kernel| kernel.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
            format!("there are {}", names.join(" and "))
        })
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mut counts = Counts::default();
    let kernels = if args.kernels.is_empty() {
        KERNELS.iter().collect()
    } else {
        args.kernels.clone()
    };
    let selection = Selection {
        all: args.all,
        filters: &args.filters,
    };
    let outcome = boot_each(workspace, &kernels, &selection, &mut counts);
    println!("\n{counts}");
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What runs as a step of `cargo xtask test`.
pub(crate) fn matrix(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    let selection = Selection {
        all: false,
        filters: &[],
    };
    boot_each(
        workspace,
        &KERNELS.iter().collect::<Vec<_>>(),
        &selection,
        counts,
    )
}

/// Why there can be no guest on this machine.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some(
            "guests run the tests of this machine, and their kernels are for x86-64".into(),
        );
    }
    let qemu = peers::path("qemu-system-x86_64").err();
    let images = KERNELS.iter().filter_map(|kernel| kernel.image().err());
    let errors: Vec<_> = qemu
        .into_iter()
        .chain(images)
        .map(|e| e.to_string())
        .collect();
    errors.first().cloned()
}

/// Which tests run.
struct Selection<'a> {
    all: bool,
    filters: &'a [String],
}

impl Selection<'_> {
    /// Those of a binary's tests that run with a kernel, and how many others are left out. What is asked for by name
    /// runs with each.
    fn of(&self, binary: &TestBinary, kernel: &Kernel) -> (Vec<String>, usize) {
        let mut left_out = 0;
        let chosen = binary.tests.iter().filter(|test| {
            let full = format!("{}::{}", binary.name, test.name);
            let wanted =
                self.filters.is_empty() || self.filters.iter().any(|filter| full.contains(filter));
            let by_name = !self.filters.is_empty();
            let chosen = test.guests_only || chosen::is_chosen(&full);
            let runs = self.all || chosen && (by_name || chosen::runs_with(&full, kernel.name));
            if wanted && !runs {
                left_out += 1;
                return false;
            }
            wanted
        });
        let chosen: Vec<_> = chosen.map(|test| test.name.clone()).collect();
        (chosen, left_out)
    }
}

/// What became of one kernel's tests.
struct Row {
    kernel: &'static Kernel,
    release: String,
    counts: Counts,
    left_out: usize,
    took: Duration,
    failed: Option<String>,
}

fn boot_each(
    workspace: &Workspace,
    kernels: &[&'static Kernel],
    selection: &Selection<'_>,
    counts: &mut Counts,
) -> Result<()> {
    if let Some(why) = missing() {
        bail!("{why}");
    }
    let binaries = Binaries::build(workspace)?;
    let names: BTreeSet<_> = binaries.full_names().collect();
    if let Some(missing) = chosen::missing(&names).next() {
        bail!(
            "{missing} is to run in guests, and there is no such test: mend xtask/src/vm/chosen.rs"
        );
    }
    let rows: Vec<Result<Row>> = thread::scope(|scope| {
        let guests: Vec<_> = kernels
            .iter()
            .map(|kernel| scope.spawn(|| boot(kernel, &binaries, selection)))
            .collect();
        let joined = guests.into_iter().map(|guest| {
            let panicked = |_| Err(anyhow::anyhow!("the thread of a guest panicked"));
            guest.join().unwrap_or_else(panicked)
        });
        joined.collect()
    });
    let rows: Vec<_> = rows.into_iter().collect::<Result<_>>()?;
    for row in &rows {
        counts.add(&row.counts);
        if let Some(why) = &row.failed {
            println!("\n== Linux {} ({})\n{why}", row.kernel.name, row.release);
        }
    }
    summarize(&rows);
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.failed.is_some())
        .map(|row| format!("Linux {}", row.kernel.name))
        .collect();
    if !failed.is_empty() {
        bail!("tests failed with {}; see above", failed.join(" and "));
    }
    Ok(())
}

fn boot(kernel: &'static Kernel, binaries: &Binaries, selection: &Selection<'_>) -> Result<Row> {
    let release = kernel.release()?;
    let mut suites = Vec::new();
    let (mut chosen, mut left_out) = (0, 0);
    for binary in &binaries.tests {
        let (tests, others) = selection.of(binary, kernel);
        chosen += tests.len();
        left_out += others;
        if !tests.is_empty() {
            let flags = ["--test-threads=1", "--include-ignored", "--exact"];
            suites.push(Suite {
                name: binary.name.clone(),
                binary: binary.path.clone(),
                arguments: flags.map(str::to_owned).into_iter().chain(tests).collect(),
            });
        }
    }
    if chosen == 0 {
        bail!(
            "no test has that in its name{}",
            if left_out == 0 {
                String::new()
            } else {
                format!(" but {left_out} that are left out; `--all` runs them, too")
            }
        );
    }
    println!("Linux {}: {release}, {chosen} tests", kernel.name);
    let guest = Guest {
        kernel,
        suites,
        init: binaries.init.clone(),
        abuser: binaries.abuser.clone(),
        programs: PROGRAMS.to_vec(),
    };
    let started = Instant::now();
    let mut progress = Progress::new(kernel.name);
    let ended = guest::boot(&guest, &mut |line| progress.take(line))
        .with_context(|| format!("run a guest with Linux {}", kernel.name))?;
    let counts = std::mem::take(&mut progress.counts);
    let failed = if !ended.passed() {
        Some(format!(
            "{}{ended}\n\nfailed with Linux {}: {}",
            progress.failures(),
            kernel.name,
            if progress.failed.is_empty() {
                "no test, but the guest".to_owned()
            } else {
                progress.failed.join(", ")
            }
        ))
    } else if counts.passed() + counts.failed() != u64::try_from(chosen).unwrap_or(u64::MAX) {
        Some(format!(
            "{chosen} tests were to run, and {} did\n{ended}",
            counts.passed() + counts.failed()
        ))
    } else {
        None
    };
    Ok(Row {
        kernel,
        release,
        counts,
        left_out,
        took: started.elapsed(),
        failed,
    })
}

fn summarize(rows: &[Row]) {
    println!(
        "\n{:<8} {:>7} {:>7} {:>9} {:>8}",
        "Linux", "passed", "failed", "left out", "seconds"
    );
    for row in rows {
        println!(
            "{:<8} {:>7} {:>7} {:>9} {:>8.1}  {}",
            row.kernel.name,
            row.counts.passed(),
            row.counts.failed(),
            row.left_out,
            row.took.as_secs_f64(),
            if row.failed.is_some() { "FAILED" } else { "ok" }
        );
    }
}
