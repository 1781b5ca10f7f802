//! Who did what lately: the state behind `maxretry` and `findtime`.
//!
//! An attacker chooses how many subjects there are, so their number is bounded: when it is
//! reached, the subject that has been quiet for longest is forgotten. Subjects are kept in
//! the order of their last offence, which makes that cheap.
//!
//! The window slides, as fail2ban's manual describes it: the times of a subject's latest
//! offences are kept, and `maxretry` of them within `findtime` ban.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use abuser_common::prefix::PrefixKey;

use super::{BanPolicy, BanTime};

/// Subjects whose offences are all too old that one call forgets at most: more than one
/// call adds, so they run out, and few enough that no call is slow.
const CLEANED_AT_ONCE: usize = 2;

/// A decision to ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// For how long.
    pub time: BanTime,
    /// The offences within `findtime` that led to it.
    pub offences: u32,
    /// How many times the subject had been banned before.
    pub repeats: u32,
}

/// What is remembered about one subject.
#[derive(Debug)]
struct Subject {
    /// The key of this subject in [`Offenders::quietest`].
    turn: u64,
    /// Times of the latest offences, oldest first; fewer than `maxretry`.
    offences: VecDeque<Duration>,
    /// Bans so far.
    bans: u32,
}

/// The offences of a bounded number of subjects, and the decision who is banned for them.
#[derive(Debug)]
pub struct Offenders {
    policy: BanPolicy,
    capacity: usize,
    subjects: HashMap<PrefixKey, Subject>,
    /// All subjects by turn: who offended least lately comes first.
    quietest: BTreeMap<u64, PrefixKey>,
    next_turn: u64,
    now: Duration,
}

impl Offenders {
    /// Remembers nobody yet, and `capacity` subjects (at least one) at most.
    pub fn new(policy: BanPolicy, capacity: usize) -> Self {
        Self {
            policy,
            capacity: capacity.max(1),
            subjects: HashMap::new(),
            quietest: BTreeMap::new(),
            next_turn: 0,
            now: Duration::ZERO,
        }
    }

    /// Notes an offence of `subject` at `now`, a time since boot, and says whether to ban it.
    ///
    /// `random` in `0..1` is for [`BanPolicy::rndtime`]. A `now` before that of an earlier
    /// call counts as that. After a ban the offences start from none, but the ban is
    /// remembered for [`BanPolicy::increment`].
    pub fn offence(&mut self, subject: PrefixKey, now: Duration, random: f64) -> Option<Sentence> {
        self.now = self.now.max(now);
        let now = self.now;
        let findtime = self.policy.findtime;
        let maxretry = usize::try_from(self.policy.maxretry.max(1)).unwrap_or(usize::MAX);

        let state = self.touch(subject);
        state.offences.push_back(now);
        while let Some(oldest) = state.offences.front() {
            if state.offences.len() <= maxretry && now.saturating_sub(*oldest) <= findtime {
                break;
            }
            state.offences.pop_front();
        }
        let sentence = if state.offences.len() >= maxretry {
            let offences = u32::try_from(state.offences.len()).unwrap_or(u32::MAX);
            let repeats = state.bans;
            state.offences = VecDeque::new();
            state.bans = repeats.saturating_add(1);
            Some(Sentence {
                time: self.policy.ban_time(repeats, random),
                offences,
                repeats,
            })
        } else {
            None
        };
        self.clean();
        sentence
    }

    /// Forgets the offences and the bans of `subject`, as fail2ban does for who is
    /// unbanned by hand.
    pub fn forgive(&mut self, subject: PrefixKey) {
        if let Some(state) = self.subjects.remove(&subject) {
            self.quietest.remove(&state.turn);
        }
    }

