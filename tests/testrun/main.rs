//! The real program in the kernel, run on packets through `BPF_PROG_TEST_RUN`.
//!
//! [`fixtures`] are packets with the outcome that each must have, in the kernel and in
//! `decide()` on the host alike. [`exactness`] floods one source from two CPUs at once.
//! [`events`] looks at what comes out of the ring buffer. [`differential`] runs random packets
//! through both.

mod differential;
mod events;
mod exactness;
mod fixtures;
mod kernel;
