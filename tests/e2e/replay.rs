//! `abuser replay`: what it says of captures that the tests write, that tcpdump writes, and that
//! nobody should have written.

mod bad;
mod kinds;
mod logs;
mod tcpdump;

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Capture, Packet,
    capture::Format,
    packet::{DESTINATION_V4, flags},
};

use crate::support::{abuser, assert_keys, parse};

/// 2023-11-14T22:13:20Z, in seconds since 1970.
const START: u64 = 1_700_000_000;
/// The client's hardware address.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The host's.
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

const CLIENT: &str = "203.0.113.7";

/// One connection a second, five at once; three offences ban for ten minutes.
const CONFIG: &str = r#"
[[limit]]
name = "web"
protocol = "tcp"
ports = [443]
count = "connections"
rate = "1/s"
burst = 4

[ban]
maxretry = 3
findtime = "1m"
bantime = "10m"
"#;

/// A folder with a configuration and captures.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("abuser.toml"), config).expect("writing a configuration");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, contents: &[u8]) {
        fs::write(self.path(name), contents).expect("writing a capture");
    }

    fn run(&self, arguments: &[&str]) -> testkit::CommandOutput {
        let mut command = vec!["replay".into(), "-c".into(), self.path("abuser.toml")];
        for argument in arguments {
            if fs::exists(self.path(argument)).unwrap_or_default() {
                command.push(self.path(argument));
            } else {
                command.push(argument.into());
            }
        }
        abuser(&command)
    }

    #[track_caller]
    fn replay(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["--json"]].concat()).success();
        assert_eq!(said.stderr, "", "{said}");
        parse(&said.stdout)
    }
}

/// Replays frames with their times in milliseconds.
#[track_caller]
fn replay(config: &str, frames: &[(u64, Vec<u8>)]) -> Value {
    let site = Site::new(config);
    site.write("capture", &capture(Format::Pcap, frames));
    site.replay(&["capture"])
}

fn capture(format: Format, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let frames = frames.iter();
    let capture = frames.fold(Capture::new(format), |capture, (at, frame)| {
        capture.frame(time(*at), frame)
    });
    capture.build()
}

/// So many milliseconds after the start.
fn time(millis: u64) -> Duration {
    Duration::from_secs(START) + Duration::from_millis(millis)
}

/// A segment from the client's port to the host's 443.
fn segment(port: u16, flags: u8) -> Packet {
    let segment = Packet::eth().macs(CLIENT_MAC, HOST_MAC).ipv4(CLIENT);
    segment.tcp(443).from_port(port).flags(flags)
}

/// A segment of the host's to the client's port.
fn answer(port: u16, flags: u8) -> Packet {
    let segment = Packet::eth().macs(HOST_MAC, CLIENT_MAC);
    let segment = segment.ipv4(DESTINATION_V4).to(CLIENT).tcp(port);
    segment.from_port(443).flags(flags)
}

/// The segment with this acknowledgement number. Each has the sequence number 1.
fn acknowledging(segment: &Packet, number: u32) -> Vec<u8> {
    let mut frame = segment.build();
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}

/// A handshake with a first word of the client's, in its first five milliseconds.
fn handshake(acknowledged: u32) -> Vec<(u64, Vec<u8>)> {
    vec![
        (0, segment(999, flags::SYN).build()),
        (1, acknowledging(&answer(999, flags::SYN | flags::ACK), 2)),
        (2, acknowledging(&segment(999, flags::ACK), acknowledged)),
        (
            3,
            acknowledging(&segment(999, flags::ACK | flags::PSH), acknowledged),
        ),
    ]
}

/// From one second on a hundred SYNs a second, each refused.
fn flood(seconds: u64) -> Vec<(u64, Vec<u8>)> {
    let each = (0..seconds * 100).flat_map(|number| {
        let port = 2_000 + u16::try_from(number).expect("a port");
        let at = 1_000 + number * 10;
        let refusal = acknowledging(&answer(port, flags::RST | flags::ACK), 2);
        [(at, segment(port, flags::SYN).build()), (at + 1, refusal)]
    });
    each.collect()
}

/// A handshake of a client that then floods.
fn attack(seconds: u64) -> Vec<(u64, Vec<u8>)> {
    [handshake(2), flood(seconds)].concat()
}

