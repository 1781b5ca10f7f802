//! Observing drops nothing, and counts and reports what would have been dropped.

use testkit::{Daemon, Wire};

use crate::support::{banned, config, deliver, number, outcome, udp_v4, wire};

const SOURCE: &str = "192.0.2.10";

#[test]
fn a_daemon_that_observes_drops_nothing_and_reports_everything() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let tight = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n";
    let daemon = Daemon::start_with(&wire.server, &config(tight), &["--observe"]);
    assert_eq!(daemon.json(&["status"])["observe"], true);

    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
    assert_eq!(outcome(&daemon, "observed"), 90);
    daemon.abuser(&["ban", "add", SOURCE]).success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
    assert_eq!(outcome(&daemon, "observed"), 190);
    assert_eq!(number(&daemon.json(&["ban", "list"]), "/0/hits"), 100);
    assert_eq!(outcome(&daemon, "dropped_limit"), 0);
    assert_eq!(outcome(&daemon, "dropped_ban"), 0);
}

#[test]
fn a_limit_that_observes_bans_nobody_and_one_that_drops_does() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let limits = r#"
[[limit]]
name = "watch"
protocol = "udp"
rate = "1/h"
burst = 9
action = "observe"

[[limit]]
name = "cut"
protocol = "udp"
rate = "1/h"
burst = 149

[ban]
maxretry = 1
require_verified = false
"#;
    let daemon = Daemon::start(&wire.server, &config(limits));
    let events = crate::support::listen(&daemon);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
    let event = events.next();
    assert_eq!(
        (&event["kind"], &event["limit"], &event["source"]),
        (&"observe".into(), &"watch".into(), &SOURCE.into())
    );
    assert_eq!(outcome(&daemon, "observed"), 90);
    assert_eq!(banned(&daemon), [""; 0]);

    // The ban of the other limit comes while the rest of these are on their way.
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 50);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/0/dropped"), 0);
    assert_eq!(number(&limits, "/0/passed"), 10);
}
