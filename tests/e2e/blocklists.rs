//! `[[blocklist]]`: files that name whom to ban, and are followed.

use std::{fs, path::PathBuf, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Daemon, Namespace, require_root};

use crate::support::{Complains as _, assert_keys, daemon_on_lo, wait_until, wait_until_seen};

/// A daemon with a block list of this text.
struct Listed {
    _namespace: Namespace,
    daemon: Daemon,
    folder: TempDir,
}

impl Listed {
    fn new(text: &str, keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a list");
        let path = folder.path().join("spam.txt");
        fs::write(&path, text).expect("writing a list");
        let table = format!("[[blocklist]]\npath = \"{}\"\n{keys}\n", path.display());
        let (namespace, daemon) = daemon_on_lo(&table);
        Self {
            _namespace: namespace,
            daemon,
            folder,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spam.txt")
    }

    /// Writes the list as careful people do: beside it, then in its place.
    fn write(&self, text: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, text).expect("writing a list");
        fs::rename(fresh, self.path()).expect("replacing a list");
    }

    fn status(&self) -> Value {
        self.daemon.json(&["status"])["blocklists"][0].clone()
    }

    /// Sources with their causes, by source.
    fn bans(&self) -> Vec<(String, String)> {
        let list = self.daemon.json(&["ban", "list"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bans = list.as_array().expect("a list").iter();
        bans.map(|ban| (text(&ban["source"]), text(&ban["cause"])))
            .collect()
    }

    #[track_caller]
    fn wait_for(&self, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(source, cause)| ((*source).to_owned(), (*cause).to_owned()))
            .collect();
        wait_until_seen(
            &format!("{expected:?}"),
            || self.bans(),
            |bans| *bans == expected,
        );
    }
}

#[test]
fn a_list_is_followed_as_a_difference() {
    require_root!();
    let listed = Listed::new("203.0.113.1 # first\n203.0.113.2\nnonsense\n", "");
    listed.wait_for(&[
        ("203.0.113.1/32", "blocklist"),
        ("203.0.113.2/32", "blocklist"),
    ]);
    let status = listed.status();
    assert_keys(
        &status,
        &["name", "path", "entries", "bad", "read", "error"],
    );
    assert_eq!(status["name"], "spam");
    assert_eq!(status["entries"], 2);
    assert_eq!(status["bad"], 1);
    assert_eq!(status["error"], Value::Null);
    let stderr = listed.daemon.stderr();
    assert!(
        stderr.contains("spam.txt, line 3: \"nonsense\""),
        "{stderr}"
    );
    let before = listed.daemon.json(&["ban", "show", "203.0.113.1"]);
    assert_eq!(before[0]["blocklist"], "spam");
    assert_eq!(before[0]["reason"], "first");
    assert_eq!(before[0]["expires"], Value::Null);

    listed.write("203.0.113.1 # first\n198.51.100.0/24\n");
    listed.wait_for(&[
        ("198.51.100.0/24", "blocklist"),
        ("203.0.113.1/32", "blocklist"),
    ]);
    let after = listed.daemon.json(&["ban", "show", "203.0.113.1"]);
    assert_eq!(after, before, "who was named all the while keeps the ban");
    let explained = listed.daemon.json(&["explain", "203.0.113.2"]);
    assert_eq!(explained["verdict"], "passes");
    assert_eq!(
        explained["history"][0]["how"],
        "no longer on the block list"
    );

    listed.write("# nobody\n");
    listed.wait_for(&[]);
}

#[test]
fn a_list_that_vanishes_or_is_bad_changes_nothing() {
    require_root!();
    let listed = Listed::new("203.0.113.1\n", "strict = true");
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
    for spoil in [
        &(|| fs::remove_file(listed.path()).expect("removing")) as &dyn Fn(),
        &|| listed.write("203.0.113.2\nnonsense\n"),
    ] {
        spoil();
        wait_until("an error", || listed.status()["error"].is_string());
        assert_eq!(
            listed.bans(),
            [("203.0.113.1/32".into(), "blocklist".into())]
        );
        let status = listed.daemon.abuser(&["status"]).success().stdout;
        assert!(status.contains("block list spam: 1 source"), "{status}");
        assert!(status.contains("IS NOT IN FORCE"), "{status}");
        listed.write("203.0.113.1\n");
        wait_until("no error", || listed.status()["error"].is_null());
    }
}

#[test]
fn the_same_file_that_is_back_is_read() {
    require_root!();
    let listed = Listed::new("203.0.113.1\n", "");
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
    let away = listed.folder.path().join("away");
    fs::rename(listed.path(), &away).expect("moving it away");
    wait_until("an error", || listed.status()["error"].is_string());
    fs::rename(&away, listed.path()).expect("moving it back");
    wait_until("no error", || listed.status()["error"].is_null());
}

#[test]
fn a_ban_by_a_list_is_lifted_in_the_list_only() {
    require_root!();
    let listed = Listed::new("203.0.113.1\n", "");
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
    let daemon = &listed.daemon;
    daemon.abuser(&["ban", "remove", "203.0.113.1"]).complains(
        1,
        &[
            "203.0.113.1/32 is on the block list spam",
            "abuser allow add 203.0.113.1/32",
        ],
    );
    daemon.abuser(&["ban", "add", "203.0.113.9"]).success();
    daemon.abuser(&["ban", "remove", "--all"]).success();
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
}

#[test]
fn other_bans_of_who_is_named_come_and_go_and_leave_no_gap() {
    require_root!();
    let listed = Listed::new("203.0.113.1\n203.0.113.2\n", "");
    let named = [
        ("203.0.113.1/32", "blocklist"),
        ("203.0.113.2/32", "blocklist"),
    ];
    listed.wait_for(&named);
    let daemon = &listed.daemon;
    daemon
        .abuser(&["ban", "add", "203.0.113.1", "--for", "3s"])
        .success();
    assert_eq!(listed.bans()[0].1, "manual");
    // Without the list it would be over; at no moment is there none.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < deadline {
        assert_eq!(listed.bans().len(), 2);
        thread::sleep(Duration::from_millis(20));
    }
    listed.wait_for(&named);
    // By hand for longer than the list has it.
    daemon
        .abuser(&["ban", "add", "203.0.113.1", "--permanent"])
        .success();
    daemon
        .abuser(&["ban", "add", "203.0.113.2", "--permanent"])
        .success();
    let said = daemon.abuser(&["ban", "remove", "203.0.113.2"]).success();
    let stays = "203.0.113.2/32 stays banned by the block list spam";
    assert!(said.stderr.contains(stays), "{said}");
    listed.wait_for(&[
        ("203.0.113.1/32", "manual"),
        ("203.0.113.2/32", "blocklist"),
    ]);
    listed.write("\n");
    listed.wait_for(&[("203.0.113.1/32", "manual")]);
}

