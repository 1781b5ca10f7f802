//! Packets, and what must become of each.
//!
//! Every fixture runs in the kernel and through `decide()` over the host's tables: what
//! is written here must hold in both.

use abuser_common::{
    gcra::KernelTime,
    layout::Outcome::{
        self, Allowed, DroppedBan, DroppedLimit, DroppedTags, Malformed, NotIp, Observed, Passed,
    },
    verdict::decide,
};
use testkit::{Packet, packet::flags, require_root};

use crate::kernel::Kernel;

/// Limits that let one packet an hour through, each in its own corner.
const LIMITS: &str = r#"
    [[limit]]
    name = "dns"
    protocol = "udp"
    ports = [53]
    rate = "1/h"
    [[limit]]
    name = "web"
    protocol = "tcp"
    ports = [80, "8000-8010"]
    count = "connections"
    rate = "1/h"
    [[limit]]
    name = "segments"
    protocol = "tcp"
    ports = [443]
    rate = "1/h"
    [[limit]]
    name = "ping"
    protocol = "icmp"
    rate = "1/h"
    [[limit]]
    name = "gre"
    protocol = 47
    rate = "1/h"
    [[limit]]
    name = "watched"
    protocol = "udp"
    ports = [5000]
    rate = "1/h"
    action = "observe"
    [[limit]]
    name = "networks"
    protocol = "udp"
    ports = [6000]
    rate = "1/h"
    ipv4_prefix = 24
    ipv6_prefix = 48
    [[limit]]
    name = "bytes"
    protocol = "udp"
    ports = [7000]
    count = "bytes"
    rate = "1000/s"
"#;

/// The kernel takes no frame shorter than an Ethernet header.
const SHORTEST: usize = 14;

/// Frames in order, and what becomes of the last one.
struct Fixture {
    name: &'static str,
    frames: Vec<Vec<u8>>,
    expected: Outcome,
}

/// One frame.
fn once(name: &'static str, packet: &Packet, expected: Outcome) -> Fixture {
    Fixture {
        name,
        frames: vec![packet.build()],
        expected,
    }
}

/// The same frame twice.
fn twice(name: &'static str, packet: &Packet, expected: Outcome) -> Fixture {
    pair(name, packet, packet, expected)
}

/// Two frames.
fn pair(name: &'static str, first: &Packet, second: &Packet, expected: Outcome) -> Fixture {
    Fixture {
        name,
        frames: vec![first.build(), second.build()],
        expected,
    }
}

/// Runs fixtures against `LIMITS` and the bans and allow entries that `set_up` adds.
fn check(set_up: impl FnOnce(&mut Kernel), fixtures: &[Fixture]) {
    let mut kernel = Kernel::load(LIMITS);
    set_up(&mut kernel);
    kernel.machine.now.set(KernelTime(1_000_000_000));
    for fixture in fixtures {
        let Fixture {
            name,
            frames,
            expected,
        } = fixture;
        let in_kernel: Vec<_> = frames.iter().map(|frame| kernel.run(frame)).collect();
        let on_host: Vec<_> = frames
            .iter()
            .map(|frame| decide(&frame[..], &kernel.model, &kernel.machine).outcome)
            .collect();
        assert_eq!(in_kernel.last(), Some(expected), "{name}");
        assert_eq!(in_kernel, on_host, "{name}: kernel and host disagree");
    }
}

/// Packets of every shape from one source, each of which walks past some firewall.
fn shapes(v4: &str, v6: &str, expected: Outcome) -> Vec<Fixture> {
    let eth = Packet::eth;
    vec![
        once("TCP", &eth().ipv4(v4).tcp(80).syn(), expected),
        once(
            "established TCP",
            &eth().ipv4(v4).tcp(80).flags(flags::ACK),
            expected,
        ),
        once("UDP", &eth().ipv4(v4).udp(53), expected),
        once("ICMP", &eth().ipv4(v4).icmp(), expected),
        once("GRE", &eth().ipv4(v4).protocol(47), expected),
        once("ESP", &eth().ipv4(v4).protocol(50), expected),
        once("SCTP", &eth().ipv4(v4).protocol(132), expected),
        once(
            "an unknown protocol",
            &eth().ipv4(v4).protocol(253),
            expected,
        ),
        once(
            "IPv4 options",
            &eth().ipv4(v4).options(10).tcp(80),
            expected,
        ),
        once(
            "a first fragment",
            &eth().ipv4(v4).first_fragment().udp(53),
            expected,
        ),
        once(
            "a later fragment",
            &eth().ipv4(v4).later_fragment().udp(53),
            expected,
        ),
        once("one VLAN tag", &eth().vlan(7).ipv4(v4).tcp(80), expected),
        once(
            "two VLAN tags",
            &eth().service_vlan(8).vlan(7).ipv4(v4).tcp(80),
            expected,
        ),
        once(
            "four VLAN tags",
            &eth().vlan(0).vlan(0).vlan(0).vlan(0).ipv4(v4).tcp(80),
            expected,
        ),
        once("IPv6 TCP", &eth().ipv6(v6).tcp(80).syn(), expected),
        once("ICMPv6", &eth().ipv6(v6).icmpv6(), expected),
        once("IPv6 in a VLAN", &eth().vlan(7).ipv6(v6).udp(53), expected),
        once(
            "hop-by-hop options",
            &eth().ipv6(v6).hop_by_hop().tcp(80),
            expected,
        ),
        once(
            "a routing header",
            &eth().ipv6(v6).routing().tcp(80),
            expected,
        ),
        once(
            "destination options",
            &eth().ipv6(v6).destination_options().tcp(80),
            expected,
        ),
        once(
            "an authentication header",
            &eth().ipv6(v6).authentication().tcp(80),
            expected,
        ),
        once(
            "an IPv6 first fragment",
            &eth().ipv6(v6).first_fragment().udp(53),
            expected,
        ),
        once(
            "an IPv6 later fragment",
            &eth().ipv6(v6).later_fragment().udp(53),
            expected,
        ),
    ]
}

