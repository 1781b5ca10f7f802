//! `abuser throttle`: all of a request or nothing of it, until it ends, whatever becomes of the daemon.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use abuser_common::{
    layout::{Throttle, maps},
    prefix::PrefixKey,
};
use serde_json::{Value, json};
use testkit::{CommandOutput, Daemon, LineStream, Namespace, require_root};

use crate::support::{Complains as _, assert_keys, daemon_on_lo, pinned, wait_until};

const LIMITS: &str = r#"
[[limit]]
name = "all"
protocol = "udp"
rate = "1/h"
burst = 99
[[limit]]
name = "slow"
protocol = "udp"
rate = "1/h"
burst = 9
only = "throttled"
[[limit]]
name = "slower"
protocol = "udp"
rate = "1/h"
burst = 1
only = "throttled"
[ban]
maxretry = 1000
"#;

const KEYS: [&str; 7] = [
    "source",
    "limit",
    "created",
    "expires",
    "remaining_seconds",
    "reason",
    "by",
];

fn throttle(daemon: &Daemon, arguments: &[&str]) -> CommandOutput {
    daemon.abuser(&[&["throttle"], arguments].concat())
}

/// Who is throttled by what.
fn throttled(daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["throttle", "list"]);
    let list = list.as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    list.map(|throttle| format!("{} {}", text(&throttle["source"]), text(&throttle["limit"])))
        .collect()
}

/// The events of 127.0.0.66 from now on.
fn listen(daemon: &Daemon) -> LineStream {
    let events = daemon.stream(&["events", "--json", "--source", "127.0.0.66"]);
    thread::sleep(Duration::from_millis(200));
    events
}

/// The next events but drops.
fn told(events: &LineStream, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let line = events.next_line(Duration::from_secs(10)).expect("an event");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["kind"] != "drop" {
            told.push(format!(
                "{} {} {} {}",
                event["kind"].as_str().unwrap_or_default(),
                event["source"].as_str().unwrap_or_default(),
                event["limit"].as_str().unwrap_or_default(),
                event["reason"].as_str().unwrap_or("-"),
            ));
        }
    }
    told
}

/// What a limit has left for an address; `None` if it does not apply to it.
fn left(daemon: &Daemon, address: &str, limit: &str) -> Option<u64> {
    let explained = daemon.json(&["explain", address]);
    let limits = explained["limits"].as_array().expect("a list");
    let found = limits.iter().find(|level| level["limit"] == limit)?;
    found["left"].as_u64()
}

fn send(namespace: &Namespace, source: &str, count: u64) {
    let source = source.parse().expect("an address");
    let target = "127.0.0.1:9".parse().expect("an address");
    testkit::traffic::send_udp(namespace, source, target, 1000.0, count).expect("sending");
}

/// Packets that were dropped under each limit.
fn dropped(daemon: &Daemon) -> Vec<u64> {
    let limits = daemon.json(&["limits"]);
    let limits = limits.as_array().expect("a list").iter();
    limits
        .map(|limit| limit["dropped"].as_u64().expect("a number"))
        .collect()
}

fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(from), "no {from:?} in {text}");
    fs::write(path, text.replace(from, to)).expect("writing it");
}

