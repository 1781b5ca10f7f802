//! Which drops become events.
//!
//! A flood must not become a flood of events. At most one event per source and limit (or
//! ban) leaves the kernel each [`INTERVAL_NS`], and no CPU sends more than [`EVENTS`]; the
//! gate is asked before ring-buffer space is reserved, because the reserve is the dear
//! part. What is held back is counted, and the next event of the source tells how many
//! drops it stands for. The gate never changes a verdict.
//!
//! A ban carries its own [`Hits`]. A bucket is one word and has no room for any, and the
//! drops of a flood that arrives on several CPUs must not meet in one cache line: each CPU
//! keeps a [`Tally`] of a source's drops to itself, and all share only the time of the
//! source's last event, which changes once a second.

use crate::{
    atomic::{Shared, Word},
    gcra::KernelTime,
};

/// The least time between two events of one source under one limit or ban.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// Times of last events that are kept for sources over a limit. Two sources that share one
/// share its events: at most one a second for both.
pub const EVENT_SLOTS: u32 = 1 << 16;

/// Tallies on each CPU.
pub const TALLY_SLOTS: u32 = 1 << 12;

/// What one CPU may do in a second, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_second: u64,
}

/// Events: 1,000 a second and CPU, 1,000 at once.
pub const EVENTS: Budget = Budget { per_second: 1_000 };

/// Socket look-ups: 20,000 a second and CPU, as many at once. Each costs about 0.3 µs.
pub const LOOKUPS: Budget = Budget { per_second: 20_000 };

impl Budget {
    /// Takes one; `tat` is what the budget knows of the past. `false` if it is spent.
    #[inline(always)]
    const fn take(self, tat: &mut u64, now: KernelTime) -> bool {
        let period = 1_000_000_000 / self.per_second;
        if tat.saturating_sub(now.0) > (self.per_second - 1) * period {
            return false;
        }
        *tat = if *tat > now.0 { *tat } else { now.0 } + period;
        true
    }
}

/// Hits of one ban, and what of them was reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Packets that met this entry: dropped, or passed as allowed or observed.
    pub total: u64,
    /// `total` when the last event was sent.
    pub reported: u64,
    /// When the last event was sent, in nanoseconds of kernel time; 0: never.
    pub event_ns: u64,
}

const _: () = assert!(size_of::<Hits>() == 24);

impl<'a> Shared<'a, Hits> {
    #[inline(always)]
    fn total(&self) -> Word<'a> {
        // SAFETY: `Shared::new` promises a live, aligned value for 'a.
        unsafe { Word::new(&raw mut (*self.as_ptr()).total) }
    }

    #[inline(always)]
    fn reported(&self) -> Word<'a> {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.as_ptr()).reported) }
    }

    /// When the last event was sent; see [`is_due`] and [`claim`].
    #[inline(always)]
    pub fn event_ns(&self) -> Word<'a> {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.as_ptr()).event_ns) }
    }

    /// Counts one hit.
    #[inline(always)]
    pub fn add(&self) {
        self.total().add(1);
    }

    /// Hits since the last event.
    #[inline(always)]
    pub fn unreported(&self) -> u64 {
        self.total().load().saturating_sub(self.reported().load())
    }

    /// Notes that an event told of `count` more hits.
    #[inline(always)]
    pub fn report(&self, count: u64) {
        self.reported().add(count);
    }
}

/// Drops of one source under one limit that this CPU saw, as far as no event told of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whose: the limit's slot and the bucket's place.
    pub who: u64,
    /// How many.
    pub drops: u64,
}

impl Tally {
    /// Counts one drop. Another source's tally makes room: its drops stay counted as
    /// suppressed, and no event tells of them.
    #[inline(always)]
    pub fn add(&mut self, who: u64) {
        if self.who != who {
            self.who = who;
            self.drops = 0;
        }
        self.drops += 1;
    }
}

/// Whether an event is due at `now`, if the last one was sent at `last_ns`; 0: never.
#[inline(always)]
pub fn is_due(last_ns: Word<'_>, now: KernelTime) -> bool {
    due(last_ns.load(), now)
}

