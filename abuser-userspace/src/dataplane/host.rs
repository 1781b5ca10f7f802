//! What the program has to know of this machine: its ticks, and a key of its own.

use std::{
    fs::File,
    io::{self, Read as _},
    time::{Duration, Instant},
};

use abuser_common::{
    bucket::Key,
    layout::{CLOCKS_PROGRAM, Clocks, Host, maps},
};
use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_getres};

use super::{error::DataplaneError, program::take_map};

/// The kernel runs XDP programs on no less than an Ethernet header.
const FRAME: usize = 64;

/// Sets the machine's constants. The key stays if there is one: it is what the buckets of
/// an earlier daemon are found by. Returns them.
pub(super) fn prepare(program: &mut Ebpf) -> Result<Host, DataplaneError> {
    let mut map: Array<MapData, Host> = take_map(program, maps::HOST)?;
    let error = |error| DataplaneError::map(maps::HOST, error);
    let before = map.get(&0, 0).map_err(error)?;
    let key = if before.key == Key::default() {
        draw_key().map_err(|source| DataplaneError::Map {
            map: maps::HOST.to_owned(),
            message: format!("cannot draw a key from /dev/urandom: {source}"),
        })?
    } else {
        before.key
    };
    let (jiffy_ns, jiffies_epoch_ns) = ticks(program)?;
    let host = Host {
        key,
        jiffy_ns,
        jiffies_epoch_ns,
    };
    map.set(0, host, 0).map_err(error)?;
    Ok(host)
}

fn draw_key() -> io::Result<Key> {
    let mut source = File::open("/dev/urandom")?;
    let mut key = Key::default();
    for word in &mut key.0 {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(key)
}

/// How long a tick of the kernel is: its coarse clocks move a tick at a time, and say so.
pub(super) fn tick() -> nix::Result<Duration> {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from)
}

/// How long a tick of the kernel is, and when the count of ticks was zero.
fn ticks(program: &mut Ebpf) -> Result<(u64, u64), DataplaneError> {
    let tick = tick()
        .map_err(|errno| DataplaneError::Load(format!("cannot read the kernel's tick: {errno}")))?;
    let jiffy_ns = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX);
    let clocks = clocks_program(program)?;
    let until = Instant::now() + tick * 2;
    let mut least_behind: Option<u64> = None;
    // The time of the last tick is at most a tick behind the clock. Over two ticks one of the
    // readings comes right after one.
    while least_behind.is_none() || Instant::now() < until {
        let Clocks {
            jiffies,
            monotonic_ns,
        } = read(clocks)?;
        let epoch = monotonic_ns.wrapping_sub(jiffies.wrapping_mul(jiffy_ns));
        // The epoch may lie before zero: compare as distances.
        least_behind = Some(match least_behind {
            Some(least) if least.wrapping_sub(epoch) > u64::MAX / 2 => least,
            _ => epoch,
        });
    }
    Ok((jiffy_ns, least_behind.unwrap_or_default()))
}

fn clocks_program(program: &mut Ebpf) -> Result<&Xdp, DataplaneError> {
    let clocks: &mut Xdp = program
        .program_mut(CLOCKS_PROGRAM)
        .ok_or_else(|| {
            DataplaneError::Load(format!("the object has no program {CLOCKS_PROGRAM:?}"))
        })?
        .try_into()
        .map_err(|error: ProgramError| DataplaneError::from(error))?;
    clocks.load()?;
    Ok(clocks)
}

fn read(clocks: &Xdp) -> Result<Clocks, DataplaneError> {
    let mut frame = [0; FRAME];
    let options = TestRunOptions {
        data_in: Some(&[0; FRAME]),
        data_out: Some(&mut frame),
        ..TestRunOptions::default()
    };
    clocks.test_run(options)?;
    let [jiffies, monotonic_ns] = [0, 8].map(|start| {
        let bytes = frame
            .get(start..start + 8)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    });
    Ok(Clocks {
        jiffies,
        monotonic_ns,
    })
}
