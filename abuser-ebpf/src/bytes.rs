//! [`Bytes`] over packet memory: the only place that reads it.

use abuser_common::packet::{Bytes, Header, MAX_OFFSET, NextHeader};
use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_get_buff_len, programs::XdpContext};

use crate::subprograms;

/// The frame that the program was called for.
pub(crate) struct Frame<'a> {
    ctx: &'a XdpContext,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }
}

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        let (data, end) = (self.ctx.data(), self.ctx.data_end());
        // The verifier follows exactly this form: a bounded offset, then one comparison
        // of start, offset and size with the end.
        if offset > MAX_OFFSET || data + offset + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the header lies within the packet, as just checked; `Header` allows any
        // bytes and any alignment.
        Some(unsafe { &*((data + offset) as *const T) })
    }

    #[inline(always)]
    fn readable(&self) -> u32 {
        (self.ctx.data_end() - self.ctx.data()) as u32
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the one that the kernel passed. Linux 5.18.
        unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as u32 }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn pass_extension(&self, at: NextHeader) -> NextHeader {
        subprograms::call_pass_extension(self.ctx, at)
    }
}
