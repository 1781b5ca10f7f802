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
    fmt::Write as _,
    sync::LazyLock,
    time::Duration,
};

use abuser_common::prefix::PrefixKey;

use super::{BanPolicy, BanTime, Moved};
use crate::words::counted;

/// Subjects that a daemon remembers, or a replay; with their evidence about 130 MB at the most.
pub const MAX_OFFENDERS: usize = 1 << 17;

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

/// The reason for a ban, and how many times before its subject was banned, if it was.
pub fn with_repeats(mut reason: String, repeats: u32) -> String {
    if repeats > 0 {
        let before = counted(repeats.into(), "time", "times");
        let _infallible = write!(reason, ", banned {before} before");
    }
    reason
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
    /// Who was forgotten lately, with the policy.
    forgotten: Vec<(PrefixKey, String)>,
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
            forgotten: Vec::new(),
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
                self.forgotten.extend(name.map(|name| (key, name.clone())));
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

    /// Has all times follow the clock that they are told by, which was set; `evidence` does so with the times
    /// in what is known of an offence.
    pub fn step(&mut self, moved: Moved, mut evidence: impl FnMut(&mut E)) {
        self.now = moved.since_epoch(self.now);
        for state in self.subjects.values_mut() {
            let record = &mut state.record;
            record.since = moved.since_epoch(record.since);
            for offence in &mut record.offences {
                offence.at = moved.since_epoch(offence.at);
                evidence(&mut offence.evidence);
            }
        }
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

    /// Who was forgotten since the last call, and under which policy, but for those who were
    /// forgiven: whoever keeps a copy forgets them, too.
    pub fn take_forgotten(&mut self) -> Vec<(PrefixKey, String)> {
        std::mem::take(&mut self.forgotten)
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
            let (number, key) = subject;
            let policy = self.policy(number).name.clone();
            self.forgotten.push((key, policy));
        }
    }
}

#[cfg(test)]
mod tests;
