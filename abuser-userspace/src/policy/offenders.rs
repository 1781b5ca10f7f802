//! Who did what lately: the state behind `maxretry` and `findtime`.
//!
//! An attacker chooses how many subjects there are, so their number is bounded, and that of
//! all their offences: when it is reached, the subject that has been quiet for longest is
//! forgotten. Subjects are kept in
//! the order of their last offence, which makes that cheap.
//!
//! The window slides, as fail2ban's manual describes it: the times of a subject's latest
//! offences are kept, and `maxretry` of them within `findtime` ban.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::LazyLock,
    time::Duration,
};

use abuser_common::prefix::PrefixKey;

use super::{BanPolicy, BanTime};

/// Subjects whose offences are all too old that one call forgets at most: more than one
/// call adds, so they run out, and few enough that no call is slow.
const CLEANED_AT_ONCE: usize = 2;

/// Offences that are remembered for each subject that there is room for, on average.
const OFFENCES_EACH: usize = 8;

/// A decision to ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence<E> {
    /// For how long.
    pub time: BanTime,
    /// How many times the subject had been banned before, as far as that is not forgotten.
    pub repeats: u32,
    /// The offences within `findtime` that led to it.
    pub offences: Vec<Offence<E>>,
}

/// Something that a subject did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence<E> {
    /// When.
    pub at: Duration,
    /// What is known of it.
    pub evidence: E,
}

/// Who is judged, and by which of the policies.
pub type Subject = (u16, PrefixKey);

/// What is remembered about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<E> {
    /// Bans so far, as they stood at `since`.
    pub bans: u32,
    /// Since when it has been clean: its last offence, or the end of its last ban.
    pub since: Duration,
    /// Its latest offences, oldest first; fewer than `maxretry`.
    pub offences: VecDeque<Offence<E>>,
}

#[derive(Debug)]
struct State<E> {
    /// The key of this subject in [`Offenders::quietest`].
    turn: u64,
    record: Record<E>,
}

/// The offences of a bounded number of subjects, and the decision who is banned for them.
#[derive(Debug)]
pub struct Offenders<E> {
    policies: Vec<BanPolicy>,
    capacity: usize,
    subjects: HashMap<Subject, State<E>>,
    /// All subjects by turn: who offended least lately comes first.
    quietest: BTreeMap<u64, Subject>,
    next_turn: u64,
    now: Duration,
    /// Offences of all subjects.
    offences: usize,
}

impl<E> Offenders<E> {
    /// Remembers nobody yet, `capacity` subjects (at least one) at most, and eight times as many
    /// offences, but always those of the latest offender. The first policy
    /// is the default one, which stands for those that there are not.
    pub fn new(policies: Vec<BanPolicy>, capacity: usize) -> Self {
        Self {
            policies,
            capacity: capacity.max(1),
            subjects: HashMap::new(),
            quietest: BTreeMap::new(),
            next_turn: 0,
            now: Duration::ZERO,
            offences: 0,
        }
    }

    /// The policies, by their numbers.
    pub fn policies(&self) -> &[BanPolicy] {
        &self.policies
    }

    /// The number of the policy with this name.
    pub fn policy_number(&self, name: &str) -> Option<u16> {
        let position = self.policies.iter().position(|policy| policy.name == name);
        position.and_then(|position| u16::try_from(position).ok())
    }

    /// The policy with this number.
    pub fn policy(&self, number: u16) -> &BanPolicy {
        static DEFAULT: LazyLock<BanPolicy> = LazyLock::new(BanPolicy::default);
        let named = self.policies.get(usize::from(number));
        named.or(self.policies.first()).unwrap_or(&DEFAULT)
    }

    /// Judges by other policies from now on. Subjects keep what is remembered of them under
    /// the policy of the same name; those of a policy that is no more are forgotten.
    pub fn set_policies(&mut self, policies: Vec<BanPolicy>) {
        let before = std::mem::replace(&mut self.policies, policies);
        let subjects = std::mem::take(&mut self.subjects);
        for ((number, key), state) in subjects {
            let name = before.get(usize::from(number)).map(|policy| &policy.name);
            let Some(number) = name.and_then(|name| self.policy_number(name)) else {
                self.quietest.remove(&state.turn);
                self.offences -= state.record.offences.len();
                continue;
            };
            self.quietest.insert(state.turn, (number, key));
            self.subjects.insert((number, key), state);
        }
    }

