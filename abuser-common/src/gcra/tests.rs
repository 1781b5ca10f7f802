//! The rate arithmetic against a fake clock.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// One source's `tat` under one rate, and a clock.
struct Source {
    rate: Rate,
    tat: u64,
}

impl Source {
    fn new(rate: Rate) -> Self {
        Self { rate, tat: 0 }
    }

    fn admits(&mut self, now_ns: u64, cost: u64) -> bool {
        let Rate { scale, .. } = self.rate;
        let now = scale.ticks(KernelTime(now_ns));
        let ahead = if self.tat == 0 {
            0
        } else {
            scale.ahead(self.tat, now)
        };
        let Some(ahead) = self.rate.admit(ahead, cost) else {
            return false;
        };
        self.tat = (now + ahead) & RING;
        true
    }
}

/// nginx's `limit_req` with `nodelay`, in thousandths of a request, as it is documented.
struct Nginx {
    rate_milli: i64,
    burst_milli: i64,
    excess: i64,
    last_ms: Option<i64>,
}

impl Nginx {
    fn admits(&mut self, now_ms: i64) -> bool {
        let Some(last) = self.last_ms else {
            self.last_ms = Some(now_ms);
            self.excess = 0;
            return true;
        };
        let excess = (self.excess - self.rate_milli * (now_ms - last) / 1000 + 1000).max(0);
        if excess > self.burst_milli {
            return false;
        }
        self.excess = excess;
        self.last_ms = Some(now_ms);
        true
    }
}

#[test]
fn sixty_a_minute_with_burst_twenty_passes_twenty_one_at_once_then_one_a_second() {
    let rate = Rate::new(60, 60 * SECOND, 20, 1).unwrap();
    let mut source = Source::new(rate);
    let start = 5 * SECOND;
    assert_eq!((0..100).filter(|_| source.admits(start, 1)).count(), 21);
    assert!(!source.admits(start + SECOND - 1_000_000, 1));
    assert!(source.admits(start + SECOND, 1));
    assert!(!source.admits(start + SECOND, 1));
}

#[test]
fn a_rate_of_zero_or_one_too_fast_or_too_slow_is_refused() {
    for (count, per_ns, burst) in [
        (0, SECOND, 1),
        (1, 0, 1),
        (u64::MAX, SECOND, 1),
        (1, u64::MAX, 1),
        (1, SECOND, u64::MAX),
    ] {
        assert_eq!(Rate::new(count, per_ns, burst, 1), None);
        assert_eq!(Rate::new(count, per_ns, burst, MAX_COST), None);
    }
}

#[test]
fn rates_from_one_a_day_to_a_hundred_gigabits_are_fine() {
    assert!(Rate::new(1, 86_400 * SECOND, 100, 1).is_some());
    assert!(Rate::new(148_800_000, SECOND, 1_000_000, 1).is_some());
    assert!(Rate::new(12_500_000_000, SECOND, 100_000_000, MAX_COST).is_some());
}

#[test]
fn bytes_are_charged_by_the_byte() {
    // 100 bytes a second: a packet of 1,000 takes ten seconds to pay for.
    let mut source = Source::new(Rate::new(100, SECOND, 0, MAX_COST).unwrap());
    assert!(source.admits(SECOND, 1000));
    assert!(!source.admits(11 * SECOND - 1_000_000, 1));
    assert!(source.admits(11 * SECOND, 1));
}

#[test]
fn a_year_of_idleness_and_any_turn_of_the_ring_leave_a_bucket_full_once_it_is_swept() {
    let rate = Rate::new(10, SECOND, 4, 1).unwrap();
    let ring = rate.scale.ring_ns();
    for start in [0, ring - 1, ring, ring - SECOND, 7 * ring + 3, u64::MAX / 2] {
        let mut source = Source::new(rate);
        let passed = (0..10).filter(|_| source.admits(start, 1)).count();
        assert_eq!(passed, 5, "at {start}");
        // What a sweeper does with a past `tat`.
        source.tat = 0;
        let later = start + 365 * 86_400 * SECOND;
        let passed = (0..10).filter(|_| source.admits(later, 1)).count();
        assert_eq!(passed, 5, "a year after {start}");
    }
}

