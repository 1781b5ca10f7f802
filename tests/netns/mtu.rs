//! The largest packets that there are, through both kinds of XDP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use testkit::{Daemon, Namespace, Wire, guest, traffic::UdpCounter};

use crate::support::{
    OTHER_V4, PORT, Sender, config, deliver, eventually, outcome, server_for, settled, udp_v4, wire,
};

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
        // Where one does not arrive, none is waited for.
        let mut arrives = true;
        for _ in 0..count {
            let before = counter.received_from(source);
            let sent = Instant::now();
            assert_eq!(socket.send_to(&payload, target).unwrap(), MAX_PAYLOAD);
            // The receiving socket has room for one or two of them.
            let patience = guest::patience(Duration::from_millis(100));
            while arrives && counter.received_from(source) == before {
                thread::sleep(Duration::from_millis(1));
                arrives = sent.elapsed() < patience;
            }
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
        &config(&format!(
            "[xdp]\nmode = \"{mode}\"\n[[limit]]\nname = \"any\"\nrate = \"1M/s\"\n"
        )),
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

#[test]
fn an_mtu_that_is_raised_and_an_interface_that_goes_down_and_up_keep_the_filter_on() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", "192.0.2.10"]).success();
    let program = wire.server_end.xdp().unwrap();
    for end in [&wire.client_end, &wire.server_end] {
        end.set_mtu(MAX_MTU).unwrap();
    }
    let passed = |source| {
        let target = server_for(source);
        deliver_largest(&wire.client, &server, source, target, 10)
    };
    assert_eq!(passed(Wire::CLIENT_V4), 0);
    assert_eq!(passed(OTHER_V4), 10);

    // Its traffic goes on as well as it can.
    let banned = Sender::start(&wire, Wire::CLIENT_V4, 500.0);
    for _ in 0..5 {
        wire.server_end.down().unwrap();
        banned.wait_for(20);
        wire.server_end.up().unwrap();
        banned.wait_for(20);
    }
    drop(banned);
    eventually("others are served again", || {
        deliver(&wire, &server, OTHER_V4, 1) == 1
    });
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(wire.server_end.xdp().unwrap(), program);
    let interface = &daemon.json(&["status"])["interfaces"][0];
    assert_eq!(interface["state"], "attached");
    assert!(!daemon.stderr().contains("is not abuser's any more"));
}