#[test]
fn a_throttle_is_told_as_it_was_asked_for() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let added = daemon.json(&[
        "throttle",
        "add",
        "203.0.113.7",
        "2001:db8::/48",
        "--limit",
        "slow",
        "--for",
        "1h",
        "--reason",
        "scans\tports",
    ]);
    let first = &added[0];
    assert_keys(first, &KEYS);
    assert_eq!(first["source"], "203.0.113.7/32");
    assert_eq!(
        (&first["limit"], &first["reason"], &first["by"]),
        (&"slow".into(), &"scans\tports".into(), &"root".into())
    );
    assert!(first["created"].is_string() && first["expires"].is_string());
    let remaining = first["remaining_seconds"].as_u64().expect("seconds");
    assert!((3590..=3600).contains(&remaining), "{added}");
    assert_eq!(added[1]["source"], "2001:db8::/48");
    let said = throttle(
        &daemon,
        &["add", "203.0.113.8", "--limit", "slower", "--for", "-1"],
    );
    assert_eq!(
        said.success().stdout,
        "throttled 203.0.113.8/32 by limit slower for good\n"
    );
    assert_eq!(
        throttled(&daemon),
        [
            "203.0.113.7/32 slow",
            "203.0.113.8/32 slower",
            "2001:db8::/48 slow"
        ]
    );
    let said = throttle(&daemon, &["list"]).success();
    assert_eq!(
        said.stdout.lines().nth(1),
        Some("203.0.113.8/32\tslower\tpermanent\t")
    );
    assert!(said.stdout.contains("scans\\tports"), "{said}");
    let status = daemon.json(&["status"]);
    assert_eq!(
        (&status["throttles"], &status["bans"]),
        (&3.into(), &0.into())
    );
    assert_eq!(status["capacity"]["throttles"], 1 << 16);
    assert_eq!(
        (
            &daemon.json(&["limits"])[0]["only"],
            &daemon.json(&["limits"])[1]["only"]
        ),
        (&Value::Null, &"throttled".into())
    );
    let said = daemon.abuser(&["limits"]).success();
    assert!(said.stdout.contains("\tdrop throttled\t"), "{said}");
}

#[test]
fn without_a_time_a_throttle_takes_the_policy_s() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(&format!("{LIMITS}bantime = \"2h\"\n"));
    let added = daemon.json(&["throttle", "add", "203.0.113.7", "--limit", "slow"]);
    let remaining = added[0]["remaining_seconds"].as_u64().expect("seconds");
    assert!((7190..=7200).contains(&remaining), "{added}");
}

#[test]
fn a_limit_for_throttled_sources_holds_back_only_who_is_throttled() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(LIMITS);
    throttle(&daemon, &["add", "127.0.0.66", "--limit", "slow"]).success();
    throttle(&daemon, &["add", "127.0.1.0/24", "--limit", "slower"]).success();
    for source in ["127.0.0.65", "127.0.0.66", "127.0.1.1"] {
        send(&namespace, source, 20);
    }
    assert_eq!(dropped(&daemon), [0, 10, 18]);
    assert_eq!(left(&daemon, "127.0.0.66", "slow"), Some(0));
    assert_eq!(left(&daemon, "127.0.0.66", "slower"), None);
    assert_eq!(left(&daemon, "127.0.1.2", "slower"), Some(2));
    assert_eq!(left(&daemon, "127.0.0.65", "slow"), None);
    let explained = daemon.abuser(&["explain", "127.0.0.66"]).success();
    let mut lines = explained.stdout.lines();
    assert_eq!(
        lines.next(),
        Some("127.0.0.66 is dropped for now: it is over a limit")
    );
    let told = lines.next().unwrap_or_default();
    assert!(
        told.starts_with("throttled: 127.0.0.66/32 by limit slow, by root, since 20")
            && told.contains(", until 20"),
        "{explained}"
    );
    throttle(&daemon, &["remove", "127.0.0.66"]).success();
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon), [0, 10, 18], "no longer throttled");
}

#[test]
fn throttling_again_makes_it_longer_and_never_shorter() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let add = |time: &str, reason: &str| {
        daemon.json(&[
            "throttle",
            "add",
            "203.0.113.7",
            "--limit",
            "slow",
            "--for",
            time,
            "--reason",
            reason,
        ])
    };
    let first = add("1h", "first");
    let shorter = add("1m", "shorter");
    assert_eq!(shorter[0]["expires"], first[0]["expires"]);
    assert_eq!(shorter[0]["reason"], "first");
    let longer = add("2h", "longer");
    assert!(
        longer[0]["remaining_seconds"].as_u64() > Some(7000),
        "{longer}"
    );
    assert_eq!(longer[0]["reason"], "longer");
    assert_eq!(add("permanent", "for good")[0]["expires"], Value::Null);
    assert_eq!(add("1h", "a while")[0]["expires"], Value::Null);
    assert_eq!(throttled(&daemon), ["203.0.113.7/32 slow"]);
}

