//! `abuser explain`: what a packet from an address would meet, and why.

use serde_json::{Value, json};
use testkit::{Daemon, Namespace, require_root};

use crate::support::{Complains as _, assert_keys, daemon_on_lo, wait_until};

const CONFIG: &str = r#"
[allow]
addresses = ["10.0.0.0/8"]
[[limit]]
name = "tight"
protocol = "udp"
rate = "1/h"
burst = 9
policy = "quick"
[[limit]]
name = "watch"
protocol = "udp"
rate = "1/h"
burst = 99
ipv4_prefix = 24
action = "observe"
[[policy]]
name = "quick"
maxretry = 1
require_verified = false
bantime = "1h"
increment = true
"#;

fn send(namespace: &Namespace, source: &str, count: u64) {
    let source = source.parse().expect("an address");
    let target = "127.0.0.1:9".parse().expect("an address");
    testkit::traffic::send_udp(namespace, source, target, 1000.0, count).expect("sending");
}

fn lines(daemon: &Daemon, address: &str) -> Vec<String> {
    let said = daemon.abuser(&["explain", address]).success();
    said.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_stranger_passes_and_has_all_of_every_limit() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    assert_eq!(
        lines(&daemon, "203.0.113.7"),
        [
            "203.0.113.7 passes",
            "limit tight (1/h): 10 of 10 packets left for 203.0.113.7/32",
            "limit watch (1/h, only observed): 100 of 100 packets left for 203.0.113.0/24",
        ]
    );
    let explained = daemon.json(&["explain", "2001:db8::7"]);
    assert_keys(
        &explained,
        &[
            "address",
            "verdict",
            "observe",
            "allow",
            "bans",
            "throttles",
            "limits",
            "offences",
            "history",
        ],
    );
    assert_eq!(explained["verdict"], "passes");
    assert_eq!(explained["limits"][0]["source"], "2001:db8::/64");
    for empty in ["allow", "bans", "throttles", "offences", "history"] {
        assert_eq!(explained[empty], json!([]), "{empty}");
    }
}

#[test]
fn what_is_left_of_a_limit_is_what_was_not_sent() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    send(&namespace, "127.0.0.66", 4);
    send(&namespace, "127.0.0.67", 10);
    let left = |address: &str| -> Vec<Value> {
        let explained = daemon.json(&["explain", address]);
        let limits = explained["limits"].as_array().expect("a list").clone();
        let left = limits.into_iter().map(|limit| limit["left"].clone());
        std::iter::once(explained["verdict"].clone())
            .chain(left)
            .collect()
    };
    assert_eq!(left("127.0.0.66"), [json!("passes"), json!(6), json!(86)]);
    assert_eq!(left("127.0.0.67"), [json!("limited"), json!(0), json!(86)]);
    assert_eq!(left("127.0.0.68"), [json!("passes"), json!(10), json!(86)]);
    assert_eq!(
        lines(&daemon, "127.0.0.67")[0],
        "127.0.0.67 is dropped for now: it is over a limit"
    );
}

#[test]
fn a_ban_is_told_with_what_led_to_it_and_what_was_before() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(CONFIG);
    daemon
        .abuser(&["ban", "add", "127.0.0.66", "--reason", "was\tlate"])
        .success();
    daemon.abuser(&["ban", "remove", "127.0.0.66"]).success();
    send(&namespace, "127.0.0.66", 12);
    wait_until("the ban", || daemon.json(&["status"])["bans"] == 1);
    daemon
        .abuser(&["ban", "add", "127.0.0.0/24", "--permanent"])
        .success();
    // What is known outlives the daemon.
    daemon.kill();
    daemon.restart();
    let explained = daemon.json(&["explain", "127.0.0.66"]);
    assert_eq!(explained["verdict"], "banned");
    let [host, network] = &explained["bans"].as_array().expect("a list")[..] else {
        panic!("not two bans: {explained}");
    };
    assert_eq!(
        (&host["source"], &host["cause"], &host["policy"]),
        (&"127.0.0.66/32".into(), &"limit".into(), &"quick".into())
    );
    assert_eq!(
        host["evidence"][0]["text"],
        "drop lo udp/9 limit tight 1 packet"
    );
    assert_eq!(network["expires"], Value::Null);
    assert_eq!(network["evidence"], json!([]));
    let record = &explained["offences"][0];
    assert_eq!(
        (
            &record["policy"],
            &record["bans"],
            &record["next_ban_seconds"]
        ),
        (&"quick".into(), &1.into(), &7200.into())
    );
    let past = &explained["history"][0];
    assert_eq!(
        (&past["id"], &past["how"], &past["reason"], &past["by"]),
        (
            &1.into(),
            &"removed by root".into(),
            &"was\tlate".into(),
            &"root".into()
        )
    );
    let said = lines(&daemon, "127.0.0.66");
    assert_eq!(said[0], "127.0.0.66 is dropped: it is banned");
    for phrase in [
        "ban 2 of 127.0.0.66/32 (limit): 1 offence against limit tight",
        "  drop lo udp/9 limit tight 1 packet",
        "ban 3 of 127.0.0.0/24 (manual), by root",
        ", for good; 0 packets met it",
        "policy quick: 0 of 1 offences that ban 127.0.0.66/32, banned 1 time before; the next ban is for 2h",
        "earlier: ban 1 of 127.0.0.66/32 (manual): was\\tlate, by root",
        "; removed by root 20",
    ] {
        assert!(
            said.iter().any(|line| line.contains(phrase)),
            "no {phrase:?} in {said:#?}"
        );
    }
}

#[test]
fn who_is_allowed_passes_whatever_else_is_said() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    daemon.abuser(&["ban", "add", "10.1.0.0/16"]).success();
    let said = lines(&daemon, "10.1.2.3");
    assert_eq!(said[0], "10.1.2.3 passes: it is allowed");
    assert_eq!(said[1], "allowed: 10.0.0.0/8 (config)");
    assert!(
        said[2].starts_with("ban 1 of 10.1.0.0/16 (manual)"),
        "{said:#?}"
    );
    // IPv4 in IPv6's clothes is IPv4.
    assert_eq!(lines(&daemon, "::ffff:10.1.2.3"), said);
}

#[test]
fn an_address_that_is_none_is_refused() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    daemon
        .abuser(&["explain", "203.0.113.0/24"])
        .complains(2, &["is a prefix; name one address"]);
    daemon
        .abuser(&["explain", "nobody"])
        .complains(2, &["nobody"]);
}

#[test]
fn a_daemon_that_observes_says_what_would_be() {
    require_root!();
    let namespace = Namespace::new().expect("a namespace");
    let config = format!("interfaces = [\"lo\"]\n{CONFIG}");
    let daemon = Daemon::start_with(&namespace, &config, &["--observe"]);
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    assert_eq!(
        lines(&daemon, "203.0.113.7")[0],
        "203.0.113.7 passes because abuser only observes; else it is dropped: it is banned"
    );
}
