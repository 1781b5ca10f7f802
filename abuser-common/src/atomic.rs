//! Words that several CPUs read and write at once.
//!
//! A map value in the kernel is plain memory that every CPU may touch. [`Shared`] points
//! at such a value and [`Word`] at one 64-bit field of it; neither ever hands out a Rust
//! reference to the memory. On the host a word is an [`AtomicU64`], so that tests with
//! threads exercise the same algorithm. The BPF target declares `atomic_cas = false`, so
//! there the intrinsics are used directly.
//!
//! [`AtomicU64`]: core::sync::atomic::AtomicU64

use core::{cell::UnsafeCell, marker::PhantomData, ptr::NonNull};

/// A map value of type `T` that other CPUs may write at the same time.
#[derive(Debug)]
pub struct Shared<'a, T> {
    value: NonNull<T>,
    lifetime: PhantomData<&'a UnsafeCell<T>>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<T> Shared<'_, T> {
    /// Points at `value`.
    ///
    /// # Safety
    ///
    /// `value` must be aligned, valid for reads and writes for the lifetime of the
    /// result, and written by others only one word at a time.
    #[inline(always)]
    pub unsafe fn new(value: NonNull<T>) -> Self {
        Self {
            value,
            lifetime: PhantomData,
        }
    }

    /// The address of the value, for projections to its fields.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut T {
        self.value.as_ptr()
    }
}

/// One 64-bit word that other CPUs may write at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    word: *mut u64,
    lifetime: PhantomData<&'a UnsafeCell<u64>>,
}

impl Word<'_> {
    /// Points at `word`.
    ///
    /// # Safety
    ///
    /// `word` must be aligned to 8 bytes, valid for reads and writes for the lifetime of
    /// the result, and accessed by others only atomically.
    #[inline(always)]
    pub unsafe fn new(word: *mut u64) -> Self {
        Self {
            word,
            lifetime: PhantomData,
        }
    }
}

#[cfg(test)]
pub(crate) mod schedule;

#[cfg(not(target_arch = "bpf"))]
impl Word<'_> {
    fn atomic(&self) -> &core::sync::atomic::AtomicU64 {
        #[cfg(test)]
        schedule::point();
        // SAFETY: `new` promises an aligned, live word that is only accessed atomically.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(self.word) }
    }

    /// Reads the word.
    pub fn load(&self) -> u64 {
        self.atomic().load(core::sync::atomic::Ordering::SeqCst)
    }

    /// Writes the word.
    pub fn store(&self, value: u64) {
        self.atomic()
            .store(value, core::sync::atomic::Ordering::SeqCst);
    }

    /// Writes `new` if the word still is `old`; tells whether it was.
    pub fn compare_exchange(&self, old: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::SeqCst;
        self.atomic()
            .compare_exchange(old, new, SeqCst, SeqCst)
            .is_ok()
    }

    /// Adds `value`, wrapping around.
    pub fn add(&self, value: u64) {
        self.atomic()
            .fetch_add(value, core::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(target_arch = "bpf")]
impl Word<'_> {
    /// Reads the word.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: `new` promises an aligned, live word. An aligned 64-bit access is one
        // instruction in BPF; atomic loads do not select on this target.
        unsafe { self.word.read_volatile() }
    }

    /// Writes the word.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: as for `load`.
        unsafe { self.word.write_volatile(value) }
    }

    /// Writes `new` if the word still is `old`; tells whether it was. Linux 5.12.
    #[inline(always)]
    pub fn compare_exchange(&self, old: u64, new: u64) -> bool {
        use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
        // SAFETY: as for `load`. Only SeqCst is compiled correctly for this target.
        let (_, stored) =
            unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(self.word, old, new) };
        stored
    }

    /// Adds `value`, wrapping around.
    #[inline(always)]
    pub fn add(&self, value: u64) {
        use core::intrinsics::{AtomicOrdering::SeqCst, atomic_xadd};
        // SAFETY: as for `load`. Only SeqCst is compiled correctly for this target.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(self.word, value) };
    }
}