#[test]
fn a_flood_over_a_limit_is_banned_at_the_right_moment_for_the_right_time() {
    let mut frames = attack(20);
    // When the ban is over it may begin anew: five at once.
    for number in 0..10 {
        frames.push((603_049 + number, segment(80 + 443, flags::SYN).build()));
    }
    let report = replay(CONFIG, &frames);
    assert_keys(
        &report,
        &[
            "captures", "from", "to", "seconds", "packets", "bytes", "outcomes", "limits",
            "offences", "bans", "sources", "notes",
        ],
    );
    // At 1.05 s it is over the limit, and again in each second that follows.
    let ban = &report["bans"][0];
    assert_keys(
        ban,
        &[
            "id", "source", "time", "expires", "seconds", "cause", "policy", "offences", "reason",
            "hits", "evidence",
        ],
    );
    assert_eq!(ban["source"], "203.0.113.7/32");
    assert_eq!(ban["time"], "2023-11-14T22:13:23.050Z");
    assert_eq!(ban["expires"], "2023-11-14T22:23:23.050Z");
    assert_eq!(ban["seconds"], 600);
    assert_eq!(ban["reason"], "3 offences against limit web");
    let evidence = |at, packets| {
        json!({
            "time": format!("2023-11-14T22:13:{at}Z"),
            "text": format!("drop tcp/443 limit web {packets}"),
        })
    };
    assert_eq!(
        ban["evidence"],
        json!([
            evidence("21.050", "1 packet"),
            evidence("22.050", "99 packets"),
            evidence("23.050", "99 packets")
        ])
    );
    // Of 2000 SYNs the one at 3.05 s is the 206th; one more comes before the ban ends.
    assert_eq!(ban["hits"], 2_000 - 206 + 1);
    assert_eq!(report["bans"].as_array().map(Vec::len), Some(1));
    let packets = |outcome: &str| report["outcomes"][outcome]["packets"].clone();
    // The handshake's three, five at once, one each in two seconds; and after the ban five.
    assert_eq!(packets("passed"), 3 + 5 + 2 + 5);
    assert_eq!(packets("dropped_ban"), 1_795);
    assert_eq!(packets("dropped_limit"), 206 - 7 + 4);
    assert_eq!(report["limits"][0]["passed"], 1 + 7 + 5);
    // After ten minutes without a word it may be anybody.
    assert_eq!(report["offences"], json!({"counted": 3, "unverified": 1}));
    assert_eq!(report["sources"][0]["source"], CLIENT);
    assert_eq!(report["sources"][0]["packets"], 2_013);
    assert_eq!(
        report["captures"][0]["hosts"],
        json!([DESTINATION_V4.to_string()])
    );
    assert_eq!(report["captures"][0]["frames"], 2_013 + 2_001);
}

#[test]
fn what_is_told_to_people_has_the_same_numbers() {
    let site = Site::new(CONFIG);
    site.write("capture", &capture(Format::Pcap, &attack(20)));
    let said = site.run(&["capture"]).success();
    let lines: Vec<_> = said.stdout.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "replayed: 2 003 packets, 108 162 bytes, 2023-11-14T22:13:20.000Z to \
             2023-11-14T22:13:40.991Z",
            "passed: 10 packets",
            "dropped_limit: 199 packets",
            "dropped_ban: 1 794 packets",
            "limit web: 8 passed, 199 dropped",
            "3 offences against limits, 1 ban",
            "2023-11-14T22:13:23.050Z  ban 203.0.113.7/32  for 10m: 3 offences against limit web; \
             1 794 later packets met it",
            "source 203.0.113.7: 2 003 packets, 1 993 dropped",
            "note: the daemon also allows this host's addresses, gateways and resolvers and your \
             SSH session, which are not known here",
        ]
    );
}

#[test]
fn who_may_be_forged_is_limited_and_not_banned() {
    // Without a handshake, and with one that acknowledges what nobody sent.
    for frames in [flood(20), [handshake(3), flood(20)].concat()] {
        let report = replay(CONFIG, &frames);
        assert_eq!(report["bans"], json!([]));
        assert_eq!(report["offences"], json!({"counted": 0, "unverified": 20}));
        let notes = report["notes"].to_string();
        assert!(notes.contains("20 offences did not count"), "{notes}");
    }
    // Told to count them all the same.
    let report = replay(&format!("{CONFIG}require_verified = false\n"), &flood(20));
    assert_eq!(report["bans"][0]["time"], "2023-11-14T22:13:23.050Z");
    // Of what only came in it is said why.
    let incoming: Vec<_> = flood(3).into_iter().step_by(2).collect();
    let notes = replay(CONFIG, &incoming)["notes"].to_string();
    assert!(notes.contains("no packet from this host"), "{notes}");
}

