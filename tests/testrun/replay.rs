//! A capture replayed, and the same packets at the same times through the real program.

use std::{io::Cursor, path::Path, time::Duration};

use abuser::{
    config,
    replay::{Input, Options, packets::START_NS, replay},
};
use abuser_common::{bucket::Key, gcra::KernelTime};
use fastrand::Rng;
use testkit::{Capture, Packet, capture::Format, packet::flags, require_root};

use crate::kernel::Kernel;

const LIMITS: &str = r#"
[[limit]]
name = "new"
protocol = "tcp"
ports = [443]
count = "connections"
rate = "7/s"
burst = 3
[[limit]]
name = "flood"
rate = "40/s"
burst = 20
[[limit]]
name = "volume"
protocol = "udp"
count = "bytes"
rate = "12345/s"
burst = 5000
[[limit]]
name = "neighbours"
rate = "700/s"
burst = 10
ipv4_prefix = 24
ipv6_prefix = 48
action = "observe"
[[limit]]
name = "slow"
protocol = "icmp"
rate = "5/h"
burst = 2
"#;

/// Of so many packets each has its place in time.
const PACKETS: u64 = 30_000;

/// The daemon clears the bucket table every five minutes.
const SWEPT_EVERY_NS: usize = 300_000_000_000;

#[test]
fn a_replay_counts_what_the_program_counts() {
    require_root!();
    let mut random = Rng::with_seed(11);
    let mut kernel = Kernel::load_timed(LIMITS, false, Key([3, 1, 4, 1]));
    let mut capture = Capture::new(Format::Pcapng);
    let first = Duration::from_secs(1_700_000_000);
    let mut after = Duration::ZERO;
    for number in 0..PACKETS {
        let frame = frame(&mut random);
        // Its headers are there, and what was sent beyond is not.
        let captured = &frame[..frame.len().min(160)];
        capture = capture.cut_frame(first + after, captured, frame.len());
        let at = START_NS + u64::try_from(after.as_nanos()).expect("a time");
        kernel.run_timed(&mut frame.clone(), KernelTime(at));
        let step = match number % 5_000 {
            // A pause in which clocks come round.
            0 => random.u64(0..12_000 * 1_000_000_000),
            _ => random.u64(0..1_000_000),
        };
        // As the daemon does meanwhile.
        for swept in (0..step).step_by(SWEPT_EVERY_NS).skip(1) {
            kernel.sweep(KernelTime(at + swept));
        }
        after += Duration::from_nanos(step);
    }
    let config = config::parse(LIMITS, Path::new("limits")).expect("limits");
    let input = Input {
        path: "capture".to_owned(),
        contents: Box::new(Cursor::new(capture.build())),
    };
    let options = Options {
        to: vec![
            "0.0.0.0/0".parse().expect("all"),
            "::/0".parse().expect("all"),
        ],
        top: 0,
    };
    let report = replay(&config, vec![input], &options).expect("a capture");
    assert_eq!(report.packets, PACKETS);
    let outcomes = kernel
        .dataplane()
        .counters()
        .packets()
        .outcomes()
        .expect("counters");
    for ((outcome, counted), (_, replayed)) in outcomes.into_iter().zip(report.outcomes.each()) {
        assert_eq!(counted, replayed, "{outcome:?}");
    }
    for (counted, replayed) in kernel.limits().iter().zip(&report.limits) {
        assert_eq!(
            [counted.passed, counted.dropped, counted.observed].map(|traffic| traffic.packets),
            [replayed.passed, replayed.dropped, replayed.observed],
            "{}",
            replayed.name
        );
        let over = replayed.dropped + replayed.observed;
        assert!(replayed.passed > 50 && over > 50, "{replayed:?}");
    }
}

fn frame(random: &mut Rng) -> Vec<u8> {
    let number = random.u8(0..12);
    let packet = if random.u8(0..4) == 0 {
        Packet::eth().ipv6(format!("2001:db8:0:{number}::7"))
    } else {
        Packet::eth().ipv4(format!("203.0.113.{number}"))
    };
    let packet = match random.u8(0..10) {
        0..4 => packet.tcp(443).flags(flags::SYN),
        4..6 => packet.tcp(443).flags(flags::ACK),
        6..9 => packet.udp(53),
        _ if number.is_multiple_of(2) => packet.icmp(),
        _ => packet.icmpv6(),
    };
    packet.payload_len(random.usize(0..1_300)).build()
}
