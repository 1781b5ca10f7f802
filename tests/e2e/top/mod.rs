//! `abuser top` and what it stands on: who is busiest, how much of its bucket a source has used, and
//! switching between observing and enforcing.

mod picture;
mod screen;
mod svg;
mod view;

use serde_json::{Value, json};
use testkit::{Daemon, Namespace, require_root};

use crate::{
    http::request,
    support::{assert_keys, daemon_on_lo, parse, wait_until},
};

const CONFIG: &str = r#"
[[limit]]
name = "tight"
protocol = "udp"
rate = "1/h"
burst = 9
[ban]
require_verified = false
maxretry = 100
"#;

fn send(namespace: &Namespace, source: &str, count: u64) {
    let source: std::net::IpAddr = source.parse().expect("an address");
    let target = if source.is_ipv4() {
        "127.0.0.1:9"
    } else {
        "[::1]:9"
    };
    let target = target.parse().expect("an address");
    testkit::traffic::send_udp(namespace, source, target, 1000.0, count).expect("sending");
}

/// What `/v1/top` tells of a source.
fn told(daemon: &Daemon, source: &str) -> Option<Value> {
    let top = request(daemon, "GET", "/v1/top?limit=50", b"").json();
    let sources = top["sources"].as_array().expect("a list").clone();
    let mut sources = sources.into_iter();
    sources.find(|told| told["source"] == source)
}

#[test]
fn who_is_dropped_and_who_has_used_most_of_a_limit_are_told_with_how_it_stands_with_them() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    send(&namespace, "127.0.0.66", 500);
    send(&namespace, "127.0.0.67", 6);
    send(&namespace, "127.0.0.68", 2);
    send(&namespace, "::1", 300);
    daemon
        .abuser(&["ban", "add", "127.0.0.64/30", "--for", "1h"])
        .success();
    daemon.abuser(&["allow", "add", "127.0.0.67"]).success();
    wait_until("both are told of", || {
        told(&daemon, "127.0.0.66/32").is_some_and(|told| told["recent"] != 0)
            && told(&daemon, "::/64").is_some_and(|told| told["recent"] != 0)
    });
    let top = request(&daemon, "GET", "/v1/top", b"").json();
    assert_keys(
        &top,
        &[
            "time",
            "window_seconds",
            "remembered",
            "capacity",
            "sources",
        ],
    );
    assert_eq!(top["remembered"], 2);
    let sources = top["sources"].as_array().expect("a list");
    let names: Vec<_> = sources.iter().map(|told| told["source"].clone()).collect();
    assert_eq!(
        names[2..],
        ["127.0.0.67/32", "127.0.0.68/32"],
        "by what they have used, after those that were dropped"
    );
    for told in sources {
        assert_keys(
            told,
            &[
                "source",
                "recent",
                "rate",
                "dropped",
                "observed",
                "allowed",
                "since",
                "last",
                "verified",
                "level",
                "ban",
                "allow",
                "throttled",
            ],
        );
    }
    let dropped = told(&daemon, "127.0.0.66/32").expect("it is there");
    assert_eq!(dropped["recent"], dropped["dropped"], "{dropped}");
    assert!(
        dropped["rate"].as_f64().expect("a number") > 0.0,
        "{dropped}"
    );
    assert_eq!(dropped["level"]["limit"], "tight");
    assert_eq!(
        [&dropped["level"]["left"], &dropped["level"]["capacity"]],
        [0, 10]
    );
    assert_eq!(dropped["ban"]["source"], "127.0.0.64/30");
    assert!(
        dropped["ban"]["remaining_seconds"].as_u64() > Some(3500),
        "{dropped}"
    );
    let busy = told(&daemon, "127.0.0.67/32").expect("it is there");
    assert_eq!([&busy["level"]["left"], &busy["recent"]], [4, 0]);
    assert_eq!(busy["allow"], true);
    assert_eq!(busy["since"], Value::Null);
    let six = told(&daemon, "::/64").expect("it is there");
    assert_eq!(
        six["level"]["left"], 0,
        "known from events, and looked up: {six}"
    );
}

#[test]
fn how_many_are_asked_for_is_bounded() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    for host in 1..=9 {
        send(&namespace, &format!("127.0.1.{host}"), 2);
    }
    let top = request(&daemon, "GET", "/v1/top?limit=4", b"").json();
    assert_eq!(top["sources"].as_array().expect("a list").len(), 4);
    for query in ["limit=0", "limit=101", "limit=x", "colour=red"] {
        let answer = request(&daemon, "GET", &format!("/v1/top?{query}"), b"");
        assert_eq!(answer.status, 400, "{query}");
    }
    for query in ["limit=0", "limit=1001", "order=colour"] {
        let answer = request(&daemon, "GET", &format!("/v1/bans?{query}"), b"");
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[test]
fn bans_are_told_a_few_at_a_time_by_their_ends() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    for (source, time) in [
        ("192.0.2.1", "permanent"),
        ("192.0.2.2", "2h"),
        ("192.0.2.3", "1h"),
        ("192.0.2.4", "3h"),
    ] {
        let time: &[&str] = match time {
            "permanent" => &["--permanent"],
            time => &["--for", time],
        };
        daemon
            .abuser(&[&["ban", "add", source], time].concat())
            .success();
    }
    let sources = |query: &str| -> Vec<_> {
        let answer = request(&daemon, "GET", &format!("/v1/bans{query}"), b"");
        // It comes in chunks, with a ban a line.
        let bans = answer.body.lines().filter(|line| line.starts_with('{'));
        let bans = bans.map(|line| parse(line.trim_end_matches(',')));
        bans.map(|ban| ban["source"].clone()).collect()
    };
    assert_eq!(
        sources("?order=ends"),
        [
            "192.0.2.3/32",
            "192.0.2.2/32",
            "192.0.2.4/32",
            "192.0.2.1/32"
        ]
    );
    assert_eq!(
        sources("?order=ends&limit=2"),
        ["192.0.2.3/32", "192.0.2.2/32"]
    );
    assert_eq!(sources("?limit=2"), ["192.0.2.1/32", "192.0.2.2/32"]);
    assert_eq!(sources("").len(), 4);
}

#[test]
fn observing_is_switched_on_and_off_and_a_restart_ends_it() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(CONFIG);
    let outcome = |daemon: &Daemon, name: &str| -> u64 {
        let status = daemon.json(&["status"]);
        status["outcomes"][name]["packets"]
            .as_u64()
            .expect("a number")
    };
    let on = daemon.json(&["observe", "on"]);
    assert_eq!(on, json!({"observe": true, "before": false}));
    send(&namespace, "127.0.0.66", 30);
    assert_eq!(outcome(&daemon, "dropped_limit"), 0);
    assert_eq!(outcome(&daemon, "observed"), 20);
    // What is read again leaves it as it is.
    daemon.abuser(&["reload"]).success();
    assert_eq!(daemon.json(&["status"])["observe"], true);
    let said = daemon.abuser(&["observe", "off"]).success();
    assert_eq!(
        said.stdout,
        "enforcing again: what bans and limits say is dropped\n"
    );
    send(&namespace, "127.0.0.66", 30);
    assert_eq!(outcome(&daemon, "dropped_limit"), 30);
    daemon.abuser(&["observe", "on"]).success();
    assert!(
        daemon.stderr().contains("only observes"),
        "{}",
        daemon.stderr()
    );
    daemon.terminate();
    daemon.restart();
    assert_eq!(daemon.json(&["status"])["observe"], false);
}
