//! The allow list beats every drop.

use testkit::{Daemon, Wire};

use crate::support::{OTHER_V4, config, deliver, number, outcome, udp_v4, wire};

const TIGHT: &str = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n";

#[test]
fn an_allowed_source_is_neither_limited_nor_kept_out_by_a_ban() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let allow = format!("[allow]\naddresses = [\"192.0.2.10\"]\n{TIGHT}[ban]\nmaxretry = 1\n");
    let daemon = Daemon::start(&wire.server, &config(&allow));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
    assert_eq!(outcome(&daemon, "allowed"), 90);
    assert_eq!(number(&daemon.json(&["limits"]), "/0/allowed"), 90);

    daemon
        .abuser(&["ban", "add", "192.0.2.10", "192.0.2.0/24"])
        .success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
    assert_eq!(outcome(&daemon, "allowed"), 190);
    assert_eq!(outcome(&daemon, "dropped_ban"), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 100), 0);
}

#[test]
fn allowing_while_the_daemon_runs_takes_effect_at_once_and_ends_as_promptly() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", "192.0.2.0/24"]).success();
    let arrive = |source| deliver(&wire, &server, source, 20);
    assert_eq!(arrive(Wire::CLIENT_V4), 0);

    daemon.abuser(&["allow", "add", "192.0.2.8/29"]).success();
    assert_eq!((arrive(Wire::CLIENT_V4), arrive(OTHER_V4)), (20, 0));
    daemon.abuser(&["allow", "add", "192.0.2.66"]).success();
    assert_eq!((arrive(Wire::CLIENT_V4), arrive(OTHER_V4)), (20, 20));
    daemon
        .abuser(&["allow", "remove", "192.0.2.8/29"])
        .success();
    assert_eq!((arrive(Wire::CLIENT_V4), arrive(OTHER_V4)), (0, 20));
}
