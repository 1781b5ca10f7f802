//! Whom all decisions together ban: pure.
//!
//! One source may be in several decisions, and is banned for as long as the one that lasts longest. An
//! end of one of them ends the ban only if that was the last; so they are kept each for itself, by the
//! numbers that the local API gives them. What this daemon has pushed itself comes back as well, and
//! bans nobody a second time: it is not kept.
//!
//! There may be millions, so whatever looks at all of them is for a thread of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use abuser_common::prefix::{Family, PrefixKey};

use crate::{daemon::engine::lists::Listed, policy::ends::outlasts, store::rows::BanNote};

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its number.
    pub id: u64,
    /// Whom it bans.
    pub source: PrefixKey,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    pub expires_ns: u64,
    /// Its origin, and why it was made.
    pub note: Arc<BanNote>,
}

/// Which decision, if it is no more.
pub type DecisionKey = (PrefixKey, u64);

/// How many sources are banned, by the origin and whether they are `ipv4` or `ipv6`.
pub(super) type Active = BTreeMap<(String, &'static str), u64>;

/// All decisions of a local API.
#[derive(Debug, Default)]
pub struct Decisions {
    /// Without own ones.
    terms: BTreeMap<DecisionKey, Term>,
    /// Those that this daemon has pushed.
    own: HashSet<DecisionKey>,
}

#[derive(Debug)]
struct Term {
    expires_ns: u64,
    note: Arc<BanNote>,
}

/// What is to be told of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who is banned now, or otherwise than before.
    pub named: Vec<Listed>,
    /// Who is not any more.
    pub dropped: Vec<PrefixKey>,
}

impl Decisions {
    /// How many there are, without own ones.
    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Takes these for all that there are.
    pub fn replace(&mut self, decisions: Vec<Decision>) {
        let terms = decisions.into_iter().map(Term::of);
        self.terms = terms.filter(|(key, _)| !self.own.contains(key)).collect();
    }

    /// Whom they ban.
    pub fn all(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        for ((source, _), term) in &self.terms {
            match all.last_mut().filter(|last| last.source == *source) {
                Some(last) if outlasts(term.expires_ns, last.expires_ns) => {
                    *last = term.listed(*source);
                }
                Some(_) => {}
                None => all.push(term.listed(*source)),
            }
        }
        all
    }

    /// How many sources they ban, by origin and whether that is `ipv4` or `ipv6`.
    pub(super) fn active(&self) -> Active {
        let mut active = Active::new();
        for listed in self.all() {
            let family = if listed.source.family() == Some(Family::V4) {
                "ipv4"
            } else {
                "ipv6"
            };
            let origin = listed.note.subject.clone().unwrap_or_default();
            *active.entry((origin, family)).or_default() += 1;
        }
        active
    }

    /// Takes note of new ones and of those that are no more; one that is both is no more.
    pub fn change(&mut self, new: Vec<Decision>, over: &[DecisionKey]) -> Changes {
        let touched = new.iter().map(|decision| decision.source);
        let touched = touched.chain(over.iter().map(|(source, _)| *source));
        self.changes(touched.collect(), |this| {
            let new = new.into_iter().map(Term::of);
            let new = new.filter(|(key, _)| !this.own.contains(key));
            this.terms.extend(new);
            for key in over {
                this.terms.remove(key);
            }
        })
    }

    /// Takes note of which this daemon has pushed: all of them.
    pub fn set_own(&mut self, own: HashSet<DecisionKey>) -> Changes {
        let new: Vec<_> = own.difference(&self.own).copied().collect();
        let changes = self.add_own(&new);
        self.own = own;
        changes
    }

    /// Takes note that this daemon has pushed these as well.
    pub fn add_own(&mut self, own: &[DecisionKey]) -> Changes {
        let touched = own.iter().map(|(source, _)| *source).collect();
        self.changes(touched, |this| {
            for key in own {
                this.terms.remove(key);
            }
            this.own.extend(own);
        })
    }

    /// Whether this daemon has pushed it.
    pub(super) fn is_own(&self, key: &DecisionKey) -> bool {
        self.own.contains(key)
    }

    /// What `change` changes for these.
    fn changes(&mut self, touched: BTreeSet<PrefixKey>, change: impl FnOnce(&mut Self)) -> Changes {
        let touched = touched.into_iter();
        let before: Vec<_> = touched
            .map(|source| (source, self.verdict(source)))
            .collect();
        change(self);
        let mut changes = Changes::default();
        for (source, before) in before {
            let now = self.verdict(source);
            match (before, now) {
                (before, Some(now)) if before.as_ref() != Some(&now) => changes.named.push(now),
                (Some(_), None) => changes.dropped.push(source),
                _ => {}
            }
        }
        changes
    }

    /// Until when and why a source is banned.
    fn verdict(&self, source: PrefixKey) -> Option<Listed> {
        let terms = self.terms.range((source, 0)..=(source, u64::MAX));
        // Of several that last as long, the first counts, so that nothing changes for nothing.
        let longest = terms.reduce(|longest, other| {
            let is_longer = outlasts(other.1.expires_ns, longest.1.expires_ns);
            if is_longer { other } else { longest }
        });
        longest.map(|(_, term)| term.listed(source))
    }
}

