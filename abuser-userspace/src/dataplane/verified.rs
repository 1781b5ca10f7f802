//! The table of verified sources, seen from the daemon; see [`abuser_common::verified`].

use abuser_common::{
    bucket::{WORDS, used},
    gcra::KernelTime,
    layout::maps,
    verified::{SET_BITS, is_valid},
};
use aya::Ebpf;

use super::{error::DataplaneError, memory::Words};

/// Sources that the table has room for.
pub const CAPACITY: usize = (WORDS as usize) << SET_BITS;

/// The table.
pub struct VerifiedSources(Words);

impl VerifiedSources {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Words::open(program, maps::VERIFIED, CAPACITY).map(Self)
    }

    /// How many sources are verified at `now`.
    pub fn count(&self, now: KernelTime) -> usize {
        used(&self.0)
            .filter(|(_, _, word)| is_valid(*word, now))
            .count()
    }
}
