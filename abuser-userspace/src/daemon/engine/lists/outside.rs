//! Lists that others keep elsewhere, and tell changes of: the decisions of `CrowdSec`, the bans of a fleet.
//!
//! Their bans outlive the daemon and the connection to whoever keeps them: until a list was heard of for the
//! first time, what is in force of it stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use abuser_common::{
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};

use super::{Listed, is_of_same_list};
use crate::{
    daemon::{
        apart::drop_apart,
        engine::{Changed, Engine, EngineError, books::Ending, clocks::after_sleep},
    },
    dataplane::kernel_now,
};

/// Sources that one [`Update::Change`] is to name at most: events and bans wait for no more.
pub const MAX_CHANGE: usize = 1024;
/// Entries that are over and are forgotten in one go.
const FORGOTTEN_AT_ONCE: usize = 1024;

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// The decisions of a local API of `CrowdSec`.
    Crowdsec,
    /// The bans of the other nodes of a fleet.
    Fleet,
}

impl Outside {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Crowdsec, Self::Fleet];

    /// What its bans have as their cause.
    pub const fn cause(self) -> BanCause {
        match self {
            Self::Crowdsec => BanCause::Crowdsec,
            Self::Fleet => BanCause::Fleet,
        }
    }

    /// The list whose bans have this cause.
    pub(super) fn of(cause: BanCause) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.cause() == cause)
    }
}

/// What a list says anew. The notes of whom it names have its [cause](Outside::cause).
#[derive(Debug)]
pub enum Update {
    /// It names these and nobody else; nobody at all if it is not followed any more.
    All(Entries),
    /// It names these, too, or otherwise than before, and does not name those any more; both at most
    /// [`MAX_CHANGE`]. Before the first [`Update::All`] it has no effect.
    Change {
        /// Whom it names.
        named: Vec<Listed>,
        /// Whom it does not name any more.
        dropped: Vec<PrefixKey>,
    },
}

/// All whom a list names. To put a million in order takes a second, and so is to be done
/// [apart](crate::daemon::apart) from the engine.
#[derive(Debug, Default)]
pub struct Entries {
    by_source: BTreeMap<PrefixKey, Listed>,
    /// Those that end, the first to end first.
    ends: BTreeSet<Ending>,
}

impl FromIterator<Listed> for Entries {
    /// Of several about one source, the last counts.
    fn from_iter<I: IntoIterator<Item = Listed>>(listed: I) -> Self {
        let listed = listed.into_iter().map(|listed| (listed.source, listed));
        let by_source: BTreeMap<_, _> = listed.collect();
        let ends = by_source
            .values()
            .filter(|listed| listed.expires_ns != 0)
            .map(|listed| (listed.expires_ns, listed.source));
        Self {
            ends: ends.collect(),
            by_source,
        }
    }
}

impl Entries {
    fn put(&mut self, listed: Listed) {
        let source = listed.source;
        self.remove(&source);
        if listed.expires_ns != 0 {
            self.ends.insert((listed.expires_ns, source));
        }
        self.by_source.insert(source, listed);
    }

    fn remove(&mut self, key: &PrefixKey) {
        if let Some(removed) = self.by_source.remove(key) {
            self.ends.remove(&(removed.expires_ns, *key));
        }
    }

    /// Has all that end do so this much earlier.
    fn after_sleep(&mut self, slept_ns: u64) {
        self.ends.clear();
        for (source, listed) in &mut self.by_source {
            listed.expires_ns = after_sleep(listed.expires_ns, slept_ns);
            if listed.expires_ns != 0 {
                self.ends.insert((listed.expires_ns, *source));
            }
        }
    }

    /// Forgets some of those that are over at `now_ns`.
    fn forget_over(&mut self, now_ns: u64) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((expires_ns, source)) = self.ends.first().copied() else {
                return;
            };
            if !Ban::expired(expires_ns, now_ns) {
                return;
            }
            self.remove(&source);
        }
    }
}

/// A list as it stands; `None` if it was not heard of yet.
#[derive(Debug, Default)]
pub(super) struct OutsideList(Option<Entries>);

impl OutsideList {
    pub(super) fn is_read(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self(entries) = self;
        entries
            .as_ref()
            .is_none_or(|entries| entries.by_source.is_empty())
    }

    pub(super) fn get(&self, key: &PrefixKey) -> Option<&Listed> {
        self.0.as_ref()?.by_source.get(key)
    }

    pub(super) fn after_sleep(&mut self, slept_ns: u64) {
        if let Self(Some(entries)) = self {
            entries.after_sleep(slept_ns);
        }
    }

