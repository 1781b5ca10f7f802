//! The rate arithmetic: the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! A token bucket of `burst + 1` tokens filled at `rate` is the same as one theoretical
//! arrival time (`tat`) per source: the time at which the source will have paid for all it
//! sent. A packet conforms while `tat` is at most `window` (`burst` periods) ahead of the
//! clock. The result matches nginx's `limit_req` with `nodelay`: `rate=60r/m burst=20`
//! passes 21 at once, then one a second, and a refused packet changes nothing.
//!
//! Times are in ticks of 1/16 ns of the kernel's monotonic clock: fine enough for byte
//! rates beyond 100 Gbit/s, and 64 bits of them last 36 years of uptime. Everything
//! saturates.

/// Ticks in a nanosecond.
pub const TICKS_PER_NS: u64 = 16;

/// Binary places after the point in [`Rate::period`].
const FRACTION_BITS: u32 = 8;

/// The highest cost of one packet: the length of the largest packet, in bytes.
pub const MAX_COST: u64 = 1 << 16;

/// The longest window, in ticks: about 416 days. Far from where the clock would wrap.
pub const MAX_WINDOW: u64 = 1 << 59;

/// A time of the kernel's monotonic clock, in nanoseconds since boot.
///
/// Never to be mixed with wall-clock time, hence a type of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// The same time in ticks.
    #[inline(always)]
    pub fn ticks(self) -> u64 {
        self.0.saturating_mul(TICKS_PER_NS)
    }

    /// Nanoseconds from `earlier` to this time; 0 if `earlier` is later.
    #[inline(always)]
    pub fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A rate with its burst, as the packet path uses it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// 256ths of a tick that one unit (a packet, a byte, a connection) costs.
    pub period: u64,
    /// Ticks that `tat` may be ahead of the clock: `burst` periods.
    pub window: u64,
}

impl Rate {
    /// The rate of `count` units per `per_ns` nanoseconds with `burst` units on top, for
    /// packets that cost at most `max_cost` units: 1, or [`MAX_COST`].
    ///
    /// `None` if that cannot be represented: a rate of zero, one so slow or a burst so
    /// long that the arithmetic could overflow, or one so fast that rounding the period
    /// would change it by more than 0.5%.
    pub fn new(count: u64, per_ns: u64, burst: u64, max_cost: u64) -> Option<Self> {
        // A packet that costs 1 is charged whole ticks, so its period must be whole ticks.
        let fraction_bits = if max_cost == 1 { 0 } else { FRACTION_BITS };
        let units_per_tick = 1_u128 << fraction_bits;
        let ticks = u128::from(per_ns) * u128::from(TICKS_PER_NS) * units_per_tick;
        let count = u128::from(count);
        let period = (ticks + count / 2).checked_div(count)?;
        if period == 0 || (period * count).abs_diff(ticks) > ticks / 200 {
            return None;
        }
        let period = u64::try_from(period).ok()?;
        let window = u128::from(burst) * u128::from(period) / units_per_tick;
        let window = u64::try_from(window).ok()?;
        let period = period.checked_mul(1 << (FRACTION_BITS - fraction_bits))?;
        period.checked_mul(max_cost)?;
        (window <= MAX_WINDOW).then_some(Self { period, window })
    }

