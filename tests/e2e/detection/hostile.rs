//! Lines that an attacker would write, and more of them than anybody would want.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _, time::Duration};

use serde_json::json;
use testkit::require_root;

use super::{DENIED, FIVE, Logged, append};
use crate::support::wait_until;

fn append_bytes(logged: &Logged, bytes: &[u8]) {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(logged.log())
        .and_then(|mut file| file.write_all(bytes))
        .expect("writing");
}

#[test]
fn no_line_stops_the_reading_and_none_speaks_for_another() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 4);
    let mut bytes = Vec::new();
    // 10 MB, whose end looks like a line of its own.
    bytes.extend(vec![b'x'; 10_000_000]);
    bytes.extend(b"denied 192.0.2.8\n");
    bytes.extend(b"\0\0denied 192.0.2.8\0\n");
    bytes.extend(b"denied 192.0.2.8\xff\xfe\xc3\n");
    bytes.extend(b"denied 192.0.2.8\rdenied 192.0.2.8\r\x0b\x0c\xe2\x80\xa8denied 192.0.2.8\n");
    bytes.extend(b"user=x\\ndenied 192.0.2.8\\n\x1b[2K\n");
    bytes.extend(b"denied 999.0.2.8\ndenied ::\ndenied 192.0.2.8.9\ndenied :::::\n\n");
    append_bytes(&logged, &bytes);
    wait_until("all of it is read", || logged.source()["lines"] == 14);
    let source = logged.source();
    assert_eq!(source["cut"], 1, "{source}");
    assert_eq!(logged.banned(), Vec::<String>::new());
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn who_makes_a_line_too_long_does_not_choose_how_it_ends() {
    require_root!();
    // The user is anybody's, and the address is what is behind it.
    let logged = Logged::new(&format!(
        "[[source]]\nfiles = [\"LOG\"]\nparser = \"regex\"\n\
         pattern = '^denied (?<user>.*) from (?<ip>[0-9a-f.:]+)$'\n{}",
        FIVE.replace("count = 5", "count = 1")
    ));
    let end = " from 192.0.2.8";
    let user = "x".repeat(64 * 1024 - "denied ".len() - end.len());
    logged.write(&format!("denied {user}{end} from 192.0.2.7\n"));
    assert_eq!(logged.source()["cut"], 1);
    logged.write("denied x from 192.0.2.9\n");
    logged.assert_banned(&["192.0.2.9/32"]);
}

#[test]
fn lines_that_are_no_records_are_counted_with_a_sample_and_stop_nothing() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 4);
    let mut noise = String::new();
    for number in 0..100_000 {
        let _infallible = writeln!(noise, "no record {number}\x1b[31m");
    }
    append(&logged.log(), &noise);
    append(&logged.log(), "denied 192.0.2.7\n");
    logged.assert_banned(&["192.0.2.7/32"]);
    wait_until("all of it is counted", || {
        logged.source()["unparsed"] == 100_000
    });
    let source = logged.source();
    assert_eq!(source["lines"], 100_005);
    let line = source["unparsed_sample"].as_str().expect("a line");
    assert!(line.starts_with("no record "), "{source}");
    assert_eq!(source["unparsed_error"], "the pattern does not match");
    // What a terminal would take for an order is not given to one.
    let said = logged.daemon.abuser(&["detectors"]).success();
    assert!(!said.stdout.contains('\x1b'), "{said}");
}

#[test]
fn thousands_that_are_found_at_once_are_all_banned() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    let mut lines = String::new();
    for _ in 0..5 {
        for number in 0..5000 {
            let _infallible = writeln!(lines, "denied 10.1.{}.{}", number / 250, number % 250);
        }
    }
    append(&logged.log(), &lines);
    let started = std::time::Instant::now();
    while logged.daemon.json(&["status"])["bans"] != 5000 {
        let took = started.elapsed();
        assert!(took < Duration::from_secs(30), "{}", logged.detector());
        std::thread::sleep(Duration::from_millis(50));
    }
    // What is told of detectors is a second old at most.
    wait_until("all of it is counted", || {
        logged.detector()["matched"] == 25_000
    });
    let detector = logged.detector();
    assert_eq!(detector["found"], 5000, "{detector}");
    // The daemon answers, and goes on.
    let explained = logged.daemon.json(&["explain", "10.1.19.249"]);
    assert_eq!(explained["bans"][0]["detector"], json!("denied"));
    logged.deny("192.0.2.7", 5);
    wait_until("one more", || {
        logged.daemon.json(&["status"])["bans"] == 5001
    });
}
