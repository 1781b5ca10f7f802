//! The one offender in a flood: now and then a frame is its own, so long as there is one.
//!
//! Its frames are numbered from 0, and when each was made is kept. Offences and probes take
//! turns: a limit stops offences, and nothing but a ban stops probes.

use aya_ebpf::{btf_maps::Array, helpers::bpf_ktime_get_ns, macros::btf_map};

/// Of so many frames of the flood one is the offender's.
const EVERY: u64 = 64;
/// Frames of one offender; it sends no more.
const FRAMES: usize = 1 << 13;

/// Where offences and probes go to.
const OFFENCE_PORT: u16 = 9;
const PROBE_PORT: u16 = 10;

/// The offender's address as its bytes lie in a packet; 0: there is none.
#[btf_map]
static OFFENDER: Array<u32, 1> = Array::new();
/// Frames of the flood since there is this offender.
#[btf_map]
static SINCE: Array<u64, 1> = Array::new();
/// When each of the offender's frames was made, in kernel time.
#[btf_map]
static MADE: Array<u64, FRAMES> = Array::new();

/// Where the rest of the flood goes to.
const DISCARD_PORT: u16 = 7;

/// What is written into one frame of the flood.
///
/// No `Option` of what is an offender's: half of it would be undefined, which the verifier
/// refuses.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// The offender; 0: anyone.
    pub(crate) offender: u32,
    /// Where it goes to.
    pub(crate) port: u16,
    /// Its number, if it is an offender's.
    pub(crate) number: u32,
}

impl Frame {
    const ANYONES: Self = Self {
        offender: 0,
        port: DISCARD_PORT,
        number: 0,
    };
}

/// The frame to send now: the offender's if it is its turn.
#[inline(always)]
pub(crate) fn next() -> Frame {
    let (Some(offender), Some(since)) = (OFFENDER.get(0), SINCE.get_ptr_mut(0)) else {
        return Frame::ANYONES;
    };
    let offender = *offender;
    if offender == 0 {
        return Frame::ANYONES;
    }
    // SAFETY: an array's values live as long as the map; one flood at a time counts here.
    let count = unsafe { since.read() };
    // SAFETY: as above.
    unsafe { since.write(count + 1) };
    if count % EVERY != 0 {
        return Frame::ANYONES;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a flood has no 2^38 frames"
    )]
    let number = (count / EVERY) as u32;
    let Some(made) = MADE.get_ptr_mut(number) else {
        return Frame::ANYONES;
    };
    // SAFETY: as above; and the helper has no preconditions.
    unsafe { made.write(bpf_ktime_get_ns()) };
    // The first packet is within the limit, the second is over it.
    let offends = number == 0 || number % 2 == 1;
    Frame {
        offender,
        port: if offends { OFFENCE_PORT } else { PROBE_PORT },
        number,
    }
}
