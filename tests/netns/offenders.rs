//! Who goes over a limit in too many different seconds is banned without being asked for.
//!
//! Datagrams verify nobody, so these configurations believe every source address; what is
//! believed without being told to is in `verified`.

use serde_json::Value;
use testkit::{Daemon, Wire};

use crate::support::{
    OTHER_V4, Sender, banned, config, deliver, eventually, listen, settled, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

/// Milliseconds since midnight of an event's RFC 3339 time.
fn milliseconds(event: &Value) -> i64 {
    let time = event["time"].as_str().unwrap_or_default();
    let parts: Vec<i64> = time
        .split(['T', ':', '.', 'Z'])
        .filter_map(|part| part.parse().ok())
        .collect();
    let [hours, minutes, seconds, millis] = parts[..] else {
        panic!("no time with milliseconds in {event:#}");
    };
    ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis
}

#[test]
fn the_last_of_maxretry_offences_bans_within_50_ms() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let limit = r#"
[[limit]]
name = "polite"
protocol = "udp"
rate = "10/s"
burst = 10

[ban]
maxretry = 3
bantime = "10m"
require_verified = false
"#;
    let daemon = Daemon::start(&wire.server, &config(limit));
    let events = listen(&daemon);
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 500.0);

    let mut last = Value::Null;
    for number in 1..=3 {
        last = events.next();
        assert_eq!(
            (&last["kind"], &last["limit"], &last["source"]),
            (&"drop".into(), &"polite".into(), &SOURCE.into()),
            "offence {number}: {last:#}"
        );
    }
    let ban = events.next();
    assert_eq!(
        (&ban["kind"], &ban["limit"], &ban["source"]),
        (&"ban".into(), &"polite".into(), &"192.0.2.10/32".into()),
        "{ban:#}"
    );
    let took = (milliseconds(&ban) - milliseconds(&last)).rem_euclid(24 * 60 * 60 * 1000);
    assert!(took < 50, "{took} ms from {last:#} to {ban:#}");

    let arrived = settled(&server, Wire::CLIENT_V4);
    sender.wait_for(200);
    assert_eq!(settled(&server, Wire::CLIENT_V4), arrived);
    let bans = daemon.json(&["ban", "list"]);
    let entry = &bans[0];
    assert_eq!(
        (&entry["cause"], &entry["limit"], &entry["offences"]),
        (&"limit".into(), &"polite".into(), &3.into()),
        "{bans:#}"
    );
    assert_eq!(deliver(&wire, &server, OTHER_V4, 10), 10);
}

#[test]
fn offences_of_one_second_count_once() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let limit = "[[limit]]\nname = \"one\"\nprotocol = \"udp\"\nrate = \"1/h\"\n[ban]\nmaxretry = 2\n\
                 require_verified = false\n";
    let daemon = Daemon::start(&wire.server, &config(limit));
    // A thousand drops, all within a quarter of a second or so.
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 500), 1);
    assert_eq!(banned(&daemon), [""; 0]);
    let _sender = Sender::start(&wire, Wire::CLIENT_V4, 100.0);
    eventually("the second offence bans", || {
        banned(&daemon) == ["192.0.2.10/32"]
    });
}

#[test]
fn a_ban_for_offences_ends_after_bantime_and_removal_forgives() {
    testkit::require_root!();
    let wire = wire();
    let _server = udp_v4(&wire);
    let limit = r#"
[[limit]]
name = "one"
protocol = "udp"
rate = "1/h"

[ban]
maxretry = 1
bantime = "1s"
increment = true
require_verified = false
"#;
    let daemon = Daemon::start(&wire.server, &config(limit));
    let events = listen(&daemon);
    let _sender = Sender::start(&wire, Wire::CLIENT_V4, 100.0);
    // Bans and their ends take turns.
    let next = |kind: &str| {
        loop {
            let event = events.next();
            if event["kind"] == "ban" || event["kind"] == "unban" {
                assert_eq!(event["kind"], kind, "{event:#}");
                return event;
            }
        }
    };
    let first = next("ban");
    let end = next("unban");
    assert_eq!(
        (&end["reason"], &end["source"]),
        (&"expired".into(), &first["source"])
    );
    let reason = next("ban")["reason"].to_string();
    assert!(reason.contains("banned 1 time before"), "{reason}");

    daemon.abuser(&["ban", "remove", SOURCE]).success();
    assert_eq!(next("unban")["reason"], "removed by root");
    let reason = next("ban")["reason"].to_string();
    assert!(!reason.contains("before"), "{reason}");
}