#[test]
fn a_banned_source_gets_nothing_through_whatever_it_sends() {
    require_root!();
    check(
        |kernel| {
            kernel.ban("203.0.113.7", 1, 0);
            kernel.ban("2001:db8:bad::/64", 2, 0);
        },
        &shapes("203.0.113.7", "2001:db8:bad::7", DroppedBan),
    );
}

#[test]
fn a_neighbour_of_a_banned_source_is_not_touched() {
    require_root!();
    check(
        |kernel| {
            kernel.ban("203.0.113.7", 1, 0);
            kernel.ban("2001:db8:bad::/64", 2, 0);
        },
        &[
            once(
                "next address",
                &Packet::eth().ipv4("203.0.113.8").udp(9),
                Passed,
            ),
            once(
                "next /64",
                &Packet::eth().ipv6("2001:db8:bad:1::7").udp(9),
                Passed,
            ),
            once(
                "mapped in IPv6",
                &Packet::eth().ipv6("::ffff:203.0.113.7").udp(9),
                Passed,
            ),
            once("ARP", &Packet::arp(), NotIp),
            once("something else", &Packet::eth(), NotIp),
        ],
    );
}

#[test]
fn an_allowed_source_passes_whatever_is_banned_or_limited() {
    require_root!();
    let allowed = |kernel: &mut Kernel| {
        kernel.ban("203.0.113.0/24", 1, 0);
        kernel.ban("2001:db8::/32", 2, 0);
        kernel.allow("203.0.113.7");
        kernel.allow("2001:db8:a::/48");
    };
    check(allowed, &shapes("203.0.113.7", "2001:db8:a::7", Allowed));
    check(
        allowed,
        &[
            once(
                "not the allowed one",
                &Packet::eth().ipv4("203.0.113.8").udp(9),
                DroppedBan,
            ),
            once(
                "not that /48",
                &Packet::eth().ipv6("2001:db8:b::7").udp(9),
                DroppedBan,
            ),
        ],
    );
    check(
        |kernel| kernel.allow("198.51.100.7"),
        &[twice(
            "over a limit",
            &Packet::eth().ipv4("198.51.100.7").udp(53),
            Allowed,
        )],
    );
}

#[test]
fn more_tags_than_are_looked_through_are_dropped_whoever_sends_them() {
    require_root!();
    let tagged = |count: usize| (0..count).fold(Packet::eth(), |packet, _| packet.vlan(0));
    check(
        |_| {},
        &[
            once("four", &tagged(4).ipv4("203.0.113.7").udp(9), Passed),
            once("five", &tagged(5).ipv4("203.0.113.7").udp(9), DroppedTags),
            once("nine", &tagged(9).ipv6("2001:db8::7").udp(9), DroppedTags),
            once("five, with nothing inside", &tagged(5), DroppedTags),
        ],
    );
}

#[test]
fn an_expired_ban_is_none_and_a_wider_one_still_holds() {
    require_root!();
    check(
        |kernel| {
            kernel.ban("203.0.113.7", 1, 1);
            kernel.ban("198.51.100.7", 2, 1);
            kernel.ban("198.51.100.0/24", 3, 0);
            kernel.ban("192.0.2.0/24", 4, u64::MAX);
        },
        &[
            once("expired", &Packet::eth().ipv4("203.0.113.7").udp(9), Passed),
            once(
                "expired within a wider one",
                &Packet::eth().ipv4("198.51.100.7").udp(9),
                DroppedBan,
            ),
            once(
                "not yet expired",
                &Packet::eth().ipv4("192.0.2.7").udp(9),
                DroppedBan,
            ),
        ],
    );
}

