//! Lines that come over syslog, and out of the journal.

use std::{fs, path::Path, process::Child};

use serde_json::json;
use testkit::{Mounts, Namespace, mounts::mount_empty, peers, require_root};

use super::{Logged, append};
use crate::support::wait_until;

/// Has the real `logger` say that sshd has refused an address.
fn log_failure(namespace: &Namespace, way: &[&str], address: &str) {
    let mut command = peers::command(namespace, "logger").unwrap_or_else(|error| panic!("{error}"));
    let text = format!("Failed password for root from {address} port 40000 ssh2");
    let command = command.args(way).args(["--tag", "sshd", "--id=812", &text]);
    assert!(command.status().expect("running logger").success());
}

#[test]
fn what_comes_over_a_socket_and_udp_bans_like_what_is_in_a_file() {
    require_root!();
    let logged = Logged::new(
        "[[source]]\nsyslog = \"FOLDER/log.sock\"\npreset = \"sshd\"\n\
         [[source]]\nname = \"udp\"\nsyslog = \"127.0.0.1:5514\"\npreset = \"sshd\"\n",
    );
    let socket = logged.folder.path().join("log.sock").display().to_string();
    wait_until("the socket is there", || Path::new(&socket).exists());
    for _ in 0..4 {
        log_failure(&logged.namespace, &["--socket", &socket], "203.0.113.7");
    }
    wait_until("four are read", || logged.detector()["matched"] == 4);
    assert_eq!(logged.banned(), Vec::<String>::new());
    // One more over the other way: the preset's detector reads both.
    let udp = ["--server", "127.0.0.1", "--udp", "--port", "5514"];
    log_failure(&logged.namespace, &udp, "203.0.113.7");
    logged.assert_banned(&["203.0.113.7/32"]);
    assert_eq!(logged.detector()["sources"], json!(["sshd", "udp"]));
    assert_eq!(
        logged.daemon.json(&["ban", "list"])[0]["detector"],
        "sshd-failures"
    );
}

#[test]
fn a_message_over_syslog_cannot_make_two_lines() {
    require_root!();
    let logged = Logged::new("[[source]]\nsyslog = \"FOLDER/log.sock\"\npreset = \"sshd\"\n");
    let path = logged.folder.path().join("log.sock");
    wait_until("the socket is there", || path.exists());
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    let line = "sshd[812]: Failed password for root from 203.0.113.8 port 40000 ssh2";
    let forged = format!("<38>sshd[812]: x\n{line}\n{line}\n{line}\n{line}\n{line}\n");
    for message in [
        forged.as_bytes(),
        b"",
        b"\0\xff",
        b"<999>",
        &vec![b'<'; 100_000],
    ] {
        socket.send_to(message, &path).expect("sending");
    }
    socket
        .send_to(format!("<38>{line}").as_bytes(), &path)
        .expect("sending");
    wait_until("the last one counts", || logged.detector()["matched"] == 1);
    assert_eq!(logged.banned(), Vec::<String>::new());
}

/// A journal daemon, until this is dropped.
struct Journald(Child);

impl Drop for Journald {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn entries_of_the_journal_ban() {
    const SOCKET: &str = "/run/systemd/journal/dev-log";
    require_root!();
    let mounts = Mounts::new(|| mount_empty("tmpfs", "/run")).expect("mounts");
    mounts.run(|| {
        fs::create_dir_all("/run/systemd/journal").expect("a folder");
        fs::create_dir_all("/run/log/journal").expect("a folder");
        let namespace = Namespace::new().expect("a namespace");
        let journald = peers::command(&namespace, "/lib/systemd/systemd-journald");
        let journald = journald.unwrap_or_else(|error| panic!("{error}")).spawn();
        let _journald = Journald(journald.expect("journald"));
        wait_until("the journal listens", || Path::new(SOCKET).exists());
        log_failure(&namespace, &["--socket", SOCKET], "203.0.113.9");
        let logged =
            Logged::new("[[source]]\njournal = [\"SYSLOG_IDENTIFIER=sshd\"]\npreset = \"sshd\"\n");
        // Another source of the same preset, so that it is known that journalctl runs.
        append(&logged.log(), "");
        let mut sent = 0;
        wait_until("the journal is read", || {
            log_failure(&namespace, &["--socket", SOCKET], "203.0.113.7");
            sent += 1;
            logged.detector()["matched"].as_u64() > Some(0)
        });
        for _ in sent..5 {
            log_failure(&namespace, &["--socket", SOCKET], "203.0.113.7");
        }
        wait_until("the ban", || !logged.banned().is_empty());
        assert_eq!(logged.banned(), ["203.0.113.7/32"]);
    });
}
