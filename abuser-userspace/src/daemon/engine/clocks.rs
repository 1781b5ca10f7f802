//! Clocks that are set, and a machine that sleeps.
//!
//! A ban ends when it was told to: after the time it was given for. The kernel ends it by a clock that is
//! never set, so somebody who sets the wall clock changes no ban; what is told and written down of the ban
//! follows the wall clock. That kernel clock stands still while the machine sleeps, though, and a ban would
//! last longer by as much: after a sleep all ends are moved.
//!
//! How the clocks stand is written down with the bans. So the next start knows what was done to them while no
//! daemon ran, but for a reboot, of which nothing but the wall clock tells how long it took.

use std::time::Duration;

use super::{Engine, EvidenceRow};
use crate::{
    daemon::clock,
    policy::Moved,
    store::{Change, ClockRow, Passed, Snapshot},
};

/// A sleep that is shorter is left for the next look.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);
/// A step of the wall clock that is smaller is drift.
const SMALLEST_STEP_MS: u64 = 2_000;

/// What is known of the clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// As bans, offenders and throttles have their times; `None` before the first look.
    standing: Option<ClockRow>,
    /// Whether the store is to be told that the machine has slept, when a pass has compared all of it.
    is_unwritten: bool,
}

impl Clocks {
    /// What brings rows to the wall clock as it stands.
    pub(super) fn followed(&self) -> Option<Change> {
        self.standing.map(Change::FollowClock)
    }

    /// Has the next pass write down how they stand.
    pub(super) const fn write_again(&mut self) {
        self.is_unwritten = true;
    }
}

/// When something ends, as in the map, after a sleep: as many nanoseconds earlier. What never ends, or has
/// ended, stays so.
pub(super) const fn after_sleep(expires_ns: u64, slept_ns: u64) -> u64 {
    match expires_ns.checked_sub(slept_ns) {
        _ if expires_ns == 0 => 0,
        None | Some(0) => 1,
        Some(earlier) => earlier,
    }
}

impl Engine {
    /// Looks at the clocks. To be called often: what happens to them is noticed by a look only.
    pub(super) fn follow_clocks(&mut self) {
        let Some(now) = clock::standing() else {
            return;
        };
        let Some(before) = self.clocks.standing else {
            self.clocks.standing = Some(now);
            self.keep([Change::Clocks(now)]);
            return;
        };
        let Some(passed) = now.since(&before) else {
            return;
        };
        let has_slept = passed.slept >= SHORTEST_SLEEP;
        let is_set = passed.stepped.unsigned_abs() >= SMALLEST_STEP_MS;
        if has_slept {
            self.wake(passed.slept);
        }
        if is_set {
            self.step(passed);
        }
        if has_slept || is_set {
            self.clocks = Clocks {
                standing: Some(ClockRow {
                    slept_ms: if has_slept {
                        now.slept_ms
                    } else {
                        before.slept_ms
                    },
                    ahead_ms: if is_set {
                        now.ahead_ms
                    } else {
                        before.ahead_ms
                    },
                    ..now
                }),
                is_unwritten: self.clocks.is_unwritten || has_slept,
            };
        }
        if has_slept {
            self.reconciler.follow_sleep();
        }
        if is_set {
            self.keep(self.clocks.followed());
        }
    }

    /// Lets all bans and throttles end when they were told to, after a sleep. The books at once; the maps
    /// follow in a pass.
    fn wake(&mut self, slept: Duration) {
        let told = to_seconds(slept);
        tracing::warn!(
            slept_seconds = told.as_secs(),
            "the machine slept for {}; bans and throttles end when they were told to",
            humantime::format_duration(told)
        );
        let slept_ns = u64::try_from(slept.as_nanos()).unwrap_or(u64::MAX);
        self.bans.after_sleep(slept_ns);
        self.throttles.after_sleep(slept_ns);
        self.lists.after_sleep(slept_ns);
        self.clock.forward(slept);
    }

