//! The words of the table that are in use: of two million mostly few.

use core::sync::atomic::{AtomicU64, Ordering};

/// The words that are in use: their places, and what they were when they were looked at.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// let words = [0, 7, 0, 8].map(AtomicU64::new);
/// let used = abuser_common::bucket::used(&words);
/// assert!(used.map(|(place, _, was)| (place, was)).eq([(1, 7), (3, 8)]));
/// ```
pub fn used(words: &[AtomicU64]) -> impl Iterator<Item = (usize, &AtomicU64, u64)> {
    let mut from = 0;
    core::iter::from_fn(move || {
        let (place, was) = next_used(words, from)?;
        from = place + 1;
        Some((place, words.get(place)?, was))
    })
}

/// The next one from there on. Not inlined: that way it is optimised as this crate is, also in a build for
/// tests, which looks through the table whenever a daemon starts.
#[inline(never)]
fn next_used(words: &[AtomicU64], from: usize) -> Option<(usize, u64)> {
    let mut rest = words.iter().enumerate().skip(from);
    rest.find_map(|(place, word)| {
        let was = word.load(Ordering::Relaxed);
        (was != 0).then_some((place, was))
    })
}
