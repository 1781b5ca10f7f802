//! The dispatcher for components of which one or more know only packets in one buffer.

#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the `xdp` macro wants"
)]

mod chain;

use aya_ebpf::{macros::xdp, programs::XdpContext};

/// The entry point.
#[xdp]
fn xdp_dispatcher(ctx: XdpContext) -> u32 {
    chain::run(&ctx)
}
