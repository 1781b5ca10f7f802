//! Who is banned when, and what is remembered.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn host(number: u32) -> Subject {
    (
        0,
        PrefixKey::new(Ipv4Addr::from(number).into(), 32).unwrap(),
    )
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy(maxretry: u32, findtime: u64) -> Vec<BanPolicy> {
    vec![BanPolicy {
        maxretry,
        findtime: secs(findtime),
        increment: true,
        ..BanPolicy::default()
    }]
}

#[test]
fn the_last_of_maxretry_offences_bans() {
    let mut offenders = Offenders::new(policy(3, 10), 8);
    assert_eq!(offenders.offence(host(1), secs(100), 0.0, ()), None);
    assert_eq!(offenders.offence(host(2), secs(101), 0.0, ()), None);
    assert_eq!(offenders.offence(host(1), secs(105), 0.0, ()), None);
    assert_eq!(
        offenders.offence(host(1), secs(110), 0.0, ()),
        Some(Sentence {
            time: BanTime::For(secs(600)),
            repeats: 0,
            offences: [100, 105, 110]
                .map(|at| Offence {
                    at: secs(at),
                    evidence: (),
                })
                .into(),
        })
    );
}

#[test]
fn an_offence_older_than_findtime_does_not_count() {
    let mut offenders = Offenders::new(policy(2, 10), 8);
    assert_eq!(offenders.offence(host(1), secs(100), 0.0, ()), None);
    let late = secs(110) + Duration::from_nanos(1);
    assert_eq!(offenders.offence(host(1), late, 0.0, ()), None);
    assert!(offenders.offence(host(1), secs(115), 0.0, ()).is_some());
}

#[test]
fn with_maxretry_one_or_zero_the_first_offence_bans() {
    for maxretry in [0, 1] {
        let mut offenders = Offenders::new(policy(maxretry, 10), 8);
        assert!(offenders.offence(host(1), secs(1), 0.0, ()).is_some());
    }
}

#[test]
fn a_banned_subject_starts_from_no_offences_and_is_banned_for_longer_next_time() {
    let mut offenders = Offenders::new(policy(2, 10), 8);
    let mut times = Vec::new();
    for second in 0..6 {
        if let Some(sentence) = offenders.offence(host(1), secs(100 + second), 0.0, ()) {
            times.push((second, sentence.repeats, sentence.time));
        }
    }
    assert_eq!(
        times,
        [
            (1, 0, BanTime::For(secs(600))),
            (3, 1, BanTime::For(secs(1200))),
            (5, 2, BanTime::For(secs(2400))),
        ]
    );
}

#[test]
fn forgiving_drops_offences_and_earlier_bans() {
    let mut offenders = Offenders::new(policy(2, 10), 8);
    offenders.offence(host(1), secs(1), 0.0, ());
    offenders.forgive(host(1).1);
    assert_eq!(offenders.offence(host(1), secs(2), 0.0, ()), None);
    assert!(offenders.offence(host(1), secs(3), 0.0, ()).is_some());
    offenders.forgive(host(1).1);
    offenders.forgive(host(9).1);
    assert!(offenders.subjects.is_empty());
    offenders.offence(host(1), secs(4), 0.0, ());
    let sentence = offenders.offence(host(1), secs(5), 0.0, ()).unwrap();
    assert_eq!(sentence.repeats, 0);
}

#[test]
fn a_full_memory_forgets_who_was_quiet_for_longest() {
    let mut offenders = Offenders::new(policy(3, 1000), 2);
    offenders.offence(host(1), secs(1), 0.0, ());
    offenders.offence(host(2), secs(2), 0.0, ());
    offenders.offence(host(1), secs(3), 0.0, ());
    offenders.offence(host(3), secs(4), 0.0, ());
    // Host 2 went; host 1 has two offences still.
    assert_eq!(offenders.subjects.len(), 2);
    assert!(offenders.offence(host(1), secs(5), 0.0, ()).is_some());
}

#[test]
fn so_many_offences_are_remembered_and_no_more_whoever_commits_them() {
    let mut offenders = Offenders::new(policy(1000, 1000), 4);
    for number in 0..30 {
        offenders.offence(host(1), secs(number), 0.0, ());
    }
    offenders.offence(host(2), secs(40), 0.0, ());
    offenders.offence(host(2), secs(41), 0.0, ());
    assert_eq!(
        offenders.record(host(1)).map(|r| r.offences.len()),
        Some(30)
    );
    // One more than eight for each of four.
    offenders.offence(host(2), secs(42), 0.0, ());
    assert_eq!(offenders.record(host(1)), None);
    assert_eq!(offenders.offences, 3);
    // The latest offender's are kept however many they are.
    for number in 0..50 {
        offenders.offence(host(2), secs(50 + number), 0.0, ());
    }
    assert_eq!(offenders.offences, 53);
}

