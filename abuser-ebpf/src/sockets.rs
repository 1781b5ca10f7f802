//! The kernel's sockets.

use abuser_common::{packet::TcpTuple, verdict::Connection};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple},
    helpers::{bpf_sk_release, bpf_skc_lookup_tcp},
    programs::XdpContext,
};

/// The kernel's `struct bpf_sock_tuple`, which is aligned.
#[repr(C, align(4))]
struct Aligned<T>(T);

/// Which TCP connection a segment belongs to.
#[inline(always)]
pub(crate) fn connection(ctx: &XdpContext, segment: Option<TcpTuple>) -> Connection {
    match segment {
        Some(TcpTuple::V4 { octets }) => find(ctx, &Aligned(octets)),
        Some(TcpTuple::V6 { octets }) => find(ctx, &Aligned(octets)),
        None => Connection::None,
    }
}

/// `tuple` has one of the two sizes of `struct bpf_sock_tuple`.
#[inline(always)]
fn find<T>(ctx: &XdpContext, tuple: &Aligned<T>) -> Connection {
    // States after the handshake; of include/net/tcp_states.h.
    const ESTABLISHED: u32 = 1;
    const FIN_WAIT1: u32 = 4;
    const FIN_WAIT2: u32 = 5;
    const CLOSE_WAIT: u32 = 8;
    const LAST_ACK: u32 = 9;
    const CLOSING: u32 = 11;
    // And the two of one that is not over yet.
    const SYN_RECV: u32 = 3;
    const NEW_SYN_RECV: u32 = 12;
    const CONNECTED: u32 = 1 << ESTABLISHED
        | 1 << FIN_WAIT1
        | 1 << FIN_WAIT2
        | 1 << CLOSE_WAIT
        | 1 << LAST_ACK
        | 1 << CLOSING;
    const OPENING: u32 = 1 << SYN_RECV | 1 << NEW_SYN_RECV;
    let tuple = core::ptr::from_ref(tuple)
        .cast_mut()
        .cast::<bpf_sock_tuple>();
    // SAFETY: the context is the kernel's, and the tuple is as long as is said.
    let socket = unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            tuple,
            size_of::<T>() as u32,
            i64::from(BPF_F_CURRENT_NETNS).cast_unsigned(),
            0,
        )
    };
    if socket.is_null() {
        return Connection::None;
    }
    // SAFETY: the socket is not null, held until it is released, and not used after.
    let state = unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    };
    if state >= u16::BITS {
        Connection::None
    } else if CONNECTED & 1 << state != 0 {
        Connection::Established
    } else if OPENING & 1 << state != 0 {
        Connection::Opening
    } else {
        Connection::None
    }
}
