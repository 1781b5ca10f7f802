//! How many hits there were within a time that slides: what `maxretry` and its like count with.
//!
//! The times of all hits are kept, so that nobody is found who did not come `count` times within the window, and nobody
//! missed who did; a count that starts anew at fixed times errs by a factor of two at its edges. Hits at
//! the same time are one entry with a number, and the first six entries need no memory of their own: a million sources
//! with a few hits each are a million times 40 bytes.
//!
//! A count above [`EXACT`] would need too much memory. For those, time has a grain of a 1024th
//! of the window, and an entry stands for the hits in a grain. Hits are then forgotten a little too
//! early, never too late: nobody is found who stayed below the count, and whoever reaches it within
//! [`Span::certain`], 99.7 % of the window, is.
//!
//! A hit that is older than the newest one (several processes write a log) is counted where it
//! belongs. If it is older by more than the window, the clock was set back: the count starts anew.

use std::time::Duration;

use super::table::Weigh;
use crate::time::Time;

/// Up to this count, a window is exact.
pub const EXACT: u32 = 1024;
/// Ticks in a window above that.
const GRAINS: u64 = 1024;
/// Ticks in any window: the time of a hit must fit in 32 bits, twice.
const MOST_TICKS: u64 = 1 << 30;
/// Entries without memory of their own.
const FEW: usize = 6;
/// Entries for which memory is taken at first.
const SOME: usize = 2 * FEW;

/// How long a window is, and what it counts up to: the same for all windows of a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    count: u32,
    /// How long a tick is.
    grain_ms: u64,
    /// Two hits are in one window if their ticks differ by no more than this.
    ticks: u64,
}

impl Span {
    /// For a count of hits within a time; a count of zero is one of one.
    pub fn new(count: u32, within: Duration) -> Self {
        let most = if count <= EXACT { MOST_TICKS } else { GRAINS };
        Self::with_ticks(count, within, most)
    }

    /// For counts that go on: never exact, but a window has at most `ticks` entries, whatever is counted.
    pub fn coarse(within: Duration, ticks: u16) -> Self {
        Self::with_ticks(u32::MAX, within, u64::from(ticks.max(1)))
    }

    fn with_ticks(count: u32, within: Duration, most: u64) -> Self {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let grain_ms = within_ms.div_ceil(most).max(1);
        Self {
            count: count.max(1),
            grain_ms,
            // From the first moment of a tick to the last moment of another.
            ticks: within_ms.saturating_sub(grain_ms - 1) / grain_ms,
        }
    }

    /// The time within which `count` hits are found without fail: the window itself if it is exact.
    pub fn certain(&self) -> Duration {
        let grains = self.grain_ms * self.ticks;
        Duration::from_millis(grains.saturating_sub(self.grain_ms - 1))
    }
}

/// The hits of one source.
#[derive(Clone, Debug)]
pub struct Window {
    /// The time of tick 0, in milliseconds.
    base: u64,
    hits: Hits,
}

/// Ticks with hits from the oldest to the newest, and how many there were in each.
#[derive(Clone, Debug)]
enum Hits {
    Few {
        len: u8,
        counts: [u8; FEW],
        ticks: [u32; FEW],
    },
    Many {
        total: u32,
        hits: Vec<(u32, u32)>,
    },
}

const NOTHING: Hits = Hits::Few {
    len: 0,
    counts: [0; FEW],
    ticks: [0; FEW],
};

const _: () = assert!(
    size_of::<Window>() == 40,
    "a million of them are to be small"
);

impl Default for Window {
    fn default() -> Self {
        Self {
            base: 0,
            hits: NOTHING,
        }
    }
}

impl Weigh for Window {
    fn heap_bytes(&self) -> usize {
        match &self.hits {
            Hits::Few { .. } => 0,
            Hits::Many { hits, .. } => hits.capacity() * size_of::<(u32, u32)>(),
        }
    }
}

impl Window {
    /// Takes note of a hit. When as many were within the window as `span` counts up to: their number, and the
    /// count starts anew.
    pub fn hit(&mut self, at: Time, span: &Span) -> Option<u32> {
        let total = self.add(at, span);
        if total < span.count {
            return None;
        }
        self.hits = NOTHING;
        Some(total)
    }

    /// Takes note of a hit; how many there are in the window now. Nothing starts anew, so memory is bounded by the
    /// ticks of `span` only: for [`Span::coarse`].
    pub fn add(&mut self, at: Time, span: &Span) -> u32 {
        let tick = self.make_room(at.0, span);
        self.hits.insert(tick);
        self.hits.total()
    }

    /// How many hits there are in the window that ends `at`.
    pub fn total(&mut self, at: Time, span: &Span) -> u32 {
        self.make_room(at.0, span);
        self.hits.total()
    }

