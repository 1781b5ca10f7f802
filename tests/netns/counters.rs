//! What `abuser` says that it counted is what the interface received.

use std::{net::Ipv4Addr, thread, time::Duration};

use serde_json::Value;
use testkit::{Daemon, FrameSender, Packet, Wire};

use crate::support::{OTHER_V4, PORT, config, eventually, number, outcome, udp_v4, wire};

const BANNED: &str = "203.0.113.99";

/// Two limits on two ports, one of which only observes, and a friend.
const LIMITS: &str = r#"
[[limit]]
name = "tight"
protocol = "udp"
ports = [7]
rate = "1/h"
burst = 9

[[limit]]
name = "watch"
protocol = "udp"
ports = [8]
rate = "1/h"
burst = 9
action = "observe"

[allow]
addresses = ["192.0.2.66"]
"#;

const OUTCOMES: [&str; 8] = [
    "passed",
    "not_ip",
    "malformed",
    "allowed",
    "observed",
    "dropped_limit",
    "dropped_ban",
    "dropped_hidden",
];

/// A wire on which nobody says a word unless a test does.
fn silent_wire() -> Wire {
    let wire = wire();
    for namespace in [&wire.server, &wire.client] {
        namespace
            .set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")
            .unwrap();
    }
    // Whoever is answered needs not be asked for.
    for client in [Wire::CLIENT_V4, OTHER_V4] {
        wire.server_end
            .set_neighbour(client, wire.client_end.mac())
            .unwrap();
    }
    wire
}

/// What the interface received and what `abuser status` counts, at a moment when neither
/// changes.
fn counts(wire: &Wire, daemon: &Daemon) -> (u64, u64) {
    let read = || {
        let received = wire.server_end.received().unwrap();
        let status = daemon.json(&["status"]);
        let counted = OUTCOMES.map(|name| number(&status, &format!("/outcomes/{name}/packets")));
        assert_eq!(
            status["outcomes"].as_object().unwrap().len(),
            OUTCOMES.len()
        );
        (received, counted.iter().sum())
    };
    let mut before = read();
    eventually("the wire is silent", || {
        thread::sleep(Duration::from_millis(100));
        let now = read();
        std::mem::replace(&mut before, now) == now
    });
    before
}

struct Sender<'w> {
    wire: &'w Wire,
    frames: FrameSender,
}

impl<'w> Sender<'w> {
    fn new(wire: &'w Wire) -> Self {
        let frames = FrameSender::open(&wire.client_end).unwrap();
        Self { wire, frames }
    }

    fn eth(&self) -> Packet {
        Packet::eth().macs(self.wire.client_end.mac(), self.wire.server_end.mac())
    }

    fn send(&self, count: u64, frame: &[u8]) {
        for _ in 0..count {
            self.frames.send(frame).unwrap();
        }
    }
}

fn drops(status: &Value) -> u64 {
    ["allowed", "observed", "dropped_limit", "dropped_ban"]
        .map(|name| number(status, &format!("/outcomes/{name}/packets")))
        .iter()
        .sum()
}

