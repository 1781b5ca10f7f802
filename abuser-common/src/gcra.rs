//! The rate arithmetic: the generic cell rate algorithm (GCRA, ITU-T I.371).
//!
//! A token bucket of `burst + 1` tokens filled at `rate` is the same as one theoretical
//! arrival time (`tat`) per source: the time at which the source will have paid for all it
//! sent. A packet conforms while `tat` is at most `window` (`burst` periods) ahead of the
//! clock. The result matches nginx's `limit_req` with `nodelay`: `rate=60r/m burst=20`
//! passes 21 at once, then one a second, and a refused packet changes nothing.
//!
//! A `tat` has to fit into a part of one word, so it is kept in ticks on a ring of
//! [`RING_BITS`] bits. Each rate has its own tick, a power of two of nanoseconds: coarse
//! enough that its window is a small part of the ring, fine enough that its period is
//! exact to 0.4%. The clock may wrap around the ring at will.

/// Bits of a time on the ring.
pub const RING_BITS: u32 = 38;

/// The ring's times.
pub const RING: u64 = (1 << RING_BITS) - 1;

/// Binary places after the point in [`Rate::period`].
const FRACTION_BITS: u32 = 8;

/// The highest cost of one packet: the length of the largest packet, in bytes.
pub const MAX_COST: u64 = 1 << 16;

/// The finest tick is this many binary orders below a nanosecond.
const FINEST: u32 = 8;

/// The tick that a rate has if nothing speaks against it: 16 ns, a ring of 73 minutes.
const USUAL_SHIFT: u32 = FINEST + 4;

/// The coarsest tick: 131 µs, a ring of 417 days.
const COARSEST_SHIFT: u32 = FINEST + 17;

/// What of the ring the furthest future may take.
const FURTHEST: u128 = 1 << (RING_BITS - 2);

/// How far a packet's time may be behind that of another, in nanoseconds: a CPU may read the
/// clock and be held up by its host. On a short ring less.
const DISAGREEMENT_NS: u128 = 1_000_000_000;

/// Ticks of one period (a packet's, or a connection's) that are fine enough.
const FINE: u128 = 1 << 10;

/// A time of the kernel's monotonic clock, in nanoseconds since boot.
///
/// Never to be mixed with wall-clock time, hence a type of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// Nanoseconds from `earlier` to this time; 0 if `earlier` is later.
    #[inline(always)]
    pub fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How times are kept under one rate: the tick, and what counts as the future.
///
/// In one word, so that it can be changed at once: the furthest future in ticks, then
/// eight bits of shift. Zero is the scale of no rate at all.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale(pub u64);

impl Scale {
    const SHIFT_BITS: u32 = 8;

    const fn new(horizon: u64, shift: u32) -> Self {
        Self(horizon << Self::SHIFT_BITS | shift as u64)
    }

    #[inline(always)]
    const fn shift(self) -> u64 {
        self.0 & 63
    }

    /// The furthest that a `tat` can be ahead of the clock, in ticks. What is further is
    /// not ahead but of long ago.
    #[inline(always)]
    const fn horizon(self) -> u64 {
        self.0 >> Self::SHIFT_BITS
    }

    /// A kernel time on the ring.
    #[inline(always)]
    pub const fn ticks(self, time: KernelTime) -> u64 {
        // The upper bits that are shifted out are whole turns of the ring.
        (time.0 << FINEST) >> self.shift() & RING
    }

    /// How far `tat` is ahead of `now`, in ticks; 0 if it is past.
    #[inline(always)]
    pub const fn ahead(self, tat: u64, now: u64) -> u64 {
        let ahead = tat.wrapping_sub(now) & RING;
        if ahead > self.horizon() { 0 } else { ahead }
    }

    /// Nanoseconds of a number of ticks; at least 1 for at least one tick.
    #[inline(always)]
    pub const fn nanoseconds(self, ticks: u64) -> u64 {
        let last = (1 << FINEST) - 1;
        ((ticks << self.shift()) + last) >> FINEST
    }

    /// Nanoseconds in which the clock goes once around the ring.
    pub const fn ring_ns(self) -> u64 {
        1 << (self.shift() + (RING_BITS - FINEST) as u64)
    }

