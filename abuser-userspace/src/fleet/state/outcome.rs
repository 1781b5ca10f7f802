//! What follows from what nodes say: who is banned and allowed, and what of that has changed.

use std::sync::Arc;

use abuser_common::prefix::PrefixKey;

use super::{
    super::wire::{Kind, Said, Topic},
    State,
};

/// The node whose word counts for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Its name.
    pub node: Arc<str>,
    /// When it ends, in milliseconds since 1970.
    pub until: u64,
    /// What it says.
    pub said: Arc<Said>,
}

impl State {
    /// At most `count` of the prefixes that are banned otherwise than was told, with who bans them.
    pub fn take_changed(&mut self, count: usize) -> Vec<(PrefixKey, Option<Counts>)> {
        let mut changed = Vec::new();
        while changed.len() < count
            && let Some(source) = self.changed_bans.pop_first()
        {
            let topic = Topic {
                kind: Kind::Ban,
                source,
            };
            let counts = self.counts(&topic);
            if self.told.get(&source) == counts.as_ref() {
                continue;
            }
            match &counts {
                Some(counts) => self.told.insert(source, counts.clone()),
                None => self.told.remove(&source),
            };
            changed.push((source, counts));
        }
        changed
    }

    /// Whether prefixes may be banned otherwise than was told.
    pub fn has_changed(&self) -> bool {
        !self.changed_bans.is_empty()
    }

    /// All that are banned, with who bans them; nothing of that has changed then. Who is allowed is to be
    /// told as a whole, too.
    pub fn take_all(&mut self) -> Vec<(PrefixKey, Counts)> {
        self.changed_bans.clear();
        self.changed_allowed = true;
        let bans = self.speakers.keys().filter(|topic| topic.kind == Kind::Ban);
        let counts = bans.filter_map(|topic| Some((topic.source, self.counts(topic)?)));
        self.told = counts.collect();
        let told = self.told.iter();
        told.map(|(source, counts)| (*source, counts.clone()))
            .collect()
    }

    /// Whether others may be allowed than was told.
    pub fn has_changed_allowed(&self) -> bool {
        self.changed_allowed
    }

    /// All who are allowed; nothing of that has changed then.
    pub fn take_allowed(&mut self) -> Vec<(PrefixKey, Counts)> {
        self.changed_allowed = false;
        let allowed = self.allowed.iter().filter_map(|source| {
            let topic = Topic {
                kind: Kind::Allow,
                source: *source,
            };
            Some((*source, self.counts(&topic)?))
        });
        allowed.collect()
    }

    /// Prefixes that others ban.
    pub fn banned(&self) -> usize {
        self.bans
    }

    /// Prefixes that others allow.
    pub fn allowed(&self) -> usize {
        self.allowed.len()
    }

    /// What counts for a prefix: what lasts longest, and of that what the first node by name says.
    pub(super) fn counts(&self, topic: &Topic) -> Option<Counts> {
        let speakers = self.speakers.get(topic)?.iter();
        let claims =
            speakers.filter_map(|name| Some((name, self.nodes.get(name)?.claims.get(topic)?)));
        let (name, claim) = claims
            .max_by(|(a, one), (b, other)| one.until.cmp(&other.until).then_with(|| b.cmp(a)))?;
        Some(Counts {
            node: Arc::clone(name),
            until: claim.until,
            said: Arc::clone(&claim.said),
        })
    }
}
