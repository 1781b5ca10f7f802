//! When what happens, by how long the soak goes on: a short one does everything that a long one does.

use std::time::Duration;

/// How a daemon ends and the next one begins; the filter is on all the while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Restart {
    /// SIGKILL: what is pinned goes on.
    Kill,
    /// SIGTERM with `[xdp] persist = true`, as for an upgrade to a version with the same maps.
    Stop,
    /// SIGKILL, and what is pinned is made that of an older version, whose maps are replaced.
    Takeover,
}

impl Restart {
    /// In the order in which they take turns.
    pub(super) const ALL: [Self; 3] = [Self::Kill, Self::Stop, Self::Takeover];

    /// As JSON and the picture have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Takeover => "takeover",
        }
    }
}

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// All of it.
    pub(super) time: Duration,
    /// Nothing is restarted before: one life that is long, for what grows slowly.
    pub(super) calm: Duration,
    /// From one restart to the next.
    pub(super) life: Duration,
    /// From one sample to the next.
    pub(super) sample: Duration,
    /// From one look or reload of people to the next.
    pub(super) look: Duration,
    /// From one comparison of all bans to the next.
    pub(super) check: Duration,
    /// From one offender in the log to the next.
    pub(super) offender: Duration,
    /// From one rotation of the log to the next.
    pub(super) rotation: Duration,
    /// Frames of the flood in each [`FLOOD_PERIOD`].
    pub(super) frames: u32,
}

/// The flood comes in such portions: the filter always has work, and the rest of the machine goes on.
pub(super) const FLOOD_PERIOD: Duration = Duration::from_millis(100);

impl Plan {
    /// For so long.
    pub(super) fn of(time: Duration) -> Self {
        let part = |parts: u32, least, most| {
            let part = time / parts;
            part.clamp(Duration::from_millis(least), Duration::from_millis(most))
        };
        Self {
            time,
            calm: time / 4,
            life: part(20, 3_500, 180_000),
            sample: part(600, 500, 5_000),
            look: part(200, 100, 1_000),
            check: part(100, 1_000, 20_000),
            offender: part(100, 200, 1_000),
            rotation: part(20, 3_000, 90_000),
            // A third of a million packets a second; less where others are tested beside it.
            frames: if judges_growth(time) { 33_000 } else { 5_000 },
        }
    }

    /// What a life needs until it is settled: caches and tables fill up to what they will have.
    pub(super) fn beginning(&self, is_first: bool) -> Duration {
        if is_first {
            (self.calm / 3).min(Duration::from_secs(180))
        } else {
            (self.life / 3).min(Duration::from_secs(60))
        }
    }

    /// Whether it is long enough for growth to be told from warming up.
    pub(super) fn judges_growth(&self) -> bool {
        judges_growth(self.time)
    }
}

fn judges_growth(time: Duration) -> bool {
    time >= Duration::from_secs(300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_a_quiet_quarter_and_then_each_restart_several_times() {
        let plan = Plan::of(Duration::from_secs(3600));
        let restarts = (plan.time.as_secs() - plan.calm.as_secs()) / plan.life.as_secs();
        assert!(restarts >= 4 * Restart::ALL.len() as u64, "{restarts}");
        assert!(plan.judges_growth());
    }

    #[test]
    fn even_twenty_seconds_have_each_restart() {
        let plan = Plan::of(Duration::from_secs(20));
        let all = u32::try_from(Restart::ALL.len()).unwrap();
        assert!(plan.calm + plan.life * all < plan.time);
        assert!(!plan.judges_growth());
    }
}
