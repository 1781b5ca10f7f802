//! Packets from everywhere: a source drawn for each run of a program.

use aya_ebpf::{
    bindings::xdp_action::XDP_ABORTED,
    btf_maps::ProgramArray,
    helpers::{bpf_get_prandom_u32, bpf_redirect},
    macros::btf_map,
    programs::XdpContext,
};

/// How many sources there are, less one; a power of two less one. Set when loaded.
#[unsafe(no_mangle)]
static SOURCES_MASK: u32 = (1 << 24) - 1;

/// Where `flood` sends to: an interface's index. Set when loaded.
#[unsafe(no_mangle)]
static FLOOD_INTERFACE: u32 = 0;

/// An odd number far from any pattern: multiples of it cover all 32-bit numbers evenly.
const SPREAD: u32 = 0x9e37_79b1;

/// The first addresses of the unicast space, 1.0.0.0, and how many there are to 223.255.255.255.
const FIRST: u32 = 1 << 24;
const ADDRESSES: u32 = 223 << 24;

/// What `random_source` runs: the program in slot 0.
#[btf_map]
static CANDIDATE: ProgramArray<1> = ProgramArray::new();

/// One of the sources, as its bytes lie in a packet. The sources lie all over the unicast
/// space, as those of a spoofed flood do, and are always the same.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the static is initialised; the loader writes it before the program runs, which
    // the compiler must not know.
    let mask = unsafe { core::ptr::read_volatile(&raw const SOURCES_MASK) };
    // SAFETY: the helper has no preconditions.
    let number = unsafe { bpf_get_prandom_u32() } & mask;
    let spread = number.wrapping_mul(SPREAD);
    let scaled = ((u64::from(spread) * u64::from(ADDRESSES)) >> 32) as u32;
    (FIRST + scaled).to_be()
}

/// Goes on with the candidate; returns only if there is none.
#[inline(always)]
pub(crate) fn run_candidate(ctx: &XdpContext) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { CANDIDATE.tail_call(ctx, 0) };
}

/// Has the frame sent out of the flood's interface.
#[inline(always)]
pub(crate) fn send_out() -> u32 {
    // SAFETY: as in `random`.
    let interface = unsafe { core::ptr::read_volatile(&raw const FLOOD_INTERFACE) };
    // SAFETY: the helper has no preconditions.
    let action = unsafe { bpf_redirect(interface, 0) };
    u32::try_from(action).unwrap_or(XDP_ABORTED)
}
