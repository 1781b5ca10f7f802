//! abuser's XDP program: [`decide`] over packet memory and BPF maps.

#![no_std]
#![no_main]

mod bytes;
mod subprograms;
mod tables;

use abuser_common::{layout::Outcome, verdict::decide};
use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

use crate::{bytes::Frame, tables::Maps};

/// The entry point. Linux 5.18: earlier kernels refuse `xdp.frags`.
#[xdp(frags)]
pub fn abuser(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    let outcome = decide(&frame, &Maps);
    Maps.count(outcome, &frame);
    match outcome {
        Outcome::Passed
        | Outcome::NotIp
        | Outcome::Malformed
        | Outcome::Allowed
        | Outcome::Observed => xdp_action::XDP_PASS,
        Outcome::DroppedLimit | Outcome::DroppedBan => xdp_action::XDP_DROP,
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel which helpers the program may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
