//! Lists from and for other programs, with the programs themselves: a sample shows what one
//! of them wrote once, not what it takes.
//!
//! Each runs in the test's own namespace and, where it keeps files, in a folder of its own.
//! What is not there is not skipped: `cargo xtask doctor --fix` gets it.

mod crowdsec;
mod fail2ban;
mod ipset;
mod nft;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{CommandOutput, Daemon, Janitor, Namespace};

use crate::support::{finish, finish_child, parse};

/// How far an end may be from where it was: both sides tell whole seconds.
const TOLERANCE: Duration = Duration::from_secs(2);

/// When each banned source is free again, if ever, and why it is banned.
type Bans = BTreeMap<String, (Option<SystemTime>, Option<String>)>;

/// Bans by source, seconds from now and reason.
fn expected(bans: &[(&str, Option<u64>, Option<&str>)]) -> Bans {
    let now = SystemTime::now();
    bans.iter()
        .map(|(source, left, reason)| {
            let end = left.map(|left| now + Duration::from_secs(left));
            ((*source).to_owned(), (end, reason.map(str::to_owned)))
        })
        .collect()
}

/// The bans that the daemon has.
fn bans(daemon: &Daemon) -> Bans {
    let list = daemon.json(&["ban", "list"]);
    let bans = list.as_array().expect("a list").iter().map(|ban| {
        let text = |key: &str| ban[key].as_str().map(str::to_owned);
        let source = text("source").expect("a source");
        (source, (end(ban), text("reason")))
    });
    bans.collect()
}

/// When a ban ends, if it does.
fn end(ban: &Value) -> Option<SystemTime> {
    let text = ban["expires"].as_str()?;
    Some(humantime::parse_rfc3339(text).expect("a time"))
}

/// Asserts that the bans are those. Most lists tell how much is left, so an end moves by the
/// time from when that was written to when it was read: on a busy machine, that counts too.
#[track_caller]
fn assert_bans(found: &Bans, expected: &Bans, written: Instant) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (source, (end, reason)) in found {
        let (expected_end, expected_reason) = &expected[source];
        assert_same_end(source, *end, *expected_end, written);
        assert_eq!(reason, expected_reason, "{source}");
    }
}

/// [`assert_bans`] for one end.
#[track_caller]
fn assert_same_end(
    source: &str,
    found: Option<SystemTime>,
    expected: Option<SystemTime>,
    written: Instant,
) {
    let is_same = match (found, expected) {
        (None, None) => true,
        (Some(found), Some(expected)) => {
            found + TOLERANCE >= expected && found <= expected + TOLERANCE + written.elapsed()
        }
        _ => false,
    };
    assert!(
        is_same,
        "{source} ends at {found:?} instead of {expected:?}"
    );
}

/// Bans a source with options such as `["--for", "1h"]`.
#[track_caller]
fn ban(daemon: &Daemon, source: &str, options: &[&str]) {
    daemon
        .abuser(&[&["ban", "add", source], options].concat())
        .success();
}

/// What `abuser ban export` prints.
#[track_caller]
fn export(daemon: &Daemon, format: &str) -> String {
    let exported = daemon.abuser(&["ban", "export", "--format", format]);
    exported.success().stdout
}

/// Imports what a program printed; what became of it.
#[track_caller]
fn import(daemon: &Daemon, text: &str) -> Value {
    let command = daemon.command(&["ban", "import", "-", "--json"]);
    parse(&feed(command, text).success().stdout)
}

/// [`import`] after which there are the imported bans and no others, in this format and
/// without a line that is told.
#[track_caller]
fn import_anew(daemon: &Daemon, format: &str, text: &str) -> Bans {
    daemon.abuser(&["ban", "remove", "--all"]).success();
    assert!(bans(daemon).is_empty());
    let outcome = import(daemon, text);
    assert_eq!(outcome["format"], format, "{text}");
    assert_eq!(outcome["skipped"], 0, "{outcome}\n{text}");
    bans(daemon)
}

/// Why lines were not imported.
fn problems(outcome: &Value) -> Vec<&str> {
    let problems = outcome["problems"].as_array().expect("a list");
    problems
        .iter()
        .map(|problem| problem["problem"].as_str().expect("a text"))
        .collect()
}

/// A command that runs one of the programs; without it, the test fails with the way to get it.
#[track_caller]
fn peer(namespace: &Namespace, program: &str, arguments: &[&str]) -> Command {
    let mut command =
        testkit::peers::command(namespace, program).unwrap_or_else(|error| panic!("{error}"));
    command.args(arguments);
    command
}

/// Runs one of the programs to its end.
#[track_caller]
fn run(namespace: &Namespace, program: &str, arguments: &[&str]) -> CommandOutput {
    finish(&mut peer(namespace, program, arguments))
}

/// Runs a command to its end that reads a text.
#[track_caller]
fn feed(mut command: Command, text: &str) -> CommandOutput {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // One that does not want all of it says why.
    let _broken = stdin.write_all(text.as_bytes());
    drop(stdin);
    finish_child(child, shown)
}

/// A folder that is removed with the test, however that ends.
struct Folder {
    _janitor: Janitor,
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("abuser-test-")
            .tempdir()
            .expect("a folder for a test");
        Self {
            _janitor: Janitor::hire(&[folder.path()]).expect("a janitor"),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; `FOLDER` in its text stands for this folder.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("making a folder");
        let folder = self.folder.path().to_str().expect("UTF-8");
        fs::write(&path, text.replace("FOLDER", folder)).expect("writing a file");
        path
    }
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
