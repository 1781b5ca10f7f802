//! `abuser events`, and `abuser run --events`, which prints the same.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Daemon, LineStream, Namespace, require_root, traffic::send_udp};

use crate::support::{
    Complains as _, PATIENCE, Site, assert_keys, daemon_on_lo, finish, finish_child, parse,
    wait_until,
};

/// Sources on the loopback interface.
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

/// Port 9 is limited, port 10 is watched, and a friend is never dropped.
const TABLES: &str = r#"
[allow]
addresses = ["127.0.0.77"]
[[limit]]
name = "discard"
protocol = "udp"
ports = [9]
rate = "1/h"
burst = 0
[[limit]]
name = "watch"
protocol = "udp"
ports = [10]
rate = "1/h"
burst = 0
action = "observe"
[ban]
maxretry = 1000
"#;

const KEYS: [&str; 17] = [
    "time",
    "kind",
    "interface",
    "source",
    "protocol",
    "port",
    "limit",
    "ban",
    "cause",
    "policy",
    "drops",
    "verified",
    "bytes",
    "expires",
    "reason",
    "detector",
    "action",
];

/// Sends a few datagrams: the first conforms, the others are over the limit.
fn send(namespace: &Namespace, source: IpAddr, port: u16) {
    let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    send_udp(namespace, source, target, 1000.0, 3).unwrap_or_else(|error| panic!("{error}"));
}

/// A reader that is known to be listening: it has seen a ban made for it.
fn reader(daemon: &Daemon, arguments: &[&str]) -> LineStream {
    let reader = daemon.stream(&[&["events"], arguments].concat());
    wait_until("the reader listens", || {
        daemon
            .abuser(&["ban", "add", "198.51.100.1", "--for", "1h"])
            .success();
        reader.next_line(Duration::from_millis(100)).is_some()
    });
    while reader.next_line(Duration::from_millis(100)).is_some() {}
    reader
}

fn next(reader: &LineStream, kind: &str) -> Value {
    let line = reader.wait_for(PATIENCE, |line| parse(line)["kind"] == kind);
    let event = parse(&line);
    assert_keys(&event, &KEYS);
    event
}

#[test]
fn every_kind_of_event_has_every_documented_key() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(TABLES);
    let reader = reader(&daemon, &["--json"]);

    send(&namespace, ABUSER, 9);
    let drop = next(&reader, "drop");
    assert_eq!(drop["interface"], "lo");
    assert_eq!(drop["source"], "127.0.0.66");
    assert_eq!(drop["protocol"], "udp");
    assert_eq!(drop["port"], 9);
    assert_eq!(drop["limit"], "discard");
    assert_eq!(drop["ban"], Value::Null);
    assert_eq!(drop["drops"], 1);
    assert_eq!(drop["verified"], false);
    assert!(drop["bytes"].as_u64() > Some(28), "{drop}");

    send(&namespace, ABUSER, 10);
    let observed = next(&reader, "observe");
    assert_eq!(
        (&observed["limit"], &observed["port"]),
        (&"watch".into(), &10.into())
    );
    send(&namespace, FRIEND, 9);
    assert_eq!(next(&reader, "allow")["source"], "127.0.0.77");

    let added = daemon.json(&["ban", "add", "127.0.0.66", "--for", "1h", "--reason", "why"]);
    let banned = next(&reader, "ban");
    assert_eq!(banned["source"], "127.0.0.66/32");
    assert_eq!(banned["ban"], added[0]["id"]);
    assert_eq!(
        (&banned["cause"], &banned["policy"]),
        (&"manual".into(), &Value::Null)
    );
    assert_eq!(banned["reason"], "why");
    assert!(banned["expires"].is_string());

    send(&namespace, ABUSER, 11);
    let drop = next(&reader, "drop");
    assert_eq!(
        (&drop["ban"], &drop["limit"]),
        (&added[0]["id"], &Value::Null)
    );

    daemon.abuser(&["ban", "remove", "127.0.0.66"]).success();
    let unbanned = next(&reader, "unban");
    assert_eq!(
        (&unbanned["reason"], &unbanned["drops"]),
        (&"removed by root".into(), &3.into())
    );
}

#[test]
fn people_get_a_line_an_event() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(TABLES);
    let reader = reader(&daemon, &[]);
    send(&namespace, ABUSER, 9);
    let line = reader.wait_for(PATIENCE, |line| line.contains("drop"));
    for word in ["lo", "127.0.0.66", "udp/9", "limit discard", "1 packet"] {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
    daemon
        .abuser(&["ban", "add", "203.0.113.7", "--reason", "a\n\u{1b}[2Jb"])
        .success();
    let line = reader.wait_for(PATIENCE, |line| line.contains("203.0.113.7/32"));
    assert!(line.ends_with("a\\n\\u{1b}[2Jb"), "{line:?}");
}