#[test]
fn bad_requests_throttle_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let refused = |arguments: &[&str], code, phrases: &[&str]| {
        throttle(&daemon, &[&["add", "203.0.113.7"], arguments].concat()).complains(code, phrases);
        assert_eq!(throttled(&daemon), [""; 0]);
    };
    refused(
        &["--limit", "fast"],
        1,
        &["there is no limit \"fast\" for throttled sources; there are: slow, slower"],
    );
    refused(
        &["--limit", "all"],
        1,
        &["limit all applies to all sources", "only = \"throttled\""],
    );
    refused(
        &["0.0.0.0/0", "--limit", "slow"],
        1,
        &["0.0.0.0/0 is wider than", "--force"],
    );
    refused(
        &["203.0.113.256", "--limit", "slow"],
        2,
        &["is not an IP address"],
    );
    refused(
        &["--limit", "slow", "--for", "0"],
        2,
        &["a throttle lasts at least a second"],
    );
    let book = "x".repeat(1001);
    refused(
        &["--limit", "slow", "--reason", &book],
        1,
        &["1001 bytes is too long"],
    );
    throttle(&daemon, &["add", "0.0.0.0/0", "--limit", "slow", "--force"]).success();
    assert_eq!(throttled(&daemon), ["0.0.0.0/0 slow"]);
}

#[test]
fn a_source_is_throttled_by_four_limits_and_no_more() {
    require_root!();
    let limits = (0..5)
        .map(|n| format!("[[limit]]\nname = \"n{n}\"\nrate = \"1/s\"\nonly = \"throttled\"\n"));
    let (_namespace, daemon) = daemon_on_lo(&limits.collect::<Vec<_>>().concat());
    for limit in ["n0", "n1", "n2", "n3"] {
        throttle(&daemon, &["add", "203.0.113.7", "--limit", limit]).success();
    }
    throttle(
        &daemon,
        &["add", "203.0.113.8", "203.0.113.7", "--limit", "n4"],
    )
    .complains(
        1,
        &[
            "203.0.113.7/32 is throttled by 4 limits already (n0, n1, n2, n3)",
            "remove",
        ],
    );
    let said = throttle(&daemon, &["remove", "203.0.113.7", "--limit", "n1"]).success();
    assert_eq!(
        said.stdout,
        "no longer throttled: 203.0.113.7/32 by limit n1\n"
    );
    throttle(&daemon, &["add", "203.0.113.7", "--limit", "n4"]).success();
    let ended = daemon.json(&["throttle", "remove", "203.0.113.7"]);
    assert_eq!(ended.as_array().map(Vec::len), Some(4));
    assert_eq!(daemon.json(&["throttle", "list"]), json!([]));
}

#[test]
fn removing_a_throttle_that_is_not_there_removes_nothing() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    throttle(
        &daemon,
        &["add", "203.0.113.0/24", "198.51.100.1", "--limit", "slow"],
    )
    .success();
    let remove = |arguments: &[&str]| throttle(&daemon, &[&["remove"], arguments].concat());
    remove(&["198.51.100.1", "192.0.2.1"]).complains(
        1,
        &["192.0.2.1/32 is not throttled; `abuser throttle list`"],
    );
    remove(&["203.0.113.7"]).complains(
        1,
        &["203.0.113.7/32 is not throttled by itself but as part of 203.0.113.0/24"],
    );
    remove(&["198.51.100.1", "--limit", "slower"])
        .complains(1, &["198.51.100.1/32 is not throttled by limit slower"]);
    assert_eq!(
        throttled(&daemon),
        ["198.51.100.1/32 slow", "203.0.113.0/24 slow"]
    );
}

#[test]
fn who_is_allowed_is_throttled_to_no_effect_and_that_is_said() {
    require_root!();
    let config = format!("{LIMITS}[allow]\naddresses = [\"127.0.0.64/26\"]\n");
    let (namespace, daemon) = daemon_on_lo(&config);
    let said = throttle(&daemon, &["add", "127.0.0.66", "--limit", "slower"]).success();
    assert!(
        said.stderr.contains(
            "127.0.0.66/32 is throttled and passes all the same, as long as 127.0.0.64/26 is allowed"
        ),
        "{said}"
    );
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon), [0; 3]);
}