#[test]
fn subjects_with_only_old_offences_are_cleaned_up_in_passing() {
    let mut offenders = Offenders::new(policy(3, 10), 100);
    for number in 0..50 {
        offenders.offence(host(number), secs(1), 0.0, ());
    }
    for number in 0..60 {
        offenders.offence(host(1000 + number), secs(100), 0.0, ());
    }
    assert_eq!(offenders.subjects.len(), 60);
}

#[test]
fn a_clock_that_steps_back_loses_no_offence() {
    let mut offenders = Offenders::new(policy(2, 10), 8);
    assert_eq!(offenders.offence(host(1), secs(100), 0.0, ()), None);
    assert!(offenders.offence(host(1), secs(99), 0.0, ()).is_some());
}

#[test]
fn who_stays_clean_is_banned_for_less_long_again() {
    let mut policies = policy(1, 10);
    policies[0].decay = Some(secs(1000));
    let mut offenders = Offenders::new(policies, 8);
    let mut ban = |at| {
        let sentence = offenders.offence(host(1), secs(at), 0.0, ());
        sentence.map(|sentence| sentence.repeats)
    };
    // Bans of 600, 1200, 2400 and 4800 s, each at the end of the one before.
    assert_eq!([100, 700, 1900, 4300].map(&mut ban), [0, 1, 2, 3].map(Some));
    // The last one ends at 9100; while it lasts nobody is clean.
    assert_eq!(ban(11_099), Some(2), "four bans, one clean period");
    // Three bans, 2400 s, then two clean periods and an offence that begins anew.
    assert_eq!(ban(11_099 + 2400 + 2500), Some(0));
    assert_eq!(offenders.repeats(host(1), secs(1_000_000)), 0);
}