#[test]
fn prefixes_of_every_length_cover_what_they_should() {
    require_root!();
    check(
        |kernel| {
            kernel.ban("128.0.0.0/1", 1, 0);
            kernel.ban("64.0.0.0/31", 2, 0);
            kernel.ban("4000::/3", 3, 0);
            kernel.ban("2001:db8::/65", 4, 0);
            kernel.ban("2001:db8:1::8/127", 5, 0);
            kernel.ban("2001:db8:2::1/128", 6, 0);
        },
        &[
            once("/1", &Packet::eth().ipv4("200.1.2.3").udp(9), DroppedBan),
            once(
                "outside /1",
                &Packet::eth().ipv4("100.1.2.3").udp(9),
                Passed,
            ),
            once("/31", &Packet::eth().ipv4("64.0.0.1").udp(9), DroppedBan),
            once(
                "outside /31",
                &Packet::eth().ipv4("64.0.0.2").udp(9),
                Passed,
            ),
            once("/3", &Packet::eth().ipv6("5fff::1").udp(9), DroppedBan),
            once("outside /3", &Packet::eth().ipv6("6000::1").udp(9), Passed),
            once(
                "/65",
                &Packet::eth().ipv6("2001:db8::7fff:0:0:1").udp(9),
                DroppedBan,
            ),
            once(
                "outside /65",
                &Packet::eth().ipv6("2001:db8::8000:0:0:1").udp(9),
                Passed,
            ),
            once(
                "/127",
                &Packet::eth().ipv6("2001:db8:1::9").udp(9),
                DroppedBan,
            ),
            once(
                "outside /127",
                &Packet::eth().ipv6("2001:db8:1::a").udp(9),
                Passed,
            ),
            once(
                "/128",
                &Packet::eth().ipv6("2001:db8:2::1").udp(9),
                DroppedBan,
            ),
            once(
                "outside /128",
                &Packet::eth().ipv6("2001:db8:2::2").udp(9),
                Passed,
            ),
        ],
    );
}

#[test]
fn a_zero_length_ban_covers_its_family_only() {
    require_root!();
    check(
        |kernel| kernel.ban("0.0.0.0/0", 1, 0),
        &[
            once(
                "IPv4",
                &Packet::eth().ipv4("203.0.113.7").udp(9),
                DroppedBan,
            ),
            once("IPv6", &Packet::eth().ipv6("2001:db8::7").udp(9), Passed),
        ],
    );
    check(
        |kernel| kernel.ban("::/0", 1, 0),
        &[
            once("IPv4", &Packet::eth().ipv4("203.0.113.7").udp(9), Passed),
            once(
                "IPv6",
                &Packet::eth().ipv6("2001:db8::7").udp(9),
                DroppedBan,
            ),
        ],
    );
}

#[test]
fn limits_apply_by_protocol_and_port_however_the_packet_is_wrapped() {
    require_root!();
    let v4 = |last: u8| Packet::eth().ipv4(format!("203.0.113.{last}"));
    let v6 = |last: u8| Packet::eth().ipv6(format!("2001:db8:0:{last}::1"));
    check(
        |_| {},
        &[
            twice("over", &v4(1).udp(53), DroppedLimit),
            twice("another port", &v4(2).udp(54), Passed),
            twice("another protocol", &v4(3).tcp(53).syn(), Passed),
            pair("another source", &v4(4).udp(53), &v4(5).udp(53), Passed),
            twice(
                "tagged",
                &Packet::eth().vlan(7).ipv4("203.0.113.6").udp(53),
                DroppedLimit,
            ),
            twice(
                "tagged twice",
                &Packet::eth()
                    .service_vlan(8)
                    .vlan(7)
                    .ipv4("203.0.113.7")
                    .udp(53),
                DroppedLimit,
            ),
            twice("options", &v4(8).options(10).udp(53), DroppedLimit),
            twice(
                "first fragments",
                &v4(9).first_fragment().udp(53),
                DroppedLimit,
            ),
            twice(
                "later fragments have no port",
                &v4(10).later_fragment().udp(53),
                Passed,
            ),
            twice("IPv6", &v6(1).udp(53), DroppedLimit),
            twice(
                "extension headers",
                &v6(2).hop_by_hop().routing().destination_options().udp(53),
                DroppedLimit,
            ),
            twice(
                "authentication",
                &v6(3).authentication().udp(53),
                DroppedLimit,
            ),
            twice(
                "IPv6 first fragments",
                &v6(4).first_fragment().udp(53),
                DroppedLimit,
            ),
            twice(
                "IPv6 later fragments",
                &v6(5).later_fragment().udp(53),
                Passed,
            ),
            twice("ICMP", &v4(11).icmp(), DroppedLimit),
            twice("ICMPv6", &v6(6).icmpv6(), DroppedLimit),
            twice("GRE", &v4(12).protocol(47), DroppedLimit),
            twice("GRE in IPv6", &v6(7).protocol(47), DroppedLimit),
            twice("no limit for it", &v4(13).protocol(50), Passed),
            twice("segments", &v4(14).tcp(443).flags(flags::ACK), DroppedLimit),
        ],
    );
}

