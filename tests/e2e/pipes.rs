//! Standard output that is a pipe whose reader stops, as in `abuser ban list | head -1`: that is no error,
//! and nobody is told of one. A disk that is full is.

use std::{
    fs::File,
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{CommandOutput, Daemon, require_root};

use crate::support::{Complains as _, command, daemon_on_lo, finish_child};

/// More bans than a pipe holds.
const BANS: u32 = 5000;

/// How long a follower may take to notice.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bans more than a pipe holds.
#[track_caller]
fn ban_many(daemon: &Daemon) {
    let list: Vec<_> = (0..BANS)
        .map(|number| format!("10.{}.{}.1", number / 250, number % 250))
        .collect();
    let path = daemon.config_path().with_file_name("list.txt");
    std::fs::write(&path, list.join("\n")).expect("writing a list");
    let path = path.to_str().expect("UTF-8");
    let reason = "longer ".repeat(10);
    daemon
        .abuser(&["ban", "import", path, "--reason", &reason])
        .success();
}

/// Asserts that a command whose reader has gone ends well, and says nothing.
#[track_caller]
fn assert_quiet(child: Child, arguments: &[&str]) {
    let said = finish_child(child, arguments.join(" "));
    assert_eq!(
        (said.status.code(), said.stderr.as_str()),
        (Some(0), ""),
        "{said}"
    );
}

/// Runs a command whose standard output goes to a disk that is full.
#[track_caller]
fn on_a_full_disk(mut command: Command) -> CommandOutput {
    let full = File::options().write(true).open("/dev/full");
    let full = full.expect("a device that is full");
    let name = format!("{command:?}");
    let child = command.stdout(full).stderr(Stdio::piped()).spawn();
    finish_child(child.expect("running a command"), name)
}

#[test]
fn a_reader_that_stops_is_no_error() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban_many(&daemon);
    for arguments in [
        &["ban", "list"][..],
        &["ban", "list", "--json"],
        &["ban", "export"],
        &["ban", "export", "--format", "json"],
        &["ban", "show", "10.0.0.1"],
        &["status"],
        &["limits"],
        &["detectors"],
        &["allow", "list"],
        &["explain", "10.0.0.1"],
        &["top"],
        &["top", "--json"],
        &["completions", "bash"],
        &["ban", "remove", "--all"],
    ] {
        let mut command = daemon.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("running a command");
        let mut output = child.stdout.take().expect("a pipe");
        let _some = output.read(&mut [0]).expect("reading a little");
        drop(output);
        assert_quiet(child, arguments);
    }
}

#[test]
fn a_follower_ends_when_its_reader_has_gone() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for arguments in [&["events"][..], &["events", "--json"]] {
        let mut command = daemon.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("running a command");
        drop(child.stdout.take());
        // It notices with the first event that it cannot write.
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("waiting").is_none() && Instant::now() < deadline {
            daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
            daemon.abuser(&["ban", "remove", "203.0.113.7"]).success();
        }
        assert_quiet(child, arguments);
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for command in [
        daemon.command(&["status"]),
        daemon.command(&["status", "--json"]),
        daemon.command(&["allow", "add", "192.0.2.1"]),
        command(&["completions", "bash"]),
    ] {
        on_a_full_disk(command).complains(1, &["cannot write to standard output: No space left"]);
    }
}
