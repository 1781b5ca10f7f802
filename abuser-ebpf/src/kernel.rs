//! [`Kernel`]: the clocks and sockets of the machine.

use abuser_common::{
    gcra::KernelTime,
    packet::{Bytes, Network, Transport},
    verdict::Kernel,
};
use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    programs::XdpContext,
};

use crate::{subprograms, tables::Maps};

/// The machine as it is.
pub(crate) struct Machine<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Machine<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }
}

impl Kernel for Machine<'_> {
    #[inline(always)]
    fn now(&self) -> KernelTime {
        // SAFETY: the helper has no preconditions.
        KernelTime(unsafe { bpf_ktime_get_ns() })
    }

    #[inline(always)]
    fn tick(&self) -> KernelTime {
        // SAFETY: as above.
        Maps::tick_time(unsafe { bpf_jiffies64() })
    }

    #[inline(always)]
    fn transport<B: Bytes + ?Sized>(&self, _packet: &B, network: &Network) -> Transport {
        // The packet is the one that the program was called for.
        subprograms::call_transport(self.ctx, network)
    }

    #[inline(always)]
    fn is_connected<B: Bytes + ?Sized>(
        &self,
        _packet: &B,
        network: &Network,
        transport: Transport,
    ) -> bool {
        subprograms::call_is_connected(self.ctx, network, transport)
    }
}

/// The machine at a time that somebody else tells.
pub(crate) struct Timed<'a> {
    machine: Machine<'a>,
    now: KernelTime,
}

impl<'a> Timed<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext, now: KernelTime) -> Self {
        Self {
            machine: Machine::new(ctx),
            now,
        }
    }
}

impl Kernel for Timed<'_> {
    #[inline(always)]
    fn now(&self) -> KernelTime {
        self.now
    }

    #[inline(always)]
    fn tick(&self) -> KernelTime {
        self.now
    }

    #[inline(always)]
    fn transport<B: Bytes + ?Sized>(&self, packet: &B, network: &Network) -> Transport {
        self.machine.transport(packet, network)
    }

    #[inline(always)]
    fn is_connected<B: Bytes + ?Sized>(
        &self,
        packet: &B,
        network: &Network,
        transport: Transport,
    ) -> bool {
        self.machine.is_connected(packet, network, transport)
    }
}
