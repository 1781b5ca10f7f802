//! Which lines and regions of what is tested the committed inputs reach, told by the replays on a stable
//! compiler: the same code, with the counters that compilers bring along.
//!
//! What is measured is what each target is there for; the rest of the workspace, which it happens to pass
//! through, says nothing about it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::targets::{self, Target};
use crate::{machine::on_path, process, rustc_version::RustcVersion, workspace::Workspace};

/// What the targets are there for, as beginnings of paths.
const SUBJECTS: &[(&str, &[&str])] = &[
    ("api", &["abuser-userspace/src/api/types"]),
    (
        "capture",
        &[
            "abuser-userspace/src/replay/capture.rs",
            "abuser-userspace/src/replay/frame.rs",
            "abuser-userspace/src/replay/packets.rs",
            "abuser-userspace/src/replay/direction.rs",
            "abuser-userspace/src/replay/stream.rs",
            "abuser-userspace/src/replay/sockets.rs",
        ],
    ),
    (
        "condition",
        &["abuser-detect/src/condition", "abuser-detect/src/field.rs"],
    ),
    ("config", &["abuser-userspace/src/config"]),
    (
        "crowdsec",
        &[
            "abuser-userspace/src/crowdsec/wire.rs",
            "abuser-userspace/src/crowdsec/element.rs",
            "abuser-userspace/src/crowdsec/decisions.rs",
        ],
    ),
    (
        "decide",
        &[
            "abuser-common/src/verdict",
            "abuser-common/src/gcra.rs",
            "abuser-common/src/bucket.rs",
            "abuser-common/src/prefix.rs",
            "abuser-common/src/gate.rs",
        ],
    ),
    (
        "event",
        &[
            "abuser-common/src/event.rs",
            "abuser-userspace/src/daemon/events.rs",
        ],
    ),
    ("exchange", &["abuser-userspace/src/exchange"]),
    ("filter", &["abuser-detect/src/filter"]),
    (
        "fleet",
        &[
            "abuser-userspace/src/fleet/wire.rs",
            "abuser-userspace/src/fleet/state",
        ],
    ),
    ("import", &["abuser-detect/src/import"]),
    (
        "line",
        &["abuser-detect/src/parse", "abuser-detect/src/line.rs"],
    ),
    ("packet", &["abuser-common/src/packet"]),
    (
        "stream",
        &[
            "abuser-userspace/src/sources/lines.rs",
            "abuser-userspace/src/sources/syslog/message.rs",
            "abuser-userspace/src/sources/journal/entry.rs",
        ],
    ),
    ("target", &["abuser-detect/src/detect/template.rs"]),
    (
        "webhook",
        &[
            "abuser-userspace/src/notify/template.rs",
            "abuser-userspace/src/notify/message.rs",
        ],
    ),
];

/// What `llvm-cov export` says.
#[derive(Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    lines: Counts,
    regions: Counts,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Counts {
    count: u64,
    covered: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.covered += other.covered;
    }

    fn percent(self) -> u64 {
        (self.covered * 100).checked_div(self.count).unwrap_or(0)
    }
}

/// Builds the replays with counters, runs them, and prints what they reach.
pub(super) fn run(workspace: &Workspace, targets: &[Target]) -> Result<()> {
    let tools = Tools::find()?;
    let home = targets::home(workspace).join("coverage");
    targets::make(&home)?;
    let mut build = process::cargo(workspace);
    build
        .args(["build", "-p", "abuser-fuzz", "--bins"])
        .env("CARGO_TARGET_DIR", home.join("build"))
        .env("RUSTFLAGS", "-Cinstrument-coverage")
        // What build scripts would leave where they run.
        .env("LLVM_PROFILE_FILE", home.join("build/ignored-%m.profraw"));
    process::run(&mut build).context("build the targets with counters")?;
    println!(
        "\n{:<10} {:>13} {:>6} {:>13} {:>6}",
        "target", "lines", "", "regions", ""
    );
    for target in targets {
        let subject = SUBJECTS.iter().find(|(name, _)| *name == target.name);
        let Some((_, subject)) = subject else {
            bail!(
                "SUBJECTS in {} does not say what {} is there for",
                file!(),
                target.name
            );
        };
        let binary = home.join("build/debug").join(&target.name);
        let raw = home.join(format!("{}.profraw", target.name));
        let inputs = targets::files(&target.corpus)?;
        process::output(
            Command::new(&binary)
                .args(&inputs)
                .env("LLVM_PROFILE_FILE", &raw),
        )
        .with_context(|| format!("replay the inputs of {}", target.name))?;
        let files = tools.export(&binary, &raw)?;
        let of_subject = |file: &&File| {
            let path = file
                .filename
                .strip_prefix(&workspace.root)
                .unwrap_or(&file.filename);
            let path = path.to_string_lossy();
            let is_test = path.contains("/tests") || path.ends_with("tests.rs");
            !is_test && subject.iter().any(|start| path.starts_with(start))
        };
        let (mut lines, mut regions) = (Counts::default(), Counts::default());
        for file in files.iter().filter(of_subject) {
            lines.add(file.summary.lines);
            regions.add(file.summary.regions);
        }
        println!(
            "{:<10} {:>6} of {:>4} {:>5}% {:>6} of {:>4} {:>5}%",
            target.name,
            lines.covered,
            lines.count,
            lines.percent(),
            regions.covered,
            regions.count,
            regions.percent()
        );
    }
    Ok(())
}

/// LLVM's tools, which must be of the compiler's version.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn find() -> Result<Self> {
        let rustc = process::cargo_path().with_file_name("rustc");
        let version = RustcVersion::parse(&process::output(Command::new(&rustc).arg("-vV"))?)?;
        let major = version.llvm.major;
        let sysroot = process::output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let own = Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(&version.host)
            .join("bin");
        let find = |name: &str| {
            let own = own.join(name);
            let debian = on_path(&format!("{name}-{major}"));
            Some(own).filter(|path| path.is_file()).or(debian).with_context(|| {
                format!(
                    "there is no {name} of LLVM {major}, which {} was made with; get it: rustup component add \
                     llvm-tools, or on Debian: apt-get install llvm-{major}",
                    version.line
                )
            })
        };
        Ok(Self {
            profdata: find("llvm-profdata")?,
            cov: find("llvm-cov")?,
        })
    }

    /// What a run of a binary has reached, by file.
    fn export(&self, binary: &Path, raw: &Path) -> Result<Vec<File>> {
        let merged = raw.with_extension("profdata");
        process::output(
            Command::new(&self.profdata)
                .args(["merge", "-sparse"])
                .arg(raw)
                .arg("-o")
                .arg(&merged),
        )?;
        let json = process::output(
            Command::new(&self.cov)
                .args(["export", "-summary-only"])
                .arg(binary)
                .arg(format!("-instr-profile={}", merged.display())),
        )?;
        let export: Export = serde_json::from_str(&json).context("read what llvm-cov says")?;
        // As large as a log of it.
        let _ = fs::remove_file(raw);
        Ok(export
            .data
            .into_iter()
            .flat_map(|data| data.files)
            .collect())
    }
}
