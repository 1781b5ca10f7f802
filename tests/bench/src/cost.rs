//! What one packet costs: programs run on a frame, millions of times, in the kernel's test
//! harness (`BPF_PROG_TEST_RUN`).
//!
//! The harness has a cost of its own, so every figure is net of a bare `XDP_DROP` that ran
//! just before, in the same harness. What is compared takes turns, so that whatever else
//! the machine does meets all of them; the median of the differences is what counts.

use abuser_common::{
    dispatcher::PROGRAM,
    layout::{MAX_THROTTLED, Outcome},
};
use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use testkit::Packet;

use crate::{
    prefixes::{self, CLEAN_SOURCE, Prefix},
    programs::{self, Name, Programs},
    scenario::Measured,
    statistics::median,
    subject::{self, Abuser},
};

/// How often each program takes its turn.
const REPEATS: usize = 9;
/// Runs in a turn with one source: the harness's fixed cost, some 40 ms, is not in the
/// kernel's figure, and a turn should be long beside it.
const RUNS: u32 = 2_000_000;
/// Runs in a turn with random sources, which take longer.
const RANDOM_RUNS: u32 = 1_000_000;
/// Runs of `abuser` before measuring a limit with random sources: it has seen two in three of
/// the 16 million then.
const WARM_UP_BUCKETS: u32 = 20_000_000;
/// Runs before measuring anything else with random sources. The reference for limits has room
/// for a million, and is full then.
const WARM_UP: u32 = 3_000_000;

/// The share of packets that must come to the outcome a scenario is about.
const NEARLY_ALL: f64 = 0.999;

/// Bans and allow prefixes of `clean-loaded`.
const LOADED_BANS: usize = 100_000;
const LOADED_ALLOWED: usize = 10_000;
/// Bans of `random-bans`.
const MANY_BANS: usize = 1_000_000;

/// A UDP datagram in a frame of the smallest size.
fn frame() -> Vec<u8> {
    Packet::eth()
        .ipv4(CLEAN_SOURCE)
        .udp(7)
        .payload_len(18)
        .build()
}

/// `clean`: no limit matches, no bans.
pub(crate) fn clean() -> Result<Measured> {
    one_source(Abuser::load(subject::NO_MATCH)?, Outcome::Passed)
}

/// `clean-loaded`: the same with many bans and allow prefixes of others.
pub(crate) fn clean_loaded() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::NO_MATCH)?;
    abuser.ban(&prefixes::blocklist(LOADED_BANS, 1))?;
    abuser.allow(&prefixes::blocklist(LOADED_ALLOWED, 2))?;
    one_source(abuser, Outcome::Passed)
}

/// `dispatcher`: what is between the interface and a component, and `clean` in the same run.
///
/// The slot is empty: a component takes the place of its function by a jump at the beginning, so what is
/// called costs the same. Not every kernel takes components.
pub(crate) fn dispatcher() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::NO_MATCH)?;
    let frame = frame();
    let programs = Programs::load(&[Name::BareDrop, Name::BarePass])?;
    let dispatcher = programs::dispatcher()?;
    let dispatcher: &Xdp = dispatcher
        .program(PROGRAM)
        .context("the dispatcher's object has no program")?
        .try_into()?;
    let (mut between, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let pass = programs::time(programs.get(Name::BarePass)?, &frame, RUNS)?;
        between.push(programs::time(dispatcher, &frame, RUNS)? - pass);
        let floor = programs::time(programs.get(Name::BareDrop)?, &frame, RUNS)?;
        alone.push(programs::time(abuser.program()?, &frame, RUNS)? - floor);
    }
    let (value, alone) = (median(&between), median(&alone));
    Ok(Measured {
        value,
        also: vec![
            ("clean_ns_net", alone),
            ("times_clean", (alone + value) / alone),
        ],
        ..Measured::default()
    })
}

/// `banned`: one host, and nothing else in the tables.
pub(crate) fn banned() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::NO_MATCH)?;
    abuser.ban(&[Prefix::around(CLEAN_SOURCE, 32)])?;
    one_source(abuser, Outcome::DroppedBan)
}

/// `unthrottled`: under a limit for throttled sources, which as many others are as there can be.
pub(crate) fn unthrottled() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::ONLY_THROTTLED)?;
    abuser.throttle(&prefixes::blocklist(MAX_THROTTLED as usize, 4))?;
    one_source(abuser, Outcome::Passed)
}

