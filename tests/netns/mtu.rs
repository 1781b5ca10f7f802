//! The largest packets that there are, through both kinds of XDP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use testkit::{Daemon, Namespace, Wire, traffic::UdpCounter};

use crate::support::{OTHER_V4, PORT, config, outcome, server_for, settled, udp_v4, wire};

/// The largest MTU of an Ethernet interface: the longest packet that IP can say the length of.
const MAX_MTU: u32 = 65535;
/// The payload of a UDP datagram that fills it.
const MAX_PAYLOAD: usize = 65535 - 20 - 8;

/// Sends datagrams that fill [`MAX_MTU`] and says how many arrived.
#[track_caller]
fn deliver_largest(
    client: &Namespace,
    counter: &UdpCounter,
    source: IpAddr,
    target: SocketAddr,
    count: u64,
) -> u64 {
    client.run(|| {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        let payload = vec![b'a'; MAX_PAYLOAD];
        for _ in 0..count {
            assert_eq!(socket.send_to(&payload, target).unwrap(), MAX_PAYLOAD);
        }
    });
    settled(counter, source)
}

fn largest_packets_are_filtered(mode: &str, native: bool) {
    let wire = wire();
    for end in [&wire.server_end, &wire.client_end] {
        end.set_mtu(MAX_MTU).unwrap();
    }
    let server = udp_v4(&wire);
    let daemon = Daemon::start(
        &wire.server,
        &config(&format!("[xdp]\nmode = \"{mode}\"\n")),
    );
    assert_eq!(wire.server_end.xdp().unwrap().unwrap().native, native);
    assert!(!daemon.stderr().contains("WARN"), "{}", daemon.stderr());
    daemon.abuser(&["ban", "add", "192.0.2.10"]).success();

    let target = server_for(OTHER_V4);
    let passed = deliver_largest(&wire.client, &server, OTHER_V4, target, 10);
    assert_eq!(passed, 10, "{mode}");
    let passed = deliver_largest(&wire.client, &server, Wire::CLIENT_V4, target, 10);
    assert_eq!(passed, 0, "{mode}");
    // Each of them was one packet.
    assert_eq!(outcome(&daemon, "dropped_ban"), 10, "{mode}");
}

#[test]
fn the_driver_of_a_veth_filters_packets_of_the_largest_mtu() {
    testkit::require_root!();
    largest_packets_are_filtered("auto", true);
    largest_packets_are_filtered("driver", true);
}

#[test]
fn generic_mode_filters_packets_of_the_largest_mtu() {
    testkit::require_root!();
    largest_packets_are_filtered("generic", false);
}

#[test]
fn the_loopback_device_with_its_still_larger_mtu_is_filtered() {
    testkit::require_root!();
    let [server_ip, banned] = [1, 2].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let target = SocketAddr::new(server_ip, PORT);
    let namespace = Namespace::new().unwrap();
    let server = UdpCounter::start(&namespace, target);
    let daemon = Daemon::start(&namespace, "interfaces = [\"lo\"]\n");
    daemon.abuser(&["ban", "add", "127.0.0.2"]).success();
    let passed = deliver_largest(&namespace, &server, server_ip, target, 10);
    assert_eq!(passed, 10);
    assert_eq!(deliver_largest(&namespace, &server, banned, target, 10), 0);
    assert_eq!(outcome(&daemon, "dropped_ban"), 10);
}
