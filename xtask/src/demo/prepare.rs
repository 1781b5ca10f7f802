//! Before the story: the binary, and root.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, anyhow, ensure};

const BUILD: [&str; 4] = ["build", "--release", "--package", "abuser-userspace"];

/// Builds `abuser`, with cargo's own progress, and says where it is.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    println!("Building abuser: cargo {}", BUILD.join(" "));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Wherever the user's settings put it, cargo says where it is.
    let output = Command::new(cargo)
        .args(BUILD)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "abuser could not be built (cargo {}); `cargo xtask doctor` may say why",
        BUILD.join(" ")
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "abuser")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built abuser-userspace but named no binary `abuser`")
}

/// Runs this program again as root, in place of this process; returns only if it cannot.
pub(super) fn become_root(binary: &Path) -> anyhow::Error {
    println!("The demo makes network namespaces and loads an XDP program: that needs root.");
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return anyhow!("cannot find this program to run it as root: {error}"),
    };
    let error = Command::new("sudo")
        .arg("--")
        .arg(program)
        .args(["demo", "--binary"])
        .arg(binary)
        .exec();
    anyhow!("the demo needs root and cannot run sudo ({error}): run `cargo xtask demo` as root")
}
