//! The bench's own XDP programs: what `abuser` is measured against, and what makes the
//! packets.
//!
//! | program | what it is |
//! | --- | --- |
//! | `bare_drop` | the floor: nothing but `XDP_DROP` |
//! | `bare_pass` | lets a veth take redirected frames though nothing filters there |
//! | `lru_bucket` | the reference for limits: a token bucket in an LRU hash |
//! | `lpm_blocklist` | the reference for bans: a blocklist in an LPM trie |
//! | `random_source` | writes a random source into the frame, then runs a program |
//! | `flood` | writes a random source into the frame, then sends it out |
//! | `flood_with_offender` | the same; now and then the frame is an offender's |
//!
//! All take fragments: the kernel lets only programs of one kind share a program array.

#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the `xdp` macro wants"
)]

mod frame;
mod offender;
mod references;
mod sources;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};

use crate::frame::{Ipv4, Udp};

#[xdp(frags)]
fn bare_drop(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

#[xdp(frags)]
fn bare_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[xdp(frags)]
fn lru_bucket(ctx: XdpContext) -> u32 {
    match Ipv4::of(&ctx) {
        Some(ipv4) if !references::spend_token(ipv4.source()) => XDP_DROP,
        _ => XDP_PASS,
    }
}

#[xdp(frags)]
fn lpm_blocklist(ctx: XdpContext) -> u32 {
    match Ipv4::of(&ctx) {
        Some(ipv4) if references::is_blocked(ipv4.source()) => XDP_DROP,
        _ => XDP_PASS,
    }
}

/// Aborts where the program array is empty: a bench that measures nothing must notice.
#[xdp(frags)]
fn random_source(ctx: XdpContext) -> u32 {
    if let Some(mut ipv4) = Ipv4::of(&ctx) {
        ipv4.set_source(sources::random());
        sources::run_candidate(&ctx);
    }
    XDP_ABORTED
}

#[xdp(frags)]
fn flood(ctx: XdpContext) -> u32 {
    let Some(mut ipv4) = Ipv4::of(&ctx) else {
        return XDP_ABORTED;
    };
    ipv4.set_source(sources::random());
    sources::send_out()
}

/// The frame is a UDP datagram whose payload has room for a number.
#[xdp(frags)]
fn flood_with_offender(ctx: XdpContext) -> u32 {
    let frame = offender::next();
    let Some(mut udp) = Udp::of(&ctx) else {
        return XDP_ABORTED;
    };
    // The kernel does not restore a frame before it uses it again.
    udp.address(frame.port, frame.number);
    let Some(mut ipv4) = Ipv4::of(&ctx) else {
        return XDP_ABORTED;
    };
    ipv4.set_source(match frame.offender {
        0 => sources::random(),
        offender => offender,
    });
    sources::send_out()
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel which helpers the programs may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
