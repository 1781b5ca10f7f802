//! Packets against bytes written by hand; the checksums were computed elsewhere.

use super::Packet;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn frame(rest: &[&[u8]]) -> Vec<u8> {
    [&MACS, rest.concat().as_slice()].concat()
}

#[test]
fn a_syn_on_a_vlan_is_what_the_standards_say() {
    let expected = frame(&[
        &[0x81, 0x00, 0x00, 0x07, 0x08, 0x00],
        &[0x45, 0, 0, 40, 0x12, 0x34, 0, 0, 64, 6, 0xe4, 0x93],
        &[192, 0, 2, 7, 192, 0, 2, 1],
        &[0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0x50, 0x02, 0xfa, 0xf0, 0x92, 0xec, 0, 0],
    ]);
    let packet = Packet::eth().vlan(7).ipv4("192.0.2.7").tcp(443).syn();
    assert_eq!(packet.build(), expected);
}

#[test]
fn a_datagram_over_ipv6_is_what_the_standards_say() {
    let mut source = [0; 16];
    source[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    let mut destination = source;
    source[15] = 7;
    destination[15] = 1;
    let expected = frame(&[
        &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 11, 17, 64],
        &source,
        &destination,
        &[0x9c, 0x40, 0x00, 0x35, 0, 11, 0x43, 0x86, b'a', b'b', b'c'],
    ]);
    let packet = Packet::eth().ipv6("2001:db8::7").udp(53).payload(b"abc");
    assert_eq!(packet.build(), expected);
}

#[test]
fn an_echo_request_with_options_has_a_longer_header() {
    let frame = Packet::eth().ipv4("192.0.2.7").options(2).icmp().build();
    assert_eq!(frame[14], 0x47);
    assert_eq!(frame[16..18], [0, 36]);
    assert_eq!(frame[34..42], [1; 8]);
    assert_eq!(frame[42..], [8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
}

#[test]
fn ipv4_fragments_say_where_they_belong() {
    let flags_and_offset = |packet: Packet| packet.udp(53).build()[20..22].to_vec();
    let packet = Packet::eth().ipv4("192.0.2.7");
    assert_eq!(
        flags_and_offset(packet.clone().first_fragment()),
        [0x20, 0x00]
    );
    assert_eq!(flags_and_offset(packet.later_fragment()), [0x00, 0xb9]);
}

#[test]
fn extension_headers_stand_in_the_order_called() {
    let frame = Packet::eth()
        .ipv6("2001:db8::7")
        .hop_by_hop()
        .routing()
        .destination_options()
        .authentication()
        .mobility()
        .first_fragment()
        .tcp(80)
        .build();
    // Each header's "next" field, at the offset where that header begins.
    let chain = [
        (20, 0),
        (54, 43),
        (62, 60),
        (86, 51),
        (94, 135),
        (118, 44),
        (126, 6),
        (134, 0x9c),
    ];
    for (at, next) in chain {
        assert_eq!(frame[at], next, "at {at}");
    }
    assert_eq!(frame[126..130], [6, 0, 0x00, 0x01]);
    assert_eq!(frame[18..20], [0, 100], "the length covers the extensions");
    assert_eq!(frame.len(), 54 + 100);
}

#[test]
fn tags_other_protocols_and_arp_are_as_asked() {
    let double = Packet::eth().service_vlan(100).vlan(7).ipv4("192.0.2.7");
    assert_eq!(
        double.protocol(47).payload_len(3).build()[12..22],
        [0x88, 0xa8, 0, 100, 0x81, 0x00, 0, 7, 0x08, 0x00]
    );
    let arp = Packet::arp().build();
    assert_eq!(arp.len(), 42);
    assert_eq!(arp[12..14], [0x08, 0x06]);
}

#[test]
#[should_panic(expected = "only TCP has flags")]
fn a_syn_without_tcp_is_a_mistake_in_the_test() {
    let _packet = Packet::eth().ipv4("192.0.2.7").syn();
}
