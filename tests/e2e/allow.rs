//! `abuser allow`: entries of the configuration and of the command line.

use serde_json::json;
use testkit::require_root;

use crate::support::{Complains as _, daemon_on_lo};

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