    /// Forgets what is outside of the window that ends with a hit at `at`, or with the newest before it if that is
    /// later; the tick of that hit.
    fn make_room(&mut self, at: u64, span: &Span) -> u32 {
        let Some((first, newest)) = self.hits.ends() else {
            return self.start(at);
        };
        let newest = u64::from(newest);
        if at < self.base {
            let back = (self.base - at).div_ceil(span.grain_ms);
            if newest.saturating_add(back) > span.ticks {
                return self.start(at);
            }
            let back_ms = back.saturating_mul(span.grain_ms);
            self.base = self.base.saturating_sub(back_ms);
            self.hits.shift(i64::try_from(back).unwrap_or(i64::MAX));
            return 0;
        }
        let tick = (at - self.base) / span.grain_ms;
        if newest > tick.saturating_add(span.ticks) {
            return self.start(at);
        }
        // After a late hit there is nothing to forget: the newest has seen to it.
        let oldest = tick.saturating_sub(span.ticks);
        if oldest > u64::from(first) {
            self.hits.forget_before(oldest);
        }
        if let Ok(tick) = u32::try_from(tick) {
            return tick;
        }
        // The base is too long ago; what is left fits in half of what ticks can be.
        let Some((first, _)) = self.hits.ends() else {
            return self.start(at);
        };
        self.base += u64::from(first) * span.grain_ms;
        self.hits.shift(-i64::from(first));
        u32::try_from(tick - u64::from(first)).unwrap_or(u32::MAX)
    }

    /// Starts anew at that time.
    fn start(&mut self, at: u64) -> u32 {
        self.base = at;
        self.hits = NOTHING;
        0
    }
}

impl Hits {
    /// The oldest and the newest tick.
    fn ends(&self) -> Option<(u32, u32)> {
        match self {
            Self::Few { len, ticks, .. } => {
                let ticks = ticks.get(..usize::from(*len))?;
                Some((*ticks.first()?, *ticks.last()?))
            }
            Self::Many { hits, .. } => Some((hits.first()?.0, hits.last()?.0)),
        }
    }

    fn total(&self) -> u32 {
        match self {
            // What is not used is zero.
            Self::Few { counts, .. } => counts.iter().map(|&count| u32::from(count)).sum(),
            Self::Many { total, .. } => *total,
        }
    }

    fn forget_before(&mut self, oldest: u64) {
        match self {
            Self::Few { len, counts, ticks } => {
                let old = ticks.iter().zip(counts.iter());
                let old = old
                    .take_while(|&(&tick, &count)| count > 0 && u64::from(tick) < oldest)
                    .count();
                ticks.rotate_left(old);
                counts.rotate_left(old);
                counts[FEW - old..].fill(0);
                *len = len.saturating_sub(u8::try_from(old).unwrap_or(u8::MAX));
            }
            Self::Many { total, hits } => {
                let old = hits.iter();
                let old = old
                    .take_while(|hit| u64::from(hit.0) < oldest)
                    .map(|hit| hit.1);
                let (old, forgotten) = old.fold((0, 0), |(old, sum), count| {
                    (old + 1, u32::saturating_add(sum, count))
                });
                *total = total.saturating_sub(forgotten);
                hits.drain(..old);
                // Not before, so that one who comes and goes does not take and give memory each time.
                if hits.len() <= 1
                    && let Some(few) = Self::few(hits)
                {
                    *self = few;
                }
            }
        }
    }

    /// Without memory of their own, if they fit.
    fn few(hits: &[(u32, u32)]) -> Option<Self> {
        let (mut counts, mut ticks) = ([0; FEW], [0; FEW]);
        for (place, &(tick, count)) in hits.iter().enumerate() {
            *ticks.get_mut(place)? = tick;
            *counts.get_mut(place)? = u8::try_from(count).ok()?;
        }
        let len = u8::try_from(hits.len()).ok()?;
        Some(Self::Few { len, counts, ticks })
    }

    /// Takes note of a hit, which is usually the newest.
    fn insert(&mut self, tick: u32) {
        match self {
            Self::Few { len, counts, ticks } => {
                let held = usize::from(*len);
                let place = ticks[..held].iter().rposition(|&other| other <= tick);
                let next = place.map_or(0, |place| place + 1);
                if let Some(place) = place
                    && ticks[place] == tick
                    && let Some(more) = counts[place].checked_add(1)
                {
                    counts[place] = more;
                } else if held < FEW {
                    ticks[next..=held].rotate_right(1);
                    counts[next..=held].rotate_right(1);
                    ticks[next] = tick;
                    counts[next] = 1;
                    *len += 1;
                } else {
                    self.become_many();
                    self.insert(tick);
                }
            }
            Self::Many { total, hits } => {
                *total = total.saturating_add(1);
                let later = hits.iter().rev();
                let next = hits.len() - later.take_while(|hit| hit.0 > tick).count();
                let place = next.checked_sub(1);
                match place.and_then(|place| hits.get_mut(place)) {
                    Some((other, count)) if *other == tick => *count = count.saturating_add(1),
                    _ => hits.insert(next, (tick, 1)),
                }
            }
        }
    }

    fn become_many(&mut self) {
        if let Self::Few { len, counts, ticks } = self {
            let mut hits = Vec::with_capacity(SOME);
            let counts = counts.iter().map(|&count| u32::from(count));
            hits.extend(ticks.iter().copied().zip(counts).take(usize::from(*len)));
            let total = hits.iter().map(|hit| hit.1).sum();
            *self = Self::Many { total, hits };
        }
    }

    /// Counts ticks from another base.
    fn shift(&mut self, by: i64) {
        let shifted = |tick: &mut u32| {
            *tick = u32::try_from(i64::from(*tick) + by).unwrap_or(0);
        };
        match self {
            Self::Few { ticks, len, .. } => {
                ticks.iter_mut().take(usize::from(*len)).for_each(shifted);
            }
            Self::Many { hits, .. } => hits.iter_mut().for_each(|(tick, _)| shifted(tick)),
        }
    }
}

#[cfg(test)]
mod tests;
