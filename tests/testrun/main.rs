//! The real program in the kernel, run on packets through `BPF_PROG_TEST_RUN`.
//!
//! [`fixtures`] are packets with the outcome that each must have, in the kernel and in
//! `decide()` on the host alike. [`exactness`] floods one source from two CPUs at once.
//! [`events`] looks at what comes out of the ring buffer. [`differential`] runs random packets
//! through both. [`buckets`] and [`rates`] hold the program to what the bucket table and the
//! rate arithmetic promise, on a clock of their own. [`interfaces`] has packets counted where they came in. [`prefixes`] fills the allow list. [`replay`]
//! has `abuser replay` count the same packets.

mod buckets;
mod differential;
mod events;
mod exactness;
mod fixtures;
mod interfaces;
mod kernel;
mod prefixes;
mod rates;
mod replay;
