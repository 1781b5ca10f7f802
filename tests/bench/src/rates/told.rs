//! Rates by a clock that is told: frames tell the program the time, through the kernel's test
//! harness. Nothing but what the program does can be off.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Barrier, thread};

use abuser_common::gcra::KernelTime;
use anyhow::{Context as _, Result, anyhow};
use aya::programs::Xdp;
use testkit::Packet;

use super::{Cell, Method, Rate};
use crate::{cpu, subject::Abuser, timed::run_at};

/// The port of the first rate.
const PORT: u16 = 1000;
/// Sources begin here: shared space (RFC 6598).
const FIRST: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// Where a frame has its IPv4 source, and its UDP port of destination.
const SOURCE_AT: usize = 14 + 12;
const PORT_AT: usize = 14 + 20 + 2;
/// `XDP_PASS` of the kernel's `enum xdp_action`.
const XDP_PASS: u32 = 2;
/// When the first rate begins.
const START: u64 = 1_234_567_890_123_456;
/// The next one begins so much later, when all buckets of this one are full again and in nobody's way.
const NEXT: u64 = 3_600_000_000_000;

/// What one source may send, and for how long that goes on.
#[derive(Clone, Copy, Debug)]
struct Course {
    burst: u64,
    /// Packets that the rate grants in the time.
    granted: u64,
}

impl Course {
    /// One source goes on for long; of many each has a few, for there are many.
    const fn of(sources: u32) -> Self {
        if sources == 1 {
            Self {
                burst: 10,
                granted: 2_000,
            }
        } else {
            Self {
                burst: 1,
                granted: 8,
            }
        }
    }

    /// Steps of half a period: on each CPU every source sends once in each.
    const fn steps(self) -> u64 {
        2 * self.granted
    }
}

/// Measures these rates with so many sources on so many CPUs.
///
/// # Errors
/// If the kernel refuses the program.
pub fn measure(sources: u32, cpus: usize, rates: &[Rate]) -> Result<Vec<Cell>> {
    let course = Course::of(sources);
    let mut limits = String::new();
    for (port, rate) in (PORT..).zip(rates) {
        let _infallible = writeln!(
            limits,
            "[[limit]]\nname = \"at-{port}\"\nprotocol = \"udp\"\nports = [{port}]\nrate = \"{}\"\nburst = {}",
            rate.name(),
            course.burst
        );
    }
    let mut abuser = Abuser::load_timed(&limits)?;
    let program = abuser.timed()?;
    (PORT..)
        .zip(rates)
        .map(|(port, rate)| {
            let admitted = flood(program, port, *rate, sources, cpus)?;
            #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
            let expected = (u64::from(sources) * (1 + course.burst + course.granted)) as f64;
            Ok(Cell {
                rate: *rate,
                sources,
                cpus,
                method: Method::Told,
                offered: u64::from(sources) * (course.steps() + 1) * cpus as u64,
                admitted,
                expected,
            })
        })
        .collect()
}

/// How many packets pass, of twice what the rate grants on each CPU.
fn flood(program: &Xdp, port: u16, rate: Rate, sources: u32, cpus: usize) -> Result<u64> {
    let barrier = Barrier::new(cpus);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cpus)
            .map(|cpu| {
                let barrier = &barrier;
                scope.spawn(move || {
                    // All wait for each other whatever happens to one of them.
                    let mut passed = cpu::pin(cpu).map(|()| 0);
                    for number in 0..=Course::of(sources).steps() {
                        barrier.wait();
                        if let Ok(count) = passed {
                            let step = Step {
                                rate,
                                port,
                                number,
                                sources,
                            };
                            let more = send(program, step);
                            passed = more.map(|more| count + more);
                        }
                    }
                    passed
                })
            })
            .collect();
        let mut passed = 0;
        for thread in threads {
            passed += thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(passed)
    })
}

/// One round in which every source sends once.
#[derive(Clone, Copy, Debug)]
struct Step {
    rate: Rate,
    port: u16,
    number: u64,
    sources: u32,
}

impl Step {
    /// When a source sends. In all steps but the first it is a bit late: no packet comes just when another
    /// one is granted, which it would be a tick sooner or later. In the last, sources are late by anything
    /// up to a whole period, evenly: only whole packets are granted, so if the rate is off by a hundredth, a
    /// hundredth of the sources for each packet that they were granted have one more or less by then.
    fn at(self, source: u32) -> KernelTime {
        let period_ns = self.rate.period_ns();
        let late_ns = if self.number == 0 {
            0
        } else if self.number == Course::of(self.sources).steps() {
            period_ns * (2 * u64::from(source) + 1) / (2 * u64::from(self.sources))
        } else {
            period_ns / 8
        };
        let begin_ns = START + u64::from(self.port - PORT) * NEXT;
        KernelTime(begin_ns + self.number * period_ns / 2 + late_ns)
    }
}

/// Every source sends once; how many packets pass.
fn send(program: &Xdp, step: Step) -> Result<u64> {
    let mut frame = Packet::eth()
        .ipv4("100.64.0.0")
        .udp(step.port)
        .payload_len(18)
        .build();
    frame
        .get_mut(PORT_AT..PORT_AT + 2)
        .context("a frame without a port")?
        .copy_from_slice(&step.port.to_be_bytes());
    let mut passed = 0;
    for number in 0..step.sources {
        let source = FIRST.to_bits() + number;
        frame
            .get_mut(SOURCE_AT..SOURCE_AT + 4)
            .context("a frame without a source")?
            .copy_from_slice(&source.to_be_bytes());
        passed += u64::from(run_at(program, &mut frame, step.at(number))? == XDP_PASS);
    }
    Ok(passed)
}
