//! `abuser ban`: all of a request or nothing of it.

use serde_json::{Value, json};
use testkit::{CommandOutput, Daemon, require_root};

use crate::support::{Complains as _, assert_keys, daemon_on_lo};

const KEYS: [&str; 17] = [
    "id",
    "source",
    "created",
    "expires",
    "remaining_seconds",
    "cause",
    "detector",
    "crowdsec",
    "node",
    "limit",
    "blocklist",
    "policy",
    "offences",
    "reason",
    "by",
    "hits",
    "last_hit",
];

fn banned(daemon: &Daemon) -> Vec<String> {
    daemon
        .json(&["ban", "list"])
        .as_array()
        .expect("a list")
        .iter()
        .map(|ban| ban["source"].as_str().expect("a text").to_owned())
        .collect()
}

fn ban(daemon: &Daemon, arguments: &[&str]) -> CommandOutput {
    daemon.abuser(&[&["ban"], arguments].concat())
}

#[test]
fn a_ban_is_told_as_it_was_asked_for() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let added = daemon.json(&[
        "ban",
        "add",
        "203.0.113.7",
        "--for",
        "1h",
        "--reason",
        "scans \"ports\"",
    ]);
    let added = &added[0];
    assert_keys(added, &KEYS);
    assert_eq!(added["source"], "203.0.113.7/32");
    assert_eq!(added["cause"], "manual");
    assert_eq!(added["reason"], "scans \"ports\"");
    assert_eq!(added["by"], "root");
    assert_eq!(added["hits"], 0);
    assert!(added["id"].is_u64() && added["created"].is_string() && added["expires"].is_string());
    for absent in ["limit", "policy", "offences", "last_hit"] {
        assert_eq!(added[absent], Value::Null, "{absent}");
    }
    let remaining = added["remaining_seconds"].as_u64().expect("seconds");
    assert!((3590..=3600).contains(&remaining), "{added}");

    let shown = daemon.json(&["ban", "show", "203.0.113.7"]);
    assert_eq!(shown, daemon.json(&["ban", "list"]));
    assert_eq!(shown[0]["id"], added["id"]);
    assert_eq!(shown[0]["reason"], added["reason"]);
}

#[test]
fn a_permanent_ban_has_no_end() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for arguments in [&["--permanent"][..], &["--for", "permanent"], &["--for=-1"]] {
        let added = daemon.json(&[&["ban", "add", "2001:db8::/48"], arguments].concat());
        assert_eq!(added[0]["source"], "2001:db8::/48");
        assert_eq!(added[0]["expires"], Value::Null);
        assert_eq!(added[0]["remaining_seconds"], Value::Null);
    }
    let said = ban(&daemon, &["add", "2001:db8::/48", "--permanent"]).success();
    assert_eq!(said.stdout, "banned 2001:db8::/48 for good\n");
    assert_eq!(said.stderr, "");
}

#[test]
fn without_a_time_a_ban_takes_the_policy_s() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("[ban]\nbantime = \"2h\"\n");
    let added = daemon.json(&["ban", "add", "203.0.113.7"]);
    let remaining = added[0]["remaining_seconds"].as_u64().expect("seconds");
    assert!((7190..=7200).contains(&remaining), "{added}");
}

#[test]
fn banning_again_renews_the_ban_and_keeps_its_number() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let first = daemon.json(&["ban", "add", "203.0.113.7", "--for", "1m", "--reason", "a"]);
    let other = daemon.json(&["ban", "add", "203.0.113.8"]);
    assert_ne!(first[0]["id"], other[0]["id"]);
    let again = daemon.json(&["ban", "add", "203.0.113.7", "--for", "1h", "--reason", "b"]);
    assert_eq!(again[0]["id"], first[0]["id"]);
    assert_eq!(again[0]["reason"], "b");
    assert!(
        again[0]["remaining_seconds"].as_u64() > Some(3000),
        "{again}"
    );
    assert_eq!(banned(&daemon), ["203.0.113.7/32", "203.0.113.8/32"]);
}

#[test]
fn an_ipv4_address_in_ipv6_dress_is_the_ipv4_address() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["add", "::ffff:203.0.113.7"]).success();
    assert_eq!(banned(&daemon), ["203.0.113.7/32"]);
    ban(&daemon, &["show", "::ffff:203.0.113.7"]).success();
}

#[test]
fn one_wrong_address_in_a_list_bans_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["add", "203.0.113.7", "203.0.113.256"])
        .complains(2, &["\"203.0.113.256\" is not an IP address"]);
    assert_eq!(banned(&daemon), [""; 0]);
}

#[test]
fn one_wide_prefix_in_a_list_bans_nobody_without_force() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for wide in ["203.0.0.0/15", "0.0.0.0/0", "2001::/31", "::/0"] {
        let wide = if wide == "203.0.0.0/15" {
            "202.0.0.0/15"
        } else {
            wide
        };
        ban(&daemon, &["add", "203.0.113.7", wide])
            .complains(1, &[&format!("{wide} is wider than"), "--force"]);
        assert_eq!(banned(&daemon), [""; 0]);
    }
    ban(&daemon, &["add", "--force", "202.0.0.0/15"]).success();
    ban(&daemon, &["add", "203.0.0.0/16", "2001:db8::/32"]).success();
    assert_eq!(
        banned(&daemon),
        ["202.0.0.0/15", "203.0.0.0/16", "2001:db8::/32"]
    );
}

