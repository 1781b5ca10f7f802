//! [`Kernel`]: the clocks and sockets of the machine, and the parts of the packet path that
//! are functions of their own.

use abuser_common::{
    event::Verdict,
    gcra::KernelTime,
    packet::{self, Bytes, Transport},
    prefix::Family,
    verdict::{At, Connection, Kernel, Tables},
};
use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    programs::XdpContext,
};

use crate::{
    subprograms::{self, Token},
    tables::Maps,
};

/// The machine on which the program was called for a packet.
pub(crate) struct Machine<'a> {
    pub(crate) ctx: &'a XdpContext,
    /// The time, if somebody else tells it.
    pub(crate) told: Option<KernelTime>,
}

impl Machine<'_> {
    #[inline(always)]
    fn token<B: Bytes + ?Sized>(&self, at: &At<'_, B>) -> Token {
        Token::new(&at.packet, self.told.is_some())
    }
}

// The packet is always the one that the program was called for, so of `at` only what is
// known of it is passed on.
impl Kernel for Machine<'_> {
    #[inline(always)]
    fn now(&self) -> KernelTime {
        match self.told {
            Some(time) => time,
            // SAFETY: the helper has no preconditions.
            None => KernelTime(unsafe { bpf_ktime_get_ns() }),
        }
    }

    #[inline(always)]
    fn tick(&self) -> KernelTime {
        match self.told {
            Some(time) => time,
            // SAFETY: as above.
            None => Maps::tick_time(unsafe { bpf_jiffies64() }),
        }
    }

    #[inline(always)]
    fn connection<B: Bytes + ?Sized>(&self, at: &At<'_, B>, transport: Transport) -> Connection {
        subprograms::call_connection(self.ctx, self.token(at), transport)
    }

    #[inline(always)]
    fn transport<B: Bytes + ?Sized>(&self, at: &At<'_, B>) -> Transport {
        match at.packet.source.family {
            // Short enough to be part of the path.
            Family::V4 => packet::transport_of_ipv4(at.bytes, at.packet.offset),
            Family::V6 => subprograms::call_transport_of_ipv6(self.ctx, self.token(at)),
        }
    }

    #[inline(always)]
    fn note_connection<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        _tables: &T,
        transport: Transport,
        now: KernelTime,
    ) {
        subprograms::call_note_connection(self.ctx, self.token(at), transport, now);
    }

    #[inline(always)]
    fn report_ban<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        _tables: &T,
        ban_length: u8,
        verdict: Verdict,
    ) {
        subprograms::call_report_ban(self.ctx, self.token(at), ban_length, verdict, self.tick());
    }

    #[inline(always)]
    fn report_limit<B: Bytes + ?Sized, T: Tables>(
        &self,
        at: &At<'_, B>,
        _tables: &T,
        number: u8,
        verdict: Verdict,
    ) {
        subprograms::call_report_limit(self.ctx, self.token(at), number, verdict, self.tick());
    }
}