    /// The state of `subject`, which is the latest offender now.
    fn touch(&mut self, subject: PrefixKey) -> &mut Subject {
        if !self.subjects.contains_key(&subject) && self.subjects.len() >= self.capacity {
            self.forget_quietest();
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        let state = self
            .subjects
            .entry(subject)
            .and_modify(|state| {
                self.quietest.remove(&state.turn);
                state.turn = turn;
            })
            .or_insert_with(|| Subject {
                turn,
                offences: VecDeque::new(),
                bans: 0,
            });
        self.quietest.insert(turn, subject);
        state
    }

    /// Forgets the quietest subjects while there is nothing left to remember about them.
    ///
    /// One that has been banned stays until its place is needed, and those behind it with
    /// it: this is about not holding memory for long, the bound is `capacity`.
    fn clean(&mut self) {
        for _ in 0..CLEANED_AT_ONCE {
            let stale = self
                .quietest
                .first_key_value()
                .and_then(|(_, subject)| self.subjects.get(subject))
                .is_some_and(|state| {
                    let last = state.offences.back().copied().unwrap_or_default();
                    state.bans == 0 && self.now.saturating_sub(last) > self.policy.findtime
                });
            if !stale {
                return;
            }
            self.forget_quietest();
        }
    }

    fn forget_quietest(&mut self) {
        if let Some((_, subject)) = self.quietest.pop_first() {
            self.subjects.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn host(number: u32) -> PrefixKey {
        PrefixKey::new(Ipv4Addr::from(number).into(), 32).unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn policy(maxretry: u32, findtime: u64) -> BanPolicy {
        BanPolicy {
            maxretry,
            findtime: secs(findtime),
            increment: true,
            ..BanPolicy::default()
        }
    }

    #[test]
    fn the_last_of_maxretry_offences_bans() {
        let mut offenders = Offenders::new(policy(3, 10), 8);
        assert_eq!(offenders.offence(host(1), secs(100), 0.0), None);
        assert_eq!(offenders.offence(host(2), secs(101), 0.0), None);
        assert_eq!(offenders.offence(host(1), secs(105), 0.0), None);
        assert_eq!(
            offenders.offence(host(1), secs(110), 0.0),
            Some(Sentence {
                time: BanTime::For(secs(600)),
                offences: 3,
                repeats: 0
            })
        );
    }

    #[test]
    fn an_offence_older_than_findtime_does_not_count() {
        let mut offenders = Offenders::new(policy(2, 10), 8);
        assert_eq!(offenders.offence(host(1), secs(100), 0.0), None);
        let late = secs(110) + Duration::from_nanos(1);
        assert_eq!(offenders.offence(host(1), late, 0.0), None);
        assert!(offenders.offence(host(1), secs(115), 0.0).is_some());
    }

    #[test]
    fn with_maxretry_one_or_zero_the_first_offence_bans() {
        for maxretry in [0, 1] {
            let mut offenders = Offenders::new(policy(maxretry, 10), 8);
            assert!(offenders.offence(host(1), secs(1), 0.0).is_some());
        }
    }

    #[test]
    fn a_banned_subject_starts_from_no_offences_and_is_banned_for_longer_next_time() {
        let mut offenders = Offenders::new(policy(2, 10), 8);
        let mut times = Vec::new();
        for second in 0..6 {
            if let Some(sentence) = offenders.offence(host(1), secs(100 + second), 0.0) {
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
        offenders.offence(host(1), secs(1), 0.0);
        offenders.forgive(host(1));
        assert_eq!(offenders.offence(host(1), secs(2), 0.0), None);
        assert!(offenders.offence(host(1), secs(3), 0.0).is_some());
        offenders.forgive(host(1));
        offenders.forgive(host(9));
        assert!(offenders.subjects.is_empty());
        offenders.offence(host(1), secs(4), 0.0);
        let sentence = offenders.offence(host(1), secs(5), 0.0).unwrap();
        assert_eq!(sentence.repeats, 0);
    }

    #[test]
    fn a_full_memory_forgets_who_was_quiet_for_longest() {
        let mut offenders = Offenders::new(policy(3, 1000), 2);
        offenders.offence(host(1), secs(1), 0.0);
        offenders.offence(host(2), secs(2), 0.0);
        offenders.offence(host(1), secs(3), 0.0);
        offenders.offence(host(3), secs(4), 0.0);
        // Host 2 went; host 1 has two offences still.
        assert_eq!(offenders.subjects.len(), 2);
        assert!(offenders.offence(host(1), secs(5), 0.0).is_some());
    }

    #[test]
    fn subjects_with_only_old_offences_are_cleaned_up_in_passing() {
        let mut offenders = Offenders::new(policy(3, 10), 100);
        for number in 0..50 {
            offenders.offence(host(number), secs(1), 0.0);
        }
        for number in 0..60 {
            offenders.offence(host(1000 + number), secs(100), 0.0);
        }
        assert_eq!(offenders.subjects.len(), 60);
    }

    #[test]
    fn a_clock_that_steps_back_loses_no_offence() {
        let mut offenders = Offenders::new(policy(2, 10), 8);
        assert_eq!(offenders.offence(host(1), secs(100), 0.0), None);
        assert!(offenders.offence(host(1), secs(99), 0.0).is_some());
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
                let sentence = offenders.offence(host(subject), now, 0.0);
                prop_assert_eq!(sentence.map(|s| s.repeats), naive.offence(subject, now));
                if let Some(sentence) = sentence {
                    prop_assert_eq!(sentence.offences, maxretry);
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
                    0 => offenders.forgive(host(subject)),
                    _ => drop(offenders.offence(host(subject), now, 0.0)),
                }
                prop_assert!(offenders.subjects.len() <= capacity.max(1));
                prop_assert_eq!(offenders.subjects.len(), offenders.quietest.len());
                for (turn, subject) in &offenders.quietest {
                    prop_assert_eq!(offenders.subjects[subject].turn, *turn);
                    prop_assert!(offenders.subjects[subject].offences.len() < 3);
                }
            }
        }
    }
}
