//! `cargo xtask sanitize`: the tests under the address sanitizer, which sees memory that is used after it was
//! freed, or beyond its end.
//!
//! The compiler's switch for it is not stable, so a stable compiler is told to take it all the same. The
//! daemon and its dependencies are built with it, but for what of them is C; `std` is the one that comes with the
//! compiler. With root the daemon itself runs so, too, in the kernel and namespace tests.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use crate::{
    counts::Counts,
    machine::is_root,
    process,
    test::{self, HOST_TESTS, KERNEL_TESTS, NAMESPACE_TESTS},
    workspace::Workspace,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests with this in their name
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
}

/// With a target named, build scripts and macros are left as they are: they run on this machine, without the
/// sanitizer.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the sanitizer's run-time library is there for {TARGET} only");
    }
    println!("All is built anew first, which takes some minutes.");
    let mut counts = Counts::default();
    let mut steps = vec![HOST_TESTS];
    if is_root() {
        let mut build = command(workspace, &test::BINARY.arguments());
        process::run(&mut build)?;
        steps.extend([KERNEL_TESTS, NAMESPACE_TESTS]);
    } else {
        println!("Without root only host tests run.");
    }
    for step in steps {
        let mut tests = command(workspace, &step.arguments());
        tests
            .args(["--no-fail-fast", "--"])
            .args(&args.filter)
            .env("ABUSER_BIN", folder(workspace).join("debug/abuser"));
        process::run_tests(&mut tests, &mut counts)?;
    }
    println!("\n{counts}");
    Ok(ExitCode::SUCCESS)
}

/// Cargo, with the sanitizer.
fn command(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = process::cargo(workspace);
    command
        .args(arguments)
        .args(["--target", TARGET, "--target-dir"])
        .arg(workspace.target.join("asan"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Leaks are nothing that memory safety is about, and to look for them takes ptrace, which the daemon's own
        // sandbox forbids.
        .env(
            "ASAN_OPTIONS",
            "detect_leaks=0:detect_stack_use_after_return=1",
        );
    command
}

/// Where cargo puts what it builds for that target.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("asan").join(TARGET)
}
