//! The project's verbs, so that building, checking and trying `abuser` need no lore:
//! `cargo xtask doctor`, `build-ebpf`, `test`, `vm`, `audit`, `sanitize`, `fuzz`, `demo`, `bench`, `soak` and `dist`.
//!
//! The XDP program needs a compiler and a linker that most machines lack, so every verb
//! looks for its tools first and names the command that gets a missing one.

mod audit;
mod bench;
mod build_ebpf;
mod cargo_tool;
mod compiler;
mod counts;
mod debian;
mod demo;
mod dist;
mod doctor;
mod features;
mod fuzz;
mod linker;
mod machine;
mod object_file;
mod objects;
mod peers;
mod process;
mod record;
mod rustc_version;
mod sanitize;
mod test;
mod toolchain;
mod verifier;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Build, check and try abuser"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what this machine has, what is missing and how to get it
    Doctor(doctor::Args),
    /// Build the XDP programs into the objects that are committed
    BuildEbpf(build_ebpf::Args),
    /// Run every check and test, as CI does
    Test(test::Args),
    /// Check what is depended on: licences, sources, known faults, withdrawn versions
    Audit(audit::Args),
    /// Run the kernel and namespace tests with other kernels than this machine's
    Vm(vm::Args),
    /// Run tests under the address sanitizer, which takes half an hour
    Sanitize(sanitize::Args),
    /// Look for inputs that make something not hold that must hold for any
    Fuzz(fuzz::Args),
    /// Try abuser on interfaces of its own, with traffic to stop
    Demo(demo::Args),
    /// Measure abuser against its budgets and against what it replaces
    Bench(bench::Args),
    /// Everything at once for as long as it takes: does anything grow, is anything lost?
    Soak(bench::Args),
    /// Make what is handed out: a Debian package, a tarball with a static binary, their sums
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    let outcome = Workspace::locate().and_then(|workspace| match verb {
        Verb::Doctor(args) => Ok(doctor::run(&workspace, &args)),
        Verb::BuildEbpf(args) => build_ebpf::run(&workspace, &args),
        Verb::Test(args) => Ok(test::run(&workspace, &args)),
        Verb::Vm(args) => vm::run(&workspace, &args),
        Verb::Audit(args) => audit::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
        Verb::Sanitize(args) => sanitize::run(&workspace, &args),
        Verb::Fuzz(args) => fuzz::run(&workspace, &args),
        Verb::Bench(args) => bench::run(&workspace, bench::Program::Bench, &args),
        Verb::Soak(args) => bench::run(&workspace, bench::Program::Soak, &args),
        Verb::Dist(args) => dist::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
        Verb::Demo(args) => demo::run(args).map(|()| ExitCode::SUCCESS),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
