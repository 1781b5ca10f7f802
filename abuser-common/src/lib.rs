//! All that abuser's XDP program and its daemon have to agree on.
//!
//! The packet path is one pure function, [`verdict::decide`], generic over where bytes
//! come from ([`packet::Bytes`]) and where state lives ([`verdict::Tables`]). The XDP
//! program runs it over packet memory and BPF maps; tests and replays run the same code over
//! slices and ordinary collections. What is tested is what runs in the kernel.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`packet`] | the parser: link layer, source, transport |
//! | [`prefix`] | prefix keys and the longest-first look-up in bans and allow list |
//! | [`gcra`] | the rate arithmetic |
//! | [`bucket`] | the bucket table: words, sets, and the compare-and-swap that charges them |
//! | [`gate`] | which drops become events |
//! | [`verified`] | which sources are known to be no forgeries |
//! | [`verdict`] | the order of the packet path |
//! | [`event`] | the ring-buffer record |
//! | [`interface`] | which counters a packet belongs to |
//! | [`layout`] | map names, keys, values, sizes |
//! | [`dispatcher`] | the format of libxdp's dispatcher |
//! | `model` | the tables as ordinary collections, for replays and tests (feature `model`) |
//! | [`bits`] | walking the set bits of a word |
//! | [`atomic`] | words that several CPUs write at once |

#![cfg_attr(not(any(test, feature = "model")), no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(
        internal_features,
        reason = "the BPF target has no AtomicU64::compare_exchange"
    )
)]

pub mod atomic;
pub mod bits;
pub mod bucket;
pub mod dispatcher;
pub mod event;
pub mod gate;
pub mod gcra;
pub mod interface;
pub mod layout;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod packet;
pub mod prefix;
pub mod verdict;
pub mod verified;
