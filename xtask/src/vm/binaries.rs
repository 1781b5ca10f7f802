//! Building what runs in guests: the test binaries, the first process, and the binary under test.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{process, test, workspace::Workspace};

/// All of them.
pub(super) struct Binaries {
    /// The test binaries.
    pub(super) tests: Vec<TestBinary>,
    /// The first process.
    pub(super) init: PathBuf,
    /// The binary under test.
    pub(super) abuser: PathBuf,
}

/// One of the test binaries, and what it has for guests.
pub(super) struct TestBinary {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) tests: Vec<Test>,
}

/// A test.
pub(super) struct Test {
    pub(super) name: String,
    /// Whether it only runs in guests: it is ignored elsewhere.
    pub(super) guests_only: bool,
}

/// The test binaries: whether all their tests are for guests, or those only that are ignored elsewhere.
const SUITES: [(&str, bool); 3] = [("testrun", true), ("netns", true), ("e2e", false)];

impl Binaries {
    /// Builds them, as the other steps of `cargo xtask test` do.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let abuser = if let Some(named) = env::var_os("ABUSER_BIN") {
            named.into()
        } else {
            test::build_binary(workspace)?
        };
        let mut cargo = process::cargo(workspace);
        cargo.args(test::host_tests(&SUITES.map(|(name, _)| name)));
        cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
        let messages = process::output(cargo.stderr(Stdio::inherit()))?;
        let built: Vec<(String, PathBuf)> = messages.lines().filter_map(executable).collect();
        let find = |name: &str| {
            let found = built.iter().find(|(built, _)| built == name);
            found
                .map(|(_, path)| path.clone())
                .with_context(|| format!("cargo built no {name}"))
        };
        let mut tests = Vec::new();
        for (name, all) in SUITES {
            let path = find(name)?;
            let tests_in_it = list(&path, all)?;
            tests.push(TestBinary {
                name: name.to_owned(),
                path,
                tests: tests_in_it,
            });
        }
        Ok(Self {
            tests,
            init: find("abuser-guest")?,
            abuser,
        })
    }

    /// The names of all tests, each after its binary's.
    pub(super) fn full_names(&self) -> impl Iterator<Item = String> {
        let named = |binary: &'_ TestBinary| {
            let name = binary.name.clone();
            let full = move |test: &Test| format!("{name}::{}", test.name);
            binary.tests.iter().map(full).collect::<Vec<_>>()
        };
        self.tests.iter().flat_map(named)
    }
}

/// The executable that one of cargo's messages tells of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    let path = message["executable"].as_str()?;
    Some((name.to_owned(), path.into()))
}

/// The tests in a binary.
fn list(binary: &Path, all: bool) -> Result<Vec<Test>> {
    let ignored: BTreeSet<_> = names(binary, &["--ignored"])?.into_iter().collect();
    let names = if all {
        names(binary, &[])?
    } else {
        ignored.iter().cloned().collect()
    };
    if all && names.is_empty() {
        bail!("{} lists no tests", binary.display());
    }
    let test = |name: String| Test {
        guests_only: ignored.contains(&name),
        name,
    };
    Ok(names.into_iter().map(test).collect())
}

fn names(binary: &Path, flags: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new(binary);
    command.args(["--list", "--format=terse"]).args(flags);
    let said = process::output(&mut command)?;
    let names = said.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}
