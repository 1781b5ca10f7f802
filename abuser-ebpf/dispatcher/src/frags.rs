//! The dispatcher for components that all know packets in several buffers (Linux 5.18).

#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the `xdp` macro wants"
)]

mod chain;

use aya_ebpf::{macros::xdp, programs::XdpContext};

/// The entry point.
#[xdp(frags)]
fn xdp_dispatcher(ctx: XdpContext) -> u32 {
    chain::run(&ctx)
}