#[track_caller]
fn assert_all_is_counted(mode: &str) {
    let wire = silent_wire();
    let _server = udp_v4(&wire);
    let mode = format!("{LIMITS}[xdp]\nmode = \"{mode}\"\n");
    let daemon = Daemon::start(&wire.server, &config(&mode));
    daemon.abuser(&["ban", "add", BANNED]).success();
    let before = counts(&wire, &daemon);

    let sender = Sender::new(&wire);
    let udp = |source: &str, port| {
        let packet = sender.eth().ipv4(source).to(Wire::SERVER_V4);
        packet.udp(port).payload_len(32).build()
    };
    let limited = udp("192.0.2.10", PORT);
    sender.send(50, &limited);
    sender.send(60, &udp("192.0.2.66", PORT));
    sender.send(30, &udp("192.0.2.10", PORT + 1));
    sender.send(17, &udp("192.0.2.10", PORT + 2));
    sender.send(25, &udp(BANNED, PORT));
    sender.send(12, &sender.eth().payload_len(46).build());
    sender.send(8, &limited[..30]);
    sender.send(6, &limited[..36]);
    let tagged = sender.eth().vlan(1).vlan(2).vlan(3).vlan(4).vlan(5);
    let tagged = tagged.ipv4("192.0.2.10").udp(PORT).payload_len(32);
    sender.send(3, &tagged.build());
    let sent = 50 + 60 + 30 + 17 + 25 + 12 + 8 + 6 + 3;

    let after = counts(&wire, &daemon);
    assert_eq!(after.0 - before.0, sent, "frames received");
    assert_eq!(after.1 - before.1, sent, "frames counted");
    for (name, count) in [
        ("passed", 10 + 10 + 10 + 17),
        ("not_ip", 12),
        ("malformed", 8 + 6),
        ("allowed", 50),
        ("observed", 20),
        ("dropped_limit", 40),
        ("dropped_ban", 25),
        ("dropped_hidden", 3),
    ] {
        assert_eq!(outcome(&daemon, name), count, "{name}");
    }

    let limits = daemon.json(&["limits"]);
    let counted = |limit: usize| {
        ["passed", "dropped", "observed", "allowed", "sources"]
            .map(|key| number(&limits, &format!("/{limit}/{key}")))
    };
    assert_eq!(counted(0), [10 + 10, 40, 0, 50, 2]);
    assert_eq!(counted(1), [10, 0, 20, 0, 1]);

    let ban = &daemon.json(&["ban", "list"])[0];
    assert_eq!(number(ban, "/hits"), 25, "{ban:#}");
    let (created, hit) = (ban["created"].as_str(), ban["last_hit"].as_str());
    assert!(created.is_some() && hit > created, "{ban:#}");

    let status = daemon.json(&["status"]);
    let events =
        ["sent", "suppressed", "lost"].map(|key| number(&status["events"], &format!("/{key}")));
    assert_eq!(events.iter().sum::<u64>(), drops(&status), "{status:#}");
    // One for each source and cause.
    assert!(events[0] >= 4 && events[2] == 0, "{status:#}");
    assert_eq!(number(&status, "/buckets/active"), 3);
    assert_eq!(number(&status, "/buckets/evictions"), 0);
}

#[test]
fn every_frame_that_a_driver_receives_is_counted_once() {
    testkit::require_root!();
    assert_all_is_counted("driver");
}

#[test]
fn every_frame_that_the_network_stack_receives_is_counted_once() {
    testkit::require_root!();
    assert_all_is_counted("generic");
}

#[test]
fn every_source_has_a_bucket_or_is_counted_as_evicted() {
    /// More than two a set on average: a few sets have more than they have room for.
    const SOURCES: u32 = 600_000;
    /// Within the IP header, behind the one of Ethernet.
    const SOURCE_OFFSET: usize = 14 + 12;
    testkit::require_root!();
    let wire = silent_wire();
    let daemon = Daemon::start(&wire.server, &config(LIMITS));
    let sender = Sender::new(&wire);
    let mut frame = sender.eth().ipv4("11.0.0.0").udp(PORT).build();
    for number in 0..SOURCES {
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(11, 0, 0, 0).to_bits() + number);
        frame[SOURCE_OFFSET..SOURCE_OFFSET + 4].copy_from_slice(&source.octets());
        // A queue that is full drops a frame before anybody counts it.
        let _dropped = sender.frames.send(&frame);
    }
    counts(&wire, &daemon);
    let (status, limits) = (daemon.json(&["status"]), daemon.json(&["limits"]));
    let (active, evictions) = (
        number(&status, "/buckets/active"),
        number(&status, "/buckets/evictions"),
    );
    let passed = number(&limits, "/0/passed");
    assert!(passed > u64::from(SOURCES) / 10 * 9, "{limits:#}");
    assert_eq!(number(&limits, "/0/dropped"), 0, "one packet each");
    assert!(evictions > 0, "{status:#}");
    assert_eq!(active + evictions, passed, "{status:#}");
    assert_eq!(number(&limits, "/0/sources"), active);
    assert!(active < number(&status, "/buckets/capacity"));
}