#[test]
fn an_ended_throttle_is_listed_no_more_and_each_limit_ends_for_itself() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(LIMITS);
    let events = listen(&daemon);
    throttle(
        &daemon,
        &["add", "127.0.0.66", "--limit", "slower", "--for", "1s"],
    )
    .success();
    throttle(
        &daemon,
        &["add", "127.0.0.66", "--limit", "slow", "--for", "1h"],
    )
    .success();
    wait_until("one ends", || throttled(&daemon) == ["127.0.0.66/32 slow"]);
    wait_until("and is cleared away", || {
        daemon.stderr().contains("how=\"expired\"")
    });
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon), [0, 10, 0]);
    throttle(&daemon, &["remove", "127.0.0.66"]).success();
    assert_eq!(
        told(&events, 4),
        [
            "throttle 127.0.0.66/32 slower -",
            "throttle 127.0.0.66/32 slow -",
            "unthrottle 127.0.0.66/32 slower expired",
            "unthrottle 127.0.0.66/32 slow removed by root",
        ]
    );
}

#[test]
fn a_throttle_that_is_over_ends_before_another_begins() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let events = listen(&daemon);
    for _ in 0..4 {
        throttle(
            &daemon,
            &["add", "127.0.0.66", "--limit", "slow", "--for", "1s"],
        )
        .success();
        // What is over is cleared away twice a second: this comes before that, but once in a while.
        thread::sleep(Duration::from_millis(1010));
    }
    let pair = [
        "throttle 127.0.0.66/32 slow -",
        "unthrottle 127.0.0.66/32 slow expired",
    ];
    assert_eq!(told(&events, 8), pair.repeat(4));
}

#[test]
fn throttles_outlive_a_crash_and_a_restart() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(LIMITS);
    throttle(
        &daemon,
        &[
            "add",
            "127.0.0.66",
            "--limit",
            "slow",
            "--for",
            "1h",
            "--reason",
            "why",
        ],
    )
    .success();
    throttle(
        &daemon,
        &["add", "127.0.0.66", "--limit", "slower", "--for", "1s"],
    )
    .success();
    let told = |daemon: &Daemon| {
        let list = daemon.json(&["throttle", "list"]);
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        let throttle = list[0].clone();
        assert!(
            throttle["remaining_seconds"].as_u64() > Some(3500),
            "{list}"
        );
        [
            &throttle["source"],
            &throttle["limit"],
            &throttle["reason"],
            &throttle["by"],
        ]
        .map(|value| value.as_str().unwrap_or_default().to_owned())
    };
    let expected = ["127.0.0.66/32", "slow", "why", "root"];
    daemon.kill();
    // No daemon, and the kernel goes on.
    send(&namespace, "127.0.0.66", 20);
    thread::sleep(Duration::from_millis(1100));
    daemon.restart();
    assert_eq!(told(&daemon), expected);
    assert_eq!(
        dropped(&daemon)[1..].iter().sum::<u64>(),
        18,
        "as slower said"
    );
    daemon.terminate();
    daemon.restart();
    assert_eq!(told(&daemon), expected);
    assert_eq!(dropped(&daemon), [0; 3]);
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon), [0, 10, 0]);
    wait_until("a pass", || {
        daemon.json(&["status"])["reconciler"]["passes"] != 0
    });
    let reconciler = &daemon.json(&["status"])["reconciler"];
    assert_eq!(
        (&reconciler["kernel_repairs"], &reconciler["store_repairs"]),
        (&0.into(), &0.into()),
        "it was known what to do"
    );
}

