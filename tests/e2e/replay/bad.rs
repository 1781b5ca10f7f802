//! Files that are no captures, or not quite.

use abuser::{
    config,
    replay::{Input, Options, replay},
};
use fastrand::Rng;
use testkit::{Capture, Packet, capture::Format};

use super::{CONFIG, Site, attack, capture, time};
use crate::support::{Complains as _, parse};

#[test]
fn what_is_no_capture_is_refused_with_its_name() {
    let site = Site::new(CONFIG);
    site.write("good", &capture(Format::Pcap, &attack(1)));
    for (name, contents, phrases) in [
        ("empty", &b""[..], &["empty is empty", "tcpdump -w"][..]),
        ("wtmp", b"\x07\0\0\0pts/0", &["wtmp is no capture"]),
        (
            "short",
            b"\xd4\xc3\xb2\xa1\x02\x00",
            &["short is no capture"],
        ),
        (
            "gz",
            b"\x1f\x8b\x08\x00\x00\x00",
            &["gz ends in the middle"],
        ),
        (
            "noise",
            b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            &["noise is damaged"],
        ),
    ] {
        site.write(name, contents);
        site.run(&["good", name]).complains(1, phrases);
    }
    site.run(&["missing"])
        .complains(1, &["cannot read missing", "No such file"]);
    let folder = site.folder.path().to_str().expect("UTF-8");
    site.run(&[folder])
        .complains(1, &["cannot read", "directory"]);
    let wifi = Capture::of_link(Format::Pcap, 105).build();
    site.write("wifi", &wifi);
    site.run(&["wifi"])
        .complains(1, &["wifi was captured on a link of type 105"]);
    site.run(&[]).exits(2);
}

#[test]
fn a_configuration_that_is_wrong_is_wrong_usage() {
    let site = Site::new("[[limit]]\nname = \"x\"\n");
    site.write("good", &capture(Format::Pcap, &attack(1)));
    site.run(&["good"])
        .complains(2, &["abuser.toml:1:1", "rate"]);
}

#[test]
fn a_capture_without_packets_is_replayed_in_no_time() {
    let site = Site::new(CONFIG);
    for format in [Format::Pcap, Format::Pcapng] {
        site.write("capture", &Capture::new(format).build());
        let report = site.replay(&["capture"]);
        assert_eq!(report["packets"], 0);
        assert_eq!(report["from"], serde_json::Value::Null);
    }
}

#[test]
fn a_capture_that_breaks_off_is_replayed_up_to_there() {
    let site = Site::new(CONFIG);
    for format in [Format::Pcap, Format::Pcapng] {
        let whole = capture(format, &attack(5));
        site.write("cut", &whole[..whole.len() - 3]);
        let said = site.run(&["cut", "--json"]).success();
        assert!(
            said.stderr.contains("cut ends in the middle of a packet"),
            "{said}"
        );
        let report = parse(&said.stdout);
        assert_eq!(report["bans"].as_array().map(Vec::len), Some(1));
        assert!(report["captures"][0]["error"].is_string());
        // One more that claims to have four gigabytes.
        let mut damaged = whole.clone();
        damaged.extend([6, 0, 0, 0]);
        damaged.extend([0xff; 40]);
        site.write("damaged", &damaged);
        let said = site.run(&["damaged", "--json"]).exits(1);
        assert!(said.stderr.contains("damaged is damaged"), "{said}");
        assert_eq!(parse(&said.stdout)["bans"], report["bans"]);
    }
}

#[test]
fn a_frame_without_a_byte_and_one_of_a_gigabyte_are_packets_too() {
    let packet = Packet::eth().ipv4("203.0.113.7").udp(53).build();
    for format in [Format::Pcap, Format::Pcapng] {
        let capture = Capture::new(format)
            .frame(time(0), &[])
            .cut_frame(time(1), &packet, 1 << 30)
            .cut_frame(time(2), &packet, 0);
        let site = Site::new("[[limit]]\nname = \"b\"\ncount = \"bytes\"\nrate = \"1000/s\"\n");
        site.write("capture", &capture.build());
        assert_eq!(site.replay(&["capture"])["packets"], 3);
    }
}

#[test]
fn nothing_that_a_file_holds_makes_it_panic() {
    let config = config::parse(CONFIG, "test.toml".as_ref()).expect("a configuration");
    let mut random = Rng::with_seed(5);
    let seeds = [
        Format::Pcap,
        Format::PcapNanoseconds,
        Format::PcapBigEndian,
        Format::Pcapng,
    ]
    .map(|format| capture(format, &attack(1)[..40]));
    for _ in 0..100 {
        let mut bytes = seeds[random.usize(0..seeds.len())].clone();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(0..8),
                2 => {
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].fill(if random.bool() { 0xff } else { 0 });
                }
                _ => {
                    bytes.drain(at..bytes.len().min(at + random.usize(1..8)));
                }
            }
        }
        let input = Input {
            path: "mutated".to_owned(),
            contents: Box::new(std::io::Cursor::new(bytes)),
        };
        let _whatever = replay(&config, vec![input], &Options::default());
    }
}
