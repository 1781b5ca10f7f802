//! What of our own bans a local API is to have, what it has, and what is to be done about the
//! difference: pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, SystemTime},
};

use abuser_common::prefix::PrefixKey;

use crate::policy::ends::same_end;

/// What ends so soon is left to end by itself.
const SOON: Duration = Duration::from_secs(2);
/// Sources that are looked at in one go: there may be a million, of which all is there.
const LOOKED_AT_ONCE: usize = 1024;

/// When a ban or a decision ends; `None`: never.
pub(super) type End = Option<SystemTime>;

/// A decision that a local API has from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pushed {
    /// Its number there.
    pub(super) id: u64,
    /// When it ends.
    pub(super) end: End,
}

/// What a source's ban has become there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    /// Its decisions.
    decisions: Vec<Pushed>,
    /// The end of the ban that was told, if one was, whatever the local API made of it.
    told: Option<End>,
}

/// Bans that are not pushed again: somebody deleted their decisions there, or the local API refuses them.
pub(super) type GivenUp = HashMap<PrefixKey, End>;

/// What is to be done about a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The source.
    pub(super) source: PrefixKey,
    /// Whether its ban is to be pushed.
    pub(super) push: bool,
    /// Whether it may have been pushed before, and somebody have deleted the decision.
    pub(super) is_unsure: bool,
    /// Decisions that are to be taken back, after that.
    pub(super) withdraw: Vec<u64>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    wanted: BTreeMap<PrefixKey, End>,
    there: BTreeMap<PrefixKey, Record>,
    /// How many of those have decisions.
    active: usize,
    /// Sources that may differ.
    queue: BTreeSet<PrefixKey>,
    /// Of those, whose bans are older than what is known of the local API.
    unsure: HashSet<PrefixKey>,
}

impl Ledger {
    /// These bans are to be there, and these decisions are.
    pub(super) fn new(
        wanted: impl IntoIterator<Item = (PrefixKey, End)>,
        there: impl IntoIterator<Item = (PrefixKey, Pushed)>,
        given_up: &mut GivenUp,
    ) -> Self {
        let mut ledger = Self {
            wanted: wanted.into_iter().collect(),
            ..Self::default()
        };
        for (source, decision) in there {
            ledger.change(source, |record| record.decisions.push(decision));
        }
        given_up.retain(|source, end| {
            let wanted = ledger.wanted.get(source);
            wanted.is_some_and(|wanted| same_end(*wanted, *end))
        });
        for (source, end) in &*given_up {
            ledger.there.entry(*source).or_default().told = Some(*end);
        }
        ledger.queue = ledger
            .wanted
            .keys()
            .chain(ledger.there.keys())
            .copied()
            .collect();
        ledger.unsure = ledger.wanted.keys().copied().collect();
        ledger
    }

    /// Changes what is known of a source.
    fn change<T>(&mut self, source: PrefixKey, change: impl FnOnce(&mut Record) -> T) -> T {
        let record = self.there.entry(source).or_default();
        self.active -= usize::from(!record.decisions.is_empty());
        let value = change(record);
        self.active += usize::from(!record.decisions.is_empty());
        value
    }

    /// There is a ban that is to be there, or another one than before.
    pub(super) fn want(&mut self, source: PrefixKey, end: End) {
        self.wanted.insert(source, end);
        self.queue.insert(source);
    }

    /// There is no such ban any more.
    pub(super) fn drop(&mut self, source: PrefixKey) {
        if self.wanted.remove(&source).is_some() {
            self.queue.insert(source);
        }
    }

    /// How many sources may differ.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many sources are there.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Some of what is to be done; there may be more while sources are [queued](Self::queued).
    pub(super) fn tasks(&mut self, most: usize, now: SystemTime) -> Vec<Task> {
        let mut tasks = Vec::new();
        for _ in 0..LOOKED_AT_ONCE {
            if tasks.len() >= most {
                break;
            }
            let Some(source) = self.queue.pop_first() else {
                break;
            };
            tasks.extend(self.task(source, now));
        }
        tasks
    }

