//! What is promised, and whether it was kept.

use serde::{Deserialize, Serialize};

use super::{plan::Plan, sample::Sample};
use crate::statistics::{growth, median};

/// Memory may differ by so much, in megabytes, from the settled beginning of a life to its end, and
/// from the first life to the last.
const MEMORY: f64 = 2.0;
/// Threads may by so many: an idle one of a pool is let go now and then.
const THREADS: f64 = 2.0;
/// Descriptors may by so many: people have connections, now more of them and now fewer.
const DESCRIPTORS: f64 = 4.0;
/// With fewer samples there is no trend.
const ENOUGH: usize = 8;

/// Something that is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A ban that was acknowledged is in the kernel and in the list, over any restart.
    LostBans,
    /// Nobody is banned whom nobody banned.
    WrongBans,
    /// Who offends in a log is banned.
    Offenders,
    /// Not one packet of a banned source passes.
    BannedPackets,
    /// A source that nothing speaks against is served.
    CleanPackets,
    /// Every packet that the interface took has one outcome.
    Counters,
    /// Nothing has to be put right.
    NoRepairs,
    /// Every request is answered, and reloads do what they say.
    Answers,
    /// Memory, descriptors and threads do not grow.
    Growth,
}

impl Promise {
    /// All of them, in the order in which they are told.
    pub(super) const ALL: [Self; 9] = [
        Self::LostBans,
        Self::WrongBans,
        Self::Offenders,
        Self::BannedPackets,
        Self::CleanPackets,
        Self::Counters,
        Self::NoRepairs,
        Self::Answers,
        Self::Growth,
    ];

    /// As it is told.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LostBans => "no ban is lost",
            Self::WrongBans => "nobody else is banned",
            Self::Offenders => "who offends is banned",
            Self::BannedPackets => "no packet of a banned source passes",
            Self::CleanPackets => "who is clean is served",
            Self::Counters => "counters add up",
            Self::NoRepairs => "nothing is repaired",
            Self::Answers => "every request is answered",
            Self::Growth => "nothing grows",
        }
    }
}

/// What came of a promise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) promise: String,
    pub(super) kept: bool,
    /// How often it was put to the test, and by how much it failed.
    pub(super) figures: String,
    /// What went wrong, at most five times.
    pub(super) faults: Vec<String>,
}

/// How something grew.
#[derive(Clone, Copy, Debug)]
struct Grown {
    what: &'static str,
    unit: &'static str,
    bound: f64,
    value: fn(&Sample) -> f64,
}

const GROWN: [Grown; 3] = [
    Grown {
        what: "memory",
        unit: " MB",
        bound: MEMORY,
        value: |sample| sample.own_megabytes,
    },
    Grown {
        what: "descriptors",
        unit: "",
        bound: DESCRIPTORS,
        value: |sample| sample.descriptors,
    },
    Grown {
        what: "threads",
        unit: "",
        bound: THREADS,
        value: |sample| sample.threads,
    },
];

/// What grew, in the first life, in any later one and over all of them; and in which way that was too
/// much.
pub(super) fn growths(samples: &[Sample], plan: &Plan) -> (String, Vec<String>) {
    let lives = lives(samples, plan);
    let (mut told, mut faults) = (Vec::new(), Vec::new());
    for grown in GROWN {
        let Grown {
            what,
            unit,
            bound,
            value,
        } = grown;
        let points = |life: &[&Sample]| -> Vec<(f64, f64)> {
            let points = life.iter();
            points
                .map(|sample| (sample.seconds, value(sample)))
                .collect()
        };
        let each: Vec<f64> = lives
            .iter()
            .filter(|life| life.len() >= ENOUGH)
            .map(|life| growth(&points(life)))
            .collect();
        // The middle of the level of each: what a life begins with is its own.
        let levels: Vec<(f64, f64)> = lives
            .iter()
            .filter(|life| !life.is_empty())
            .map(|life| {
                let points = points(life);
                let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
                (points[0].0, median(&values))
            })
            .collect();
        let first = each.first().copied().unwrap_or_default();
        let later = each.iter().skip(1).copied().fold(f64::MIN, f64::max);
        // The first life is longer, and has more in its caches.
        let over_all = growth(levels.get(1..).unwrap_or_default());
        let mut parts = vec![("in the first life", first), ("over all lives", over_all)];
        if each.len() > 1 {
            parts.insert(1, ("in the worst later life", later));
        }
        for (when, by) in &parts {
            if *by > bound && plan.judges_growth() {
                faults.push(format!(
                    "{what} grew by {by:.1}{unit} {when}; {bound:.0}{unit} are allowed"
                ));
            }
        }
        let parts = parts
            .iter()
            .map(|(when, by)| format!("{by:+.2}{unit} {when}"));
        told.push(format!("{what} {}", parts.collect::<Vec<_>>().join(", ")));
    }
    let mut told = told.join("; ");
    if !plan.judges_growth() {
        told += "; too short to judge by";
    }
    (told, faults)
}

