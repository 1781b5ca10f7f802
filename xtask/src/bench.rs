//! `cargo xtask bench`: builds what is measured and what measures, then hands over to
//! `abuser-bench`.

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
    /// Passed to abuser-bench; `--help` says what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the bench; its exit status is this one's.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
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
    let bench = release.join("abuser-bench");
    let status = std::process::Command::new(&bench)
        .args(&args.arguments)
        .env("ABUSER_BIN", release.join("abuser"))
        .status()
        .with_context(|| format!("start {}", bench.display()))?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        None => bail!(
            "the bench was ended by signal {}",
            status.signal().unwrap_or_default()
        ),
    }
}