    /// The `tat` after admitting `cost` units at `now`; `None` if that is over the rate.
    ///
    /// Both times and the result are in ticks. `cost` is at most what the rate was made
    /// for.
    #[inline(always)]
    pub fn admit(&self, tat: u64, now: u64, cost: u64) -> Option<u64> {
        if tat.saturating_sub(now) > self.window {
            return None;
        }
        let start = if tat > now { tat } else { now };
        Some(start.saturating_add(self.period.wrapping_mul(cost) >> FRACTION_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// nginx's `limit_req` with `nodelay`, in thousandths of a request, as in
    /// `ngx_http_limit_req_lookup`.
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
        let start = KernelTime(5 * SECOND).ticks();
        let mut tat = 0;
        let mut passed = 0;
        for _ in 0..100 {
            if let Some(next) = rate.admit(tat, start, 1) {
                tat = next;
                passed += 1;
            }
        }
        assert_eq!(passed, 21);
        let second = SECOND * TICKS_PER_NS;
        assert_eq!(rate.admit(tat, start + second - 1, 1), None);
        let tat = rate.admit(tat, start + second, 1).unwrap();
        assert_eq!(rate.admit(tat, start + second, 1), None);
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
        assert!(Rate::new(148_800_000, SECOND, 100, 1).is_some());
        assert!(Rate::new(12_500_000_000, SECOND, 1_000_000, MAX_COST).is_some());
    }

    #[test]
    fn bytes_are_charged_by_the_byte() {
        // 100 bytes a second: a packet of 1,000 takes ten seconds to pay for.
        let rate = Rate::new(100, SECOND, 0, MAX_COST).unwrap();
        let now = KernelTime(SECOND).ticks();
        let tat = rate.admit(0, now, 1000).unwrap();
        assert_eq!(tat, KernelTime(11 * SECOND).ticks());
    }

    #[test]
    fn the_clock_s_ends_do_not_overflow() {
        let rate = Rate {
            period: u64::MAX / MAX_COST,
            window: MAX_WINDOW,
        };
        assert_eq!(rate.admit(u64::MAX, 0, 1), None);
        assert_eq!(rate.admit(0, u64::MAX, MAX_COST), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn it_agrees_with_nginx_request_by_request(
            per_minute in 1_u64..6000,
            burst in 0_u64..200,
            gaps_ms in proptest::collection::vec(0_i64..3000, 1..400),
        ) {
            // nginx counts in whole thousandths of a request; only rates that are whole
            // there are the same rate in both.
            let rate_milli = per_minute * 1000 / 60;
            let rate = Rate::new(rate_milli, 1000 * SECOND, burst, 1);
            prop_assume!(rate.is_some());
            let rate = rate.unwrap();
            let mut nginx = Nginx {
                rate_milli: i64::try_from(rate_milli).unwrap(),
                burst_milli: i64::try_from(burst * 1000).unwrap(),
                excess: 0,
                last_ms: None,
            };
            let mut tat = 0;
            let mut now_ms = 1_000_000_i64;
            let (mut ours, mut theirs) = (0_i64, 0_i64);
            for gap in gaps_ms {
                now_ms += gap;
                let now = KernelTime(now_ms.unsigned_abs() * 1_000_000).ticks();
                if let Some(next) = rate.admit(tat, now, 1) {
                    tat = next;
                    ours += 1;
                }
                theirs += i64::from(nginx.admits(now_ms));
                // nginx truncates the refill to thousandths at every request it admits.
                prop_assert!((ours - theirs).abs() <= 1 + theirs / 500, "{ours} against {theirs}");
            }
        }

        #[test]
        fn what_is_admitted_never_exceeds_burst_plus_one_plus_rate_times_time(
            count in 1_u64..100_000,
            burst in 0_u64..10_000,
            gaps_ns in proptest::collection::vec(0_u64..2_000_000, 1..2000),
        ) {
            let rate = Rate::new(count, SECOND, burst, 1).unwrap();
            let start = 77 * SECOND;
            let mut now = start;
            let (mut tat, mut admitted) = (0, 0_u64);
            for gap in gaps_ns {
                now += gap;
                if let Some(next) = rate.admit(tat, KernelTime(now).ticks(), 1) {
                    tat = next;
                    admitted += 1;
                }
                let refilled = (now - start) * TICKS_PER_NS * 256 / rate.period;
                prop_assert!(admitted <= burst + 1 + refilled);
            }
        }

        #[test]
        fn a_representable_rate_is_within_half_a_percent(
            digits in 0_u32..19,
            mantissa in 1_u64..1000,
            per_s in 1_u64..100_000,
            max_cost in prop_oneof![Just(1), Just(MAX_COST)],
        ) {
            let count = mantissa.saturating_mul(10_u64.pow(digits));
            if let Some(rate) = Rate::new(count, per_s * SECOND, 0, max_cost) {
                #[expect(clippy::cast_precision_loss, reason = "a ratio to within a percent")]
                let ratio = rate.period as f64 * count as f64 / (per_s as f64 * 16e9 * 256.0);
                prop_assert!((0.9949..1.0051).contains(&ratio), "{ratio}");
            }
        }
    }
}