    /// Whether this is the scale of a rate.
    #[inline(always)]
    pub const fn is_used(self) -> bool {
        self.0 != 0
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
    /// The tick.
    pub scale: Scale,
}

impl Rate {
    /// The rate of `count` units per `per_ns` nanoseconds with `burst` units on top, for
    /// packets that cost at most `max_cost` units: 1, or [`MAX_COST`].
    ///
    /// `None` if that cannot be represented: a rate of zero, one so slow or a burst so
    /// long that the ring has no room for it, or one so fast that rounding the period
    /// would change it by more than 0.4%.
    pub fn new(count: u64, per_ns: u64, burst: u64, max_cost: u64) -> Option<Self> {
        let mut rate = None;
        // From the usual tick on to coarser ones, until the window fits; then, if the
        // period is too short for that tick, on to finer ones.
        for shift in USUAL_SHIFT..=COARSEST_SHIFT {
            rate = Self::with_tick(shift, count, per_ns, burst, max_cost);
            if rate.is_some() {
                break;
            }
        }
        let mut rate = rate?;
        for shift in (0..USUAL_SHIFT).rev() {
            if rate.is_fine(max_cost) {
                break;
            }
            match Self::with_tick(shift, count, per_ns, burst, max_cost) {
                Some(finer) => rate = finer,
                None => break,
            }
        }
        (rate.period != 0 && rate.is_exact(count, per_ns)).then_some(rate)
    }

    fn with_tick(shift: u32, count: u64, per_ns: u64, burst: u64, max_cost: u64) -> Option<Self> {
        // A packet that costs 1 is charged whole ticks, so its period must be whole ticks.
        let fraction_bits = if max_cost == 1 { 0 } else { FRACTION_BITS };
        let scaled = u128::from(per_ns) << (FINEST + fraction_bits) >> shift;
        let period = scaled.checked_div(u128::from(count))?;
        let window = (period * u128::from(burst)) >> fraction_bits;
        let cost = (period * u128::from(max_cost)) >> fraction_bits;
        let disagreement = (DISAGREEMENT_NS << FINEST >> shift).min(FURTHEST / 4);
        let horizon = window + cost + 1 + disagreement;
        if horizon > FURTHEST {
            return None;
        }
        Some(Self {
            period: u64::try_from(period << (FRACTION_BITS - fraction_bits)).ok()?,
            window: u64::try_from(window).ok()?,
            scale: Scale::new(u64::try_from(horizon).ok()?, shift),
        })
    }

    fn is_fine(&self, max_cost: u64) -> bool {
        // No frame is much shorter than 64 bytes.
        let least_cost = if max_cost == 1 { 1 } else { 64 };
        u128::from(self.period) * least_cost >= FINE << FRACTION_BITS
    }

    fn is_exact(&self, count: u64, per_ns: u64) -> bool {
        let asked = u128::from(per_ns) << (FINEST + FRACTION_BITS);
        let made = (u128::from(self.period) << self.scale.shift()) * u128::from(count);
        made.abs_diff(asked) <= asked / 250
    }

    /// Whether a clock will do that moves in steps of `tick_ns`, the kernel's ticks.
    ///
    /// A flood gets as much over such ticks as without them if the window covers them. What
    /// passes in a time as long as the window is off by a tick's worth at most: with 250 of
    /// them, 0.4%. A limit without a burst loses up to a tick with each packet, which is as
    /// little if its packets are so many ticks apart.
    pub fn can_tick(&self, tick_ns: u64) -> bool {
        let enough = tick_ns.saturating_mul(250);
        let period = self.scale.nanoseconds(self.period >> FRACTION_BITS);
        self.scale.nanoseconds(self.window) >= enough || period >= 2 * enough
    }

    /// How far ahead `tat` is after admitting `cost` units, if it was `ahead` ticks ahead of
    /// the clock; `None` if that is over the rate.
    ///
    /// `cost` is at most what the rate was made for.
    #[inline(always)]
    pub const fn admit(&self, ahead: u64, cost: u64) -> Option<u64> {
        const HALF: u64 = 1 << (FRACTION_BITS - 1);
        if ahead > self.window {
            return None;
        }
        Some(ahead + ((self.period.wrapping_mul(cost) + HALF) >> FRACTION_BITS))
    }
}

#[cfg(test)]
mod tests;
