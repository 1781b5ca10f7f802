//! `status` and `limits`, and what a pipe gets of tables.

use serde_json::{Value, json};
use testkit::require_root;

use crate::support::{assert_keys, daemon_on_lo};

const LIMITS: &str = r#"
[[limit]]
name = "api"
protocol = "tcp"
ports = [80, "8000-8100"]
count = "connections"
rate = "60/m"
burst = 20
[[limit]]
name = "watch"
rate = "5k/s"
action = "observe"
"#;

#[test]
fn status_has_every_documented_key() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let status = daemon.json(&["status"]);
    assert_keys(
        &status,
        &[
            "version",
            "pid",
            "started",
            "uptime_seconds",
            "observe",
            "confirm_by",
            "interfaces",
            "outcomes",
            "events",
            "buckets",
            "lookups",
            "verified",
            "store",
            "pins",
            "reconciler",
            "blocklists",
            "crowdsec",
            "fleet",
            "notify",
            "security",
            "capacity",
            "limits",
            "bans",
            "allow",
            "throttles",
        ],
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["observe"], false);
    assert_eq!(status["limits"], 2);
    assert!(
        status["started"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert!(status["uptime_seconds"].is_u64());

    assert_keys(&status["events"], &["sent", "suppressed", "lost"]);
    assert_keys(&status["buckets"], &["capacity", "active", "evictions"]);
    assert_keys(&status["lookups"], &["total", "connected"]);
    assert_keys(&status["verified"], &["capacity", "sources"]);
    assert_keys(&status["store"], &["path", "error", "failed", "damaged"]);
    assert_eq!(status["store"]["error"], serde_json::Value::Null);
    assert_keys(&status["pins"], &["path", "error", "failed", "repairs"]);
    assert_keys(
        &status["reconciler"],
        &["passes", "kernel_repairs", "store_repairs"],
    );
    assert_keys(
        &status["capacity"],
        &["limits", "bans", "allow", "throttles"],
    );
    assert_eq!(status["capacity"]["bans"], 1 << 20);
    let interfaces = status["interfaces"].as_array().expect("a list");
    assert_eq!(interfaces.len(), 1);
    assert_keys(
        &interfaces[0],
        &[
            "name",
            "configured",
            "state",
            "index",
            "mode",
            "program_id",
            "dispatcher",
            "outcomes",
            "error",
        ],
    );
    assert_eq!(interfaces[0]["state"], "attached");
    assert_eq!(interfaces[0]["name"], "lo");
    // The loopback device has no driver to run it in.
    assert_eq!(interfaces[0]["mode"], "generic");

    for outcome in [
        "passed",
        "not_ip",
        "malformed",
        "allowed",
        "observed",
        "dropped_limit",
        "dropped_ban",
        "dropped_hidden",
    ] {
        let counted = &status["outcomes"][outcome];
        assert_keys(counted, &["packets", "bytes"]);
        assert!(
            counted["packets"].is_u64() && counted["bytes"].is_u64(),
            "{outcome}"
        );
    }
}

#[test]
fn limits_are_told_as_they_were_configured() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let limits = daemon.json(&["limits"]);
    let counted = |limit: &Value| {
        [
            "passed",
            "dropped",
            "observed",
            "allowed",
            "contended",
            "sources",
        ]
        .into_iter()
        .all(|key| limit[key].is_u64())
    };
    assert!(
        limits.as_array().expect("a list").iter().all(counted),
        "{limits}"
    );
    assert_keys(
        &limits[0],
        &[
            "name",
            "protocol",
            "ports",
            "count",
            "rate",
            "burst",
            "action",
            "ipv4_prefix",
            "ipv6_prefix",
            "only",
            "passed",
            "dropped",
            "observed",
            "allowed",
            "contended",
            "bytes",
            "sources",
        ],
    );
    assert_keys(
        &limits[0]["bytes"],
        &["passed", "dropped", "observed", "allowed"],
    );
    for (key, value) in [
        ("name", json!("api")),
        ("protocol", json!("tcp")),
        ("ports", json!(["80", "8000-8100"])),
        ("count", json!("connections")),
        ("rate", json!("60/m")),
        ("burst", json!(20)),
        ("action", json!("drop")),
        ("ipv4_prefix", json!(32)),
        ("ipv6_prefix", json!(64)),
    ] {
        assert_eq!(limits[0][key], value, "{key}");
    }
    assert_eq!(limits[1]["rate"], "5000/s");
    assert_eq!(limits[1]["ports"], json!([]));
    assert_eq!(limits[1]["protocol"], "any");
    assert_eq!(limits[1]["action"], "observe");
}

#[test]
fn a_pipe_gets_columns_between_tabs_and_no_header() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let said = daemon.abuser(&["limits"]).success();
    let rows: Vec<Vec<_>> = said
        .stdout
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 2, "{said}");
    assert!(rows.iter().all(|row| row.len() == 11), "{said}");
    assert_eq!(
        rows[0][..4],
        ["api", "tcp", "80,8000-8100", "60/m connections"]
    );

    daemon
        .abuser(&[
            "ban",
            "add",
            "203.0.113.7",
            "--permanent",
            "--reason",
            "why",
        ])
        .success();
    let said = daemon.abuser(&["ban", "list"]).success();
    assert_eq!(said.stdout, "203.0.113.7/32\tpermanent\t0\tmanual\twhy\n");
    assert_eq!(said.stderr, "");
}

#[test]
fn status_for_people_names_what_is_protected() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    let said = daemon.abuser(&["status"]).success();
    assert!(
        said.stdout.contains(&format!("process {}", daemon.pid())),
        "{said}"
    );
    assert!(
        said.stdout.contains("protects lo in generic mode"),
        "{said}"
    );
    assert!(
        said.stdout.contains("2 limits, 0 bans, 0 allow entries"),
        "{said}"
    );
    assert!(
        said.stdout
            .lines()
            .any(|line| line.starts_with("dropped_ban\t0\t0")),
        "{said}"
    );
    assert_eq!(said.stderr, "");
}

#[test]
fn json_in_a_pipe_is_one_line() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(LIMITS);
    for command in [
        &["status"][..],
        &["limits"],
        &["ban", "list"],
        &["allow", "list"],
        &["throttle", "list"],
    ] {
        let said = daemon.abuser(&[command, &["--json"]].concat()).success();
        assert_eq!(said.stdout.lines().count(), 1, "{said}");
        assert_eq!(said.stderr, "", "{said}");
    }
}
