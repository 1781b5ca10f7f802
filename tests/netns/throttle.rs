//! A throttled client is cut to the stricter rate, and nobody else is, whatever becomes of limits and
//! daemon meanwhile.

use std::{fs, thread, time::Duration};

use abuser_common::layout::LAYOUT_VERSION;
use testkit::{Daemon, Wire};

use crate::support::{
    OTHER_V4, Sender, assert_limited, config, deliver, flood, number, server_for, settled, udp_v4,
    wire,
};

const SOURCE: &str = "192.0.2.10";

#[test]
fn a_throttled_client_is_cut_to_the_stricter_rate_and_one_beside_it_loses_nothing() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let tables = r#"
[[limit]]
name = "everyone"
protocol = "udp"
rate = "100000/s"
burst = 100000

[[limit]]
name = "slow"
protocol = "udp"
ports = [7]
rate = "200/s"
burst = 100
only = "throttled"

[ban]
maxretry = 1000
"#;
    let daemon = Daemon::start(&wire.server, &config(tables));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 500), 500);
    daemon
        .abuser(&["throttle", "add", SOURCE, "--limit", "slow", "--for", "1h"])
        .success();
    let target = server_for(OTHER_V4);
    let flooded = thread::scope(|scope| {
        let neighbour =
            scope.spawn(|| testkit::traffic::send_udp(&wire.client, OTHER_V4, target, 600.0, 3000));
        let flooded = flood(
            &wire.client,
            Wire::CLIENT_V4,
            5_000.0,
            Duration::from_secs(5),
        );
        neighbour.join().unwrap().unwrap();
        flooded
    });
    let arrived = settled(&server, Wire::CLIENT_V4) - 500;
    assert_limited(arrived, 200.0, 100.0, flooded.elapsed);
    assert_eq!(server.received_from(OTHER_V4), 3000);
    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/1/passed"), arrived);
    assert_eq!(number(&limits, "/1/dropped"), flooded.sent - arrived);

    daemon.abuser(&["throttle", "remove", SOURCE]).success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 500), 500);
}

/// What the limit lets through before it lets nothing through for an hour.
const BURST: u64 = 10;

const TIGHT: &str = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n\
                     only = \"throttled\"\n";

/// Limits that stand before another one, and so move it.
const OTHERS: [&str; 3] = [
    "",
    "[[limit]]\nname = \"first\"\nprotocol = \"udp\"\nrate = \"1000000/s\"\nburst = 1000\n",
    "[[limit]]\nname = \"second\"\nprotocol = \"udp\"\nrate = \"1000000/s\"\nburst = 1000\n\
     only = \"throttled\"\n[[limit]]\nname = \"third\"\nprotocol = \"tcp\"\nrate = \"1/h\"\n",
];

#[test]
fn not_one_packet_slips_through_while_limits_move_and_daemons_come_and_go() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(
        &wire.server,
        &config(&format!("{TIGHT}[ban]\nmaxretry = 1000\n")),
    );
    daemon
        .abuser(&["throttle", "add", SOURCE, "--limit", "tight", "--for", "1h"])
        .success();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    for others in OTHERS.into_iter().cycle().skip(1).take(9) {
        fs::write(
            daemon.config_path(),
            text.replace(TIGHT, &format!("{others}{TIGHT}")),
        )
        .unwrap();
        daemon.abuser(&["reload"]).success();
        sender.wait_for(200);
    }
    assert_eq!(settled(&server, Wire::CLIENT_V4), BURST, "reloads");

    // The next start adopts the maps, and the limit is another one's neighbour.
    daemon.kill();
    let others = OTHERS[1];
    fs::write(
        daemon.config_path(),
        text.replace(TIGHT, &format!("{others}{TIGHT}")),
    )
    .unwrap();
    sender.wait_for(200);
    daemon.restart();
    sender.wait_for(500);
    assert_eq!(settled(&server, Wire::CLIENT_V4), BURST, "a crash");

    // Another version's start makes maps of its own, whose buckets are full.
    daemon.kill();
    let folder = |version: u32| daemon.pin_dir().join(format!("v{version}"));
    fs::rename(folder(LAYOUT_VERSION), folder(LAYOUT_VERSION - 1)).unwrap();
    daemon.restart();
    sender.wait_for(500);
    assert_eq!(
        settled(&server, Wire::CLIENT_V4),
        2 * BURST,
        "another version"
    );
    drop(sender);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 200), 200);
}
