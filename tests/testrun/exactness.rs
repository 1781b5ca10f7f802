//! A limit is exact however many CPUs a source's packets arrive on.

use std::{
    thread,
    time::{Duration, Instant},
};

use abuser_common::layout::Outcome;
use testkit::{Packet, require_root};

use crate::kernel::{Kernel, XDP_PASS, pin_to_cpu, run};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(4);

/// Packets in one call: enough that the calls' own overhead (the kernel patches its XDP
/// dispatcher around each, which takes tens of milliseconds) is small beside them.
const PACKETS_A_CALL: u32 = 1_000_000;

/// Sources that both CPUs meet first at the same moment.
const SOURCES: u32 = 2_000;

#[test]
fn two_cpus_flooding_one_source_pass_burst_plus_rate_times_time() {
    require_root!();
    let limit = "[[limit]]\nname = \"flood\"\nrate = \"1000/s\"\nburst = 1000";
    let mut kernel = Kernel::load(limit);
    let frame = Packet::eth().ipv4("203.0.113.7").udp(53).build();
    let program = kernel.program();
    // Single packets start and end the window: a call with many begins and ends late.
    let started = Instant::now();
    run(program, &frame, 1);
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
    let elapsed = started.elapsed();
    let passed = kernel.count(Outcome::Passed);
    let dropped = kernel.count(Outcome::DroppedLimit);
    // The first packet, the burst, and what the rate refilled.
    let expected = 1.0 + 1000.0 + 1000.0 * elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let error = (passed as f64 - expected).abs() / expected;
    println!(
        "{passed} of {} packets passed in {elapsed:?}; expected {expected:.0}, off by {:.3}%",
        passed + dropped,
        error * 100.0
    );
    assert!(error <= 0.01, "{passed} passed, expected {expected:.0}");
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
    assert_eq!((counted.passed, counted.dropped), (passed, dropped));
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
