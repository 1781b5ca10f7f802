//! A limit cuts a source to its rate, and nobody else.

use std::{thread, time::Duration};

use testkit::{Daemon, Wire};

use crate::support::{
    OTHER_V4, assert_limited, config, deliver, flood, number, outcome, server_for, settled, udp_v4,
    wire,
};

/// 1000 a second; the burst is what the flood's sender may be kept from running for, half a
/// second on a busy machine, without losing a token.
const THOUSAND: &str = r#"
[[limit]]
name = "thousand"
protocol = "udp"
ports = [7]
rate = "1000/s"
burst = 500

[ban]
maxretry = 1000
"#;

#[test]
fn a_client_within_the_limit_loses_nothing() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(THOUSAND));
    let target = server_for(Wire::CLIENT_V4);
    testkit::traffic::send_udp(&wire.client, Wire::CLIENT_V4, target, 800.0, 1600).unwrap();
    assert_eq!(settled(&server, Wire::CLIENT_V4), 1600);

    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/0/passed"), 1600);
    assert_eq!(number(&limits, "/0/dropped"), 0);
}

#[test]
fn a_flood_is_cut_to_the_rate_and_a_client_beside_it_loses_nothing() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(THOUSAND));
    let target = server_for(OTHER_V4);
    let flooded = thread::scope(|scope| {
        let neighbour =
            scope.spawn(|| testkit::traffic::send_udp(&wire.client, OTHER_V4, target, 300.0, 1500));
        let flooded = flood(
            &wire.client,
            Wire::CLIENT_V4,
            20_000.0,
            Duration::from_secs(5),
        );
        neighbour.join().unwrap().unwrap();
        flooded
    });
    let arrived = settled(&server, Wire::CLIENT_V4);
    assert!(flooded.sent > 5 * arrived, "no flood: {flooded:?}");
    assert_limited(arrived, 1000.0, 500.0, flooded.elapsed);
    assert_eq!(server.received_from(OTHER_V4), 1500);

    // Every packet is accounted for.
    assert_eq!(outcome(&daemon, "dropped_limit"), flooded.sent - arrived);
    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/0/passed"), arrived + 1500);
    assert_eq!(number(&limits, "/0/dropped"), flooded.sent - arrived);
}

#[test]
fn a_burst_and_one_more_pass_at_once_and_then_one_each_period() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let slow = "[[limit]]\nname = \"slow\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 20\n";
    let _daemon = Daemon::start(&wire.server, &config(slow));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 200), 21);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 200), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 200), 21);
}

#[test]
fn a_limit_on_a_port_leaves_other_ports_and_protocols_alone() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let elsewhere = r#"
[[limit]]
name = "port"
protocol = "udp"
ports = [53, "8000-8999"]
rate = "1/h"

[[limit]]
name = "protocol"
protocol = "tcp"
rate = "1/h"
"#;
    let daemon = Daemon::start(&wire.server, &config(elsewhere));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 200), 200);
    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/0/passed"), 0);
    assert_eq!(number(&limits, "/1/passed"), 0);
}
