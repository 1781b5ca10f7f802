//! The length of a ban: fail2ban's formula.
//!
//! Source: `Jail.setBanTimeExtra` and `ObserverThread.incrBanTime` of fail2ban 1.x.

use std::time::Duration;

use ipnet::IpNet;

/// The longest ban that is not permanent: 100 years of 365.25 days.
///
/// Far beyond any uptime, and far from where nanoseconds in 64 bits end.
pub const MAX_BAN: Duration = Duration::from_secs(3_155_760_000);

/// Prefixes shorter than this are banned only by force, never by a policy.
pub const WIDEST_IPV4: u8 = 16;
/// [`WIDEST_IPV4`] for IPv6.
pub const WIDEST_IPV6: u8 = 32;

/// Whether a prefix is so wide that it is banned by force only.
pub fn is_wide(source: &IpNet) -> bool {
    match source {
        IpNet::V4(v4) => v4.prefix_len() < WIDEST_IPV4,
        IpNet::V6(v6) => v6.prefix_len() < WIDEST_IPV6,
    }
}

/// Whether one of the two holds the other, or they are the same.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// How many times the default formula doubles at most.
const MAX_DOUBLINGS: u32 = 20;

/// How long a ban lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanTime {
    /// Until someone lifts it.
    Permanent,
    /// This long, at most [`MAX_BAN`].
    For(Duration),
}

/// The name of the policy that `[ban]` is.
pub const DEFAULT_POLICY: &str = "default";

/// When so many hosts of a prefix are banned that all of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollup {
    /// So many of them; at least 2.
    pub hosts: u32,
    /// The length of the prefix, for IPv4.
    pub ipv4_prefix: u8,
    /// The length of the prefix, for IPv6.
    pub ipv6_prefix: u8,
}

impl Rollup {
    /// Why a prefix is banned that holds enough of them.
    pub fn reason(&self) -> String {
        format!("{} hosts in it are banned", self.hosts)
    }
}

/// When to ban and for how long, in fail2ban's words.
#[derive(Clone, Debug, PartialEq)]
pub struct BanPolicy {
    /// What limits call it.
    pub name: String,
    /// So many offences within `findtime` ban; at least 1.
    pub maxretry: u32,
    /// How long an offence counts.
    pub findtime: Duration,
    /// How long the first ban lasts.
    pub bantime: BanTime,
    /// Whether who was banned before is banned for longer.
    pub increment: bool,
    /// Multiplies every ban but the first, if `increment`.
    pub factor: f64,
    /// Multiples of `bantime` by the number of earlier bans, the last one held; element 0
    /// belongs to the first ban, which is never multiplied. Empty: powers of two.
    pub multipliers: Vec<f64>,
    /// What `increment` grows a ban to at most, before `rndtime` is added.
    pub maxtime: Option<Duration>,
    /// Up to so much is added to every ban at random, so that nobody can tell when it ends.
    pub rndtime: Duration,
    /// How long an offender has to be clean for half of its earlier bans to be forgotten;
    /// `None`: they never are.
    pub decay: Option<Duration>,
    /// When to ban a prefix for the hosts in it; `None`: never.
    pub rollup: Option<Rollup>,
    /// Whether only a source that is known to be no forgery can commit an offence.
    pub require_verified: bool,
}

impl Default for BanPolicy {
    /// fail2ban's defaults: 5 offences within 10 minutes ban for 10 minutes.
    fn default() -> Self {
        Self {
            name: DEFAULT_POLICY.to_owned(),
            maxretry: 5,
            findtime: Duration::from_secs(600),
            bantime: BanTime::For(Duration::from_secs(600)),
            increment: false,
            factor: 1.0,
            multipliers: Vec::new(),
            maxtime: None,
            rndtime: Duration::ZERO,
            decay: None,
            rollup: None,
            require_verified: true,
        }
    }
}

