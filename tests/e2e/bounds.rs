//! How long and how many: whoever is slow, silent or many is cut off, and keeps nobody else out.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use testkit::{Daemon, privilege::as_nobody, require_root};

use crate::{
    http::{connect, connect_for, connect_tcp, message, read, request},
    support::{Complains as _, Site, daemon_on_lo, finish, wait_until},
};

/// Connections and streams at once; see `api/server/bounds.rs`.
const CONNECTIONS: usize = 256;
const STREAMS: usize = 64;

/// Longer than any of the bounds.
const LONG: Duration = Duration::from_secs(40);

const FOLLOW: &[u8] = b"GET /v1/events HTTP/1.1\r\nhost: abuser\r\n\r\n";

/// Sends a byte at a time until the other end has had enough; how long that took, and its answer.
fn dribble(mut stream: UnixStream, start: &[u8]) -> (Duration, Vec<u8>) {
    let begin = Instant::now();
    stream.write_all(start).expect("sending");
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let mut answer = Vec::new();
    while begin.elapsed() < LONG {
        let _closed = stream.write_all(b" ");
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    (begin.elapsed(), answer)
}

#[test]
fn a_head_or_body_that_dribbles_is_cut_off() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let head = connect(&daemon);
    let head = thread::spawn(|| dribble(head, b"GET /v1/status HTTP/1.1\r\nx: "));
    let silent = connect_for(&daemon, LONG);
    let silent = thread::spawn(|| dribble_nothing(silent));
    let (took, answer) = dribble(
        connect(&daemon),
        b"POST /v1/bans HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
          content-length: 100000\r\nconnection: close\r\n\r\n{",
    );
    assert!((14..25).contains(&took.as_secs()), "{took:?}");
    read(&*answer).refuses(408, &["within 15s"]);
    let (took, answer) = head.join().expect("no panic");
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
    let took = silent.join().expect("no panic");
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    assert_eq!(daemon.json(&["status"])["bans"], 0);
}

fn dribble_nothing(mut stream: UnixStream) -> Duration {
    let begin = Instant::now();
    let _end = stream.read_to_end(&mut Vec::new());
    begin.elapsed()
}

#[test]
fn one_connection_too_many_is_told_so_and_has_room_when_others_leave() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    // Readers of events may stay as long as they like; the others are cut off in a while.
    let mut held: Vec<_> = (0..CONNECTIONS).map(|_| connect(&daemon)).collect();
    wait_until("all are taken", || {
        request(&daemon, "GET", "/v1/status", b"").status == 503
    });
    let answer = request(&daemon, "GET", "/v1/status", b"");
    answer.refuses(503, &["256 connections already"]);
    daemon
        .abuser(&["status"])
        .complains(1, &["256 connections already"]);
    held.truncate(CONNECTIONS - 8);
    wait_until("there is room", || {
        daemon.abuser(&["status"]).status.success()
    });
}

#[test]
fn one_stream_too_many_is_told_so_and_requests_go_on() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let mut held: Vec<_> = (0..STREAMS)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(FOLLOW).expect("sending");
            let mut start = [0; 12];
            stream.read_exact(&mut start).expect("an answer");
            assert_eq!(&start, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let answer = request(&daemon, "GET", "/v1/events", b"");
    answer.refuses(503, &["64 readers follow the events already"]);
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    held.pop();
    wait_until("there is room", || {
        let mut stream = connect(&daemon);
        stream.write_all(FOLLOW).expect("sending");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
        &start == b"HTTP/1.1 200"
    });
}

#[test]
fn those_who_may_only_read_keep_out_each_other_and_not_root() {
    require_root!();
    let site = Site::new();
    let config = format!(
        "interfaces = [\"lo\"]\n[api]\nsocket = \"{}\"\nread_only = \"everyone\"\n",
        site.socket().display()
    );
    let daemon = Daemon::start(&site.namespace, &config);
    let crowd: Vec<_> = as_nobody(|| (0..CONNECTIONS).map(|_| connect(&daemon)).collect());
    let status = |site: &Site| finish(&mut site.command_as(65534, &[65534], &["status"]));
    status(&site).complains(1, &["256 connections already"]);
    daemon.abuser(&["status"]).success();
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    drop(crowd);
    wait_until("there is room", || status(&site).status.success());
}

#[test]
fn those_without_a_token_do_not_keep_out_root() {
    require_root!();
    let site = Site::new();
    fs::write(site.path("token"), "correct-horse-battery-staple").expect("writing");
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(site.path("token"), private).expect("chmod");
    let config = format!(
        "interfaces = [\"lo\"]\n[api]\nlisten = \"127.0.0.1:9090\"\ntoken_file = \"{}\"\n",
        site.path("token").display()
    );
    let daemon = Daemon::start(&site.namespace, &config);
    let connect = || {
        site.namespace.run(|| {
            (0..CONNECTIONS)
                .map(|_| connect_tcp("127.0.0.1:9090"))
                .collect()
        })
    };
    let _held: Vec<_> = connect();
    let token = "authorization: Bearer correct-horse-battery-staple\r\n";
    let status = message("GET", "/v1/status", token, b"");
    wait_until("all are taken", || {
        let mut stream = site.namespace.run(|| connect_tcp("127.0.0.1:9090"));
        stream.write_all(&status).expect("sending");
        read(stream).status == 503
    });
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
}

#[test]
fn an_answer_that_nobody_reads_is_not_kept() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    // The answer, over and over, is more than a socket holds.
    let ask = |before: &str| {
        let mut stream = connect_for(&daemon, Duration::from_secs(60));
        let again = "GET /v1/openapi.json HTTP/1.1\r\nhost: abuser\r\n\r\n".repeat(100);
        let ask = format!("{before}{again}");
        stream.write_all(ask.as_bytes()).expect("sending");
        stream
    };
    // Readers of events may rest, but one who has read their head only is none.
    let head = "HEAD /v1/events HTTP/1.1\r\nhost: abuser\r\n\r\n";
    let streams = [ask(""), ask(head)];
    thread::sleep(Duration::from_secs(33));
    for mut stream in streams {
        let mut answers = Vec::new();
        // An end without reset is the daemon's: it waits for the next request no more.
        let _reset = stream.read_to_end(&mut answers);
        let count = String::from_utf8_lossy(&answers)
            .matches("HTTP/1.1 200")
            .count();
        assert!((1..100).contains(&count), "{count}");
    }
    daemon.abuser(&["status"]).success();
}