#[test]
fn the_bans_that_cover_an_address_are_shown_the_longest_prefix_first() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(
        &daemon,
        &[
            "add",
            "203.0.0.0/16",
            "203.0.113.7",
            "203.0.113.0/24",
            "203.0.114.0/24",
        ],
    )
    .success();
    let shown = daemon.json(&["ban", "show", "203.0.113.7"]);
    let sources: Vec<_> = shown
        .as_array()
        .expect("a list")
        .iter()
        .map(|ban| &ban["source"])
        .collect();
    assert_eq!(
        sources,
        ["203.0.113.7/32", "203.0.113.0/24", "203.0.0.0/16"]
    );
}

#[test]
fn showing_an_address_that_is_not_banned_fails() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["show", "203.0.113.9"]).complains(1, &["203.0.113.9 is not banned"]);
    // The data says it all.
    let said = ban(&daemon, &["show", "203.0.113.9", "--json"]).exits(1);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("[]\n", ""));
}

#[test]
fn removing_a_ban_that_is_not_there_removes_nothing() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["add", "203.0.113.0/24", "198.51.100.1"]).success();
    ban(&daemon, &["remove", "192.0.2.1"])
        .complains(1, &["192.0.2.1/32 is not banned", "abuser ban list"]);
    ban(&daemon, &["remove", "198.51.100.1", "203.0.113.7"]).complains(
        1,
        &[
            "203.0.113.7/32 is not banned by itself but as part of 203.0.113.0/24",
            "abuser allow add",
        ],
    );
    assert_eq!(banned(&daemon), ["198.51.100.1/32", "203.0.113.0/24"]);
}

#[test]
fn bans_are_removed_one_by_one_or_all() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(
        &daemon,
        &["add", "203.0.113.7", "203.0.113.8", "2001:db8::/64"],
    )
    .success();
    let said = ban(&daemon, &["remove", "203.0.113.8", "203.0.113.8"]).success();
    assert_eq!(said.stdout, "unbanned 203.0.113.8/32\n");
    let removed = daemon.json(&["ban", "remove", "--all"]);
    assert_eq!(removed.as_array().map(Vec::len), Some(2));
    assert_keys(&removed[0], &KEYS);
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
    assert_eq!(daemon.json(&["status"])["bans"], 0);
    // Nothing to remove is no failure.
    assert_eq!(daemon.json(&["ban", "remove", "--all"]), json!([]));
}

#[test]
fn many_bans_that_are_removed_are_counted_and_few_are_named() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let add = |count: u8| {
        let sources: Vec<_> = (1..=count).map(|n| format!("203.0.113.{n}")).collect();
        let sources = sources.iter().map(String::as_str);
        let arguments: Vec<_> = ["add"].into_iter().chain(sources).collect();
        ban(&daemon, &arguments).success();
    };
    let remove = || ban(&daemon, &["remove", "--all"]).success().stdout;
    add(100);
    let said = remove();
    assert_eq!(said.lines().count(), 100, "{said}");
    assert!(said.starts_with("unbanned 203.0.113.1/32\n"), "{said}");
    add(101);
    assert_eq!(remove(), "unbanned 101 sources\n");
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
}

#[test]
fn an_ended_ban_is_listed_no_more() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["add", "203.0.113.7", "--for", "1s"]).success();
    crate::support::wait_until("the ban ends", || banned(&daemon).is_empty());
    ban(&daemon, &["show", "203.0.113.7"]).complains(1, &["is not banned"]);
}

#[test]
fn a_reason_cannot_forge_lines_or_columns_or_colours() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let reason = "a\tb\n203.0.113.9/32\tpermanent \u{1b}[31m";
    let added = daemon.json(&["ban", "add", "203.0.113.7", "--reason", reason]);
    assert_eq!(added[0]["reason"], reason, "JSON has it as it is");
    let said = ban(&daemon, &["list"]).success();
    assert_eq!(said.stdout.lines().count(), 1, "{said}");
    assert_eq!(said.stdout.matches('\t').count(), 4, "{said}");
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
    assert!(said.stdout.contains("a\\tb\\n203"), "{said}");
}

#[test]
fn a_reason_that_is_a_book_is_refused() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let book = "x".repeat(1001);
    for list in ["ban", "allow"] {
        daemon
            .abuser(&[list, "add", "203.0.113.7", "--reason", &book])
            .complains(1, &["1001 bytes is too long"]);
        assert_eq!(daemon.json(&[list, "list"]), json!([]));
        daemon
            .abuser(&[list, "add", "203.0.113.7", "--reason", &book[1..]])
            .success();
    }
}

#[test]
fn a_ban_asked_for_again_without_a_time_is_not_shortened() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    ban(&daemon, &["add", "203.0.113.7", "--permanent"]).success();
    let again = daemon.json(&["ban", "add", "203.0.113.7"]);
    assert_eq!(again[0]["expires"], Value::Null);
    let shorter = daemon.json(&["ban", "add", "203.0.113.7", "--for", "1m"]);
    assert_ne!(shorter[0]["expires"], Value::Null);
    let forever = daemon.json(&["ban", "add", "203.0.113.7", "--for", "-1"]);
    assert_eq!(forever[0]["expires"], Value::Null);
}
