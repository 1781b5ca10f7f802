//! Running other programs: every one is announced or named in the error it causes, so
//! that nobody has to guess what a verb did.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{counts::Counts, workspace::Workspace};

/// The cargo that started this program, else the one on `PATH`.
pub(crate) fn cargo_path() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// That cargo, in the repository and with its target directory.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(cargo_path());
    command
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target);
    command
}

/// What builds a program of a crate into the folder `root`, with `scratch` for what comes of it on the way; more may
/// be added.
pub(crate) fn cargo_install(
    workspace: &Workspace,
    package: &str,
    version: &str,
    root: &Path,
    scratch: &Path,
) -> Command {
    let mut command = cargo(workspace);
    command
        .args(["install", &format!("{package}@{version}")])
        .args(["--locked", "--force"])
        .args([Path::new("--root"), root])
        .args([Path::new("--target-dir"), scratch])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Nobody debugs it, and a third of the time would go into that.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    command
}

/// Runs a command with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = announce(command);
    let status = command
        .status()
        .with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a `cargo test` with its output shown, and sums up what its binaries report.
///
/// The sums hold for a failed run too: they are added to `counts` as they come.
pub(crate) fn run_tests(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let shown = announce(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{shown}`"))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output
            .read_until(b'\n', &mut line)
            .with_context(|| format!("read the output of `{shown}`"))?
            != 0
        {
            io::stdout().write_all(&line).context("write to stdout")?;
            counts.add_line(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("wait for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}

fn announce(command: &Command) -> String {
    let shown = show(command);
    println!("$ {shown}");
    shown
}

/// The command as one would type it.
fn show(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        if word.contains([' ', '*', '"', '\'']) {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    };
    let program = command.get_program();
    let program = if program == cargo_path() {
        OsStr::new("cargo")
    } else {
        program
    };
    std::iter::once(program)
        .chain(command.get_args())
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}