    fn task(&mut self, source: PrefixKey, now: SystemTime) -> Option<Task> {
        let soon = |end: End| end.is_some_and(|end| end <= now + SOON);
        let is_unsure = self.unsure.remove(&source);
        let wanted = self.wanted.get(&source).copied().filter(|end| !soon(*end));
        let (push, wrong) = self.change(source, |record| {
            let mut wrong = std::mem::take(&mut record.decisions);
            wrong.retain(|decision| !soon(decision.end));
            let Some(end) = wanted else {
                return (false, wrong);
            };
            let right = wrong
                .iter()
                .position(|decision| same_end(decision.end, end));
            if let Some(right) = right {
                record.decisions = vec![wrong.swap_remove(right)];
            }
            let told = record.told.replace(end);
            let is_told = told.is_some_and(|told| same_end(told, end));
            (right.is_none() && !is_told, wrong)
        });
        if wanted.is_none() {
            self.there.remove(&source);
        }
        let withdraw: Vec<_> = wrong.into_iter().map(|decision| decision.id).collect();
        (push || !withdraw.is_empty()).then_some(Task {
            source,
            push,
            is_unsure,
            withdraw,
        })
    }

    /// These decisions were made of a source's ban; none, if the local API wanted none.
    pub(super) fn pushed(
        &mut self,
        source: PrefixKey,
        decisions: impl IntoIterator<Item = Pushed>,
    ) {
        self.change(source, |record| record.decisions.extend(decisions));
        // It may have ended meanwhile.
        if !self.wanted.contains_key(&source) {
            self.queue.insert(source);
        }
    }

