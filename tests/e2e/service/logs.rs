//! What the daemon says of itself, as programs read it.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::{Daemon, Namespace, require_root};

use crate::support::{Complains as _, Site, assert_keys, finish, parse};

#[test]
fn a_log_in_json_has_an_object_a_line_with_what_happened_and_to_whom() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let mut daemon = Daemon::start_with(
        &namespace,
        "interfaces = [\"lo\"]\n[allow]\naddresses = [\"192.0.2.0/24\", \"nowhere.invalid\"]\n\
         [[limit]]\nname = \"flood\"\nrate = \"100/s\"\n",
        &["--log-format", "json"],
    );
    daemon.terminate();
    let text = daemon.stderr();
    let lines: Vec<Value> = text.lines().map(parse).collect();
    for line in &lines {
        assert_keys(line, &["time", "level", "target", "message", "fields"]);
        let time = line["time"].as_str().expect("a time");
        humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{error} in {line}"));
    }
    let find = |message: &str| {
        let found = lines
            .iter()
            .find(|line| line["message"].as_str().expect("a text").contains(message));
        found.unwrap_or_else(|| panic!("no line has {message:?}: {text}"))
    };
    let protecting = find("protecting lo");
    assert_eq!(protecting["level"], "info");
    assert_eq!(protecting["target"], "abuser::daemon");
    assert_eq!(protecting["fields"]["limits"], 1);
    assert_eq!(
        protecting["fields"]["socket"],
        daemon.socket().to_str().expect("UTF-8")
    );
    let warning = find("an allowed name does not resolve");
    assert_eq!(warning["level"], "warn");
    assert_eq!(warning["fields"]["name"], "nowhere.invalid");
    find("SIGTERM");
}

#[test]
fn a_start_that_fails_says_so_in_json_and_with_the_usual_exit_status() {
    let site = Site::new();
    let config = site.path("abuser.toml");
    std::fs::write(&config, "interfaces = [\"lo\"]\nnonsense = 1\n").expect("writing");
    let said = site.run(&config, &["--log-format", "json"]).exits(2);
    let line = parse(said.stderr.trim_end());
    assert_eq!(line["level"], "error", "{line}");
    let message = line["message"].as_str().expect("a text");
    assert!(message.contains("abuser.toml:2:1: unknown key"), "{line}");
    site.assert_untouched();
}

#[test]
fn a_journal_that_is_not_there_is_named() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let mounts = testkit::Mounts::new(|| testkit::mounts::mount_empty("tmpfs", "/run"));
    let mounts = mounts.unwrap_or_else(|error| panic!("{error}"));
    let config = config.to_str().expect("UTF-8");
    let mut command = site.command(&["run", "-c", config, "--log-format", "journal"]);
    mounts.enter(&mut command, "/");
    finish(&mut command).complains(
        1,
        &["/run/systemd/journal/socket", "--log-format text or json"],
    );
    site.assert_untouched();
}

#[test]
fn a_log_of_text_is_as_it_was() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let mut daemon = site
        .command(&["run", "-c", config.to_str().expect("UTF-8")])
        // Of another stream than this one.
        .env("JOURNAL_STREAM", "1:2")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("abuser");
    let stderr = BufReader::new(daemon.stderr.take().expect("a pipe"));
    let mut lines = stderr.lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("protecting lo"));
    let pid = i32::try_from(daemon.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signalling our own child");
    daemon.wait().expect("our own child");
    let line = line.expect("a line");
    let (_, rest) = line.split_once("Z  INFO ").expect("a time and a level");
    assert!(
        rest.starts_with("protecting lo (generic) config="),
        "{line}"
    );
}
