//! `cargo xtask bench` and `cargo xtask soak`: build what is measured and what measures, then hand over
//! to `abuser-bench` or `abuser-soak`.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Passed on; `--help` says what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Which of the bench's programs it is.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    Bench,
    Soak,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Bench => "abuser-bench",
            Self::Soak => "abuser-soak",
        }
    }
}

/// Runs one of them; its exit status is this one's.
pub(crate) fn run(workspace: &Workspace, program: Program, args: &Args) -> Result<ExitCode> {
    // Both at once: cargo would choose other features for one alone, and build twice.
    // Standard output is the bench's: people pipe it.
    let mut build = process::cargo(workspace);
    build
        .args([
            "build",
            "--release",
            "-p",
            "abuser-userspace",
            "-p",
            "abuser-bench",
        ])
        .stdout(Stdio::from(io::stderr()));
    let status = build.status().context("start cargo")?;
    if !status.success() {
        bail!("abuser and its bench were not built ({status}); the messages are above");
    }
    let release = workspace.target.join("release");
    let bench = release.join(program.name());
    let status = std::process::Command::new(&bench)
        .args(&args.arguments)
        .env("ABUSER_BIN", release.join("abuser"))
        .status()
        .with_context(|| format!("start {}", bench.display()))?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        None => bail!(
            "{} was ended by signal {}",
            program.name(),
            status.signal().unwrap_or_default()
        ),
    }
}