/// Takes the right to send the event that is due; one CPU gets it.
#[inline(always)]
pub fn claim(last_ns: Word<'_>, now: KernelTime) -> bool {
    let last = last_ns.load();
    due(last, now) && last_ns.compare_exchange(last, now.0)
}

#[inline(always)]
fn due(last_ns: u64, now: KernelTime) -> bool {
    last_ns == 0 || now.since_ns(KernelTime(last_ns)) >= INTERVAL_NS
}

/// What became of an event that was due or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// In the ring buffer.
    Sent,
    /// Held back by the gate.
    Suppressed,
    /// The ring buffer was full.
    Lost,
}

/// One CPU's event budget and what came of its events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventStats {
    /// What the budget knows of the past: a theoretical arrival time, in nanoseconds.
    pub budget_tat: u64,
    /// Events written to the ring buffer.
    pub sent: u64,
    /// Drops that became no event of their own: a recent one stands for them, or the
    /// CPU's budget was spent.
    pub suppressed: u64,
    /// Events that found the ring buffer full.
    pub lost: u64,
}

impl EventStats {
    /// Counts what became of an event.
    #[inline(always)]
    pub fn count(&mut self, outcome: EventOutcome) {
        match outcome {
            EventOutcome::Sent => self.sent += 1,
            EventOutcome::Suppressed => self.suppressed += 1,
            EventOutcome::Lost => self.lost += 1,
        }
    }

    /// Whether there is an event left in the budget.
    #[inline(always)]
    pub fn has_budget(&self, now: KernelTime) -> bool {
        let mut tat = self.budget_tat;
        EVENTS.take(&mut tat, now)
    }

    /// Takes one event from the budget; `false` if it is spent.
    #[inline(always)]
    pub fn take_budget(&mut self, now: KernelTime) -> bool {
        EVENTS.take(&mut self.budget_tat, now)
    }
}

/// One CPU's socket look-ups, and what its bucket table had to forget.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// What the budget knows of the past: a theoretical arrival time, in nanoseconds.
    pub budget_tat: u64,
    /// Socket look-ups.
    pub lookups: u64,
    /// Look-ups that found a connection.
    pub connected: u64,
    /// Buckets that were not full and made room for another source's.
    pub evictions: u64,
}

impl SourceStats {
    /// Takes one socket look-up from the budget; `false` if it is spent.
    #[inline(always)]
    pub fn take_lookup(&mut self, now: KernelTime) -> bool {
        let taken = LOOKUPS.take(&mut self.budget_tat, now);
        self.lookups += u64::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    #[test]
    fn an_entry_reports_once_a_second_and_says_for_how_many() {
        let mut hits = Hits::default();
        // SAFETY: `hits` outlives its use and nobody else touches it.
        let shared = unsafe { Shared::new(NonNull::from(&mut hits)) };
        let start = KernelTime(7);
        shared.add();
        let last = shared.event_ns();
        assert!(is_due(last, start) && claim(last, start));
        assert_eq!(shared.unreported(), 1);
        shared.report(1);
        for _ in 0..41 {
            shared.add();
            assert!(!is_due(last, KernelTime(8)) && !claim(last, KernelTime(8)));
        }
        let later = KernelTime(7 + INTERVAL_NS);
        assert!(claim(last, later), "a second later the next one is due");
        assert!(!claim(last, later), "but only once");
        assert_eq!(shared.unreported(), 41);
    }

    #[test]
    fn a_tally_counts_for_one_source_and_starts_afresh_for_another() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add(7);
        }
        assert_eq!(tally, Tally { who: 7, drops: 3 });
        tally.add(8);
        assert_eq!(tally, Tally { who: 8, drops: 1 });
    }

    #[test]
    fn the_budget_is_a_thousand_at_once_and_a_thousand_a_second() {
        let mut stats = EventStats::default();
        let now = KernelTime(1_000_000_000);
        assert_eq!((0..5_000).filter(|_| stats.take_budget(now)).count(), 1_000);
        let later = KernelTime(1_500_000_000);
        assert_eq!((0..5_000).filter(|_| stats.take_budget(later)).count(), 500);
    }
}
