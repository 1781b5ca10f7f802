//! Whatever a capture is written in and was captured on, and whichever way its packets went.

use std::io::Write as _;

use serde_json::json;
use testkit::{
    Capture, Packet,
    capture::{Format, links},
    packet::flags,
};

use super::{CONFIG, Site, answer, attack, capture, segment, time};

/// `PACKET_HOST` and `PACKET_OUTGOING` of `linux/if_packet.h`.
const TO_US: u8 = 0;
const OUTGOING: u8 = 4;

/// A frame without its Ethernet header, as it was captured on this link.
fn on_link(link: u16, frame: &[u8]) -> Vec<u8> {
    let is_answer = frame[11] == 1;
    let way = if is_answer { OUTGOING } else { TO_US };
    let mut packet = match link {
        // Way, hardware type, length of the address, address, ethertype.
        links::LINUX_SLL => vec![0, way, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, 8, 0],
        // Ethertype, reserved, interface, hardware type, way, length of the address, address.
        links::LINUX_SLL2 => vec![8, 0, 0, 0, 0, 0, 0, 2, 0, 1, way, 6, 2, 0, 0, 0, 0, 2, 0, 0],
        _ => Vec::new(),
    };
    packet.extend(&frame[14..]);
    packet
}

#[test]
fn the_same_packets_fare_the_same_in_any_format() {
    let frames = attack(5);
    let site = Site::new(CONFIG);
    let formats = [
        Format::Pcap,
        Format::PcapNanoseconds,
        Format::PcapBigEndian,
        Format::Pcapng,
    ];
    let mut reports = formats.map(|format| {
        site.write("capture", &capture(format, &frames));
        site.replay(&["capture"])
    });
    let packed = capture(Format::Pcap, &frames);
    let mut gzip = std::process::Command::new("gzip")
        .args(["-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip");
    let mut input = gzip.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(&packed));
    let packed = gzip.wait_with_output().expect("gzip").stdout;
    writer.join().expect("a writer").expect("writing to gzip");
    site.write("capture", &packed);
    let unpacked = site.replay(&["capture"]);
    for report in &mut reports {
        assert_eq!(report["bans"][0]["time"], "2023-11-14T22:13:23.050Z");
        assert_eq!(*report, unpacked);
    }
}

#[test]
fn the_same_packets_fare_the_same_on_any_link() {
    let frames = attack(5);
    let site = Site::new(CONFIG);
    site.write("ethernet", &capture(Format::Pcap, &frames));
    let expected = site.replay(&["ethernet"]);
    for link in [links::LINUX_SLL, links::LINUX_SLL2, links::RAW] {
        let captured = frames.iter().fold(
            Capture::of_link(Format::Pcapng, link),
            |capture, (at, frame)| capture.frame(time(*at), &on_link(link, frame)),
        );
        site.write("capture", &captured.build());
        let report = site.replay(&["capture"]);
        for key in ["bans", "outcomes", "limits", "sources", "offences"] {
            assert_eq!(report[key], expected[key], "{key} on link {link}");
        }
        // Cooked captures tell each packet's way.
        let hosts = if link == links::RAW {
            json!(["192.0.2.1"])
        } else {
            json!([])
        };
        assert_eq!(report["captures"][0]["hosts"], hosts);
    }
}

#[test]
fn what_others_send_each_other_and_what_the_host_sends_is_left_out() {
    let foreign = Packet::eth().macs([2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]);
    let foreign = foreign
        .ipv4("198.51.100.1")
        .to("198.51.100.2")
        .udp(9)
        .build();
    let group = Packet::eth().macs([2, 0, 0, 0, 0, 8], [1, 0, 0x5e, 0, 0, 1]);
    let group = group.ipv4("198.51.100.1").to("224.0.0.1").udp(9).build();
    let mut frames = vec![
        (0, segment(1, flags::SYN).build()),
        (1, answer(1, flags::ACK).build()),
        (2, foreign),
        (3, group),
        (4, Packet::arp().build()),
    ];
    let site = Site::new(CONFIG);
    site.write("capture", &capture(Format::Pcap, &frames));
    let report = site.replay(&["capture"]);
    assert_eq!(report["packets"], 3);
    assert_eq!(report["outcomes"]["not_ip"]["packets"], 1);
    // Told who the host is, it is another one.
    let report = site.replay(&["capture", "--to", "203.0.113.0/24", "--to", "198.51.100.2"]);
    assert_eq!(report["packets"], 2);
    // On the loopback interface everything comes in.
    for (_, frame) in &mut frames[..2] {
        frame[..12].fill(0);
    }
    frames.truncate(2);
    site.write("capture", &capture(Format::Pcap, &frames));
    assert_eq!(site.replay(&["capture"])["packets"], 2);
}

#[test]
fn what_pcapng_tells_of_a_packet_s_way_is_believed() {
    // The addresses alone would say the contrary.
    let frames = attack(2);
    let captured = frames
        .iter()
        .fold(Capture::new(Format::Pcapng), |capture, (at, frame)| {
            let is_answer = frame[11] == 1;
            capture.directed_frame(time(*at), frame, !is_answer)
        });
    let site = Site::new(CONFIG);
    site.write("capture", &captured.build());
    let report = site.replay(&["capture"]);
    assert_eq!(report["packets"], 1 + 200);
    assert_eq!(report["sources"][0]["source"], "192.0.2.1");
    assert_eq!(report["captures"][0]["hosts"], json!([]));
}

#[test]
fn what_was_cut_off_counts_as_bytes_and_headers_that_were_are_malformed() {
    let config =
        "[[limit]]\nname = \"bytes\"\ncount = \"bytes\"\nrate = \"1000/s\"\nburst = 2999\n";
    let frame = Packet::eth()
        .ipv4("203.0.113.7")
        .udp(53)
        .payload_len(958)
        .build();
    assert_eq!(frame.len(), 1_000);
    let site = Site::new(config);
    let captured = |length: usize| {
        let each = (0..5).fold(Capture::new(Format::Pcap), |capture, _| {
            capture.cut_frame(time(0), &frame[..length], frame.len())
        });
        site.write("capture", &each.build());
        site.replay(&["capture"])
    };
    for length in [1_000, 96, 42] {
        let report = captured(length);
        assert_eq!(report["limits"][0]["passed"], 3, "{length} bytes");
        assert_eq!(report["bytes"], 5_000);
    }
    for length in [0, 13, 14, 33, 37] {
        let report = captured(length);
        assert_eq!(
            report["outcomes"]["malformed"]["packets"], 5,
            "{length} bytes"
        );
        let notes = report["notes"].to_string();
        assert!(notes.contains("too little was captured"), "{notes}");
    }
}