#[test]
fn filters_leave_out_what_does_not_match() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(TABLES);
    let all = reader(&daemon, &["--json"]);
    let by_kind = daemon.stream(&["events", "--json", "--kind", "observe"]);
    let by_limit = daemon.stream(&["events", "--json", "--limit", "watch"]);
    let by_source = daemon.stream(&["events", "--json", "--source", "127.0.0.64/29"]);
    // Nothing shows when these three listen; each new source makes events anew.
    let mut last = 64;
    wait_until("all of them listen", || {
        last = if last == 71 { 64 } else { last + 1 };
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        send(&namespace, FRIEND, 9);
        send(&namespace, source, 9);
        send(&namespace, source, 10);
        [&by_kind, &by_limit, &by_source]
            .iter()
            .all(|reader| reader.next_line(Duration::from_millis(300)).is_some())
    });
    for line in by_kind.pending() {
        assert_eq!(parse(&line)["kind"], "observe", "{line}");
    }
    for line in by_limit.pending() {
        assert_eq!(parse(&line)["limit"], "watch", "{line}");
    }
    for line in by_source.pending() {
        assert_ne!(parse(&line)["source"], "127.0.0.77", "{line}");
    }
    assert_eq!(next(&all, "allow")["source"], "127.0.0.77");
}

#[test]
fn a_count_ends_the_stream() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let mut reader = daemon.stream(&["events", "--json", "-n", "2"]);
    let mut ended = None;
    wait_until("two events have come", || {
        daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
        ended = reader.wait(Duration::from_millis(20)).expect("our child");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
    let lines = [(); 3].map(|()| reader.next_line(PATIENCE));
    assert!(lines[1].is_some() && lines[2].is_none(), "{lines:?}");
}

#[test]
fn an_interrupt_ends_the_stream() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let mut stream = reader(&daemon, &[]);
    let status = stream.interrupt().expect("our child");
    assert!(
        status.signal() == Some(Signal::SIGINT as i32) || status.code() == Some(0),
        "{status}"
    );
}

#[test]
fn a_closed_pipe_is_success() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let mut command = daemon.command(&["events"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("running abuser");
    drop(child.stdout.take());
    wait_until("the reader notices", || {
        daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
        child.try_wait().expect("our child").is_some()
    });
    let said = finish_child(child, "abuser events | true".to_owned()).success();
    assert_eq!(said.stderr, "");
}

#[test]
fn two_readers_see_the_same() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let readers = [(); 2].map(|()| reader(&daemon, &["--json", "--kind", "ban"]));
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    let wanted = |line: &str| parse(line)["source"] == "203.0.113.7/32";
    let [first, second] = readers.map(|reader| reader.wait_for(PATIENCE, wanted));
    assert_eq!(first, second);
}

#[test]
fn the_end_of_the_daemon_is_the_end_of_the_stream_with_a_word() {
    /// Within what it waits for those who have asked something.
    const AT_ONCE: Duration = Duration::from_millis(450);
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let mut took: Vec<Duration> = Vec::new();
    // One of three: what else the machine does takes time, too.
    while took.iter().all(|took| *took >= AT_ONCE) {
        assert!(took.len() < 3, "readers held it up for {took:?}");
        if !took.is_empty() {
            daemon.restart();
        }
        // On disk, so that nobody needs to read while the daemon is stopped.
        let mut command = daemon.command(&["events"]);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running abuser");
        let witness = reader(&daemon, &[]);
        let started = std::time::Instant::now();
        assert_eq!(daemon.terminate().code(), Some(0));
        took.push(started.elapsed());
        finish_with_events(child).complains(1, &["the daemon stopped"]);
        drop(witness);
    }
}

/// What a reader said on standard error; the events it printed are of no interest.
fn finish_with_events(child: std::process::Child) -> testkit::CommandOutput {
    let mut said = finish_child(child, "abuser events".to_owned());
    said.stdout.clear();
    said
}

#[test]
fn the_daemon_itself_prints_the_same_events() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let mut command = site.command(&["run", "--events", "--json", "--log-level", "warn", "-c"]);
    command.arg(&config);
    let mut run = LineStream::start(command).expect("running abuser");
    let socket = site.socket();
    let socket = socket.to_str().expect("UTF-8");
    let ask = |arguments: &[&str]| {
        finish(&mut site.command(&[&["--socket", socket], arguments].concat()))
    };
    wait_until("the daemon answers", || ask(&["status"]).status.success());
    ask(&["ban", "add", "203.0.113.7", "--reason", "why"]).success();
    let event = next(&run, "ban");
    assert_eq!(
        (&event["source"], &event["reason"]),
        (&"203.0.113.7/32".into(), &"why".into())
    );
    assert_eq!(run.interrupt().expect("our child").code(), Some(0));
    site.assert_untouched();
}

#[test]
fn a_daemon_whose_output_is_closed_goes_on() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let mut command = site.command(&["run", "--events", "-c"]);
    command
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("running abuser");
    drop(child.stdout.take());
    let socket = site.socket();
    let socket = socket.to_str().expect("UTF-8");
    let ask = |arguments: &[&str]| {
        finish(&mut site.command(&[&["--socket", socket], arguments].concat()))
    };
    wait_until("the daemon answers", || ask(&["status"]).status.success());
    for address in ["203.0.113.7", "203.0.113.8", "203.0.113.9"] {
        ask(&["ban", "add", address]).success();
    }
    let said = ask(&["ban", "list"]).success();
    assert_eq!(said.stdout.lines().count(), 3, "{said}");
    ask(&["detach"]).success();
    finish_child(child, "abuser run --events | true".to_owned()).success();
    site.assert_untouched();
}

#[test]
fn a_limit_that_does_not_exist_is_not_waited_for() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(TABLES);
    daemon
        .abuser(&["events", "--limit", "discord"])
        .complains(1, &["no limit \"discord\"", "discard, watch"]);
}
