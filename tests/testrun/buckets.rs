//! What the bucket table promises, on a clock in the test's hands.

use std::net::Ipv4Addr;

use abuser_common::{
    bucket::Key,
    gcra::{KernelTime, Rate},
    layout::Outcome,
};
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, XDP_PASS, crowd};

const SECOND: u64 = 1_000_000_000;

const START: KernelTime = KernelTime(1_000 * SECOND);

const YEAR: u64 = 365 * 86_400 * SECOND;

/// A kernel with one limit for all packets.
fn kernel(rate: &str, burst: u64) -> Kernel {
    let key = Key([(); 4].map(|()| fastrand::u64(..)));
    println!("{key:x?}");
    let limit = format!("[[limit]]\nname = \"any\"\nrate = \"{rate}\"\nburst = {burst}");
    Kernel::load_timed(&limit, false, key)
}

/// How many of `count` packets at one time pass.
fn passed(kernel: &mut Kernel, source: Ipv4Addr, now: KernelTime, count: usize) -> usize {
    let mut frame = Packet::eth().ipv4(source).udp(53).build();
    (0..count)
        .filter(|_| kernel.run_timed(&mut frame, now) == XDP_PASS)
        .count()
}

fn evictions(kernel: &mut Kernel) -> u64 {
    let sources = kernel.dataplane().counters().sources();
    sources.expect("counters").evictions
}

/// Sources whose buckets lie in one set.
fn set_mates(kernel: &Kernel, count: usize) -> Vec<Ipv4Addr> {
    crowd(&kernel.model.key, 0, 32, fastrand::u32(..), count)
}

#[test]
fn no_ipv4_source_is_charged_for_another_s_packets() {
    const SOURCES: u32 = 120_000;
    require_root!();
    let mut kernel = kernel("1/h", 0);
    // An odd factor: no two are the same.
    let factor = fastrand::u32(..) | 1;
    for number in 0..SOURCES {
        let source = Ipv4Addr::from(number.wrapping_mul(factor));
        assert_eq!(passed(&mut kernel, source, START, 1), 1, "{source}");
    }
    assert_eq!(kernel.count(Outcome::Passed), u64::from(SOURCES));
    let again = (0..100).map(|number: u32| Ipv4Addr::from(number.wrapping_mul(factor)));
    let again: usize = again
        .map(|source| passed(&mut kernel, source, START, 1))
        .sum();
    assert!(again < 5, "{again} of 100 sources were not charged");
}

#[test]
fn whoever_takes_an_idle_slot_changes_no_verdict() {
    require_root!();
    let mut kernel = kernel("1/s", 3);
    let mates = set_mates(&kernel, 24);
    let mut now = START;
    for round in 0..6 {
        // Eight fill the set, and are full again when the next eight come.
        for source in mates.iter().skip(round % 3 * 8).take(8) {
            let count = passed(&mut kernel, *source, now, 10);
            assert_eq!(count, 4, "{source} in round {round}");
        }
        now.0 += 4 * SECOND;
    }
    assert_eq!(evictions(&mut kernel), 0);
}

#[test]
fn a_full_set_keeps_those_who_sent_most() {
    require_root!();
    let mut kernel = kernel("1/s", 19);
    let mates = set_mates(&kernel, 48);
    let (heavy, light) = mates.split_at(8);
    for (source, packets) in heavy.iter().zip(3..) {
        assert_eq!(passed(&mut kernel, *source, START, packets), packets);
    }
    for source in light {
        assert_eq!(passed(&mut kernel, *source, START, 1), 1, "{source}");
    }
    // The first one made the lightest of the eight go; then they did so to each other.
    assert_eq!(evictions(&mut kernel), 40);
    for (source, packets) in heavy.iter().zip(3..).skip(1) {
        let left = passed(&mut kernel, *source, START, 30);
        assert_eq!(left, 20 - packets, "{source} sent {packets} before");
    }
}

#[test]
fn a_clock_that_wraps_changes_nothing() {
    require_root!();
    let mut kernel = kernel("1000/s", 9);
    let ring_ns = Rate::new(1000, SECOND, 9, 1)
        .expect("a rate")
        .scale
        .ring_ns();
    let before = [0, 1, 999_999, 1_000_000, 5_000_001, 10_000_000];
    let turns = [1, 2, 3, 7, 64, 1000, 10_007];
    let times = turns
        .iter()
        .flat_map(|turn| before.map(|ns| turn * ring_ns - ns));
    for (source, now) in (0xc633_0000_u32..).zip(times) {
        let source = Ipv4Addr::from(source);
        let mut at = |after: u64| passed(&mut kernel, source, KernelTime(now + after), 20);
        let counts = [0, 999_000, 1_000_000, 4_000_000, 4_000_001, 14_000_001].map(&mut at);
        assert_eq!(counts, [10, 0, 1, 3, 0, 10], "{source} from {now}");
    }
}

#[test]
fn a_source_that_was_idle_for_years_has_its_whole_burst() {
    require_root!();
    let mut kernel = kernel("1000/s", 9);
    let ring_ns = Rate::new(1000, SECOND, 9, 1)
        .expect("a rate")
        .scale
        .ring_ns();
    let source = Ipv4Addr::new(203, 0, 113, 7);
    let mut now = START;
    for years in [0, 1, 3, 30, 100] {
        // To the tick where the clock stood when the bucket was emptied.
        now.0 += years * YEAR / ring_ns * ring_ns;
        assert_eq!(passed(&mut kernel, source, now, 20), 10, "{years} years");
        kernel.sweep(KernelTime(now.0 + ring_ns / 4));
    }
}

#[test]
fn a_sweep_leaves_those_who_still_owe() {
    require_root!();
    let mut kernel = kernel("1/s", 9);
    let mates = set_mates(&kernel, 8);
    for (source, packets) in mates.iter().zip(2..) {
        passed(&mut kernel, *source, START, packets);
    }
    for tenth in 1..50 {
        kernel.sweep(KernelTime(START.0 + tenth * SECOND / 10));
    }
    let now = KernelTime(START.0 + 5 * SECOND);
    for (source, packets) in mates.iter().zip(2_usize..) {
        let owed = packets.saturating_sub(5);
        assert_eq!(passed(&mut kernel, *source, now, 20), 10 - owed, "{source}");
    }
}
