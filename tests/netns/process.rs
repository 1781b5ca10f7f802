//! The daemon's process is stopped, or killed amid a start: the kernel goes on without it.

use std::{
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Output, Stdio},
    time::Instant,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use testkit::{Daemon, Wire};

use crate::support::{
    Frozen, OTHER_V4, Sender, banned, config, deliver, eventually, listen, settled, udp_v4, wire,
};

/// Whose ban ends while the daemon is stopped.
const ENDING: &str = "192.0.2.77";

/// A command line that waits for the daemon.
fn ask(daemon: &Daemon, arguments: &[&str]) -> std::process::Child {
    let mut command = daemon.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a command")
}

#[track_caller]
fn complains(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "no {words:?} in {said:?}");
}

/// Connects until no more connections can wait.
fn crowd(daemon: &Daemon) -> Vec<OwnedFd> {
    let address = UnixAddr::new(daemon.socket()).expect("an address");
    let mut crowd = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let new = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
        match connect(new.as_raw_fd(), &address) {
            Ok(()) => crowd.push(new),
            Err(nix::errno::Errno::EAGAIN) => return crowd,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn while_the_daemon_is_stopped_bans_limits_and_ends_go_on_and_then_it_catches_up() {
    testkit::require_root!();
    let wire = wire();
    wire.add_client(&format!("{ENDING}/24"));
    let ending = ENDING.parse().expect("an address");
    let server = udp_v4(&wire);
    let tables = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 19\n\
                  [ban]\nmaxretry = 1\nrequire_verified = false\n";
    let daemon = Daemon::start(&wire.server, &config(tables));
    let events = listen(&daemon);
    let ban = |source: &str, time| {
        daemon
            .abuser(&["ban", "add", source, "--for", time])
            .success();
    };
    ban("192.0.2.10", "1h");
    ban(ENDING, "3s");
    let frozen = Frozen::new(&daemon);
    let hanging = [
        ask(&frozen, &["ban", "list"]),
        ask(&frozen, &["ban", "add", "203.0.113.9"]),
    ];
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 500.0);
    // One that nobody has banned yet meets the limit.
    assert_eq!(deliver(&wire, &server, OTHER_V4, 100), 20);
    // The kernel ends a ban by itself, and what comes then is limited as all else.
    eventually("the ban has ended", || {
        deliver(&wire, &server, ending, 1) == 1
    });
    sender.wait_for(500);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    // Whoever asks is told so, in the end: nobody waits for ever.
    for child in hanging {
        let output = child.wait_with_output().expect("its words");
        complains(&output, "does not answer within 30s");
    }
    // When no more can wait, at once.
    let waiting = crowd(&frozen);
    let output = ask(&frozen, &["status"]).wait_with_output();
    complains(&output.expect("its words"), "takes no connections");
    drop((waiting, sender));
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    drop(frozen);
    // What happened meanwhile is told, and acted on.
    let mut wanted = vec![("unban", ENDING), ("ban", "192.0.2.66")];
    while !wanted.is_empty() {
        let event = events.next();
        let source = event["source"].as_str().unwrap_or_default();
        wanted.retain(|(kind, who)| event["kind"] != *kind || !source.starts_with(who));
    }
    eventually("the list is right", || {
        let banned = banned(&daemon);
        // The one who hung up may have been heard nevertheless.
        let others = banned.iter().filter(|source| *source != "203.0.113.9/32");
        others.eq(["192.0.2.10/32", "192.0.2.66/32"])
    });
    ban("203.0.113.10", "1h");
}

#[test]
fn a_start_that_is_killed_at_any_time_takes_nothing_off() {
    const KILLS: u32 = 20;
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    let ban = ["ban", "add", "192.0.2.10", "--for", "1d", "--reason", "why"];
    daemon.abuser(&ban).success();
    daemon.kill();
    let started = Instant::now();
    daemon.restart();
    let whole = started.elapsed();
    daemon.kill();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    for kill in 1..=KILLS {
        daemon.start_and_kill(whole * kill / KILLS);
        assert!(wire.server_end.xdp().unwrap().is_some(), "kill {kill}");
        sender.wait_for(100);
        assert_eq!(settled(&server, Wire::CLIENT_V4), 0, "kill {kill}");
    }
    daemon.restart();
    sender.wait_for(500);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    let shown = daemon.json(&["ban", "show", "192.0.2.10"]);
    assert_eq!(shown[0]["reason"], "why", "{shown}");
    drop(UnixStream::connect(daemon.socket()).expect("it listens"));
}
