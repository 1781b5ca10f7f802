//! Hostile requests straight to the socket: each gets its answer, and the daemon goes on.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use serde_json::json;
use testkit::{Daemon, require_root};

use crate::support::{PATIENCE, daemon_on_lo, parse, wait_until};

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("connecting to the daemon");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends bytes and reads until the other end closes; its status and its body.
fn exchange(daemon: &Daemon, request: &[u8]) -> (u16, String) {
    let mut stream = connect(daemon);
    // An answer may come before all was sent.
    let _early = stream.write_all(request);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("no answer but {answer:?}"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn request(daemon: &Daemon, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: abuser\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    exchange(daemon, &bytes)
}

/// Asserts that a request is refused with one of the documented errors.
#[track_caller]
fn refused(daemon: &Daemon, method: &str, path: &str, body: &str) {
    let (status, answer) = request(daemon, method, path, body.as_bytes());
    assert!(
        (400..500).contains(&status),
        "{method} {path}: {status} {answer}"
    );
    let error = parse(&answer)["error"].as_str().map(str::len);
    assert!(error > Some(5), "{method} {path}: {answer}");
}

#[track_caller]
fn assert_unharmed(daemon: &Daemon) {
    let status = daemon.json(&["status"]);
    assert_eq!((&status["bans"], &status["allow"]), (&json!(0), &json!(0)));
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
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
    let (status, answer) = request(&daemon, "POST", "/v1/bans", body.as_bytes());
    assert!(status == 200 || status == 400, "{status} {answer}");
    daemon.abuser(&["ban", "list"]).success();
    daemon.abuser(&["ban", "remove", "--all"]).success();
    assert_unharmed(&daemon);
}

#[test]
fn a_prefix_with_host_bits_bans_the_prefix_or_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let (status, answer) = request(
        &daemon,
        "POST",
        "/v1/bans",
        b"{\"sources\":[\"203.0.113.7/24\"]}",
    );
    if status == 200 {
        assert_eq!(parse(&answer)[0]["source"], "203.0.113.0/24");
    } else {
        assert_eq!(status, 400, "{answer}");
    }
}

#[test]
fn a_body_of_20_mb_is_refused_without_being_kept() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let body = vec![b' '; 20_000_000];
    let (status, _) = request(&daemon, "POST", "/v1/bans", &body);
    assert_eq!(status, 413);
    // Without a length that gives it away, too.
    let mut chunked = b"POST /v1/bans HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: \
        application/json\r\ntransfer-encoding: chunked\r\n\r\n1312d00\r\n"
        .to_vec();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(exchange(&daemon, &chunked).0, 413);
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
    assert_eq!(exchange(&daemon, &headers).0, 431);
    assert_unharmed(&daemon);
}

#[test]
fn the_silent_and_the_many_keep_nobody_else_waiting() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let mut held: Vec<_> = (0..600).map(|_| connect(&daemon)).collect();
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
