//! Hostile requests straight to the socket: each gets its answer, and the daemon goes on.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use serde_json::json;
use testkit::{Daemon, require_root};

use crate::{
    http::{connect, exchange, request},
    support::{daemon_on_lo, parse, wait_until},
};

/// Asserts that a request is refused with one of the documented errors.
#[track_caller]
fn refused(daemon: &Daemon, method: &str, path: &str, body: &str) {
    let answer = request(daemon, method, path, body.as_bytes());
    let (status, error) = (answer.status, answer.error());
    assert!(
        (400..500).contains(&status),
        "{method} {path}: {status} {error}"
    );
}

#[track_caller]
fn assert_unharmed(daemon: &Daemon) {
    let status = daemon.json(&["status"]);
    assert_eq!((&status["bans"], &status["allow"]), (&json!(0), &json!(0)));
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
}

#[test]
fn the_document_that_is_served_is_the_one_that_is_checked_in() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let served = request(&daemon, "GET", "/v1/openapi.json", b"");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let checked_in = fs::read_to_string(path).expect("it is checked in");
    assert!(served.body == checked_in, "{}", served.head);
    assert!(served.head.contains("content-type: application/json"));
    assert_eq!(served.json()["openapi"], "3.1.0");
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_a_reason() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let nested = format!(
        "{{\"sources\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for (method, path, body) in [
        ("POST", "/v1/bans", ""),
        ("POST", "/v1/bans", "{"),
        ("POST", "/v1/bans", "null"),
        ("POST", "/v1/bans", "{}"),
        ("POST", "/v1/bans", "{\"sources\":[]}"),
        ("POST", "/v1/bans", "{\"sources\":[\"203.0.113.7\"]}"),
        ("POST", "/v1/bans", "{\"sources\":[\"203.0.113.7/33\"]}"),
        (
            "POST",
            "/v1/bans",
            "{\"sources\":[\"203.0.113.7/32\"],\"colour\":1}",
        ),
        (
            "POST",
            "/v1/bans",
            "{\"sources\":[\"203.0.113.7/32\"],\"duration\":{\"seconds\":0}}",
        ),
        (
            "POST",
            "/v1/bans",
            "{\"sources\":[\"203.0.113.7/32\"],\"duration\":{\"seconds\":-1}}",
        ),
        (
            "POST",
            "/v1/bans",
            "{\"sources\":[\"203.0.113.7/32\",\"0.0.0.0/0\"]}",
        ),
        ("POST", "/v1/bans", &nested),
        ("DELETE", "/v1/bans", "{\"sources\":[\"203.0.113.7/32\"]}"),
        ("DELETE", "/v1/bans", "{}"),
        ("POST", "/v1/allow", "{\"sources\":[]}"),
        ("DELETE", "/v1/allow", "{\"all\":true}"),
        ("POST", "/v1/detach", "{\"interfaces\":[\"nosuch0\"]}"),
        ("POST", "/v1/detach", "[[[]]]"),
        ("GET", "/v1/bans/covering/203.0.113", ""),
        ("GET", "/v1/bans/covering/%ff", ""),
        ("GET", "/v1/events?kind=nothing", ""),
        ("GET", "/v1/events?colour=red", ""),
        ("GET", "/v1/events?source=203.0.113.0/99", ""),
        ("GET", "/", ""),
        ("GET", "/v1/../../etc/passwd", ""),
        ("PUT", "/v1/bans", "{}"),
        ("DELETE", "/v1/status", ""),
    ] {
        refused(&daemon, method, path, body);
    }
    assert_unharmed(&daemon);
}

#[test]
fn a_ban_for_longer_than_clocks_go_does_no_harm() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let body = format!(
        "{{\"sources\":[\"203.0.113.7/32\"],\"duration\":{{\"seconds\":{}}}}}",
        u64::MAX
    );
    let status = request(&daemon, "POST", "/v1/bans", body.as_bytes()).status;
    assert!(status == 200 || status == 400, "{status}");
    daemon.abuser(&["ban", "list"]).success();
    daemon.abuser(&["ban", "remove", "--all"]).success();
    assert_unharmed(&daemon);
}