#[test]
fn what_two_lists_name_stays_when_one_drops_it() {
    require_root!();
    let listed = Listed::new("203.0.113.1\n", "");
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
    let other = listed.folder.path().join("other.txt");
    fs::write(&other, "203.0.113.1\n203.0.113.5\n").expect("writing a list");
    let config = listed.daemon.config_path();
    let before = fs::read_to_string(&config).expect("the configuration");
    let both = format!("{before}\n[[blocklist]]\npath = \"{}\"\n", other.display());
    fs::write(&config, &both).expect("writing the configuration");
    listed.daemon.abuser(&["reload"]).success();
    listed.wait_for(&[
        ("203.0.113.1/32", "blocklist"),
        ("203.0.113.5/32", "blocklist"),
    ]);
    listed.write("203.0.113.7\n");
    listed.wait_for(&[
        ("203.0.113.1/32", "blocklist"),
        ("203.0.113.5/32", "blocklist"),
        ("203.0.113.7/32", "blocklist"),
    ]);
    let shown = listed.daemon.json(&["ban", "show", "203.0.113.1"]);
    assert_eq!(shown[0]["blocklist"], "other");
    // A list that is not configured any more calls for nothing.
    fs::write(&config, before).expect("writing the configuration");
    listed.daemon.signal(Signal::SIGHUP);
    listed.wait_for(&[("203.0.113.7/32", "blocklist")]);
}

#[test]
fn a_list_that_changed_while_no_daemon_ran_is_caught_up_with() {
    require_root!();
    let mut listed = Listed::new("203.0.113.1\n203.0.113.2\n", "");
    listed.wait_for(&[
        ("203.0.113.1/32", "blocklist"),
        ("203.0.113.2/32", "blocklist"),
    ]);
    listed.daemon.kill();
    listed.write("203.0.113.2\n203.0.113.3\n");
    listed.daemon.restart();
    listed.wait_for(&[
        ("203.0.113.2/32", "blocklist"),
        ("203.0.113.3/32", "blocklist"),
    ]);
    // And one that is gone leaves its bans as they were.
    listed.daemon.kill();
    fs::remove_file(listed.path()).expect("removing a list");
    listed.daemon.restart();
    wait_until("an error", || listed.status()["error"].is_string());
    thread::sleep(Duration::from_millis(500));
    listed.wait_for(&[
        ("203.0.113.2/32", "blocklist"),
        ("203.0.113.3/32", "blocklist"),
    ]);
}

#[test]
fn wide_prefixes_of_a_list_take_force() {
    require_root!();
    let listed = Listed::new("8.0.0.0/7\n203.0.113.1\n", "");
    listed.wait_for(&[("203.0.113.1/32", "blocklist")]);
    assert_eq!(listed.status()["bad"], 1);
    let forced = Listed::new("8.0.0.0/7\n", "force = true");
    forced.wait_for(&[("8.0.0.0/7", "blocklist")]);
}

#[test]
fn what_a_path_says_cannot_command_the_terminal_that_shows_the_status() {
    require_root!();
    let table =
        "[[blocklist]]\nname = \"spam\"\npath = \"/nonexistent/\\u001B[2J\\u202E\\u009Bx.txt\"\n";
    let (_namespace, daemon) = daemon_on_lo(table);
    let said = daemon.abuser(&["status"]).success();
    let line = said
        .stdout
        .lines()
        .find(|line| line.contains("block list spam"));
    let line = line.expect("a line about it");
    assert!(
        line.contains("/nonexistent/\\u{1b}[2J\\u{202e}\\u{9b}x.txt"),
        "{line}"
    );
    assert!(
        !said.stdout.contains(['\u{1b}', '\u{202e}', '\u{9b}']),
        "{said}"
    );
    // Programs are told it as it is.
    let path = &daemon.json(&["status"])["blocklists"][0]["path"];
    assert_eq!(path, "/nonexistent/\u{1b}[2J\u{202e}\u{9b}x.txt");
}
