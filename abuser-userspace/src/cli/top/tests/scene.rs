//! A lively daemon, as it tells of itself, always the same.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{model::Model, snapshot::Snapshot};

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn status(passed: u64, limited: u64) -> Value {
    json!({
        "version": "0.1.0", "pid": 4711, "started": "2026-11-23T19:30:00.000Z",
        "uptime_seconds": 7390, "observe": false, "confirm_by": null,
        "interfaces": [
            {"name": "eth0", "configured": "eth0", "state": "attached", "index": 2,
             "mode": "driver", "program_id": 7, "error": null},
            {"name": "eth1", "configured": "eth1", "state": "missing", "index": null,
             "mode": null, "program_id": null, "error": null},
        ],
        "outcomes": {
            "passed": {"packets": passed, "bytes": passed * 800},
            "not_ip": {"packets": 10, "bytes": 600},
            "malformed": {"packets": 0, "bytes": 0},
            "allowed": {"packets": 50, "bytes": 5000},
            "observed": {"packets": 0, "bytes": 0},
            "dropped_limit": {"packets": limited, "bytes": limited * 64},
            "dropped_ban": {"packets": limited * 3, "bytes": limited * 3 * 64},
            "dropped_hidden": {"packets": 0, "bytes": 0},
        },
        "events": {"sent": 100, "suppressed": 5000, "lost": 0},
        "buckets": {"capacity": 2_097_152, "active": 41_943, "evictions": 0},
        "lookups": {"total": 10, "connected": 9},
        "verified": {"capacity": 65_536, "sources": 3},
        "store": {"path": "/var/lib/abuser/abuser.db", "error": null, "failed": null, "damaged": []},
        "security": {"sandbox": "on", "capabilities": ["CAP_BPF", "CAP_NET_ADMIN"],
                     "no_new_privileges": true, "landlock": 7, "seccomp": true},
        "pins": {"path": "/sys/fs/bpf/abuser", "error": null, "failed": null, "repairs": 0},
        "reconciler": {"passes": 3, "kernel_repairs": 0, "store_repairs": 0},
        "blocklists": [], "crowdsec": null, "fleet": null, "notify": [],
        "capacity": {"limits": 64, "bans": 1_048_576, "allow": 16_384, "throttles": 65_536},
        "limits": 2, "bans": 12_003, "allow": 4, "throttles": 1,
    })
}

fn limit(name: &str, rate: &str, count: &str, dropped: u64) -> Value {
    json!({
        "name": name, "protocol": "tcp", "ports": ["443"], "count": count, "rate": rate,
        "burst": 20, "action": "drop", "ipv4_prefix": 32, "ipv6_prefix": 64, "only": null,
        "passed": 100_000, "dropped": dropped, "observed": 0, "allowed": 7, "contended": 0,
        "bytes": {"passed": 0, "dropped": 0, "observed": 0, "allowed": 0}, "sources": 812,
    })
}

fn source(source: &str, recent: u32, left: u64) -> Value {
    json!({
        "source": source, "recent": recent, "rate": f64::from(recent) / 60.0, "dropped": u64::from(recent) * 3,
        "observed": 0, "allowed": 0, "since": "2026-11-23T19:30:00.000Z",
        "last": "2026-11-23T19:42:00.000Z", "verified": true,
        "level": {"limit": "api", "source": source, "count": "connections", "rate": "60/h",
                  "capacity": 21, "left": left, "action": "drop"},
        "ban": null, "allow": false, "throttled": [],
    })
}

fn ban(id: u64, source: &str, seconds: Option<u64>, cause: &str, reason: &str) -> Value {
    json!({
        "id": id, "source": source, "created": "2026-11-23T19:30:00.000Z",
        "expires": seconds.map(|_| "2026-11-23T20:30:00.000Z"), "remaining_seconds": seconds,
        "cause": cause, "limit": (cause == "limit").then_some("api"),
        "blocklist": (cause == "blocklist").then_some("spam"),
        "detector": (cause == "detector").then_some("login"),
        "policy": null, "offences": 5, "reason": reason,
        "by": (cause == "manual").then_some("root"), "hits": 1_234 * id, "last_hit": null,
    })
}

/// How it stands, by how much was counted.
pub(super) fn snapshot(passed: u64, limited: u64) -> Snapshot {
    let mut banned = source("203.0.113.66/32", 120_000, 0);
    banned["ban"] = json!({
        "id": 1, "source": "203.0.113.66/32", "cause": "limit",
        "expires": "2026-11-23T20:30:00.000Z", "remaining_seconds": 593,
    });
    let mut allowed = source("10.0.0.5/32", 50, 2);
    allowed["allow"] = json!(true);
    let mut forged = source("198.51.100.0/24", 7_000, 0);
    forged["verified"] = json!(false);
    Snapshot {
        status: read(status(passed, limited)),
        limits: vec![
            read(limit("api", "60/h", "connections", limited)),
            read(limit("flood", "100k/s", "packets", 0)),
        ],
        top: read(json!({
            "time": "2026-11-23T19:42:00.000Z", "window_seconds": 60, "remembered": 5,
            "capacity": 4096,
            "sources": [
                banned, forged, source("2001:db8:1234:5678::/64", 900, 0), allowed,
                source("192.0.2.9/32", 0, 5),
            ],
        })),
        bans: vec![
            read(ban(
                1,
                "203.0.113.66/32",
                Some(593),
                "limit",
                "5 offences against limit api",
            )),
            read(ban(
                2,
                "192.0.2.200/32",
                Some(3_600),
                "detector",
                "20 log-ins failed \u{1b}[2J\u{202e}",
            )),
            read(ban(
                3,
                "198.51.100.7/32",
                Some(86_400),
                "manual",
                "\u{4f60}\u{597d} scanner",
            )),
            read(ban(4, "2001:db8:bad::/48", None, "blocklist", "listed")),
        ],
        detection: read(json!({
            "error": null,
            "sources": [{
                "name": "nginx", "parser": "nginx", "files": 1, "lines": passed, "bytes": 9,
                "lag_bytes": 0, "lost": 0, "cut": 0, "unparsed": 3, "unparsed_sample": null,
                "unparsed_error": null, "stale": 0, "ahead": 0, "last": null, "error": null,
            }],
            "detectors": [{
                "name": "login", "kind": "threshold", "action": "ban", "sources": ["nginx"],
                "matched": limited, "found": 4, "tracked": 12, "capacity": 65_536, "evicted": 0,
            }],
        })),
    }
}

/// What is known of it after some seconds.
pub(super) fn model() -> Model {
    let mut model = Model::default();
    let (mut passed, mut limited) = (1_000_000, 5_000);
    for second in 0..90_u64 {
        model.take(snapshot(passed, limited), Duration::from_secs(second));
        passed += 20_000 + second * 100;
        limited += (second * 37) % 400;
    }
    for (kind, source, reason) in [
        ("detect", "192.0.2.200/32", "20 log-ins failed"),
        ("ban", "203.0.113.66/32", "5 offences against limit api"),
    ] {
        model.note(read(json!({
            "time": "2026-11-23T19:42:09.831Z", "kind": kind, "interface": null, "source": source,
            "protocol": null, "port": null, "limit": null, "ban": null, "drops": null,
            "verified": null, "bytes": null, "expires": null, "reason": reason,
            "detector": (kind == "detect").then_some("login"),
            "action": (kind == "detect").then_some("ban"),
        })));
    }
    model
}
