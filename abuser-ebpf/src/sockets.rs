//! The kernel's sockets.

use abuser_common::packet::TcpTuple;
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple},
    helpers::{bpf_sk_release, bpf_skc_lookup_tcp},
    programs::XdpContext,
};

/// The kernel's `struct bpf_sock_tuple`, which is aligned.
#[repr(C, align(4))]
struct Aligned<T>(T);

/// Whether a segment belongs to an established TCP connection.
#[inline(always)]
pub(crate) fn is_connected(ctx: &XdpContext, segment: Option<TcpTuple>) -> bool {
    match segment {
        Some(TcpTuple::V4 { octets }) => has_connection(ctx, &Aligned(octets)),
        Some(TcpTuple::V6 { octets }) => has_connection(ctx, &Aligned(octets)),
        None => false,
    }
}

/// `tuple` has one of the two sizes of `struct bpf_sock_tuple`.
#[inline(always)]
fn has_connection<T>(ctx: &XdpContext, tuple: &Aligned<T>) -> bool {
    // States after the handshake; of include/net/tcp_states.h.
    const ESTABLISHED: u32 = 1;
    const FIN_WAIT1: u32 = 4;
    const FIN_WAIT2: u32 = 5;
    const CLOSE_WAIT: u32 = 8;
    const LAST_ACK: u32 = 9;
    const CLOSING: u32 = 11;
    const CONNECTED: u32 = 1 << ESTABLISHED
        | 1 << FIN_WAIT1
        | 1 << FIN_WAIT2
        | 1 << CLOSE_WAIT
        | 1 << LAST_ACK
        | 1 << CLOSING;
    let tuple = core::ptr::from_ref(tuple)
        .cast_mut()
        .cast::<bpf_sock_tuple>();
    // SAFETY: the context is the kernel's, and the tuple is as long as is said.
    let socket = unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            tuple,
            size_of::<T>() as u32,
            i64::from(BPF_F_CURRENT_NETNS) as u64,
            0,
        )
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket is not null, held until it is released, and not used after.
    unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state < u16::BITS && CONNECTED & 1 << state != 0
    }
}
