//! Nobody is banned for what others sent in their name, and whoever speaks for himself is.
//!
//! The configurations leave `require_verified` at its default, except where a test says so.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{
    Daemon, FrameSender, Packet, Wire,
    packet::flags,
    traffic::{Pace, TcpEcho},
};

use crate::support::{
    Events, OTHER_V4, PORT, Talk, banned, config, deliver, eventually, listen, number, server_for,
    udp_v4, wire,
};

const CONNECTIONS: &str = "count = \"connections\"\nrate = \"1/h\"\nburst = 3\n";
const PACKETS: &str = "rate = \"1/h\"\nburst = 30\n";
/// Two offences, so that one event would not do.
const BAN: &str = "maxretry = 2\n";

fn limited(limit: &str, ban: &str) -> String {
    config(&format!("[[limit]]\nname = \"tight\"\n{limit}[ban]\n{ban}"))
}

fn echo(wire: &Wire, client: IpAddr) -> TcpEcho {
    TcpEcho::start(&wire.server, server_for(client))
}

/// A host whose address is forged; it exists, has no connection, and is not asked.
fn victim_v6(wire: &Wire) -> IpAddr {
    wire.add_client("2001:db8:0:2::66/32");
    "2001:db8:0:2::66".parse().unwrap()
}

/// Someone at the client's end who goes on sending frames in another's name.
struct Forger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forger {
    /// Sends what `frame` makes of a packet from `victim` and a number that counts up.
    fn start(wire: &Wire, victim: IpAddr, frame: fn(Packet, u16) -> Packet) -> Self {
        const PER_SECOND: f64 = 400.0;
        let sender = FrameSender::open(&wire.client_end).unwrap();
        let forged = Packet::eth()
            .macs(wire.client_end.mac(), wire.server_end.mac())
            .ip(victim)
            .to(server_for(victim).ip());
        let stop = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut pace = Pace::per_second(PER_SECOND);
            for number in (0..=u16::MAX).cycle() {
                if ours.load(Ordering::Relaxed) {
                    return;
                }
                pace.wait();
                sender.send(&frame(forged.clone(), number).build()).unwrap();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its panic was printed where it happened; a second one here would abort.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// Attempts to connect, each followed by segments as if it had been answered.
fn handshakes(packet: Packet, number: u16) -> Packet {
    let packet = packet.tcp(PORT).from_port(10_000 + number / 4 % 10_000);
    match number % 4 {
        0 => packet.syn(),
        1 => packet,
        2 => packet.flags(flags::ACK | flags::PSH).payload_len(10),
        _ => packet.from_port(30_000).syn(),
    }
}

/// Datagrams and segments in the midst of nothing.
fn segments(packet: Packet, number: u16) -> Packet {
    let port = 10_000 + number % 10_000;
    if number.is_multiple_of(2) {
        packet.udp(PORT).from_port(port)
    } else {
        packet.tcp(PORT).from_port(port)
    }
}

/// The next drop under the limit.
#[track_caller]
fn next_drop(events: &Events) -> Value {
    loop {
        let event = events.next();
        assert_ne!(event["kind"], "ban", "{event:#}");
        if event["kind"] == "drop" {
            return event;
        }
    }
}

/// Asserts that a flood in the name of `victim` is held back and reported, without a ban.
#[track_caller]
fn assert_not_banned(wire: &Wire, limit: &str, victim: IpAddr, frame: fn(Packet, u16) -> Packet) {
    let _server = echo(wire, victim);
    let daemon = Daemon::start(&wire.server, &limited(limit, BAN));
    let events = listen(&daemon);
    let forger = Forger::start(wire, victim, frame);
    // Twice as many as ban whoever is believed.
    for _ in 0..4 {
        let drop = next_drop(&events);
        assert_eq!(drop["source"], victim.to_string(), "{drop:#}");
        assert_eq!(drop["limit"], "tight", "{drop:#}");
        assert_eq!(drop["verified"], false, "{drop:#}");
    }
    drop(forger);
    assert_eq!(banned(&daemon), [""; 0]);
    let limits = daemon.json(&["limits"]);
    assert!(number(&limits, "/0/dropped") > 100, "{limits:#}");
    let status = daemon.json(&["status"]);
    assert_eq!(number(&status, "/lookups/connected"), 0);
    assert_eq!(number(&status, "/verified/sources"), 0);
}

#[test]
fn forged_connection_attempts_ban_nobody() {
    testkit::require_root!();
    let wire = wire();
    assert_not_banned(&wire, CONNECTIONS, OTHER_V4, handshakes);
}

#[test]
fn forged_connection_attempts_over_ipv6_ban_nobody() {
    testkit::require_root!();
    let wire = wire();
    let victim = victim_v6(&wire);
    assert_not_banned(&wire, CONNECTIONS, victim, handshakes);
}

#[test]
fn forged_datagrams_and_segments_ban_nobody() {
    testkit::require_root!();
    let wire = wire();
    assert_not_banned(&wire, PACKETS, OTHER_V4, segments);
}

#[test]
fn forged_datagrams_and_segments_over_ipv6_ban_nobody() {
    testkit::require_root!();
    let wire = wire();
    let victim = victim_v6(&wire);
    assert_not_banned(&wire, PACKETS, victim, segments);
}

#[test]
fn a_connected_client_is_not_banned_for_what_others_send_in_its_name() {
    testkit::require_root!();
    let wire = wire();
    let _server = echo(&wire, OTHER_V4);
    let daemon = Daemon::start(&wire.server, &limited(PACKETS, BAN));
    let events = listen(&daemon);
    let mut talks = [(); 3].map(|()| Talk::open(&wire, OTHER_V4));
    for talk in &mut talks {
        talk.works();
    }
    let forger = Forger::start(&wire, OTHER_V4, segments);
    for _ in 0..2 {
        let drop = next_drop(&events);
        assert_eq!(drop["verified"], false, "{drop:#}");
    }
    drop(forger);
    // Now its own packets are over the limit, and they are verified.
    let mut own = 0;
    for talk in &mut talks {
        // One event a second.
        thread::sleep(Duration::from_millis(1100));
        talk.say(b"is anybody there?");
        own += u32::from(next_drop(&events)["verified"] == true);
    }
    assert!(own >= 2, "{own} events of three were the client's own");
    assert_eq!(banned(&daemon), [""; 0]);
}

#[test]
fn whoever_asks_for_it_has_forged_sources_banned() {
    testkit::require_root!();
    let believing = format!("{BAN}require_verified = false\n");
    for (limit, frame) in [
        (CONNECTIONS, handshakes as fn(Packet, u16) -> Packet),
        (PACKETS, segments),
    ] {
        let wire = wire();
        let _server = echo(&wire, OTHER_V4);
        let daemon = Daemon::start(&wire.server, &limited(limit, &believing));
        let _forger = Forger::start(&wire, OTHER_V4, frame);
        eventually("the victim is banned", || {
            banned(&daemon) == ["192.0.2.66/32"]
        });
    }
}

/// Asserts that `client` is banned as `prefix` for what `abuse` does again and again, and
/// that all of its offences were known to be its own.
#[track_caller]
fn assert_banned(
    wire: &Wire,
    limit: &str,
    (client, prefix): (IpAddr, &str),
    mut abuse: impl FnMut(),
) {
    const BANNED_WITHIN: Duration = Duration::from_secs(10);
    let server = echo(wire, client);
    let daemon = Daemon::start(&wire.server, &limited(limit, BAN));
    let started = Instant::now();
    loop {
        let look = Instant::now();
        if !banned(&daemon).is_empty() {
            break;
        }
        assert!(
            started.elapsed() < testkit::guest::patience(BANNED_WITHIN),
            "no ban; {:#}, {:#}",
            daemon.json(&["status"]),
            daemon.json(&["limits"])
        );
        // For as long as a look takes: in a guest that is half a second.
        let enough = Instant::now() + look.elapsed();
        abuse();
        while Instant::now() < enough {
            abuse();
        }
    }
    assert!(server.bytes() > 0, "the client never spoke");
    assert_eq!(banned(&daemon), [prefix]);
    // Under a limit of packets the connection itself is looked up.
    let noted = u64::from(limit == CONNECTIONS);
    assert_eq!(
        number(&daemon.json(&["status"]), "/verified/sources"),
        noted
    );
    let ban = &daemon.json(&["ban", "list"])[0];
    assert_eq!(ban["limit"], "tight", "{ban:#}");
}

const REAL: [(IpAddr, &str); 2] = [
    (Wire::CLIENT_V4, "192.0.2.10/32"),
    (Wire::CLIENT_V6, "2001:db8:0:1::/64"),
];

#[test]
fn a_client_whose_connection_goes_over_a_packet_limit_is_banned() {
    testkit::require_root!();
    for client in REAL {
        let wire = wire();
        let mut talk = None;
        assert_banned(&wire, PACKETS, client, || {
            let talk = talk.get_or_insert_with(|| Talk::open(&wire, client.0));
            talk.say(b"more");
            let _heard = talk.hears(b"more", Duration::from_millis(20));
        });
    }
}

#[test]
fn a_client_that_speaks_and_opens_too_many_connections_is_banned() {
    testkit::require_root!();
    for client in REAL {
        let wire = wire();
        let mut talks = Vec::new();
        assert_banned(&wire, CONNECTIONS, client, || {
            if let Ok(talk) = Talk::try_open(&wire, client.0, Duration::from_millis(50)) {
                talks.push(talk);
            }
            for talk in &mut talks {
                talk.say(b"more");
                // It may be banned by now.
                let _heard = talk.hears(b"more", Duration::from_millis(20));
            }
        });
    }
}

#[test]
fn a_client_whose_connections_are_short_and_rare_is_banned_all_the_same() {
    testkit::require_root!();
    for client in REAL {
        let wire = wire();
        assert_banned(&wire, CONNECTIONS, client, || {
            // Its first segment comes before there is a connection, and the others at once.
            let pause = Duration::from_millis(1100);
            if let Ok(mut talk) = Talk::try_open(&wire, client.0, Duration::from_millis(50)) {
                talk.say(b"hello");
                let _heard = talk.hears(b"hello", Duration::from_millis(100));
            }
            thread::sleep(pause);
        });
    }
}

#[test]
fn a_victim_whose_name_is_forged_is_served_by_the_limits_it_has_not_met() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let _echo = echo(&wire, OTHER_V4);
    let daemon = Daemon::start(&wire.server, &limited(CONNECTIONS, BAN));
    let events = listen(&daemon);
    let _forger = Forger::start(&wire, OTHER_V4, handshakes);
    for _ in 0..3 {
        next_drop(&events);
    }
    assert_eq!(deliver(&wire, &server, OTHER_V4, 50), 50);
}
