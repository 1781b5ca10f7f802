//! Which drops become events.
//!
//! A flood must not become a flood of events. Every ban and every bucket carries [`Hits`]:
//! how often it was hit, and what was last reported. At most one event per source and
//! limit (or ban) leaves the kernel each [`INTERVAL_NS`], and no CPU sends more than
//! [`BUDGET`]; the gate is asked before ring-buffer space is reserved, because the reserve
//! is the dear part. What is held back is counted, and the next event of the source tells
//! how many drops it stands for. The gate never changes a verdict.

use crate::{
    atomic::{Shared, Word},
    gcra::{KernelTime, Rate, TICKS_PER_NS},
};

/// The least time between two events of one source under one limit or ban.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// What one CPU may send: 1,000 events a second, 1,000 at once.
pub const BUDGET: Rate = Rate {
    period: 1_000_000 * TICKS_PER_NS * 256,
    window: 999 * 1_000_000 * TICKS_PER_NS,
};

/// Hits of one ban or bucket, and what of them was reported.
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

    #[inline(always)]
    fn event_ns(&self) -> Word<'a> {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.as_ptr()).event_ns) }
    }

    /// Counts one hit.
    #[inline(always)]
    pub fn add(&self) {
        self.total().add(1);
    }

    /// Whether an event of this entry is due at `now`.
    #[inline(always)]
    pub fn due(&self, now: KernelTime) -> bool {
        is_due(self.event_ns().load(), now)
    }

    /// Takes the right to send the event that is due; one CPU gets it.
    #[inline(always)]
    pub fn claim(&self, now: KernelTime) -> bool {
        let event_ns = self.event_ns();
        let last = event_ns.load();
        is_due(last, now) && event_ns.compare_exchange(last, now.0)
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

#[inline(always)]
fn is_due(last_ns: u64, now: KernelTime) -> bool {
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
    /// The budget's theoretical arrival time, in ticks.
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

    /// Takes one event from the budget; `false` if it is spent.
    #[inline(always)]
    pub fn take_budget(&mut self, now: KernelTime) -> bool {
        match BUDGET.admit(self.budget_tat, now.ticks(), 1) {
            Some(tat) => {
                self.budget_tat = tat;
                true
            }
            None => false,
        }
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
        assert!(shared.due(start) && shared.claim(start));
        assert_eq!(shared.unreported(), 1);
        shared.report(1);
        for _ in 0..41 {
            shared.add();
            assert!(!shared.due(KernelTime(8)) && !shared.claim(KernelTime(8)));
        }
        let later = KernelTime(7 + INTERVAL_NS);
        assert!(shared.claim(later), "a second later the next one is due");
        assert!(!shared.claim(later), "but only once");
        assert_eq!(shared.unreported(), 41);
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