/// The settled samples of each life.
fn lives<'a>(samples: &'a [Sample], plan: &Plan) -> Vec<Vec<&'a Sample>> {
    let mut lives: Vec<Vec<&Sample>> = Vec::new();
    for sample in samples {
        let at = usize::try_from(sample.life).unwrap_or(1).max(1);
        if lives.len() < at {
            lives.resize(at, Vec::new());
        }
        if sample.life_seconds >= plan.beginning(at == 1).as_secs_f64() {
            lives[at - 1].push(sample);
        }
    }
    lives
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An hour in which the daemon is restarted every 180 s after a quarter of an hour.
    fn hour(own: impl Fn(u64, f64) -> f64, threads: impl Fn(u64) -> f64) -> Vec<Sample> {
        let samples = (1..720).map(|number| f64::from(number) * 5.0);
        let samples = samples.map(|seconds| {
            let (life, life_seconds) = if seconds < 900.0 {
                (1, seconds)
            } else {
                let later = seconds - 900.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "small and positive"
                )]
                let nth = (later / 180.0) as u64;
                (2 + nth, later % 180.0)
            };
            Sample {
                seconds,
                life,
                life_seconds,
                own_megabytes: own(life, life_seconds),
                threads: threads(life),
                ..Sample::default()
            }
        });
        samples.collect()
    }

    fn faults(samples: &[Sample]) -> Vec<String> {
        growths(samples, &Plan::of(Duration::from_secs(3600))).1
    }

    #[test]
    fn what_the_beginning_of_a_life_takes_is_no_growth() {
        let warming_up = |_, seconds: f64| 20.0 + seconds.min(50.0);
        assert_eq!(faults(&hour(warming_up, |_| 5.0)), [""; 0]);
    }

    #[test]
    fn a_leak_is_told_with_the_life_that_it_shows_in() {
        // 10 kB a second: 7.15 MB in the 715 seconds of the first life, 1.15 in the others.
        let leak = |_, seconds: f64| 20.0 + seconds * 0.01;
        let [fault] = &faults(&hour(leak, |_| 5.0))[..] else {
            panic!("one fault");
        };
        assert!(
            fault.contains("memory grew by 7.2 MB in the first life"),
            "{fault}"
        );
        let later = |life, seconds: f64| if life == 5 { seconds * 0.1 } else { 20.0 };
        let faults = faults(&hour(later, |_| 5.0));
        assert!(faults[0].contains("worst later life"), "{faults:?}");
    }

    #[test]
    fn what_each_life_leaves_to_the_next_is_told() {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let handed_on = |life: u64| life as f64;
        let faults = faults(&hour(|_, _| 20.0, handed_on));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].contains("threads grew by 14.0 over all lives"),
            "{faults:?}"
        );
    }

    #[test]
    fn what_is_too_short_is_not_judged() {
        let samples = hour(|_, seconds| seconds, |_| 5.0);
        let (told, faults) = growths(&samples, &Plan::of(Duration::from_secs(60)));
        assert_eq!(faults, [""; 0]);
        assert!(told.contains("too short"), "{told}");
    }
}