impl BanPolicy {
    /// How long to ban who has been banned `repeats` times before; `random` is in `0..1`.
    ///
    /// With `increment`, the `n`-th repeat of a ban `T` lasts
    /// `max(T, T * 2^min(n, 20) * factor)`, or `T * factor * multipliers[n]` if there are
    /// multipliers (past their end the last one), and `maxtime` at most. The first ban lasts
    /// `T`, and so does every ban without `increment`. Then `random * rndtime` is added. The
    /// result is at most [`MAX_BAN`], unless `bantime` is permanent already.
    pub fn ban_time(&self, repeats: u32, random: f64) -> BanTime {
        let BanTime::For(first) = self.bantime else {
            return BanTime::Permanent;
        };
        let first = first.as_secs_f64();
        let grown = if self.increment && repeats > 0 {
            self.grown(first, repeats)
        } else {
            first
        };
        // A NaN, which only a policy made by hand can lead to, adds nothing.
        let random = if random.is_nan() {
            0.0
        } else {
            random.clamp(0.0, 1.0)
        };
        let total = grown + random * self.rndtime.as_secs_f64();
        let total = if total.is_nan() {
            first
        } else {
            total.max(0.0)
        };
        let total = total.min(MAX_BAN.as_secs_f64());
        BanTime::For(Duration::try_from_secs_f64(total).unwrap_or(MAX_BAN))
    }

    /// What is left of `bans` earlier bans after a `clean` time.
    pub fn decayed(&self, bans: u32, clean: Duration) -> u32 {
        let Some(decay) = self.decay.filter(|decay| !decay.is_zero()) else {
            return bans;
        };
        let periods = clean.as_nanos() / decay.as_nanos();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        bans.checked_shr(periods).unwrap_or(0)
    }