/// `throttled`: the same, and this source is one of them, within its limit.
pub(crate) fn throttled() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::ONLY_THROTTLED)?;
    abuser.throttle(&prefixes::blocklist(MAX_THROTTLED as usize - 1, 4))?;
    abuser.throttle(&[Prefix::around(CLEAN_SOURCE, 32)])?;
    one_source(abuser, Outcome::Passed)
}

/// `conforming`: within a limit.
pub(crate) fn conforming() -> Result<Measured> {
    one_source(Abuser::load(subject::WIDE)?, Outcome::Passed)
}

/// `conforming-three`: within three limits at once.
pub(crate) fn conforming_three() -> Result<Measured> {
    one_source(Abuser::load(subject::THREE_WIDE)?, Outcome::Passed)
}

/// `over`: over a limit.
pub(crate) fn over() -> Result<Measured> {
    one_source(Abuser::load(subject::NARROW)?, Outcome::DroppedLimit)
}

/// The same frame again and again, straight into the program.
fn one_source(mut abuser: Abuser, expected: Outcome) -> Result<Measured> {
    let frame = frame();
    let programs = Programs::load(&[Name::BareDrop])?;
    let bare = programs.get(Name::BareDrop)?;
    let mut net = Vec::new();
    for _ in 0..REPEATS {
        let floor = programs::time(bare, &frame, RUNS)?;
        net.push(programs::time(abuser.program()?, &frame, RUNS)? - floor);
    }
    let share = abuser.share(expected)?;
    ensure!(
        share >= NEARLY_ALL,
        "only {:.1}% of the packets came to the outcome {}, which the scenario is about",
        share * 100.0,
        expected.name()
    );
    Ok(Measured {
        value: median(&net),
        ..Measured::default()
    })
}

/// `random-limit`: every packet from one of 16 million sources.
pub(crate) fn random_limit() -> Result<Measured> {
    let abuser = Abuser::load(subject::PER_SOURCE)?;
    let programs = Programs::load(&[Name::BareDrop, Name::RandomSource, Name::LruBucket])?;
    let (measured, passed) = random_sources(abuser, programs, Name::LruBucket, WARM_UP_BUCKETS)?;
    ensure!(
        passed >= NEARLY_ALL,
        "only {:.1}% of the packets were within the limit, which all are",
        passed * 100.0
    );
    Ok(measured)
}

/// `random-bans`: every packet from one of 16 million sources, against a long blocklist.
pub(crate) fn random_bans() -> Result<Measured> {
    let mut abuser = Abuser::load(subject::NO_MATCH)?;
    let mut programs = Programs::load(&[Name::BareDrop, Name::RandomSource, Name::LpmBlocklist])?;
    let list = prefixes::blocklist(MANY_BANS, 3);
    abuser.ban(&list)?;
    programs.block(&list)?;
    let (measured, passed) = random_sources(abuser, programs, Name::LpmBlocklist, WARM_UP)?;
    // The list covers one in eighty of the addresses.
    ensure!(
        (0.97..0.999).contains(&passed),
        "{:.1}% of the packets were not banned, about 98.7% should be",
        passed * 100.0
    );
    Ok(measured)
}

/// `abuser`, the reference and the floor take turns behind the program that draws sources;
/// also the share of packets that `abuser` passed.
fn random_sources(
    mut abuser: Abuser,
    mut programs: Programs,
    reference: Name,
    warm_up: u32,
) -> Result<(Measured, f64)> {
    let frame = frame();
    let floor = programs.fd(Name::BareDrop)?;
    let candidates = [
        programs::descriptor(abuser.program()?)?,
        programs.fd(reference)?,
    ];
    for (candidate, runs) in candidates.iter().zip([warm_up, WARM_UP]) {
        programs.set_candidate(candidate)?;
        programs::time(programs.get(Name::RandomSource)?, &frame, runs)?;
    }
    let mut net = [Vec::new(), Vec::new()];
    for _ in 0..REPEATS {
        programs.set_candidate(&floor)?;
        let bare = programs::time(programs.get(Name::RandomSource)?, &frame, RANDOM_RUNS)?;
        for (candidate, net) in candidates.iter().zip(&mut net) {
            programs.set_candidate(candidate)?;
            let taken = programs::time(programs.get(Name::RandomSource)?, &frame, RANDOM_RUNS)?;
            net.push(taken - bare);
        }
    }
    let [value, reference] = net.each_ref().map(|net| median(net));
    let measured = Measured {
        value,
        reference: Some(reference),
        ..Measured::default()
    };
    Ok((measured, abuser.share(Outcome::Passed)?))
}