    /// At most `count` of whom it names, from after `after` on.
    pub(super) fn page(&self, after: Option<PrefixKey>, count: usize) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.0.iter();
        let page = entries.flat_map(|entries| entries.by_source.range((from, Bound::Unbounded)));
        page.take(count).map(|(_, listed)| listed.clone()).collect()
    }
}

impl Engine {
    /// Takes note of what an outside list says, and acts on it: on a change at once, on all of it step by
    /// step.
    pub(in crate::daemon::engine) fn follow_outside(&mut self, list: Outside, update: Update) {
        let OutsideList(followed) = &mut self.lists.outside[list as usize];
        let (named, dropped, followed) = match (update, followed) {
            (Update::All(entries), followed) => {
                drop_apart(followed.replace(entries));
                self.lists.begin();
                return;
            }
            (Update::Change { .. }, None) => return,
            (Update::Change { named, dropped }, Some(followed)) => (named, dropped, followed),
        };
        for key in &dropped {
            followed.remove(key);
        }
        for listed in &named {
            followed.put(listed.clone());
        }
        self.lists.renewed = None;
        match self.change_listed(list, &named, &dropped) {
            Ok(Changed { changes, .. }) => self.keep(changes),
            Err(error) => {
                tracing::error!(%error, list = list.cause().name(), "cannot ban whom a list names");
                self.lists.fail(error.to_string());
            }
        }
    }

    fn change_listed(
        &mut self,
        list: Outside,
        named: &[Listed],
        dropped: &[PrefixKey],
    ) -> Result<Changed<()>, EngineError> {
        let mut changes = self.ban_listed(named)?.changes;
        let own = dropped.iter().filter(|key| {
            let there = self.bans.get(key);
            there.is_some_and(|record| record.note.cause == list.cause())
        });
        let own: Vec<_> = own
            // What was dropped and is named again has been dealt with.
            .filter(|key| {
                let named = self.lists.get(key);
                let note = self.bans.get(key).map(|record| &record.note);
                named
                    .zip(note)
                    .is_none_or(|(named, note)| !is_of_same_list(&named.note, note))
            })
            .copied()
            .collect();
        changes.extend(self.hand_over(&own)?.changes);
        Ok(Changed { value: (), changes })
    }

    /// Forgets entries of outside lists that are over.
    pub(in crate::daemon::engine) fn forget_listed(&mut self) {
        let now = kernel_now().0;
        for OutsideList(entries) in &mut self.lists.outside {
            if let Some(entries) = entries {
                entries.forget_over(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::rows::BanNote;

    fn key(number: u8) -> PrefixKey {
        PrefixKey::new([203, 0, 113, number].into(), 32).unwrap()
    }

    fn listed(number: u8, expires_ns: u64) -> Listed {
        Listed {
            source: key(number),
            expires_ns,
            note: Arc::new(BanNote {
                cause: BanCause::Fleet,
                subject: Some("a".to_owned()),
                policy: None,
                reason: None,
                by: None,
            }),
        }
    }

    #[test]
    fn entries_end_once_whatever_became_of_them_before() {
        let unheard = OutsideList::default();
        assert!(!unheard.is_read() && unheard.is_empty());
        let mut list: Entries = [listed(1, 10), listed(2, 0), listed(3, 20)]
            .into_iter()
            .collect();
        list.put(listed(1, 30));
        list.remove(&key(3));
        list.put(listed(4, 5));
        list.forget_over(29);
        let left = |list: &Entries| list.by_source.keys().copied().collect::<Vec<_>>();
        assert_eq!(left(&list), [key(1), key(2)]);
        assert_eq!(list.ends.len(), 1, "no end is left of what has gone");
        list.forget_over(30);
        assert_eq!(left(&list), [key(2)]);
        let nobody = OutsideList(Some(Entries::default()));
        assert!(nobody.is_read() && nobody.is_empty());
    }

    #[test]
    fn of_several_entries_about_one_source_the_last_counts_and_ends_once() {
        let mut list: Entries = [listed(1, 10), listed(1, 30)].into_iter().collect();
        list.forget_over(10);
        assert_eq!(list.by_source[&key(1)].expires_ns, 30);
        list.forget_over(30);
        assert!(list.by_source.is_empty() && list.ends.is_empty());
    }

    #[test]
    fn pages_show_each_entry_once() {
        let entries = (1..=5).map(|number| listed(number, 0));
        let list = OutsideList(Some(entries.collect()));
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = list.page(after, 2);
            let Some(reached) = page.last() else { break };
            after = Some(reached.source);
            seen.extend(page.iter().map(|listed| listed.source));
        }
        assert_eq!(seen, [1, 2, 3, 4, 5].map(key));
    }
}