#[test]
fn a_reload_that_moves_limits_moves_throttles_with_them_and_one_without_the_limit_ends_them() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(LIMITS);
    throttle(
        &daemon,
        &["add", "127.0.0.66", "127.0.0.67", "--limit", "slower"],
    )
    .success();
    throttle(&daemon, &["add", "127.0.0.67", "--limit", "slow"]).success();
    // What was the first limit is the last, and its place is taken.
    edit(
        &daemon,
        "[[limit]]\nname = \"all\"",
        "[[limit]]\nname = \"first\"\nprotocol = \"tcp\"\nrate = \"1/h\"\n\
         [[limit]]\nname = \"second\"\nprotocol = \"udp\"\nrate = \"1/h\"\nonly = \"throttled\"\n\
         [[limit]]\nname = \"all\"",
    );
    daemon.abuser(&["reload"]).success();
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon), [0, 0, 0, 0, 18]);
    // A limit that is another one by the same name throttles on.
    edit(
        &daemon,
        "rate = \"1/h\"\nburst = 1\n",
        "rate = \"1/h\"\nburst = 4\n",
    );
    daemon.abuser(&["reload"]).success();
    send(&namespace, "127.0.0.66", 20);
    assert_eq!(dropped(&daemon)[4], 15);
    edit(
        &daemon,
        "[[limit]]\nname = \"slower\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 4\nonly = \"throttled\"\n",
        "",
    );
    daemon.abuser(&["reload"]).success();
    assert_eq!(throttled(&daemon), ["127.0.0.67/32 slow"]);
    assert!(
        daemon
            .stderr()
            .contains("no longer throttled, because the limit is gone: 2 sources"),
        "{}",
        daemon.stderr()
    );
    // A limit for all throttles nobody.
    edit(&daemon, "burst = 9\nonly = \"throttled\"\n", "burst = 9\n");
    daemon.abuser(&["reload"]).success();
    assert_eq!(throttled(&daemon), [""; 0]);
    assert_eq!(daemon.json(&["status"])["throttles"], 0);
    // Nor does a restart bring back what has ended.
    daemon.terminate();
    daemon.restart();
    assert_eq!(throttled(&daemon), [""; 0]);
}

#[test]
fn a_restart_without_the_limit_ends_its_throttles() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo(LIMITS);
    throttle(&daemon, &["add", "203.0.113.7", "--limit", "slow"]).success();
    throttle(&daemon, &["add", "203.0.113.7", "--limit", "slower"]).success();
    daemon.kill();
    edit(&daemon, "name = \"slow\"", "name = \"other\"");
    daemon.restart();
    assert_eq!(throttled(&daemon), ["203.0.113.7/32 slower"]);
    wait_until("a pass", || {
        daemon.json(&["status"])["reconciler"]["passes"] != 0
    });
    let reconciler = &daemon.json(&["status"])["reconciler"];
    assert_eq!(
        (&reconciler["kernel_repairs"], &reconciler["store_repairs"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn entries_that_were_deleted_changed_or_forged_are_put_right_within_a_pass() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(LIMITS);
    for source in ["127.0.0.66", "127.0.0.67", "127.0.0.68"] {
        throttle(&daemon, &["add", source, "--limit", "slow"]).success();
    }
    let key =
        |address: &str| PrefixKey::new(address.parse().expect("an address"), 32).expect("a prefix");
    let mut map = pinned::<Throttle>(&daemon, maps::THROTTLED);
    let mut changed = map.get(&key("127.0.0.67"), 0).expect("an entry");
    changed.terms[0].expires_ns = 1;
    map.remove(&key("127.0.0.66")).expect("deleting");
    map.insert(key("127.0.0.67"), changed, 0).expect("changing");
    map.insert(key("127.0.0.69"), Throttle::default(), 0)
        .expect("forging");
    let deadline = Instant::now() + Duration::from_secs(90);
    while daemon.json(&["status"])["reconciler"]["kernel_repairs"] != 3 {
        assert!(Instant::now() < deadline, "not put right within 90 s");
        thread::sleep(Duration::from_millis(100));
    }
    for source in ["127.0.0.66", "127.0.0.67", "127.0.0.68", "127.0.0.69"] {
        send(&namespace, source, 20);
    }
    assert_eq!(dropped(&daemon), [0, 30, 0]);
    let said = daemon.stderr();
    for phrase in [
        "the throttle of 127.0.0.66/32 was missing",
        "the throttle of 127.0.0.67/32 was missing in the kernel, or not as it should be",
        "a throttle of 127.0.0.69/32 that nobody made",
    ] {
        assert!(said.contains(phrase), "no {phrase:?} in {said}");
    }
}
