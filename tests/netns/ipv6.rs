//! IPv6: whoever has an address has its /64, so that is who is limited and banned.

use std::net::IpAddr;

use testkit::{Daemon, Wire, traffic::UdpCounter};

use crate::support::{Sender, banned, config, deliver, eventually, server_for, settled, wire};

/// Two addresses of one /64, and one of the next.
const ONE: &str = "2001:db8:0:2::1";
const SAME: &str = "2001:db8:0:2:ffff::2";
const NEXT: &str = "2001:db8:0:3::1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the constants are addresses")
}

fn wire_v6() -> (Wire, UdpCounter) {
    let wire = wire();
    for address in [ONE, SAME, NEXT] {
        wire.add_client(&format!("{address}/32"));
    }
    let server = UdpCounter::start(&wire.server, server_for(Wire::CLIENT_V6));
    (wire, server)
}

#[test]
fn addresses_of_one_64_share_a_limit_and_those_of_another_do_not() {
    testkit::require_root!();
    let (wire, server) = wire_v6();
    let limit = "[[limit]]\nname = \"v6\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 99\n";
    let _daemon = Daemon::start(&wire.server, &config(limit));
    let arrive = |source, count| deliver(&wire, &server, ip(source), count);
    assert_eq!(arrive(ONE, 60), 60);
    assert_eq!(arrive(SAME, 60), 40);
    assert_eq!(arrive(ONE, 60), 0);
    assert_eq!(arrive(NEXT, 120), 100);
}

#[test]
fn a_limit_may_tell_ipv6_sources_apart_by_other_lengths() {
    testkit::require_root!();
    let (wire, server) = wire_v6();
    let limits = r#"
[[limit]]
name = "network"
protocol = "udp"
rate = "1/h"
burst = 99
ipv6_prefix = 48

[[limit]]
name = "host"
protocol = "udp"
rate = "1/h"
burst = 39
ipv6_prefix = 128
"#;
    let _daemon = Daemon::start(&wire.server, &config(limits));
    let arrive = |source, count| deliver(&wire, &server, ip(source), count);
    // Each host has 40; all of the /48 have 100.
    assert_eq!(arrive(ONE, 40), 40);
    assert_eq!(arrive(SAME, 40), 40);
    assert_eq!(arrive(NEXT, 40), 20);
}

#[test]
fn offences_from_two_addresses_ban_their_64_and_not_the_next() {
    testkit::require_root!();
    let (wire, server) = wire_v6();
    let limit = r#"
[[limit]]
name = "v6"
protocol = "udp"
rate = "1/s"

[ban]
maxretry = 2
# Datagrams prove no source.
require_verified = false
"#;
    let daemon = Daemon::start(&wire.server, &config(limit));
    {
        let _offenders = [ONE, SAME].map(|source| Sender::start(&wire, ip(source), 50.0));
        eventually("the /64 is banned", || {
            banned(&daemon) == ["2001:db8:0:2::/64"]
        });
        let arrived = [ONE, SAME].map(|source| settled(&server, ip(source)));
        let still = [ONE, SAME].map(|source| settled(&server, ip(source)));
        assert_eq!(arrived, still);
    }
    wire.add_client("2001:db8:0:2:abcd::3/32");
    assert_eq!(deliver(&wire, &server, ip("2001:db8:0:2:abcd::3"), 5), 0);
    assert_eq!(deliver(&wire, &server, ip(NEXT), 1), 1);
}