impl Term {
    fn of(decision: Decision) -> (DecisionKey, Self) {
        let Decision {
            id,
            source,
            expires_ns,
            note,
        } = decision;
        ((source, id), Self { expires_ns, note })
    }

    fn listed(&self, source: PrefixKey) -> Listed {
        Listed {
            source,
            expires_ns: self.expires_ns,
            note: Arc::clone(&self.note),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use abuser_common::layout::BanCause;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn decision(id: u64, number: u8, expires_ns: u64) -> Decision {
        Decision {
            id,
            source: key(number),
            expires_ns,
            note: Arc::new(BanNote {
                cause: BanCause::Crowdsec,
                subject: Some("cscli".to_owned()),
                policy: None,
                reason: Some(format!("decision {id}")),
                by: None,
            }),
        }
    }

    fn ends(listed: &[Listed]) -> Vec<(PrefixKey, u64)> {
        let ends = listed
            .iter()
            .map(|listed| (listed.source, listed.expires_ns));
        ends.collect()
    }

    #[test]
    fn of_several_decisions_the_longest_counts_and_the_end_of_one_leaves_the_others() {
        let mut decisions = Decisions::default();
        decisions.replace(vec![
            decision(1, 9, 100),
            decision(2, 9, 300),
            decision(3, 9, 200),
        ]);
        assert_eq!(ends(&decisions.all()), [(key(9), 300)]);
        let none = Changes::default();
        assert_eq!(decisions.change(Vec::new(), &[(key(9), 1)]), none);
        let shorter = decisions.change(Vec::new(), &[(key(9), 2)]);
        assert_eq!(
            (ends(&shorter.named), shorter.dropped),
            (vec![(key(9), 200)], vec![])
        );
        assert_eq!(
            decisions.change(Vec::new(), &[(key(9), 2), (key(8), 3)]),
            none
        );
        let over = decisions.change(Vec::new(), &[(key(9), 3)]);
        assert_eq!((over.named, over.dropped), (vec![], vec![key(9)]));
        // For good is longest of all.
        let named = decisions.change(vec![decision(4, 9, 0), decision(5, 9, u64::MAX)], &[]);
        assert_eq!(ends(&named.named), [(key(9), 0)]);
    }

    #[test]
    fn what_was_pushed_bans_nobody_when_it_comes_back() {
        let mut decisions = Decisions::default();
        decisions.replace(vec![
            decision(1, 1, 100),
            decision(2, 2, 100),
            decision(3, 2, 50),
        ]);
        let changes = decisions.set_own([(key(1), 1), (key(2), 2)].into());
        assert_eq!(changes.dropped, [key(1)]);
        assert_eq!(ends(&changes.named), [(key(2), 50)]);
        assert_eq!(decisions.len(), 1);
        assert_eq!(
            decisions.change(vec![decision(1, 1, 100)], &[]),
            Changes::default()
        );
        // It was heard of before it was known to be ours.
        let early = decisions.change(vec![decision(4, 4, 10)], &[]);
        assert_eq!(ends(&early.named), [(key(4), 10)]);
        assert_eq!(decisions.add_own(&[(key(4), 4)]).dropped, [key(4)]);
        assert_eq!(decisions.add_own(&[(key(5), 5)]), Changes::default());
        assert_eq!(
            decisions.change(vec![decision(5, 5, 10)], &[]),
            Changes::default()
        );
    }

    proptest! {
        /// Whoever follows the changes has what whoever asks for all has.
        #[test]
        fn changes_add_up_to_what_there_is(
            steps in proptest::collection::vec(
                (
                    proptest::collection::vec((0_u64..12, 0_u8..4, 0_u64..5), 0..5),
                    proptest::collection::vec((0_u8..4, 0_u64..12), 0..5),
                    proptest::collection::hash_set((0_u8..4, 0_u64..12), 0..4),
                    0_u8..4,
                ),
                0..20,
            )
        ) {
            let mut decisions = Decisions::default();
            let mut told: BTreeMap<PrefixKey, Listed> = BTreeMap::new();
            for (new, over, own, what) in steps {
                let changes = match what {
                    0 | 1 => {
                        let own = own.into_iter().map(|(number, id)| (key(number), id * 4 + u64::from(number)));
                        if what == 0 {
                            decisions.set_own(own.collect())
                        } else {
                            decisions.add_own(&own.collect::<Vec<_>>())
                        }
                    }
                    _ => {
                        let new = new.into_iter().map(|(id, number, end)| decision(id * 4 + u64::from(number), number, end));
                        let over: Vec<_> = over.iter().map(|(number, id)| (key(*number), id * 4 + u64::from(*number))).collect();
                        decisions.change(new.collect(), &over)
                    }
                };
                for key in &changes.dropped {
                    prop_assert!(told.remove(key).is_some(), "dropped and never named");
                }
                for listed in changes.named {
                    prop_assert!(told.insert(listed.source, listed.clone()) != Some(listed));
                }
                let all = decisions.all();
                prop_assert_eq!(told.values().cloned().collect::<Vec<_>>(), all);
            }
        }
    }
}