#[test]
fn a_prefix_with_host_bits_bans_the_prefix_or_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let answer = request(
        &daemon,
        "POST",
        "/v1/bans",
        b"{\"sources\":[\"203.0.113.7/24\"]}",
    );
    if answer.status == 200 {
        assert_eq!(parse(&answer.body)[0]["source"], "203.0.113.0/24");
    } else {
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[test]
fn a_body_of_20_mb_is_refused_without_being_kept() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let body = vec![b' '; 20_000_000];
    let answer = request(&daemon, "POST", "/v1/bans", &body);
    answer.refuses(413, &["larger than 8388608 bytes"]);
    // Without a length that gives it away, too.
    let mut chunked = b"POST /v1/bans HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: \
        application/json\r\ntransfer-encoding: chunked\r\n\r\n1312d00\r\n"
        .to_vec();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = exchange(connect(&daemon), &chunked);
    answer.refuses(413, &["larger than 8388608 bytes"]);
    assert_unharmed(&daemon);
}

#[test]
fn what_is_not_http_is_refused_or_cut_off() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/bans HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nx: \xff\xfe\0\r\n\r\n",
    ] {
        let mut stream = connect(&daemon);
        stream.write_all(bytes).expect("sending");
        let mut answer = Vec::new();
        // Bytes that were not read by then make the end a reset.
        let end = stream
            .read_to_end(&mut answer)
            .map_err(|error| error.kind());
        assert!(
            matches!(end, Ok(_) | Err(io::ErrorKind::ConnectionReset)),
            "{end:?}"
        );
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let mut headers = b"GET /v1/status HTTP/1.1\r\n".to_vec();
    for number in 0..100_000 {
        headers.extend_from_slice(format!("x-{number}: {number}\r\n").as_bytes());
    }
    headers.extend_from_slice(b"\r\n");
    assert_eq!(exchange(connect(&daemon), &headers).status, 431);
    assert_unharmed(&daemon);
}

#[test]
fn the_silent_and_the_many_keep_nobody_else_waiting() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let mut held: Vec<_> = (0..240).map(|_| connect(&daemon)).collect();
    for (number, stream) in held.iter_mut().enumerate() {
        let half: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /v1/sta",
            2 => b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n",
            _ => {
                b"POST /v1/bans HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                   content-length: 100\r\n\r\n{\"sources\""
            }
        };
        stream.write_all(half).expect("sending");
    }
    assert_unharmed(&daemon);
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    // Nor does any of them hold up the end.
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn more_connections_than_descriptors_pass_and_the_daemon_answers_again() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let address = daemon.socket().to_owned();
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || {
                for _ in 0..500 {
                    // A full backlog blocks no longer than the daemon takes to accept.
                    let stream = UnixStream::connect(&address)?;
                    stream.set_nonblocking(true)?;
                    (&stream).write_all(b"GET /v1/status HTTP/1.1\r\n\r\n")?;
                }
                io::Result::Ok(())
            })
        })
        .collect();
    for thread in flood {
        thread.join().expect("no panic").expect("connecting");
    }
    wait_until("the daemon answers", || {
        daemon.abuser(&["status"]).status.success()
    });
    thread::sleep(Duration::from_millis(10));
    assert_unharmed(&daemon);
}

#[test]
fn a_wide_prefix_takes_force_however_it_is_written() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for source in ["::ffff:0.0.0.0/96", "::ffff:8.0.0.0/103"] {
        let body = format!("{{\"sources\":[\"{source}\"]}}");
        let answer = request(&daemon, "POST", "/v1/bans", body.as_bytes());
        assert!(answer.error().contains("--force"), "{source}");
        let body = format!("{{\"entries\":[{{\"source\":\"{source}\"}}]}}");
        let answer = request(&daemon, "POST", "/v1/bans/import", body.as_bytes());
        assert_eq!(answer.json()["added"], 0, "{source}: {}", answer.body);
    }
    assert_unharmed(&daemon);
}