#[test]
fn under_a_limit_of_packets_the_connection_itself_is_what_counts() {
    let config = CONFIG.replace("\"connections\"", "\"packets\"");
    let mut frames = handshake(2);
    for number in 0..300 {
        frames.push((1_000 + number * 10, segment(999, flags::ACK).build()));
    }
    let report = replay(&config, &frames);
    // The handshake is counted, too.
    assert_eq!(report["bans"][0]["time"], "2023-11-14T22:13:23.030Z");
    // Once it is reset nobody can be said to have sent them.
    frames.insert(4, (4, answer(999, flags::RST).build()));
    let report = replay(&config, &frames);
    assert_eq!(report["bans"], json!([]));
    assert_eq!(report["offences"]["unverified"], 3);
}

#[test]
fn several_captures_are_one_stream_in_the_order_of_time() {
    let frames = attack(20);
    let site = Site::new(CONFIG);
    site.write("whole", &capture(Format::Pcap, &frames));
    for (name, first) in [("one", 0), ("other", 1)] {
        let part: Vec<_> = frames.iter().skip(first).step_by(2).cloned().collect();
        site.write(name, &capture(Format::Pcapng, &part));
    }
    let whole = site.replay(&["whole", "--to", "192.0.2.1"]);
    let parts = site.replay(&["other", "one", "--to", "192.0.2.1"]);
    for key in [
        "from", "to", "outcomes", "limits", "bans", "sources", "offences",
    ] {
        assert_eq!(whole[key], parts[key], "{key}");
    }
    assert_eq!(parts["captures"].as_array().map(Vec::len), Some(2));
}

#[test]
fn who_is_allowed_is_not_dropped_and_an_observing_limit_drops_nobody() {
    let allow = "[allow]\nautomatic = false\naddresses = [\"203.0.113.0/24\", \"host.example\"]\n";
    let report = replay(&format!("{CONFIG}{allow}"), &attack(3));
    assert_eq!(report["limits"][0]["allowed"], 293);
    assert_eq!(report["bans"], json!([]));
    assert_eq!(
        report["notes"],
        json!(["names of the allow list were not resolved and allowed nobody: host.example"])
    );
    let config = CONFIG.replace("burst = 4", "burst = 4\naction = \"observe\"");
    let report = replay(&config, &attack(3));
    assert_eq!(report["limits"][0]["observed"], 293);
    assert_eq!(report["outcomes"]["observed"]["packets"], 293);
    assert_eq!(report["bans"], json!([]));
}

#[test]
fn a_clock_that_jumps_back_stands_still_and_one_that_jumps_ahead_refills() {
    let mut frames: Vec<_> = (0..10)
        .map(|number| (5_000 - number * 100, segment(1, flags::SYN).build()))
        .collect();
    // Far beyond where the clocks of buckets come round.
    for _ in 0..10 {
        frames.push((40 * 86_400_000, segment(1, flags::SYN).build()));
    }
    let report = replay(CONFIG, &frames);
    assert_eq!(report["limits"][0]["passed"], 10);
    assert_eq!(report["limits"][0]["dropped"], 10);
    let notes = report["notes"].to_string();
    assert!(notes.contains("9 packets are dated earlier"), "{notes}");
}

#[test]
fn only_so_many_sources_are_named_as_are_asked_for() {
    let site = Site::new(CONFIG);
    let frames: Vec<_> = (0..30_u8)
        .map(|number| {
            let source = format!("198.51.100.{number}");
            (
                u64::from(number),
                Packet::eth().ipv4(source).udp(53).build(),
            )
        })
        .collect();
    site.write("capture", &capture(Format::Pcap, &frames));
    let count = |arguments: &[&str]| {
        let report = site.replay(&[&["capture"], arguments].concat());
        report["sources"].as_array().map(Vec::len)
    };
    assert_eq!(count(&[]), Some(10));
    assert_eq!(count(&["--top", "0"]), Some(0));
    assert_eq!(count(&["--top", "100"]), Some(30));
}