    /// Notes an offence of `subject` at `now`, and says whether to ban it.
    ///
    /// `random` in `0..1` is for [`BanPolicy::rndtime`]. A `now` before that of an earlier
    /// call counts as that. After a ban the offences start from none, but the ban is
    /// remembered for [`BanPolicy::increment`].
    pub fn offence(
        &mut self,
        subject: Subject,
        now: Duration,
        random: f64,
        evidence: E,
    ) -> Option<Sentence<E>> {
        self.now = self.now.max(now);
        let now = self.now;
        let policy = self.policy(subject.0);
        let findtime = policy.findtime;
        let maxretry = usize::try_from(policy.maxretry.max(1)).unwrap_or(usize::MAX);

        let record = self.touch(subject);
        let before = record.offences.len();
        record.offences.push_back(Offence { at: now, evidence });
        while let Some(oldest) = record.offences.front() {
            if record.offences.len() <= maxretry && now.saturating_sub(oldest.at) <= findtime {
                break;
            }
            record.offences.pop_front();
        }
        let led_to_a_ban = (record.offences.len() >= maxretry)
            .then(|| Vec::from(std::mem::take(&mut record.offences)));
        let after = record.offences.len();
        self.offences = self.offences + after - before;
        let sentence = if let Some(offences) = led_to_a_ban {
            let (time, repeats) = self.convict(subject, now, random);
            Some(Sentence {
                time,
                repeats,
                offences,
            })
        } else {
            None
        };
        self.clean();
        sentence
    }

    /// Bans `subject` whatever it did: for how long, and how many times it had been banned
    /// before.
    pub fn convict(&mut self, subject: Subject, now: Duration, random: f64) -> (BanTime, u32) {
        self.now = self.now.max(now);
        let now = self.now;
        let repeats = self.touch(subject).bans;
        let time = self.policy(subject.0).ban_time(repeats, random);
        let record = self.touch(subject);
        record.bans = repeats.saturating_add(1);
        record.since = match time {
            BanTime::Permanent => Duration::MAX,
            BanTime::For(time) => now.saturating_add(time),
        };
        (time, repeats)
    }

    /// What is remembered of `subject`.
    pub fn record(&self, subject: Subject) -> Option<&Record<E>> {
        self.subjects.get(&subject).map(|state| &state.record)
    }

    /// All that is remembered.
    pub fn records(&self) -> impl Iterator<Item = (Subject, &Record<E>)> {
        let subjects = self.subjects.iter();
        subjects.map(|(subject, state)| (*subject, &state.record))
    }

    /// How many earlier bans of `subject` count at `now`.
    pub fn repeats(&self, subject: Subject, now: Duration) -> u32 {
        let policy = self.policy(subject.0);
        self.record(subject).map_or(0, |record| {
            policy.decayed(record.bans, now.saturating_sub(record.since))
        })
    }

    /// Remembers what an earlier daemon did, the quietest first.
    pub fn restore(&mut self, subject: Subject, record: Record<E>) {
        let offences = record.offences.len();
        let replaced = std::mem::replace(self.touch(subject), record);
        self.offences = self.offences + offences - replaced.offences.len();
        self.clean();
    }

    /// Forgets the offences and the bans of a source under all policies, as fail2ban does for
    /// who is unbanned by hand.
    pub fn forgive(&mut self, source: PrefixKey) {
        let policies = u16::try_from(self.policies.len().max(1)).unwrap_or(u16::MAX);
        for number in 0..policies {
            if let Some(state) = self.subjects.remove(&(number, source)) {
                self.quietest.remove(&state.turn);
                self.offences -= state.record.offences.len();
            }
        }
    }

    /// The record of `subject`, which is the latest offender now, with its earlier bans as
    /// they stand.
    fn touch(&mut self, subject: Subject) -> &mut Record<E> {
        if !self.subjects.contains_key(&subject) && self.subjects.len() >= self.capacity {
            self.forget_quietest();
        }
        let now = self.now;
        let bans = self.repeats(subject, now);
        let turn = self.next_turn;
        self.next_turn += 1;
        let state = self
            .subjects
            .entry(subject)
            .and_modify(|state| {
                self.quietest.remove(&state.turn);
                state.turn = turn;
            })
            .or_insert_with(|| State {
                turn,
                record: Record {
                    bans: 0,
                    since: now,
                    offences: VecDeque::new(),
                },
            });
        self.quietest.insert(turn, subject);
        state.record.bans = bans;
        state.record.since = state.record.since.max(now);
        &mut state.record
    }

    /// Forgets the quietest subjects while there is nothing left to remember about them.
    ///
    /// One that has been banned stays until that is forgotten or its place is needed, and
    /// those behind it with it: this is about not holding memory for long, the bound is
    /// `capacity`.
    fn clean(&mut self) {
        while self.offences > self.capacity * OFFENCES_EACH && self.subjects.len() > 1 {
            self.forget_quietest();
        }
        for _ in 0..CLEANED_AT_ONCE {
            let Some((_, subject)) = self.quietest.first_key_value() else {
                return;
            };
            let findtime = self.policy(subject.0).findtime;
            let stale = self.repeats(*subject, self.now) == 0
                && self.record(*subject).is_some_and(|record| {
                    let last = record.offences.back().map(|offence| offence.at);
                    last.is_none_or(|last| self.now.saturating_sub(last) > findtime)
                });
            if !stale {
                return;
            }
            self.forget_quietest();
        }
    }

    fn forget_quietest(&mut self) {
        if let Some((_, subject)) = self.quietest.pop_first() {
            let state = self.subjects.remove(&subject);
            self.offences -= state.map_or(0, |state| state.record.offences.len());
        }
    }
}

#[cfg(test)]
mod tests {
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
}