    /// Has what is told and written down follow a wall clock that was set.
    fn step(&mut self, passed: Passed) {
        let by = to_seconds(Duration::from_millis(passed.stepped.unsigned_abs()));
        tracing::warn!(
            by_seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX) * passed.stepped.signum(),
            "the clock was set {} by {}; bans and throttles last as long as they were made for",
            if passed.stepped < 0 {
                "back"
            } else {
                "forward"
            },
            humantime::format_duration(by)
        );
        let moved = Moved(passed.stepped);
        self.bans.step(moved);
        self.throttles.step(moved);
        self.allowed.step(moved);
        self.clock.step(moved);
        self.offenders.step(moved, |evidence: &mut EvidenceRow| {
            evidence.at = evidence.at.saturating_add(moved.0);
        });
    }

    /// Writes down how the clocks stand, when all that is written down was compared.
    pub(super) fn write_clocks(&mut self) {
        // What a store is not told while it fails, it is told when it is back.
        if self.has_store() && std::mem::take(&mut self.clocks.is_unwritten) {
            self.keep(self.clocks.standing.map(Change::Clocks));
        }
    }

    /// Brings what an earlier daemon wrote down to the clocks as they are now. How long the machine has
    /// slept since.
    pub(super) fn bring_up(&mut self, snapshot: &mut Snapshot) -> Duration {
        if self.clocks.standing.is_none() {
            self.clocks = Clocks {
                standing: clock::standing(),
                is_unwritten: true,
            };
        }
        // As what is in memory has its times, and not as they stand by now: that is the next look's business.
        let now = self.clocks.standing;
        let passed = snapshot
            .clocks
            .zip(now)
            .and_then(|(before, now)| now.since(&before));
        let Some(Passed { slept, stepped }) = passed else {
            // Of another boot, or of nobody who wrote it down: right by the wall clock alone.
            self.keep(now.map(Change::Clocks));
            return Duration::ZERO;
        };
        if stepped.unsigned_abs() >= SMALLEST_STEP_MS {
            snapshot.step(Moved(stepped));
            self.keep(self.clocks.followed());
        }
        if slept < SHORTEST_SLEEP {
            return Duration::ZERO;
        }
        slept
    }
}

/// To the nearest second, to be told: both clocks are read, and time passes in between.
fn to_seconds(time: Duration) -> Duration {
    Duration::from_secs((time + Duration::from_millis(500)).as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sleep_moves_ends_and_neither_revives_nor_begins_anything() {
        for (expires, slept, expected) in [
            (0, 0, 0),
            (0, 99, 0),
            (100, 0, 100),
            (100, 40, 60),
            (100, 100, 1),
            (100, u64::MAX, 1),
            (1, 1, 1),
        ] {
            assert_eq!(after_sleep(expires, slept), expected, "{expires} {slept}");
        }
    }

    #[test]
    fn a_clock_that_was_set_by_an_hour_is_not_told_to_have_been_set_by_a_millisecond_less() {
        for (milliseconds, seconds) in [(3_599_999, 3600), (3_600_499, 3600), (499, 0), (500, 1)] {
            let told = to_seconds(Duration::from_millis(milliseconds));
            assert_eq!(told, Duration::from_secs(seconds));
        }
    }

    proptest! {
        #[test]
        fn clocks_tell_sleep_and_steps_apart_whatever_happens_to_them(
            slept in 0_i64..1 << 40,
            stepped in -(1_i64 << 40)..1 << 40,
            before in -(1_i64 << 40)..1 << 40,
        ) {
            let row = |slept_ms, ahead_ms| ClockRow { boot: 7, slept_ms, ahead_ms };
            let passed = row(slept, before + stepped).since(&row(0, before)).unwrap();
            prop_assert_eq!(passed.slept, Duration::from_millis(slept.unsigned_abs()));
            prop_assert_eq!(passed.stepped, stepped);
            let rebooted = ClockRow { boot: 8, ..row(slept, stepped) };
            prop_assert_eq!(rebooted.since(&row(0, before)), None);
        }
    }
}
