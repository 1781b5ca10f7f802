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
    daemon::engine::{Changed, Engine, EngineError, books::Ending},
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
    All(Vec<Listed>),
    /// It names these, too, or otherwise than before, and does not name those any more; both at most
    /// [`MAX_CHANGE`]. Before the first [`Update::All`] it has no effect.
    Change {
        /// Whom it names.
        named: Vec<Listed>,
        /// Whom it does not name any more.
        dropped: Vec<PrefixKey>,
    },
}

/// A list as it stands.
#[derive(Debug, Default)]
pub(super) struct OutsideList {
    /// Whom it names; `None` if it was not heard of yet.
    entries: Option<BTreeMap<PrefixKey, Listed>>,
    /// Those that end, the first to end first.
    ends: BTreeSet<Ending>,
}

impl OutsideList {
    pub(super) fn is_read(&self) -> bool {
        self.entries.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.as_ref().is_none_or(BTreeMap::is_empty)
    }

    pub(super) fn get(&self, key: &PrefixKey) -> Option<&Listed> {
        self.entries.as_ref()?.get(key)
    }

    /// At most `count` of whom it names, from after `after` on.
    pub(super) fn page(&self, after: Option<PrefixKey>, count: usize) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.iter();
        let page = entries.flat_map(|entries| entries.range((from, Bound::Unbounded)));
        page.take(count).map(|(_, listed)| listed.clone()).collect()
    }

    fn set(&mut self, entries: Vec<Listed>) {
        self.entries = Some(BTreeMap::new());
        self.ends.clear();
        for listed in entries {
            self.put(listed);
        }
    }

    fn put(&mut self, listed: Listed) {
        let source = listed.source;
        self.remove(&source);
        if let Some(entries) = &mut self.entries {
            if listed.expires_ns != 0 {
                self.ends.insert((listed.expires_ns, source));
            }
            entries.insert(source, listed);
        }
    }

    fn remove(&mut self, key: &PrefixKey) {
        let removed = self
            .entries
            .as_mut()
            .and_then(|entries| entries.remove(key));
        if let Some(removed) = removed {
            self.ends.remove(&(removed.expires_ns, *key));
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

impl Engine {
    /// Takes note of what an outside list says, and acts on it: on a change at once, on all of it step by
    /// step.
    pub(in crate::daemon::engine) fn follow_outside(&mut self, list: Outside, update: Update) {
        let followed = &mut self.lists.outside[list as usize];
        let (named, dropped) = match update {
            Update::All(entries) => {
                followed.set(entries);
                self.lists.begin();
                return;
            }
            Update::Change { .. } if !followed.is_read() => return,
            Update::Change { named, dropped } => (named, dropped),
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
        for list in &mut self.lists.outside {
            list.forget_over(now);
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

    fn sources(list: &OutsideList) -> Vec<PrefixKey> {
        let page = list.page(None, 100);
        page.iter().map(|listed| listed.source).collect()
    }

    #[test]
    fn entries_end_once_whatever_became_of_them_before() {
        let mut list = OutsideList::default();
        list.put(listed(9, 1));
        assert!(!list.is_read() && list.is_empty(), "it was not heard of");
        list.set(vec![listed(1, 10), listed(2, 0), listed(3, 20)]);
        list.put(listed(1, 30));
        list.remove(&key(3));
        list.put(listed(4, 5));
        list.forget_over(29);
        assert_eq!(sources(&list), [key(1), key(2)]);
        assert_eq!(list.ends.len(), 1, "no end is left of what has gone");
        list.forget_over(30);
        assert_eq!(sources(&list), [key(2)]);
        list.set(Vec::new());
        assert!(list.is_read() && list.is_empty());
    }

    #[test]
    fn pages_show_each_entry_once() {
        let mut list = OutsideList::default();
        list.set((1..=5).map(|number| listed(number, 0)).collect());
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