#[test]
fn a_clock_that_is_behind_another_cpu_s_does_not_refill_the_bucket() {
    let mut source = Source::new(Rate::new(1000, SECOND, 0, 1).unwrap());
    let now = 77 * SECOND;
    assert!(source.admits(now, 1));
    assert!(!source.admits(now - 900_000_000, 1));
}

proptest! {
    /// Wherever nginx's own arithmetic is exact, every single decision is the same.
    #[test]
    fn it_decides_as_nginx_does_request_by_request(
        per_second in prop::sample::select(vec![1_u64, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 200, 1000]),
        burst in 0_u64..200,
        start_ms in 1_i64..10_000_000_000,
        gaps_ms in prop::collection::vec(prop_oneof![0_i64..3, 0_i64..3000], 1..400),
    ) {
        let mut ours = Source::new(Rate::new(per_second, SECOND, burst, 1).unwrap());
        let mut theirs = Nginx {
            rate_milli: i64::try_from(per_second * 1000).unwrap(),
            burst_milli: i64::try_from(burst * 1000).unwrap(),
            excess: 0,
            last_ms: None,
        };
        let mut now_ms = start_ms;
        for (number, gap) in gaps_ms.into_iter().enumerate() {
            now_ms += gap;
            let admitted = ours.admits(now_ms.unsigned_abs() * 1_000_000, 1);
            prop_assert_eq!(admitted, theirs.admits(now_ms), "request {} at {} ms", number, now_ms);
        }
    }

    #[test]
    fn what_is_admitted_never_exceeds_burst_plus_one_plus_rate_times_time(
        count in 1_u64..100_000,
        burst in 0_u64..10_000,
        start in 0_u64..u64::MAX / 2,
        gaps_ns in prop::collection::vec(0_u64..2_000_000, 1..2000),
    ) {
        let rate = Rate::new(count, SECOND, burst, 1).unwrap();
        let mut source = Source::new(rate);
        let mut now = start;
        let mut admitted = 0_u64;
        for gap in gaps_ns {
            now += gap;
            admitted += u64::from(source.admits(now, 1));
            // The clock is read in whole ticks: one of them may be at the window's edge.
            let ticks = rate.scale.ticks(KernelTime(now - start)) + 1;
            prop_assert!(admitted <= burst + 1 + ticks * 256 / rate.period);
        }
    }

    /// Over one second from full, at every rate that is accepted.
    #[test]
    fn a_flood_of_a_second_passes_the_burst_and_the_rate_to_half_a_percent(
        exponent in 0_u32..8,
        mantissa in 1_u64..=14,
        burst_part in 0_u64..100,
    ) {
        let count = mantissa * 10_u64.pow(exponent);
        let burst = count * burst_part / 100;
        let rate = Rate::new(count, SECOND, burst, 1).unwrap();
        // What a flood gets in a second: by how much `now` moves, in periods.
        let second = rate.scale.ticks(KernelTime(SECOND)) * 256;
        #[expect(clippy::cast_precision_loss, reason = "a ratio to within a percent")]
        let ratio = (second / rate.period) as f64 / count as f64;
        prop_assert!((0.995..=1.005).contains(&ratio), "{count}/s became {ratio}");
    }

    #[test]
    fn bytes_of_any_frame_are_charged_to_half_a_percent(
        exponent in 2_u32..10,
        mantissa in 1_u64..10,
        length in 60_u64..65_536,
    ) {
        let count = mantissa * 10_u64.pow(exponent);
        let rate = Rate::new(count, SECOND, 100_000, MAX_COST).unwrap();
        let cost = rate.scale.nanoseconds(rate.admit(0, length).unwrap());
        #[expect(clippy::cast_precision_loss, reason = "a ratio to within a percent")]
        let ratio = cost as f64 / (length as f64 * 1e9 / count as f64);
        // Very fast rates end at whole nanoseconds here, not in the arithmetic.
        prop_assume!(cost > 1000);
        prop_assert!((0.995..=1.005).contains(&ratio), "{length} bytes at {count}/s: {ratio}");
    }
}
