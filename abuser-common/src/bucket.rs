//! One source's bucket under one limit, and how it is charged.
//!
//! The whole rate state of a source is one word, its theoretical arrival time, and every
//! change of it is one compare-and-swap. Two CPUs can therefore not both spend the same
//! token. A packet over the limit leaves the word alone.

use crate::{
    atomic::{Shared, Word},
    gate::Hits,
    gcra::Rate,
};

/// How often a lost compare-and-swap is tried again before the packet counts as over.
///
/// Each loss means that another CPU admitted a packet of the same source meanwhile.
pub const ATTEMPTS: u32 = 8;

/// The value kept for one source under one limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time in ticks; 0, or any time that is past, is a full bucket.
    pub tat: u64,
    /// Packets over the limit, and what of them was reported.
    pub hits: Hits,
}

const _: () = assert!(size_of::<Bucket>() == 32);

impl Bucket {
    /// The bucket of a source that has not been seen.
    pub const FULL: Self = Self {
        tat: 0,
        hits: Hits {
            total: 0,
            reported: 0,
            event_ns: 0,
        },
    };
}

impl<'a> Shared<'a, Bucket> {
    /// The theoretical arrival time.
    #[inline(always)]
    pub fn tat(&self) -> Word<'a> {
        // SAFETY: `Shared::new` promises a live, aligned value for 'a.
        unsafe { Word::new(&raw mut (*self.as_ptr()).tat) }
    }

    /// The count of packets over the limit.
    #[inline(always)]
    pub fn hits(&self) -> Shared<'a, Hits> {
        // SAFETY: as above; a field of a live value is not null.
        unsafe {
            Shared::new(core::ptr::NonNull::new_unchecked(
                &raw mut (*self.as_ptr()).hits,
            ))
        }
    }
}

/// What charging a bucket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Within the limit; the bucket paid.
    Conforms,
    /// Over the limit; the bucket is unchanged.
    Over,
    /// Lost the race [`ATTEMPTS`] times; counts as over, and is counted by itself.
    Contended,
}

/// Charges `cost` units at `now` (in ticks) to the bucket whose word is `tat`.
#[inline(always)]
pub fn charge(tat: Word<'_>, rate: &Rate, now: u64, cost: u64) -> Charge {
    for _ in 0..ATTEMPTS {
        let old = tat.load();
        let Some(new) = rate.admit(old, now, cost) else {
            return Charge::Over;
        };
        if tat.compare_exchange(old, new) {
            return Charge::Conforms;
        }
    }
    Charge::Contended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::TICKS_PER_NS;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn two_threads_on_one_bucket_admit_exactly_what_one_would() {
        const BURST: u64 = 50_000;
        let word = AtomicU64::new(0);
        let rate = Rate::new(1, 1_000_000_000, BURST, 1).unwrap();
        let now = 1_000 * TICKS_PER_NS;
        let admitted: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut admitted = 0;
                        loop {
                            // SAFETY: the atomic outlives the scope.
                            let tat = unsafe { Word::new(word.as_ptr()) };
                            match charge(tat, &rate, now, 1) {
                                Charge::Conforms => admitted += 1,
                                Charge::Over => return admitted,
                                Charge::Contended => {}
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(admitted, BURST + 1);
    }

    #[test]
    fn a_packet_over_the_limit_writes_nothing() {
        let word = AtomicU64::new(1 << 40);
        let rate = Rate::new(1, 1_000_000_000, 0, 1).unwrap();
        // SAFETY: the atomic outlives the use.
        let tat = unsafe { Word::new(word.as_ptr()) };
        assert_eq!(charge(tat, &rate, 16, 1), Charge::Over);
        assert_eq!(word.load(Ordering::SeqCst), 1 << 40);
    }
}
