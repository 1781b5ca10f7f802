//! What the builder wrote, the parser of the packet path reads: two that know nothing of
//! each other must agree.

use std::net::IpAddr;

use abuser_common::packet::{MAX_OFFSET, TCP, Transport, UDP, Unreadable, network, transport};
use proptest::prelude::*;

use super::Packet;

/// A packet, and what is to be found in it.
#[derive(Clone, Debug)]
struct Built {
    packet: Packet,
    source: IpAddr,
    protocol: u8,
    port: Option<u16>,
}

fn tags() -> impl Strategy<Value = Vec<(bool, u16)>> {
    prop::collection::vec((any::<bool>(), any::<u16>()), 0..=4)
}

/// TCP, UDP or another protocol, but for those numbers that are IPv6 extension headers.
fn filled(packet: Packet) -> impl Strategy<Value = (Packet, u8, Option<u16>)> {
    let other = packet.clone();
    let udp = packet.clone();
    prop_oneof![
        any::<u16>().prop_map(move |port| (packet.clone().tcp(port), TCP, Some(port))),
        any::<u16>().prop_map(move |port| (udp.clone().udp(port), UDP, Some(port))),
        (61..132_u8).prop_map(move |number| (other.clone().protocol(number), number, None)),
    ]
}

/// Extension headers by number: as many as are walked, and one fragment's header at most.
fn extensions() -> impl Strategy<Value = Vec<u8>> {
    let some = |longest| prop::collection::vec(0..5_u8, 0..=longest);
    (some(3), prop::option::of(5..8_u8), some(4)).prop_map(|(before, fragment, behind)| {
        before.into_iter().chain(fragment).chain(behind).collect()
    })
}

fn extend(packet: Packet, extension: u8) -> Packet {
    match extension {
        0 => packet.hop_by_hop(),
        1 => packet.routing(),
        2 => packet.destination_options(),
        3 => packet.authentication(),
        4 => packet.mobility(),
        5 => packet.fragment(0, false),
        6 => packet.first_fragment(),
        7 => packet.fragment(1, true),
        other => panic!("no extension header {other}"),
    }
}

prop_compose! {
    fn ipv4()(
        source in any::<[u8; 4]>(),
        options in 0..=10_usize,
        (offset, more) in prop_oneof![Just((0, false)), Just((0, true)), (1..0x2000_u16, any::<bool>())],
    )(
        (packet, protocol, port) in filled(
            Packet::eth().ip(IpAddr::from(source)).options(options).fragment(offset, more)
        ),
        source in Just(IpAddr::from(source)),
        later in Just(offset > 0),
    ) -> Built {
        Built { packet, source, protocol, port: port.filter(|_| !later) }
    }
}

prop_compose! {
    fn ipv6()(source in any::<[u8; 16]>(), extensions in extensions())(
        (packet, protocol, port) in filled(
            extensions.iter().fold(Packet::eth().ip(IpAddr::from(source)), |packet, extension| {
                extend(packet, *extension)
            })
        ),
        source in Just(IpAddr::from(source)),
        extensions in Just(extensions),
    ) -> Built {
        // Behind a later fragment's header nothing is a header.
        let later = extensions.iter().position(|extension| *extension == 7);
        let hides = later.and_then(|position| extensions.get(position + 1));
        let numbers = [0, 43, 60, 51, 135];
        let protocol = hides.map_or(protocol, |next| numbers[usize::from(*next)]);
        Built { packet, source, protocol, port: port.filter(|_| later.is_none()) }
    }
}

fn built() -> impl Strategy<Value = Built> {
    (prop_oneof![ipv4(), ipv6()], tags(), 0..200_usize).prop_map(|(built, tags, payload)| {
        let packet = tags.iter().fold(built.packet, |packet, (service, id)| {
            if *service {
                packet.service_vlan(*id)
            } else {
                packet.vlan(*id)
            }
        });
        let packet = packet.payload_len(payload);
        Built { packet, ..built }
    })
}

fn parse(frame: &[u8]) -> Result<(IpAddr, Transport), Unreadable> {
    let network = network(frame)?.expect("it is IP");
    let source = network.source.host().address().expect("an address");
    let transport = transport(frame, network.source.family, network.offset);
    Ok((source, transport))
}

proptest! {
    #[test]
    fn a_packet_is_read_as_it_was_built(built in built()) {
        let (source, transport) = parse(&built.packet.build()).expect("it can be read");
        prop_assert_eq!(source, built.source);
        prop_assert!(!transport.is_malformed() && !transport.is_hidden());
        prop_assert_eq!(transport.protocol(), built.protocol);
        prop_assert_eq!(transport.port(), built.port);
    }

    #[test]
    fn a_packet_cut_anywhere_has_the_same_source_or_none(built in built()) {
        let frame = built.packet.build();
        for length in 0..frame.len() {
            match parse(&frame[..length]) {
                Ok((source, transport)) => {
                    prop_assert_eq!(source, built.source);
                    if !transport.is_malformed() {
                        prop_assert_eq!(transport.protocol(), built.protocol);
                        prop_assert_eq!(transport.port(), built.port);
                    }
                }
                Err(unreadable) => prop_assert_eq!(unreadable, Unreadable::Malformed),
            }
        }
    }
}

#[test]
fn a_header_further_than_is_read_is_hidden_where_it_is_there_and_malformed_where_it_is_not() {
    const DESTINATION_OPTIONS: u8 = 60;
    const LONGEST: usize = 2048;
    let mut frame = Packet::eth().ip(IpAddr::from([0_u8; 16])).build();
    frame[20] = DESTINATION_OPTIONS;
    let headers = frame.len();
    for next in [DESTINATION_OPTIONS; 4].into_iter().chain([UDP]) {
        let begin = frame.len();
        frame.resize(begin + LONGEST, 0);
        frame[begin..begin + 2].copy_from_slice(&[next, u8::MAX]);
    }
    frame.extend([0; 8]);
    let fifth = headers + 4 * LONGEST;
    assert!((MAX_OFFSET + 1..MAX_OFFSET + LONGEST).contains(&fifth));
    for length in headers..=frame.len() {
        let (_, transport) = parse(&frame[..length]).expect("a source");
        // An options header tells its length in the first two octets.
        assert_eq!(transport.is_malformed(), length < fifth + 2, "{length}");
        assert_eq!(transport.is_hidden(), length >= fifth + 2, "{length}");
    }
}
