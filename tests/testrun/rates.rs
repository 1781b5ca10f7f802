//! A rate is what it says, from one packet an hour to a hundred million a second.

use std::{fmt::Write as _, time::Duration};

use abuser_bench::rates::{Cell, Rate, live::Cables, told};
use abuser_common::{bucket::Key, gcra::KernelTime};
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, XDP_PASS};

/// How long live frames flood.
const LIVE: Duration = Duration::from_secs(5);

const SECOND: u64 = 1_000_000_000;

/// How many packets are to pass under each rate.
const PACKETS: u64 = 3_000;

/// What may pass at once beyond the rate, in packets.
const BURST: u64 = 10;

/// The port of the first rate.
const PORT: u16 = 1000;

/// Bytes in a frame.
const LENGTH: usize = 1_000;

/// Rates of packets: how many, and in how many nanoseconds.
const OF_PACKETS: [(u64, &str, u64); 18] = [
    (1, "h", 3600 * SECOND),
    (7, "h", 3600 * SECOND),
    (1, "m", 60 * SECOND),
    (59, "m", 60 * SECOND),
    (1, "s", SECOND),
    (3, "s", SECOND),
    (100, "s", SECOND),
    (333, "s", SECOND),
    (1_000, "s", SECOND),
    (12_345, "s", SECOND),
    (100_000, "s", SECOND),
    (777_777, "s", SECOND),
    (1_000_000, "s", SECOND),
    (3_000_000, "s", SECOND),
    (10_000_000, "s", SECOND),
    (14_880_952, "s", SECOND),
    (33_333_333, "s", SECOND),
    (100_000_000, "s", SECOND),
];

/// The same of bytes. The last is 100 Gbit/s.
const OF_BYTES: [(u64, &str, u64); 6] = [
    (1_000_000, "h", 3600 * SECOND),
    (1_000, "s", SECOND),
    (123_456, "s", SECOND),
    (100_000_000, "s", SECOND),
    (1_250_000_000, "s", SECOND),
    (12_500_000_000, "s", SECOND),
];

#[test]
fn a_flood_gets_what_the_rate_says_to_half_a_percent() {
    require_root!();
    let packets = OF_PACKETS.map(|rate| (rate, "packets", 1));
    let bytes = OF_BYTES.map(|rate| (rate, "bytes", LENGTH as u64));
    let rates: Vec<_> = packets.into_iter().chain(bytes).collect();
    let mut limits = String::new();
    for (port, ((count, unit, _), what, cost)) in (PORT..).zip(&rates) {
        writeln!(
            limits,
            "[[limit]]\nname = \"{what}-{port}\"\nprotocol = \"udp\"\nports = [{port}]\n\
             count = \"{what}\"\nrate = \"{count}/{unit}\"\nburst = {}",
            BURST * cost
        )
        .expect("a string");
    }
    let mut kernel = Kernel::load_timed(&limits, false, Key([2, 3, 5, 7]));
    for (port, ((count, unit, per_ns), what, cost)) in (PORT..).zip(rates) {
        // The time of so many packets, and a flood that is half as much again.
        let duration = PACKETS * cost * per_ns / count;
        let offered = PACKETS * 3 / 2;
        let passed = flood(&mut kernel, port, duration, offered);
        let expected = 1 + BURST + PACKETS;
        println!("{count} {what}/{unit}: {passed} passed, {expected} expected");
        assert!(
            passed.abs_diff(expected) * 200 <= expected,
            "{count} {what}/{unit}: {passed} packets passed in {duration} ns, not {expected}"
        );
    }
}

/// What `cargo xtask bench rates` measures for 100,000 sources, by the same code, for fewer of each.
#[test]
fn many_sources_on_two_cpus_each_get_what_the_rate_says() {
    require_root!();
    let rates = [Rate::ALL[0], Rate::ALL[3], Rate::ALL[8]];
    let cells = told::measure(10_000, 2, &rates).unwrap_or_else(|error| panic!("{error:#}"));
    assert_within_a_percent(&cells);
}

/// The same for its live frames, which two cables bring to the daemon's interfaces.
#[test]
fn a_live_flood_on_two_cpus_gets_what_the_rate_says() {
    require_root!();
    let rate = Rate::ALL[5];
    let cell = Cables::lay(2, &[rate]).and_then(|mut cables| cables.measure(rate, LIVE));
    assert_within_a_percent(&[cell.unwrap_or_else(|error| panic!("{error:#}"))]);
}

fn assert_within_a_percent(cells: &[Cell]) {
    for cell in cells {
        println!("{cell:?}: {:+.3}%", cell.error_percent());
        assert!(cell.offered > cell.admitted, "{cell:?}");
        assert!(cell.error_percent().abs() <= 1.0, "{cell:?}");
    }
}

/// How many of `offered` packets pass that come evenly over `duration` nanoseconds.
fn flood(kernel: &mut Kernel, port: u16, duration: u64, offered: u64) -> u64 {
    let start = 1_234_567_890_123_456;
    let headers = 14 + 20 + 8;
    let packet = Packet::eth().ipv4("203.0.113.7").udp(port);
    let mut frame = packet.payload_len(LENGTH - headers).build();
    (0..=offered)
        .map(|number| {
            let after = u128::from(duration) * u128::from(number) / u128::from(offered);
            KernelTime(start + u64::try_from(after).expect("a time"))
        })
        .map(|now| u64::from(kernel.run_timed(&mut frame, now) == XDP_PASS))
        .sum()
}
