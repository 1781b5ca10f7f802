//! abuser's XDP program: [`decide`] over packet memory and BPF maps.

#![no_std]
#![no_main]
#![expect(
    clippy::cast_possible_truncation,
    reason = "registers are 64 bits wide whatever they hold"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the `xdp` macro wants"
)]

mod bytes;
mod subprograms;
mod tables;

use abuser_common::{layout::Outcome, packet::Bytes as _, verdict::decide};
use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use aya_log_ebpf::debug;

use crate::{bytes::Frame, tables::Maps};

/// The entry point. Linux 5.18: earlier kernels refuse `xdp.frags`.
#[xdp(frags)]
fn abuser(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    let outcome = decide(&frame, &Maps);
    Maps::count(outcome, &frame);
    match outcome {
        Outcome::Malformed => {
            // Not an event: nobody is to blame for what cannot be read.
            debug!(
                &ctx,
                "malformed frame of {} bytes on interface {}",
                frame.length(),
                frame.interface()
            );
            xdp_action::XDP_PASS
        }
        Outcome::Passed | Outcome::NotIp | Outcome::Allowed | Outcome::Observed => {
            xdp_action::XDP_PASS
        }
        Outcome::DroppedLimit | Outcome::DroppedBan | Outcome::DroppedHidden => {
            xdp_action::XDP_DROP
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel which helpers the program may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
