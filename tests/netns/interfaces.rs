//! What is counted on one interface is not another's.

use abuser_common::{
    interface::Entry,
    layout::{LAYOUT_VERSION, maps},
};
use aya::maps::{Array, Map, MapData};
use serde_json::Value;
use testkit::{Daemon, FrameSender, Interface, Packet, Wire, veth};

use crate::support::{PORT, eventually, lay_again, number, wire};

const BANNED: &str = "203.0.113.99";
const LIMIT: &str = "interfaces = [\"veth-server\", \"veth-second\"]\n\
                     [[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nports = [7]\nrate = \"1/h\"\n\
                     burst = 4\n[ban]\nmaxretry = 1000\n";

/// A second cable, and a daemon that protects both.
struct Site {
    wire: Wire,
    second: (Interface, Interface),
    daemon: Daemon,
}

fn second(wire: &Wire) -> (Interface, Interface) {
    veth(&wire.server, "veth-second", &wire.client, "veth-other").unwrap()
}

/// Without IPv6 nobody says a word unless a test does, but to ask for addresses.
fn set_ipv6(wire: &Wire, on: bool) {
    for namespace in [&wire.server, &wire.client] {
        let off = if on { "0" } else { "1" };
        let name = "net/ipv6/conf/all/disable_ipv6";
        namespace.set_sysctl(name, off).unwrap();
    }
}

/// Sends datagrams into a cable; the length of each frame.
fn send(ends: (&Interface, &Interface), source: &str, port: u16, count: u64) -> u64 {
    let (server, client) = ends;
    let packet = Packet::eth().macs(client.mac(), server.mac());
    let packet = packet.ipv4(source).to(Wire::SERVER_V4).udp(port);
    let frame = packet.payload_len(usize::from(port) * 10).build();
    let sender = FrameSender::open(client).unwrap();
    for _ in 0..count {
        sender.send(&frame).unwrap();
    }
    frame.len() as u64
}

impl Site {
    fn new(more: &str) -> Self {
        let wire = wire();
        set_ipv6(&wire, false);
        let second = second(&wire);
        let daemon = Daemon::start(&wire.server, &format!("{LIMIT}{more}"));
        daemon.abuser(&["ban", "add", BANNED]).success();
        Self {
            wire,
            second,
            daemon,
        }
    }

    fn send_first(&self, source: &str, port: u16, count: u64) -> u64 {
        let ends = (&self.wire.server_end, &self.wire.client_end);
        send(ends, source, port, count)
    }

    fn send_second(&self, source: &str, port: u16, count: u64) -> u64 {
        send((&self.second.0, &self.second.1), source, port, count)
    }

    /// What is counted on the interface of this name.
    fn on(&self, name: &str) -> Value {
        let status = self.daemon.json(&["status"]);
        let interfaces = status["interfaces"].as_array().unwrap();
        let mut named = interfaces.iter().filter(|one| one["name"] == name);
        let found = named.next().cloned().unwrap_or_default();
        found["outcomes"].clone()
    }

    /// Waits until so many packets and bytes of one outcome were counted there.
    #[track_caller]
    fn becomes(&self, name: &str, outcome: &str, packets: u64, bytes: u64) {
        let counted = || {
            let on = self.on(name);
            (
                on[outcome]["packets"].as_u64(),
                on[outcome]["bytes"].as_u64(),
            )
        };
        eventually(
            &format!(
                "{packets} {outcome} with {bytes} bytes on {name}; {:?}",
                counted()
            ),
            || counted() == (Some(packets), Some(bytes)),
        );
    }

    /// How many interfaces have counters of their own.
    fn counted(&self) -> usize {
        let folder = self.daemon.pin_dir().join(format!("v{LAYOUT_VERSION}"));
        let data = MapData::from_pin(folder.join(maps::INTERFACES)).unwrap();
        let entries: Array<_, Entry> = Array::try_from(Map::Array(data)).unwrap();
        let entries = entries.iter().map(Result::unwrap);
        entries.filter(|entry| *entry != Entry::default()).count()
    }

    fn in_all(&self, outcome: &str) -> u64 {
        let status = self.daemon.json(&["status"]);
        number(&status, &format!("/outcomes/{outcome}/packets"))
    }
}

