//! A node as it was heard of.

use std::{collections::BTreeMap, sync::Arc};

use super::Heard;
use super::{
    super::wire::{Kind, Presence, Said, Topic},
    budget::{self, Budget},
    caps::Refusal,
    deletions::{Deletions, REMEMBERED},
};

/// Nodes at most.
pub(super) const MAX_NODES: usize = 256;
/// A node that was not heard of for so long is gone, in milliseconds: it says thrice in that time that it
/// is there.
const GONE: u64 = 60_000;
/// How long a node that is gone is still told of, in milliseconds: long enough that somebody sees it.
pub(super) const TOLD_OF: u64 = 24 * 3_600_000;

/// What a node says of a prefix, as it counts here.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) seq: u64,
    /// When it ends here, in milliseconds since 1970.
    pub(super) until: u64,
    pub(super) said: Arc<Said>,
    /// Whether the bucket is known to have it.
    pub(super) kept: bool,
    /// When it was heard last.
    pub(super) heard: u64,
    /// The number of the snapshot that had it last.
    pub(super) snapshot: u64,
}

/// A node as it was heard of.
#[derive(Debug)]
pub struct Node {
    pub(super) name: Arc<str>,
    pub(super) claims: BTreeMap<Topic, Claim>,
    /// Prefixes that it bans.
    pub bans: usize,
    /// Prefixes that it allows.
    pub allowed: usize,
    /// What it may say, and what the bucket may say of it.
    live: Budget,
    pub(super) kept: Budget,
    pub(super) deletions: Deletions,
    /// Whether it has said too much at once since the last snapshot began.
    pub(super) was_too_fast: bool,
    /// Of which kinds it has said more since then than one node may.
    pub(super) crowded: Crowded,
    /// What it says of itself.
    pub presence: Option<Presence>,
    /// When it was heard of last, in milliseconds since 1970.
    pub seen: u64,
    /// By how much its clock is ahead of this host's, in milliseconds; what it takes to get here counts, too.
    pub ahead: Option<i64>,
}

impl Node {
    pub(super) fn new(name: Arc<str>, now: u64) -> Self {
        Self {
            name,
            claims: BTreeMap::new(),
            bans: 0,
            allowed: 0,
            live: Budget::new(budget::LIVE, now),
            kept: Budget::new(budget::KEPT, now),
            deletions: Deletions::default(),
            was_too_fast: false,
            crowded: Crowded::default(),
            presence: None,
            seen: 0,
            ahead: None,
        }
    }

    /// It, or the bucket of it, says something more.
    pub(super) fn speak(&mut self, heard: Heard, now: u64) -> Result<(), Refusal> {
        match heard {
            Heard::Kept(since) if self.kept.spend(now) => {
                self.seen = self.seen.max(since.min(now));
                Ok(())
            }
            // To read all of that again would not help.
            Heard::Kept(_) => Err(Refusal::TooFast),
            Heard::Live if self.live.spend(now) => {
                self.seen = now;
                Ok(())
            }
            Heard::Live => {
                self.was_too_fast = true;
                Err(Refusal::TooFast)
            }
        }
    }

    /// Whether it has said things too fast to be heard and is quieter now, so that the bucket can tell them.
    pub(super) fn is_to_be_heard_again(&mut self, now: u64) -> bool {
        self.was_too_fast && self.live.has_recovered(now)
    }

    /// Whether nothing was heard of it for longer than a node is silent.
    pub fn is_gone(&self, now: u64) -> bool {
        self.seen.saturating_add(GONE) <= now
    }

    /// Whether there is nothing to be told of it any more.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let told_of = if self.presence.is_some() {
            TOLD_OF
        } else {
            REMEMBERED
        };
        self.is_empty() && self.deletions.is_empty() && self.seen.saturating_add(told_of) <= now
    }

    /// Whether it can make room for a node that was heard of at `seen`.
    pub(super) fn yields_to(&self, seen: u64, now: u64) -> bool {
        let is_idle = self.presence.is_none() || self.is_gone(now);
        self.is_empty() && is_idle && self.seen < seen
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// Of which kinds there was more than there is room for.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    bans: bool,
    allowed: bool,
}

impl Crowded {
    pub(super) fn of(&mut self, kind: Kind) -> &mut bool {
        match kind {
            Kind::Ban => &mut self.bans,
            Kind::Allow => &mut self.allowed,
        }
    }
}