#[test]
fn connections_are_counted_by_syn_without_ack() {
    require_root!();
    let from = |last: u8| Packet::eth().ipv4(format!("203.0.113.{last}"));
    check(
        |_| {},
        &[
            twice("SYN", &from(1).tcp(80).syn(), DroppedLimit),
            twice(
                "a port in the range",
                &from(2).tcp(8005).syn(),
                DroppedLimit,
            ),
            twice("a port past the range", &from(3).tcp(8011).syn(), Passed),
            twice("ACK", &from(4).tcp(80).flags(flags::ACK), Passed),
            twice(
                "SYN with ACK",
                &from(5).tcp(80).flags(flags::SYN | flags::ACK),
                Passed,
            ),
            pair(
                "data after the SYN",
                &from(6).tcp(80).syn(),
                &from(6).tcp(80).flags(flags::ACK),
                Passed,
            ),
            twice("UDP to the same port", &from(7).udp(80), Passed),
        ],
    );
}

#[test]
fn sources_are_told_apart_by_the_limit_s_prefix() {
    require_root!();
    let v4 = |address: &str, port| Packet::eth().ipv4(address).udp(port);
    let v6 = |address: &str, port| Packet::eth().ipv6(address).udp(port);
    check(
        |_| {},
        &[
            pair(
                "one /24",
                &v4("203.0.113.1", 6000),
                &v4("203.0.113.200", 6000),
                DroppedLimit,
            ),
            pair(
                "two /24",
                &v4("198.51.100.1", 6000),
                &v4("198.51.101.1", 6000),
                Passed,
            ),
            pair(
                "one /48",
                &v6("2001:db8:1:1::1", 6000),
                &v6("2001:db8:1:2::1", 6000),
                DroppedLimit,
            ),
            pair(
                "two /48",
                &v6("2001:db8:2::1", 6000),
                &v6("2001:db8:3::1", 6000),
                Passed,
            ),
            pair(
                "one /64",
                &v6("2001:db8:4:4::1", 53),
                &v6("2001:db8:4:4::2", 53),
                DroppedLimit,
            ),
            pair(
                "two /64",
                &v6("2001:db8:4:5::1", 53),
                &v6("2001:db8:4:6::1", 53),
                Passed,
            ),
        ],
    );
}

#[test]
fn an_observed_limit_only_says_what_it_would_have_dropped() {
    require_root!();
    check(
        |_| {},
        &[twice(
            "over",
            &Packet::eth().ipv4("203.0.113.1").udp(5000),
            Observed,
        )],
    );
}

#[test]
fn bytes_are_charged_by_length() {
    require_root!();
    // 1,000 bytes a second: after 1,400 bytes the next packet is 1.4 s early.
    let big = Packet::eth()
        .ipv4("203.0.113.1")
        .udp(7000)
        .payload_len(1358);
    check(|_| {}, &[twice("the second", &big, DroppedLimit)]);
}

#[test]
fn a_packet_cut_short_anywhere_is_malformed_or_whole_and_never_unbanned() {
    require_root!();
    let packets = [
        Packet::eth()
            .vlan(7)
            .ipv4("203.0.113.7")
            .options(3)
            .tcp(9)
            .build(),
        Packet::eth().ipv4("203.0.113.8").udp(9).build(),
        Packet::eth()
            .ipv6("2001:db8::7")
            .hop_by_hop()
            .authentication()
            .tcp(9)
            .build(),
    ];
    let mut kernel = Kernel::load(LIMITS);
    kernel.machine.now.set(KernelTime(1_000_000_000));
    for packet in &packets {
        for length in SHORTEST..packet.len() {
            let outcome = kernel.run(&packet[..length]);
            assert!(
                matches!(outcome, Malformed | Passed),
                "{length}: {outcome:?}"
            );
            assert_eq!(
                outcome,
                decide(&packet[..length], &kernel.model, &kernel.machine).outcome,
                "{length}"
            );
        }
    }
    // Ethernet, tag, IPv4: from here on the source can be read, and is banned.
    kernel.ban("203.0.113.7", 1, 0);
    let [tagged, ..] = &packets;
    for length in SHORTEST..tagged.len() {
        let expected = if length < 14 + 4 + 20 {
            Malformed
        } else {
            DroppedBan
        };
        assert_eq!(kernel.run(&tagged[..length]), expected, "{length} bytes");
    }
}