#[test]
fn packets_and_bytes_are_counted_on_the_interface_that_they_came_in_on() {
    testkit::require_root!();
    for mode in ["driver", "generic"] {
        let site = Site::new(&format!("[xdp]\nmode = \"{mode}\"\n"));
        let limited = site.send_first("192.0.2.10", PORT, 12);
        site.becomes("veth-server", "dropped_limit", 7, 7 * limited);
        let free = site.send_second("192.0.2.10", PORT + 1, 4);
        site.send_second(BANNED, PORT + 1, 9);
        site.becomes("veth-second", "dropped_ban", 9, 9 * free);
        site.becomes("veth-second", "passed", 4, 4 * free);
        site.becomes("veth-server", "passed", 5, 5 * limited);
        site.becomes("veth-server", "dropped_ban", 0, 0);
        site.becomes("veth-second", "dropped_limit", 0, 0);
        assert_eq!(site.in_all("passed"), 5 + 4);
        assert_eq!(site.in_all("dropped_ban"), 9);
        assert_eq!(site.in_all("dropped_limit"), 7);

        let limit = &site.daemon.json(&["limits"])[0];
        let counted = |key: &str| {
            let bytes = number(limit, &format!("/bytes/{key}"));
            (number(limit, &format!("/{key}")), bytes)
        };
        assert_eq!(counted("passed"), (5, 5 * limited));
        assert_eq!(counted("dropped"), (7, 7 * limited));
        assert_eq!(counted("observed"), (0, 0));

        // For programs there are no headings. What passed has questions for addresses in it.
        let said = site.daemon.abuser(&["status"]).success().stdout;
        let said = said.replace(' ', "");
        for (name, packets, bytes) in [
            ("veth-server", 7, 7 * limited),
            ("veth-second", 9, 9 * free),
        ] {
            let dropped = format!("\t{packets}\t{bytes}");
            let mut lines = said.lines();
            let found = lines
                .any(|line| line.starts_with(&format!("{name}\t")) && line.ends_with(&dropped));
            assert!(found, "{name} {dropped:?}: {said}");
        }
    }
}

#[test]
fn one_that_comes_back_begins_at_zero_and_what_was_counted_before_stays_in_the_sum() {
    testkit::require_root!();
    let mut site = Site::new("");
    let length = site.send_first(BANNED, PORT, 20);
    site.send_second(BANNED, PORT, 5);
    site.becomes("veth-server", "dropped_ban", 20, 20 * length);
    site.becomes("veth-second", "dropped_ban", 5, 5 * length);

    site.wire.cut();
    eventually("it is gone", || site.on("veth-server").is_null());
    assert_eq!(site.counted(), 1, "there is room for others");
    assert_eq!(site.in_all("dropped_ban"), 25);
    // The new cable has addresses of both.
    set_ipv6(&site.wire, true);
    lay_again(&mut site.wire);
    eventually("it is back", || !site.on("veth-server").is_null());
    site.becomes("veth-server", "dropped_ban", 0, 0);
    site.send_first(BANNED, PORT, 3);
    site.becomes("veth-server", "dropped_ban", 3, 3 * length);
    site.becomes("veth-second", "dropped_ban", 5, 5 * length);
    assert_eq!(site.in_all("dropped_ban"), 28);

    site.daemon
        .abuser(&["detach", "--interface", "veth-second"])
        .success();
    assert_eq!(site.in_all("dropped_ban"), 28);
    assert_eq!(site.on("veth-second"), Value::Null);
    site.daemon.abuser(&["reload"]).success();
    site.becomes("veth-second", "dropped_ban", 0, 0);
    assert_eq!(site.in_all("dropped_ban"), 28);
}

#[test]
fn a_renamed_one_takes_its_counters_along_and_a_new_one_of_its_name_has_its_own() {
    testkit::require_root!();
    let mut site = Site::new("");
    let length = site.send_second(BANNED, PORT, 5);
    site.becomes("veth-second", "dropped_ban", 5, 5 * length);
    site.second.0.rename("veth-renamed").unwrap();
    site.becomes("veth-renamed", "dropped_ban", 5, 5 * length);
    let third = veth(
        &site.wire.server,
        "veth-second",
        &site.wire.client,
        "veth-third",
    )
    .unwrap();
    eventually("the new one is attached to", || {
        !site.on("veth-second").is_null()
    });
    send((&third.0, &third.1), BANNED, PORT, 2);
    site.becomes("veth-second", "dropped_ban", 2, 2 * length);
    site.send_second(BANNED, PORT, 1);
    site.becomes("veth-renamed", "dropped_ban", 6, 6 * length);
    assert_eq!(site.in_all("dropped_ban"), 8);
}

#[test]
fn after_a_crash_counters_go_on_and_those_of_an_interface_that_went_meanwhile_are_nobody_s() {
    testkit::require_root!();
    let mut site = Site::new("");
    let length = site.send_first(BANNED, PORT, 20);
    site.send_second(BANNED, PORT, 5);
    site.becomes("veth-server", "dropped_ban", 20, 20 * length);
    site.becomes("veth-second", "dropped_ban", 5, 5 * length);
    site.daemon.kill();
    site.send_second(BANNED, PORT, 2);
    site.wire.cut();
    // The new cable has addresses of both.
    set_ipv6(&site.wire, true);
    lay_again(&mut site.wire);
    site.daemon.restart();
    site.becomes("veth-second", "dropped_ban", 7, 7 * length);
    site.becomes("veth-server", "dropped_ban", 0, 0);
    assert_eq!(site.in_all("dropped_ban"), 27);
    site.send_first(BANNED, PORT, 3);
    site.becomes("veth-server", "dropped_ban", 3, 3 * length);
    assert_eq!(site.in_all("dropped_ban"), 30);
}