#[test]
fn what_leads_to_a_ban_is_handed_over_with_it() {
    let mut offenders = Offenders::new(policy(3, 10), 8);
    for (second, what) in [(100, "too old"), (120, "a"), (121, "b")] {
        assert_eq!(offenders.offence(host(1), secs(second), 0.0, what), None);
    }
    let sentence = offenders.offence(host(1), secs(122), 0.0, "c").unwrap();
    let evidence = sentence.offences.iter().map(|offence| offence.evidence);
    assert_eq!(evidence.collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn each_policy_counts_for_itself_and_keeps_its_counts_when_they_change() {
    let named = |name: &str, maxretry| BanPolicy {
        name: name.to_owned(),
        ..policy(maxretry, 1000).remove(0)
    };
    let key = host(1).1;
    let mut offenders = Offenders::new(vec![named("a", 2), named("b", 3)], 8);
    assert_eq!(offenders.offence((0, key), secs(1), 0.0, ()), None);
    assert_eq!(offenders.offence((1, key), secs(2), 0.0, ()), None);
    assert_eq!(offenders.offence((1, key), secs(3), 0.0, ()), None);
    offenders.set_policies(vec![named("c", 1), named("b", 3)]);
    assert_eq!(offenders.subjects.len(), 1);
    assert_eq!(offenders.quietest.len(), 1);
    assert!(offenders.offence((1, key), secs(4), 0.0, ()).is_some());
    // One beyond the policies that there are is judged by the first.
    assert!(offenders.offence((7, key), secs(5), 0.0, ()).is_some());
}

#[test]
fn what_is_restored_counts_as_if_it_had_happened_here() {
    let mut offenders = Offenders::new(policy(2, 10), 8);
    let record = Record {
        bans: 2,
        since: secs(99),
        offences: [Offence {
            at: secs(99),
            evidence: (),
        }]
        .into(),
    };
    offenders.restore(host(1), record.clone());
    assert_eq!(offenders.record(host(1)), Some(&record));
    let sentence = offenders.offence(host(1), secs(100), 0.0, ()).unwrap();
    assert_eq!(sentence.time, BanTime::For(secs(2400)));
}

/// All offences of all time, looked through at every step.
struct Naive {
    maxretry: usize,
    findtime: Duration,
    offences: HashMap<u32, Vec<Duration>>,
    bans: HashMap<u32, u32>,
}

impl Naive {
    fn offence(&mut self, subject: u32, now: Duration) -> Option<u32> {
        let offences = self.offences.entry(subject).or_default();
        offences.push(now);
        let recent = offences
            .iter()
            .filter(|at| now.saturating_sub(**at) <= self.findtime);
        if recent.count() < self.maxretry {
            return None;
        }
        offences.clear();
        let bans = self.bans.entry(subject).or_default();
        *bans += 1;
        Some(*bans - 1)
    }
}

proptest! {
    #[test]
    fn a_ban_comes_exactly_when_maxretry_offences_lie_within_findtime(
        maxretry in 1_u32..6,
        findtime in 0_u64..30,
        steps in proptest::collection::vec((0_u32..6, 0_u64..8), 1..300),
    ) {
        let mut offenders = Offenders::new(policy(maxretry, findtime), 6);
        let mut naive = Naive {
            maxretry: maxretry as usize,
            findtime: secs(findtime),
            offences: HashMap::new(),
            bans: HashMap::new(),
        };
        let mut now = secs(1000);
        for (subject, gap) in steps {
            now += secs(gap);
            let sentence = offenders.offence(host(subject), now, 0.0, ());
            prop_assert_eq!(sentence.as_ref().map(|s| s.repeats), naive.offence(subject, now));
            if let Some(sentence) = sentence {
                prop_assert_eq!(sentence.offences.len(), maxretry as usize);
            }
        }
    }

    #[test]
    fn there_are_never_more_subjects_than_capacity_and_both_indices_agree(
        capacity in 0_usize..8,
        steps in proptest::collection::vec((0_u32..20, 0_u64..8, 0_u8..10), 1..300),
    ) {
        let mut offenders = Offenders::new(policy(3, 20), capacity);
        let mut now = secs(1000);
        for (subject, gap, action) in steps {
            now += secs(gap);
            match action {
                0 => offenders.forgive(host(subject).1),
                _ => drop(offenders.offence(host(subject), now, 0.0, ())),
            }
            prop_assert!(offenders.subjects.len() <= capacity.max(1));
            prop_assert_eq!(offenders.subjects.len(), offenders.quietest.len());
            let offences = offenders.records().map(|(_, record)| record.offences.len());
            prop_assert_eq!(offenders.offences, offences.sum::<usize>());
            for (turn, subject) in &offenders.quietest {
                prop_assert_eq!(offenders.subjects[subject].turn, *turn);
                prop_assert!(offenders.subjects[subject].record.offences.len() < 3);
            }
        }
    }
}

#[test]
fn whoever_is_forgotten_is_told_once_with_the_policy() {
    let named = |name: &str| BanPolicy {
        name: name.to_owned(),
        findtime: secs(10),
        ..BanPolicy::default()
    };
    let mut offenders = Offenders::new(vec![named("a"), named("b")], 2);
    let other = (1, host(2).1);
    assert_eq!(offenders.offence(host(1), secs(100), 0.0, ()), None);
    assert_eq!(offenders.offence(other, secs(101), 0.0, ()), None);
    assert_eq!(offenders.take_forgotten(), []);
    // No room.
    assert_eq!(offenders.offence(host(3), secs(102), 0.0, ()), None);
    assert_eq!(
        offenders.take_forgotten(),
        [(host(1).1, "a".to_owned())],
        "the quietest"
    );
    // Too long ago.
    assert_eq!(offenders.offence(host(3), secs(112), 0.0, ()), None);
    assert_eq!(offenders.take_forgotten(), [(other.1, "b".to_owned())]);
    // A policy that is no more.
    offenders.set_policies(vec![named("c")]);
    assert_eq!(offenders.take_forgotten(), [(host(3).1, "a".to_owned())]);
    assert_eq!(offenders.take_forgotten(), []);
}

proptest! {
    /// A clock that is set before some offence changes no decision, and what is remembered follows it.
    #[test]
    fn offences_follow_a_clock_that_is_set(
        gaps in prop::collection::vec(0_u64..20, 1..40),
        set_at in 0_usize..40,
        step in -1_000_000_i64..1_000_000_000,
    ) {
        let start = 10_000_000;
        let run = |step: Option<i64>| {
            let mut offenders = Offenders::new(policy(3, 10), 8);
            let (mut at, mut moved) = (start, Moved(0));
            let mut sentences = Vec::new();
            for (number, gap) in gaps.iter().enumerate() {
                at += gap;
                if let Some(step) = step.filter(|_| number == set_at) {
                    moved = Moved(step * 1000);
                    offenders.step(moved, |evidence| *evidence += step);
                }
                let now = moved.since_epoch(secs(at));
                let evidence = i64::try_from(now.as_secs()).unwrap();
                let sentence = offenders.offence(host(1), now, 0.0, evidence);
                sentences.push(sentence.map(|sentence| {
                    let by_clock = |offence: &Offence<i64>| {
                        i64::try_from(offence.at.as_secs()) == Ok(offence.evidence)
                    };
                    assert!(sentence.offences.iter().all(by_clock), "{sentence:?}");
                    (sentence.time, sentence.repeats, sentence.offences.len())
                }));
            }
            sentences
        };
        prop_assert_eq!(run(Some(step)), run(None));
    }
}
