//! A limit is exact however many CPUs a source's packets arrive on.

use std::{
    thread,
    time::{Duration, Instant},
};

use abuser_common::{bucket::Key, gcra::KernelTime, layout::Outcome};
use nix::time::{ClockId, clock_gettime};
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, XDP_PASS, pin_to_cpu, run, run_at};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(4);

/// Packets in one call: enough that the calls' own overhead (the kernel patches its XDP
/// dispatcher around each, which takes tens of milliseconds) is small beside them.
const PACKETS_A_CALL: u32 = 1_000_000;

/// Sources that both CPUs meet first at the same moment.
const SOURCES: u32 = 2_000;

/// What a flood from two CPUs came to.
struct Flood {
    passed: u64,
    /// From before the first packet to after the last, by the clock that judges.
    elapsed: Duration,
}

impl Flood {
    /// How far it is from a burst of `burst` and 1,000 a second.
    fn error(&self, burst: f64) -> f64 {
        // The first packet, the burst, and what the rate refilled.
        let expected = 1.0 + burst + 1000.0 * self.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let passed = self.passed as f64;
        println!(
            "{passed} passed in {:?}; expected {expected:.0}, off by {:.3}%",
            self.elapsed,
            (passed - expected).abs() / expected * 100.0
        );
        (passed - expected) / expected
    }
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("the clock").into()
}

/// Floods one source under a limit of 1,000 a second and this burst from two CPUs.
fn flood(burst: u32, clock: ClockId) -> Flood {
    let limit = format!("[[limit]]\nname = \"flood\"\nrate = \"1000/s\"\nburst = {burst}");
    let mut kernel = Kernel::load(&limit);
    let frame = Packet::eth().ipv4("203.0.113.7").udp(53).build();
    let program = kernel.program();
    // Single packets start and end the window: a call with many begins and ends late. They
    // spend the burst, for what a full bucket would be given meanwhile is lost.
    let (started, start) = (Instant::now(), read(clock));
    while run(program, &frame, 1) == XDP_PASS {}
    thread::scope(|scope| {
        for cpu in 0..2 {
            let frame = &frame;
            scope.spawn(move || {
                pin_to_cpu(cpu);
                while started.elapsed() < FLOOD {
                    run(program, frame, PACKETS_A_CALL);
                }
            });
        }
    });
    let passed_in_flood = kernel.count(Outcome::Passed);
    let program = kernel.program();
    while run(program, &frame, 1) == XDP_PASS {}
    let elapsed = read(clock).saturating_sub(start);
    let passed = kernel.count(Outcome::Passed);
    let dropped = kernel.count(Outcome::DroppedLimit);
    assert!(
        dropped > 500 * passed,
        "this was no flood: only {dropped} dropped"
    );
    assert!(
        passed - passed_in_flood < 300,
        "the flood itself was held below the rate"
    );
    let [counted] = kernel.limits()[..] else {
        panic!("one limit");
    };
    assert_eq!(
        (counted.passed.packets, counted.dropped.packets),
        (passed, dropped)
    );
    Flood { passed, elapsed }
}

#[test]
fn two_cpus_flooding_one_source_pass_burst_plus_rate_times_time() {
    require_root!();
    // A window of less than a second: the program asks the exact clock.
    let error = flood(999, ClockId::CLOCK_MONOTONIC).error(999.0);
    assert!(error.abs() <= 0.01, "off by {error}");
}

#[test]
fn two_cpus_pass_as_much_by_the_clock_that_ticks() {
    require_root!();
    // A window of a second: the kernel's last tick will do. On a busy virtual machine ticks
    // come late, and so does this clock.
    let error = flood(1000, ClockId::CLOCK_MONOTONIC_COARSE).error(1000.0);
    assert!(error.abs() <= 0.01, "off by {error}");
}

/// The clock is told, so that nothing but what the program does can be off: what two CPUs
/// pass is at most the burst, one more, and what the rate refilled, and exactly that where
/// they leave nothing.
#[test]
fn two_cpus_never_pass_more_than_burst_and_one_and_rate_times_window() {
    const STEP_NS: u64 = 1_500_000;
    const STEPS: u64 = 1_000;
    const START: u64 = 5_000_000_000;
    require_root!();
    let limit = "[[limit]]\nname = \"flood\"\nrate = \"1000/s\"\nburst = 9";
    let mut kernel = Kernel::load_timed(limit, false, Key([2, 3, 5, 7]));
    let frame = Packet::eth().ipv4("203.0.113.7").udp(53).build();
    let barrier = std::sync::Barrier::new(2);
    let program = kernel.timed();
    thread::scope(|scope| {
        for cpu in 0..2 {
            let (mut frame, barrier) = (frame.clone(), &barrier);
            scope.spawn(move || {
                pin_to_cpu(cpu);
                for step in 0..=STEPS {
                    barrier.wait();
                    let now = KernelTime(START + step * STEP_NS);
                    // In the first step both have more than the burst to send.
                    for _ in 0..if step == 0 { 15 } else { 5 } {
                        run_at(program, &mut frame, now);
                    }
                }
            });
        }
    });
    let passed = kernel.count(Outcome::Passed);
    let most = 1 + 9 + STEP_NS * STEPS / 1_000_000;
    println!("{passed} passed, {most} at most");
    assert!(passed <= most, "{passed} passed, {most} at most");
    // A lost race is a drop, but the winner's packet passed; another follows at once.
    assert!(passed + 15 >= most, "{passed} passed of {most}");
}

#[test]
fn sources_made_on_two_cpus_at_once_get_one_bucket_each() {
    require_root!();
    let limit = "[[limit]]\nname = \"once\"\nrate = \"1/h\"\nburst = 4";
    let mut kernel = Kernel::load(limit);
    let frames: Vec<_> = (0..SOURCES)
        .map(|n| {
            let source = std::net::Ipv4Addr::from(0xc633_0000 + n);
            Packet::eth().ipv4(source).udp(53).build()
        })
        .collect();
    let program = kernel.program();
    let barrier = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        for cpu in 0..2 {
            let (frames, barrier) = (&frames, &barrier);
            scope.spawn(move || {
                pin_to_cpu(cpu);
                for frame in frames {
                    // Both CPUs meet every new source at the same moment.
                    barrier.wait();
                    for _ in 0..10 {
                        run(program, frame, 1);
                    }
                }
            });
        }
    });
    let passed = kernel.count(Outcome::Passed);
    assert_eq!(
        passed,
        u64::from(SOURCES) * 5,
        "each source has a burst of 4 and one more"
    );
}