    fn grown(&self, first: f64, repeats: u32) -> f64 {
        let held = || self.multipliers.last().copied();
        let multiplier = usize::try_from(repeats)
            .ok()
            .and_then(|nth| self.multipliers.get(nth).copied())
            .or_else(held);
        let grown = if let Some(multiplier) = multiplier {
            first * self.factor * multiplier
        } else {
            let doubled = f64::from(1_u32 << repeats.min(MAX_DOUBLINGS));
            first.max(first * doubled * self.factor)
        };
        self.maxtime
            .map_or(grown, |longest| grown.min(longest.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn growing() -> BanPolicy {
        BanPolicy {
            increment: true,
            ..BanPolicy::default()
        }
    }

    fn seconds(policy: &BanPolicy, repeats: u32, random: f64) -> f64 {
        match policy.ban_time(repeats, random) {
            BanTime::Permanent => panic!("permanent"),
            BanTime::For(time) => time.as_secs_f64(),
        }
    }

    #[track_caller]
    fn assert_seconds(policy: &BanPolicy, expected: &[(u32, f64)]) {
        for (repeats, expected) in expected {
            let actual = seconds(policy, *repeats, 0.0);
            assert!(
                (actual - expected).abs() < 1e-3,
                "repeat {repeats}: {actual} s, not {expected} s"
            );
        }
    }

    #[test]
    fn without_increment_every_ban_is_the_same() {
        let policy = BanPolicy {
            factor: 7.0,
            multipliers: vec![1.0, 9.0],
            maxtime: Some(Duration::from_secs(1)),
            ..BanPolicy::default()
        };
        assert_seconds(&policy, &[(0, 600.0), (1, 600.0), (50, 600.0)]);
    }

    #[test]
    fn bans_double_with_each_repeat_up_to_twenty_times() {
        let twenty = 600.0 * 1_048_576.0;
        assert_seconds(
            &growing(),
            &[
                (0, 600.0),
                (1, 1200.0),
                (2, 2400.0),
                (3, 4800.0),
                (10, 614_400.0),
                (20, twenty),
                (21, twenty),
                (u32::MAX, twenty),
            ],
        );
    }

    #[test]
    fn factor_multiplies_but_the_formula_never_shortens_a_ban() {
        let policy = BanPolicy {
            factor: 0.2,
            ..growing()
        };
        // 600 * 2 * 0.2 = 240 and 600 * 4 * 0.2 = 480 are less than 600.
        assert_seconds(
            &policy,
            &[(0, 600.0), (1, 600.0), (2, 600.0), (3, 960.0), (4, 1920.0)],
        );
        let policy = BanPolicy {
            factor: 3.0,
            ..growing()
        };
        assert_seconds(&policy, &[(0, 600.0), (1, 3600.0), (2, 7200.0)]);
    }

    #[test]
    fn multipliers_are_taken_by_the_number_of_earlier_bans_and_the_last_one_is_held() {
        let policy = BanPolicy {
            multipliers: vec![1.0, 5.0, 30.0, 60.0, 300.0],
            factor: 2.0,
            ..growing()
        };
        assert_seconds(
            &policy,
            &[
                (0, 600.0),
                (1, 6000.0),
                (2, 36_000.0),
                (3, 72_000.0),
                (4, 360_000.0),
                (5, 360_000.0),
                (u32::MAX, 360_000.0),
            ],
        );
        let one = BanPolicy {
            multipliers: vec![3.0],
            ..growing()
        };
        assert_seconds(&one, &[(0, 600.0), (1, 1800.0), (2, 1800.0)]);
    }

    #[test]
    fn maxtime_caps_the_growth_and_rndtime_comes_on_top() {
        let policy = BanPolicy {
            maxtime: Some(Duration::from_secs(5000)),
            rndtime: Duration::from_secs(100),
            ..growing()
        };
        assert_seconds(&policy, &[(3, 4800.0), (4, 5000.0), (u32::MAX, 5000.0)]);
        assert!((seconds(&policy, 4, 0.5) - 5050.0).abs() < 1e-6);
        assert!((seconds(&policy, 0, 0.25) - 625.0).abs() < 1e-6);
    }

    #[test]
    fn a_permanent_ban_stays_permanent() {
        let policy = BanPolicy {
            bantime: BanTime::Permanent,
            maxtime: Some(Duration::from_secs(1)),
            ..growing()
        };
        assert_eq!(policy.ban_time(3, 0.5), BanTime::Permanent);
    }

    #[test]
    fn a_ban_is_a_hundred_years_at_most() {
        let policy = BanPolicy {
            factor: 1e300,
            ..growing()
        };
        assert_eq!(policy.ban_time(5, 0.0), BanTime::For(MAX_BAN));
        let policy = BanPolicy {
            bantime: BanTime::For(Duration::MAX),
            ..BanPolicy::default()
        };
        assert_eq!(policy.ban_time(0, 0.0), BanTime::For(MAX_BAN));
    }

    #[test]
    fn earlier_bans_halve_with_each_clean_period() {
        let policy = BanPolicy {
            decay: Some(Duration::from_secs(100)),
            ..growing()
        };
        let left = |seconds| policy.decayed(9, Duration::from_secs(seconds));
        assert_eq!(
            [0, 99, 100, 199, 200, 300, 400, 1_000_000].map(left),
            [9, 9, 4, 4, 2, 1, 0, 0]
        );
        assert_eq!(growing().decayed(9, Duration::MAX), 9);
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_panic_or_exceed_a_hundred_years(
            first in any::<Duration>(),
            factor in any::<f64>(),
            multipliers in proptest::collection::vec(any::<f64>(), 0..4),
            maxtime in any::<Option<Duration>>(),
            rndtime in any::<Duration>(),
            repeats in any::<u32>(),
            random in any::<f64>(),
        ) {
            let policy = BanPolicy {
                bantime: BanTime::For(first),
                factor,
                multipliers,
                maxtime,
                rndtime,
                ..growing()
            };
            let BanTime::For(time) = policy.ban_time(repeats, random) else {
                return Err(TestCaseError::fail("permanent"));
            };
            prop_assert!(time <= MAX_BAN);
        }
    }
}
