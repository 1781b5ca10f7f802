//! Without a daemon, the commands that need one say so and how to start it.

use std::{fs, os::unix::net::UnixListener};

use testkit::require_root;

use crate::support::{Complains as _, Site, abuser, command, finish};

/// Every command that needs a daemon.
const COMMANDS: [&[&str]; 13] = [
    &["status"],
    &["limits"],
    &["ban", "add", "203.0.113.7"],
    &["ban", "remove", "203.0.113.7"],
    &["ban", "list"],
    &["ban", "show", "203.0.113.7"],
    &["allow", "add", "203.0.113.7"],
    &["allow", "remove", "203.0.113.7"],
    &["allow", "list"],
    &["throttle", "add", "203.0.113.7", "--limit", "slow"],
    &["throttle", "remove", "203.0.113.7"],
    &["throttle", "list"],
    &["events"],
];

#[test]
fn each_command_says_that_nobody_is_there_and_how_to_start_one() {
    for arguments in COMMANDS {
        for json in [&[][..], &["--json"]] {
            abuser(&[arguments, json].concat()).complains(
                1,
                &[
                    "no abuser runs here: /proc/nonexistent/abuser.sock is not there",
                    "sudo abuser run -i INTERFACE",
                    "--socket",
                ],
            );
        }
    }
}

#[test]
fn the_socket_comes_from_the_flag_before_the_environment() {
    abuser(&["--socket", "/proc/nonexistent/other.sock", "status"]).complains(1, &["other.sock"]);
    abuser(&["status", "--socket", "/proc/nonexistent/other.sock"]).complains(1, &["other.sock"]);
    let mut status = command(&["status"]);
    finish(status.env("ABUSER_SOCKET", "/proc/nonexistent/third.sock"))
        .complains(1, &["third.sock"]);
    // An empty one is none.
    let mut help = command(&["completions", "bash"]);
    finish(help.env("ABUSER_SOCKET", "")).success();
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_told_from_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("stale.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    let path = path.to_str().expect("UTF-8");
    abuser(&["status", "--socket", path]).complains(
        1,
        &["is a socket that nobody listens on", "sudo abuser run"],
    );
}

#[test]
fn a_path_that_cannot_be_a_socket_is_said_to_be_so() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let file = file.path().to_str().expect("UTF-8");
    abuser(&["status", "--socket", file]).complains(1, &["is not a socket", "--socket"]);
    abuser(&["status", "--socket", "/"]).complains(1, &["is not a socket", "--socket"]);
    abuser(&["status", "--socket", &format!("{file}/x.sock")]).complains(1, &["is not there"]);
    let long = format!("/{}", "x".repeat(110));
    abuser(&["status", "--socket", &long]).complains(1, &["107 bytes", "--socket"]);
}

#[test]
fn detaching_without_a_daemon_and_without_pins_is_done_already() {
    require_root!();
    let site = Site::new();
    let pins = site.pin_dir().to_str().expect("UTF-8");
    let said = finish(&mut site.command(&["detach", "--pin-dir", pins])).success();
    let looked = format!("nothing was attached that is pinned in {pins};");
    assert!(said.stdout.starts_with(&looked), "{said}");
    finish(&mut site.command(&["detach", "--pin-dir", pins, "-i", "lo"]))
        .complains(1, &["not attached to \"lo\""]);
    finish(&mut site.command(&["detach", "--pin-dir", pins, "-i", "nosuch0"]))
        .complains(1, &["there is no interface \"nosuch0\""]);
    site.assert_untouched();
}

#[test]
fn detaching_in_a_folder_that_is_no_pin_folder_leaves_it_alone() {
    require_root!();
    let site = Site::new();
    let folder = site.path("precious");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("file"), "data").expect("a file");
    let path = folder.to_str().expect("UTF-8");
    finish(&mut site.command(&["detach", "--pin-dir", path]))
        .complains(1, &["is not on a BPF file system"]);
    assert_eq!(
        fs::read_to_string(folder.join("file")).expect("still there"),
        "data"
    );
    assert_eq!(fs::read_dir(&folder).expect("still there").count(), 1);
}