    /// This decision is no more. Whether somebody overruled the ban: then until when it is so.
    pub(super) fn over(&mut self, source: PrefixKey, id: u64, now: SystemTime) -> Option<End> {
        self.there.get(&source)?;
        let decision = self.change(source, |record| {
            let mut decisions = record.decisions.iter();
            let place = decisions.position(|decision| decision.id == id)?;
            let decision = record.decisions.swap_remove(place);
            record.decisions.is_empty().then_some(decision)
        })?;
        let is_early = decision.end.is_none_or(|end| end > now + SOON);
        let wanted = self.wanted.get(&source).copied();
        wanted.filter(|_| is_early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn decision(id: u64, end: u64) -> Pushed {
        Pushed {
            id,
            end: Some(at(end)),
        }
    }

    fn task(number: u8, push: bool, withdraw: &[u64]) -> Task {
        Task {
            source: key(number),
            push,
            is_unsure: false,
            withdraw: withdraw.to_vec(),
        }
    }

    /// The same of a ban, or a decision, that was there when all was compared.
    fn unsure(number: u8, push: bool, withdraw: &[u64]) -> Task {
        Task {
            is_unsure: true,
            ..task(number, push, withdraw)
        }
    }

    const NOW: u64 = 1000;

    fn tasks(ledger: &mut Ledger) -> Vec<Task> {
        ledger.tasks(100, at(NOW))
    }

    #[test]
    fn what_is_missing_is_pushed_and_what_is_not_wanted_taken_back() {
        let wanted = [
            (key(1), None),
            (key(2), Some(at(2000))),
            (key(3), Some(at(3000))),
        ];
        let there = [
            (key(2), decision(20, 2001)),
            (key(3), decision(30, 2000)),
            (key(4), decision(40, 2000)),
            (key(5), decision(50, NOW + 1)),
        ];
        let mut ledger = Ledger::new(wanted, there, &mut GivenUp::new());
        assert_eq!(
            tasks(&mut ledger),
            [
                unsure(1, true, &[]),
                unsure(3, true, &[30]),
                task(4, false, &[40])
            ]
        );
        assert_eq!(ledger.queued(), 0);
        ledger.pushed(key(1), [Pushed { id: 10, end: None }]);
        ledger.pushed(key(3), [decision(31, 3000)]);
        assert_eq!(ledger.active(), 3);
        for source in [1, 2, 3] {
            ledger.queue.insert(key(source));
        }
        assert_eq!(tasks(&mut ledger), [], "all is there");
    }

    #[test]
    fn a_ban_that_changes_is_pushed_anew_and_then_the_old_decision_goes() {
        let mut ledger = Ledger::default();
        ledger.want(key(1), Some(at(2000)));
        assert_eq!(tasks(&mut ledger), [task(1, true, &[])]);
        ledger.pushed(key(1), [decision(1, 2000)]);
        ledger.want(key(1), Some(at(2001)));
        assert_eq!(tasks(&mut ledger), [], "clocks differ by more");
        ledger.want(key(1), Some(at(5000)));
        assert_eq!(tasks(&mut ledger), [task(1, true, &[1])]);
        ledger.pushed(key(1), [decision(2, 5000)]);
        ledger.drop(key(1));
        ledger.drop(key(1));
        assert_eq!(tasks(&mut ledger), [task(1, false, &[2])]);
        assert_eq!(ledger.active(), 0);
    }

    #[test]
    fn a_ban_that_ends_while_it_is_pushed_is_taken_back() {
        let mut ledger = Ledger::default();
        ledger.want(key(1), Some(at(2000)));
        assert_eq!(tasks(&mut ledger), [task(1, true, &[])]);
        ledger.drop(key(1));
        assert_eq!(tasks(&mut ledger), []);
        ledger.pushed(key(1), [decision(1, 2000)]);
        assert_eq!(tasks(&mut ledger), [task(1, false, &[1])]);
    }

    #[test]
    fn what_is_nearly_over_is_left_to_end() {
        let mut ledger = Ledger::default();
        ledger.want(key(1), Some(at(NOW + 1)));
        assert_eq!(tasks(&mut ledger), []);
        ledger.want(key(2), Some(at(NOW + 60)));
        assert_eq!(tasks(&mut ledger), [task(2, true, &[])]);
        ledger.pushed(key(2), [decision(1, NOW + 60)]);
        ledger.drop(key(2));
        assert_eq!(ledger.tasks(100, at(NOW + 60)), []);
    }

    #[test]
    fn what_was_deleted_or_refused_there_is_not_pushed_again_until_the_ban_changes() {
        let mut ledger = Ledger::default();
        ledger.want(key(1), Some(at(2000)));
        ledger.want(key(2), Some(at(2000)));
        assert_eq!(tasks(&mut ledger).len(), 2);
        ledger.pushed(key(1), [decision(1, 2000)]);
        ledger.pushed(key(2), []);
        let given_up = ledger.over(key(1), 1, at(NOW));
        assert_eq!(given_up, Some(Some(at(2000))));
        assert_eq!(ledger.over(key(1), 1, at(NOW)), None, "once");
        ledger.want(key(1), Some(at(2000)));
        ledger.want(key(2), Some(at(2000)));
        assert_eq!(tasks(&mut ledger), []);
        // It is remembered when all is compared anew, for as long as there is that ban.
        let mut given_up = GivenUp::from([(key(1), Some(at(2000))), (key(3), None)]);
        let mut ledger = Ledger::new([(key(1), Some(at(2000)))], [], &mut given_up);
        assert_eq!(given_up.len(), 1);
        assert_eq!(tasks(&mut ledger), []);
        ledger.want(key(1), Some(at(9000)));
        assert_eq!(tasks(&mut ledger), [task(1, true, &[])]);
        assert_eq!(ledger.active(), 0);
        ledger.pushed(key(1), [decision(2, 9000)]);
        assert_eq!(ledger.active(), 1);
        assert_eq!(ledger.over(key(1), 2, at(9000)), None, "it was over");
        assert_eq!(ledger.active(), 0);
    }

    #[test]
    fn of_many_sources_that_are_as_they_should_be_some_are_looked_at_in_one_go() {
        let source =
            |number: u32| PrefixKey::new(std::net::Ipv4Addr::from(number).into(), 32).unwrap();
        let count = 3 * u32::try_from(LOOKED_AT_ONCE).unwrap();
        let wanted = (0..count).map(|number| (source(number), None));
        let there = (1..count).map(|number| {
            let id = u64::from(number);
            (source(number), Pushed { id, end: None })
        });
        let mut ledger = Ledger::new(wanted, there, &mut GivenUp::new());
        assert_eq!(ledger.active(), 3 * LOOKED_AT_ONCE - 1);
        let first = tasks(&mut ledger);
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!(ledger.queued(), 2 * LOOKED_AT_ONCE, "and no more of them");
        assert_eq!((tasks(&mut ledger), tasks(&mut ledger)), (vec![], vec![]));
        assert_eq!(ledger.queued(), 0);
    }
}
