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
mod kernel;
mod sockets;
mod subprograms;
mod tables;

use abuser_common::{
    gcra::KernelTime,
    layout::{Clocks, Outcome},
    packet::Bytes as _,
    verdict::{Decision, decide},
};
use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;

use crate::{bytes::Frame, kernel::Machine, tables::Maps};

/// The entry point. Linux 5.18: earlier kernels refuse `xdp.frags`.
#[xdp(frags)]
fn abuser(ctx: XdpContext) -> u32 {
    act(&ctx, None)
}

/// The same at the time that the first eight octets of the frame tell, which the packet path
/// does not read. For tests that need a clock of their own; never attached.
#[xdp(frags)]
fn abuser_timed(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    let Some(time) = frame.header::<[u8; 8]>(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let now = KernelTime(u64::from_ne_bytes(*time));
    act(&ctx, Some(now))
}

/// Writes [`Clocks`] into the frame: how the daemon learns what the kernel's ticks are in
/// nanoseconds. Never attached.
#[xdp]
fn abuser_clocks(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + size_of::<Clocks>() > end {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the helpers have no preconditions; the frame has room, as just checked, and
    // begins at an aligned address.
    unsafe {
        *(data as *mut Clocks) = Clocks {
            jiffies: bpf_jiffies64(),
            monotonic_ns: bpf_ktime_get_ns(),
        };
    }
    xdp_action::XDP_PASS
}

#[inline(always)]
fn act(ctx: &XdpContext, told: Option<KernelTime>) -> u32 {
    let frame = Frame::new(ctx);
    let Decision { outcome, length } = decide(&frame, &Maps, &Machine { ctx, told });
    Maps::count(frame.interface(), outcome, length);
    match outcome {
        Outcome::Malformed => {
            // Not an event: nobody is to blame for what cannot be read.
            debug!(
                ctx,
                "malformed frame of {} bytes on interface {}",
                length,
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
