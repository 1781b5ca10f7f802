//! Several interfaces at once, under one set of limits and bans.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use testkit::{Daemon, Interface, Wire, abuser_binary, bridge, traffic::UdpCounter, veth};

use crate::support::{
    OTHER_V4, PORT, Sender, banned, deliver, deliver_to, eventually, lay_again, settled, udp_v4,
    wire,
};

const SOURCE: &str = "192.0.2.10";
const SECOND_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const BOTH: &str = "interfaces = [\"veth-server\", \"veth-second\"]\n";

/// A second cable beside the first, for the same clients, with a server of its own.
struct Second {
    end: Interface,
    server: UdpCounter,
}

impl Second {
    fn new(wire: &Wire) -> Self {
        // Packets come in by another interface than answers would go out by.
        for name in ["all", "default"] {
            let name = format!("net/ipv4/conf/{name}/rp_filter");
            wire.server.set_sysctl(&name, "0").unwrap();
        }
        let (end, peer) = veth(&wire.server, "veth-second", &wire.client, "veth-other").unwrap();
        end.add_address(&format!("{SECOND_V4}/24")).unwrap();
        peer.add_address("198.51.100.10/24").unwrap();
        peer.set_neighbour(SECOND_V4, end.mac()).unwrap();
        wire.server
            .set_sysctl("net/ipv4/conf/veth-second/rp_filter", "0")
            .unwrap();
        Self {
            server: UdpCounter::start(&wire.server, SocketAddr::new(SECOND_V4, PORT)),
            end,
        }
    }

    /// How many of `count` datagrams arrive over this cable.
    #[track_caller]
    fn deliver(&self, wire: &Wire, source: IpAddr, count: u64) -> u64 {
        let target = SocketAddr::new(SECOND_V4, PORT);
        deliver_to(wire, &self.server, source, target, count)
    }
}

fn write(daemon: &Daemon, old: &str, new: &str) {
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replace(old, new);
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
}

fn run(wire: &Wire, daemon: &Daemon) -> Command {
    let mut command = wire.server.command(abuser_binary().unwrap());
    command.args(["run", "-c"]).arg(daemon.config_path());
    command
}

#[test]
fn a_source_has_one_bucket_and_one_ban_for_all_of_them() {
    testkit::require_root!();
    let wire = wire();
    let (first, second) = (udp_v4(&wire), Second::new(&wire));
    let limit = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n";
    let daemon = Daemon::start(&wire.server, &format!("{BOTH}{limit}"));
    assert_eq!(deliver(&wire, &first, Wire::CLIENT_V4, 6), 6);
    assert_eq!(second.deliver(&wire, Wire::CLIENT_V4, 20), 4);
    assert_eq!(deliver(&wire, &first, Wire::CLIENT_V4, 20), 0);

    daemon.abuser(&["ban", "add", "192.0.2.66"]).success();
    assert_eq!(deliver(&wire, &first, OTHER_V4, 5), 0);
    assert_eq!(second.deliver(&wire, OTHER_V4, 5), 0);
    daemon.abuser(&["ban", "remove", "192.0.2.66"]).success();
    assert_eq!(second.deliver(&wire, OTHER_V4, 5), 5);
}

#[test]
fn one_that_vanishes_leaves_the_other_filtering_and_shares_its_bans_when_it_is_back() {
    testkit::require_root!();
    let mut wire = wire();
    let (first, second) = (udp_v4(&wire), Second::new(&wire));
    let daemon = Daemon::start(&wire.server, BOTH);
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let program = second.end.xdp().unwrap();
    let state = |position: usize| {
        let status = daemon.json(&["status"]);
        let one = &status["interfaces"][position];
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("state"))
    };
    let is = |name: &str, state: &str| (name.to_owned(), state.to_owned());

    wire.cut();
    eventually("the first is missing", || {
        state(1) == is("veth-server", "missing")
    });
    assert_eq!(state(0), is("veth-second", "attached"));
    assert_eq!(second.end.xdp().unwrap(), program);
    // The client's own address went with the first cable.
    wire.client
        .interface("veth-other")
        .unwrap()
        .add_address("192.0.2.77/32")
        .unwrap();
    daemon.abuser(&["ban", "add", "192.0.2.77"]).success();
    assert_eq!(second.deliver(&wire, "192.0.2.77".parse().unwrap(), 5), 0);
    assert_eq!(
        second.deliver(&wire, "198.51.100.10".parse().unwrap(), 5),
        5
    );

    lay_again(&mut wire);
    eventually("both are attached", || {
        state(1) == is("veth-server", "attached")
    });
    assert_eq!(second.end.xdp().unwrap(), program);
    assert_eq!(deliver(&wire, &first, Wire::CLIENT_V4, 5), 0);
    assert_eq!(second.deliver(&wire, Wire::CLIENT_V4, 5), 0);
    assert_eq!(deliver(&wire, &first, OTHER_V4, 5), 5);
}

#[test]
fn one_that_refuses_the_mode_leaves_those_before_it_as_they_were() {
    testkit::require_root!();
    let wire = wire();
    // Interfaces are attached to in the order of their indexes.
    let _bridge = bridge(&wire.server, "bridge").unwrap();
    let one = "interfaces = [\"veth-server\"]";
    let mut daemon = Daemon::start(&wire.server, &format!("{one}\n[xdp]\nmode = \"driver\"\n"));
    assert_eq!(daemon.terminate().code(), Some(0));
    write(&daemon, one, "interfaces = [\"veth-server\", \"bridge\"]");
    let output = run(&wire, &daemon).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    for words in ["bridge in driver mode", "no native XDP", "\"generic\""] {
        assert!(error.contains(words), "no {words:?} in: {error}");
    }
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert!(!daemon.pin_dir().exists());
    assert!(!daemon.socket().exists());
}

#[test]
fn one_that_refuses_the_mode_leaves_on_what_a_killed_daemon_left() {
    testkit::require_root!();
    let wire = wire();
    let (first, second) = (udp_v4(&wire), Second::new(&wire));
    let _bridge = bridge(&wire.server, "bridge").unwrap();
    let one = "interfaces = [\"veth-server\"]";
    let mut daemon = Daemon::start(&wire.server, &format!("{one}\n[xdp]\nmode = \"driver\"\n"));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 1000.0);
    daemon.kill();

    let all = "interfaces = [\"veth-server\", \"veth-second\", \"bridge\"]";
    write(&daemon, one, all);
    let output = run(&wire, &daemon).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(second.end.xdp().unwrap(), None);
    sender.wait_for(300);
    write(&daemon, all, one);
    daemon.restart();
    sender.wait_for(300);
    assert_eq!(settled(&first, Wire::CLIENT_V4), 0);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
}

#[test]
fn one_that_is_not_configured_any_more_is_let_go_after_a_crash() {
    testkit::require_root!();
    let wire = wire();
    let (first, second) = (udp_v4(&wire), Second::new(&wire));
    let mut daemon = Daemon::start(&wire.server, BOTH);
    daemon.abuser(&["ban", "add", SOURCE]).success();
    daemon.kill();
    assert!(second.end.xdp().unwrap().is_some());
    write(&daemon, ", \"veth-second\"", "");
    daemon.restart();
    eventually("the second is free", || second.end.xdp().unwrap().is_none());
    assert_eq!(second.deliver(&wire, Wire::CLIENT_V4, 5), 5);
    assert_eq!(deliver(&wire, &first, Wire::CLIENT_V4, 5), 0);
}
