//! `abuser allow`: entries of the configuration and of the command line.

use std::fs;

use abuser_common::layout::MAX_ALLOWED;
use serde_json::json;
use testkit::require_root;

use crate::{
    http::request,
    support::{Complains as _, daemon_on_lo, wait_until},
};

const CONFIG: &str = "[allow]\naddresses = [\"10.0.0.0/8\"]\n";

#[test]
fn entries_tell_where_they_come_from() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    let added = daemon.json(&[
        "allow",
        "add",
        "192.0.2.1",
        "2001:db8::/48",
        "--reason",
        "ours",
    ]);
    let created = added[0]["created"].clone();
    assert!(created.is_string(), "{added}");
    let ours = |source: &str| {
        json!({
            "source": source,
            "origin": "command",
            "note": "ours",
            "by": "root",
            "created": created,
        })
    };
    assert_eq!(added, json!([ours("192.0.2.1/32"), ours("2001:db8::/48")]));
    let configured = json!({
        "source": "10.0.0.0/8",
        "origin": "config",
        "note": null,
        "by": null,
        "created": null,
    });
    assert_eq!(
        daemon.json(&["allow", "list"]),
        json!([configured, ours("192.0.2.1/32"), ours("2001:db8::/48"),])
    );
    assert_eq!(daemon.json(&["status"])["allow"], 3);
    let said = daemon.abuser(&["allow", "list"]).success();
    assert_eq!(
        said.stdout,
        "10.0.0.0/8\tconfig\t\n192.0.2.1/32\tcommand\tours\n2001:db8::/48\tcommand\tours\n"
    );
}

#[test]
fn entries_are_removed_by_name_all_or_none() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    let said = daemon.abuser(&["allow", "add", "192.0.2.1"]).success();
    assert_eq!(said.stdout, "allowed 192.0.2.1/32\n");
    daemon
        .abuser(&["allow", "remove", "192.0.2.1", "192.0.2.2"])
        .complains(
            1,
            &["192.0.2.2/32 is not in the allow list", "abuser allow list"],
        );
    assert_eq!(daemon.json(&["status"])["allow"], 2);
    let said = daemon.abuser(&["allow", "remove", "192.0.2.1"]).success();
    assert_eq!(said.stdout, "no longer allowed: 192.0.2.1/32\n");
    // What the configuration says is the configuration's to take back.
    let before = daemon.json(&["allow", "list"]);
    daemon.abuser(&["allow", "remove", "10.0.0.0/8"]).complains(
        1,
        &["10.0.0.0/8 is allowed by the configuration", "[allow]"],
    );
    assert_eq!(daemon.json(&["allow", "list"]), before);
    // A command may say the same, and take that back.
    daemon.abuser(&["allow", "add", "10.0.0.0/8"]).success();
    let origins = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|entry| entry["origin"].to_string()).collect()
    };
    let both = daemon.json(&["allow", "list"]);
    assert_eq!(origins(&both), ["\"config\"", "\"command\""]);
    let removed = daemon.json(&["allow", "remove", "10.0.0.0/8"]);
    assert_eq!(origins(&removed), ["\"command\""]);
    assert_eq!(daemon.json(&["allow", "list"]), before);
}

#[test]
fn one_wrong_address_in_a_list_allows_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    daemon
        .abuser(&["allow", "add", "192.0.2.1", "192.0.2.0/33"])
        .complains(2, &["\"33\" is not a prefix length"]);
    assert_eq!(daemon.json(&["allow", "list"]), json!([]));
}

#[test]
fn an_entry_that_would_end_all_protection_wants_force() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "::ffff:0.0.0.0/96"] {
        daemon
            .abuser(&["allow", "add", "192.0.2.1", wide])
            .complains(1, &["is wider than /8 (IPv4) or /16 (IPv6)", "use --force"]);
    }
    let body = b"{\"sources\":[\"0.0.0.0/0\"]}";
    request(&daemon, "POST", "/v1/allow", body).refuses(400, &["0.0.0.0/0 is wider than /8"]);
    assert_eq!(daemon.json(&["allow", "list"]), json!([]));
    daemon
        .abuser(&["allow", "add", "10.0.0.0/8", "fc00::/7"])
        .success();
    let said = daemon
        .abuser(&["allow", "add", "0.0.0.0/0", "--force"])
        .success();
    assert_eq!(said.stdout, "allowed 0.0.0.0/0\n");
    let body = b"{\"sources\":[\"::/0\"],\"force\":true}";
    let allowed = request(&daemon, "POST", "/v1/allow", body).json();
    assert_eq!(allowed[0]["source"], "::/0");
}

#[test]
fn a_configuration_that_limits_nobody_is_warned_of_at_the_start_and_at_a_reload() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    assert!(
        daemon
            .stderr()
            .contains("no [[limit]]: nothing is rate limited"),
        "{}",
        daemon.stderr()
    );
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).expect("a configuration");
    let wide = "[allow]\naddresses = [\"0.0.0.0/0\"]\n";
    fs::write(&path, text.replace("[allow]\n", wide)).expect("writing it");
    assert!(!daemon.stderr().contains("is so wide"));
    daemon.abuser(&["reload"]).success();
    wait_until("the warning", || {
        daemon.stderr().contains("0.0.0.0/0 is so wide")
    });
}

#[test]
fn a_list_that_is_full_refuses_one_more_and_takes_it_when_there_is_room() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    let room = usize::try_from(MAX_ALLOWED).expect("a number");
    let addresses: Vec<_> = (0..room)
        .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
        .collect();
    for some in addresses.chunks(4096) {
        let mut add = vec!["allow", "add"];
        add.extend(some.iter().map(String::as_str));
        daemon.abuser(&add).success();
    }
    daemon.abuser(&["allow", "add", "198.51.100.1"]).complains(
        1,
        &[
            &format!("is full: it holds at most {MAX_ALLOWED} entries"),
            "remove some first",
        ],
    );
    let status = daemon.json(&["status"]);
    assert_eq!(status["allow"], MAX_ALLOWED);
    assert_eq!(status["allow"], status["capacity"]["allow"]);
    assert_eq!(status["bans"], 1);
    daemon.abuser(&["allow", "remove", "10.0.0.1"]).success();
    daemon.abuser(&["allow", "add", "198.51.100.1"]).success();
    assert_eq!(daemon.json(&["status"])["allow"], MAX_ALLOWED);
}
