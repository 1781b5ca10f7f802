//! `cargo xtask test`: every check and test, in the order in which they fail cheapest.
//!
//! CI runs this and nothing else, so a green run here is a green run there. A step that
//! needs privilege is skipped without root, but never silently: the summary says so, and
//! in CI it fails the run.

use std::{
    collections::BTreeSet,
    env, iter,
    num::NonZero,
    path::PathBuf,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    audit,
    build_ebpf::{self, Checked},
    counts::Counts,
    debian, dist,
    machine::{is_ci, is_root},
    objects::OBJECTS,
    peers, process,
    record::Record,
    toolchain::Toolchain,
    vm,
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what needs stable Rust alone: formatting, lints, documentation, host tests
    #[arg(long)]
    quick: bool,
}

/// A step, and how to run it alone.
struct Step {
    name: &'static str,
    /// Part of `--quick`.
    quick: bool,
    needs_root: bool,
    action: Action,
}

enum Action {
    Tools,
    Cargo(&'static [(&'static str, &'static str)], Cargo),
    Tests(Cargo),
    /// Tests of the binary.
    BinaryTests(Cargo),
    Audit,
    ObjectCheck,
    Package,
    Guests,
}

/// A cargo command: `cargo VERB PACKAGES REST`.
pub(crate) struct Cargo(&'static str, Packages, &'static [&'static str]);

/// What a cargo command is about. Every step names the same packages where it can: cargo
/// chooses the features of what they depend on by that, and would build it all again for
/// another choice.
#[derive(Clone, Copy)]
pub(crate) enum Packages {
    /// The command has its own way to say it.
    Unnamed,
    /// All that is built for the host.
    Host,
    /// All that is built for the BPF target.
    Bpf,
}

impl Packages {
    pub(crate) fn arguments(self) -> Vec<&'static str> {
        // Two objects may be of one package.
        let packages: BTreeSet<_> = OBJECTS.iter().map(|object| object.package).collect();
        let bpf = |flag| packages.iter().flat_map(move |package| [flag, *package]);
        match self {
            Self::Unnamed => Vec::new(),
            Self::Host => iter::once("--workspace").chain(bpf("--exclude")).collect(),
            Self::Bpf => bpf("-p").collect(),
        }
    }
}

impl Cargo {
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let Self(verb, packages, rest) = self;
        [&[*verb][..], &packages.arguments(), rest].concat()
    }
}

enum Outcome {
    Done,
    Skipped(&'static str),
}

/// What says to a test binary how many tests run at once.
const THREADS: &str = "RUST_TEST_THREADS";

const NO_ENV: &[(&str, &str)] = &[];

const NEEDS_ROOT: &str = "it takes root to load XDP programs and make namespaces";

const NO_GUESTS: &str = "it takes qemu and two kernels of Debian's, which are got on Debian only";

/// The binary under test: as built for development, which checks its own arithmetic. `cargo xtask dist` makes the
/// release build.
pub(crate) const BINARY: Cargo = Cargo("build", Packages::Host, &["--bin", "abuser"]);

/// What needs no privilege. Of the binaries only this one has tests of its own: `--bins` would build and link all of
/// them once more, the fuzz targets among them, to run none.
pub(crate) const HOST_TESTS: Cargo = Cargo("test", Packages::Host, &["--lib", "--bin", "xtask"]);

/// The XDP program in the kernel, packet by packet.
pub(crate) const KERNEL_TESTS: Cargo = Cargo("test", Packages::Host, &["--test", "testrun"]);

/// The daemon on interfaces of the tests' own.
pub(crate) const NAMESPACE_TESTS: Cargo = Cargo("test", Packages::Host, &["--test", "netns"]);

const STEPS: &[Step] = &[
    Step {
        name: "tools",
        quick: false,
        needs_root: false,
        action: Action::Tools,
    },
    Step {
        name: "format",
        quick: true,
        needs_root: false,
        action: Action::Cargo(
            NO_ENV,
            Cargo("fmt", Packages::Unnamed, &["--all", "--check"]),
        ),
    },
    Step {
        name: "lints",
        quick: true,
        needs_root: false,
        action: Action::Cargo(
            NO_ENV,
            Cargo(
                "clippy",
                Packages::Host,
                &["--all-targets", "--", "-D", "warnings"],
            ),
        ),
    },
    Step {
        name: "dependencies",
        quick: false,
        needs_root: false,
        action: Action::Audit,
    },
    // On their own: together with a crate that uses std they would be a second panic handler.
    // For the host, whose core cannot unwind without std either.
    Step {
        name: "lints of the XDP programs",
        quick: true,
        needs_root: false,
        action: Action::Cargo(
            &[("CARGO_PROFILE_DEV_PANIC", "abort")],
            Cargo("clippy", Packages::Bpf, &["--", "-D", "warnings"]),
        ),
    },
    Step {
        name: "documentation",
        quick: true,
        needs_root: false,
        action: Action::Cargo(
            &[("RUSTDOCFLAGS", "-D warnings")],
            Cargo("doc", Packages::Host, &["--no-deps"]),
        ),
    },
    Step {
        name: "host tests",
        quick: true,
        needs_root: false,
        action: Action::Tests(HOST_TESTS),
    },
    Step {
        name: "documentation's examples",
        quick: true,
        needs_root: false,
        action: Action::Tests(Cargo("test", Packages::Host, &["--doc"])),
    },
    Step {
        name: "committed objects",
        quick: false,
        needs_root: false,
        action: Action::ObjectCheck,
    },
    Step {
        name: "binary under test",
        quick: false,
        needs_root: false,
        action: Action::Cargo(NO_ENV, BINARY),
    },
    Step {
        name: "package",
        quick: false,
        needs_root: false,
        action: Action::Package,
    },
    Step {
        name: "kernel tests",
        quick: false,
        needs_root: true,
        action: Action::BinaryTests(KERNEL_TESTS),
    },
    Step {
        name: "namespace tests",
        quick: false,
        needs_root: true,
        action: Action::BinaryTests(NAMESPACE_TESTS),
    },
    Step {
        name: "kernel matrix",
        quick: false,
        needs_root: true,
        action: Action::Guests,
    },
    Step {
        name: "end-to-end tests",
        quick: false,
        needs_root: true,
        action: Action::BinaryTests(Cargo("test", Packages::Host, &["--test", "e2e"])),
    },
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> ExitCode {
    let mut counts = Counts::default();
    let mut rows: Vec<(&'static str, Duration, String)> = Vec::new();
    let mut failed = false;
    let mut skipped = false;
    for step in STEPS.iter().filter(|step| step.quick || !args.quick) {
        println!("\n== {}", step.name);
        let started = Instant::now();
        let outcome = if step.needs_root && !is_root() {
            Ok(Outcome::Skipped(NEEDS_ROOT))
        } else {
            step.action.run(workspace, &mut counts)
        };
        let verdict = match &outcome {
            Ok(Outcome::Done) => "ok".to_owned(),
            Ok(Outcome::Skipped(reason)) => {
                skipped = true;
                println!("skipped: {reason}");
                format!("SKIPPED: {reason}")
            }
            Err(_) => "FAILED".to_owned(),
        };
        rows.push((step.name, started.elapsed(), verdict));
        if let Err(error) = outcome {
            println!(
                "error: {error:#}\nRun just this step: {}",
                step.rerun(workspace)
            );
            failed = true;
            break;
        }
    }
    summarize(&rows);
    if skipped {
        println!(
            "\nWARNING: privileged steps did not run, so this run proves little. As root: cargo xtask test"
        );
        if is_ci() {
            println!("CI is set, and there they must run: this is a failure.");
            failed = true;
        }
    }
    if failed && !counts.reasons().is_empty() {
        println!("\n== what panicked");
        for reason in counts.reasons() {
            println!("{reason}");
        }
    }
    println!("\n{counts}");
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn summarize(rows: &[(&str, Duration, String)]) {
    println!("\n== summary");
    for (name, took, verdict) in rows {
        println!("{name:<26} {:>7.1} s  {verdict}", took.as_secs_f64());
    }
}

impl Action {
    fn run(&self, workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
        match self {
            Self::Tools => {
                let main = OBJECTS.iter().find(|object| object.is_main);
                let record = main.and_then(|object| Record::read(workspace, object).ok());
                let toolchain = Toolchain::ensure(workspace, record.as_ref())?;
                println!("{toolchain}");
                // Without root, the tests that need them do not run.
                if is_root() {
                    peers::ensure()?;
                }
            }
            Self::Cargo(_, cargo) => process::run(&mut self.command(workspace, cargo))?,
            Self::Tests(cargo) | Self::BinaryTests(cargo) => {
                process::run_tests(&mut self.command(workspace, cargo), counts)?;
            }
            Self::Audit => audit::run(workspace, &audit::Args::default())?,
            Self::Guests => {
                // Elsewhere the tools were got, or the run has failed before.
                if let (Some(why), false) = (vm::missing(), debian::is_here()) {
                    println!("{why}");
                    return Ok(Outcome::Skipped(NO_GUESTS));
                }
                vm::matrix(workspace, counts)?;
            }
            Self::Package => {
                dist::package(workspace, &binary(workspace), dist::Packing::Fast)?;
            }
            Self::ObjectCheck => match build_ebpf::check(workspace, counts)? {
                Checked::Identical | Checked::OtherToolsPassed => {}
                Checked::OtherToolsUntested => {
                    return Ok(Outcome::Skipped(
                        "other tools made another object, and it takes root to test it",
                    ));
                }
            },
        }
        Ok(Outcome::Done)
    }

    /// The cargo command of this action.
    fn command(&self, workspace: &Workspace, cargo: &Cargo) -> Command {
        let mut command = process::cargo(workspace);
        command
            .args(cargo.arguments())
            .envs(self.environment(workspace));
        command
    }

    /// What its cargo command finds in its environment.
    fn environment(&self, workspace: &Workspace) -> Vec<(&'static str, String)> {
        let threads = || (THREADS, at_once());
        match self {
            Self::Cargo(env, _) => env
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            Self::Tests(_) => vec![threads()],
            Self::BinaryTests(_) => {
                let binary = binary(workspace).display().to_string();
                vec![("ABUSER_BIN", binary), threads()]
            }
            Self::Tools | Self::Audit | Self::ObjectCheck | Self::Package | Self::Guests => {
                Vec::new()
            }
        }
    }
}

impl Step {
    /// The command that runs this step alone.
    fn rerun(&self, workspace: &Workspace) -> String {
        match &self.action {
            Action::Tools => "cargo xtask doctor --fix".to_owned(),
            Action::Package => {
                format!("cargo xtask dist --package {}", binary(workspace).display())
            }
            Action::Audit => "cargo xtask audit".to_owned(),
            Action::Guests => "cargo xtask vm".to_owned(),
            Action::ObjectCheck => "cargo xtask build-ebpf --check".to_owned(),
            Action::Cargo(_, cargo) | Action::Tests(cargo) | Action::BinaryTests(cargo) => {
                let env = self.action.environment(workspace).into_iter();
                let mut words: Vec<_> = env
                    .map(|(name, value)| format!("{name}='{value}'"))
                    .collect();
                words.push("cargo".to_owned());
                words.extend(cargo.arguments().into_iter().map(str::to_owned));
                words.join(" ")
            }
        }
    }
}

/// What has cargo test these binaries: with the packages of the steps, so that nothing is built twice.
pub(crate) fn host_tests(binaries: &[&'static str]) -> Vec<&'static str> {
    let named = binaries.iter().flat_map(|name| ["--test", name]);
    iter::once("test")
        .chain(Packages::Host.arguments())
        .chain(named)
        .collect()
}

/// How many tests run at once: as many as the caller says, else three on each processor, for they wait more than they
/// work.
fn at_once() -> String {
    env::var(THREADS).unwrap_or_else(|_| {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        (3 * processors).to_string()
    })
}

/// Builds the binary under test; where it is.
pub(crate) fn build_binary(workspace: &Workspace) -> Result<PathBuf> {
    process::run(process::cargo(workspace).args(BINARY.arguments()))?;
    Ok(binary(workspace))
}

fn binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/abuser")
}
