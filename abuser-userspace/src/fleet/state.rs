//! Who says what: what was heard of other nodes, within the caps, and what follows from it.
//!
//! Pure: it is told the time. What a node says is heard twice, at once from itself and again from the
//! bucket that keeps it, in any order; the number of each value and deletion says which is the later. A
//! snapshot of the whole bucket puts right whatever was missed. So whatever was heard in between, and in
//! which order, the state ends as the bucket is.
//!
//! A deletion is remembered for a while, so that a value that comes after it and is older does not bring
//! back what is gone. What was heard from a node and is not in the bucket after a minute is forgotten: it
//! could not be kept, and no other node will hear of it.

mod budget;
mod caps;
mod claims;
mod deletions;
mod node;
mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use abuser_common::prefix::PrefixKey;

pub(super) use self::claims::MAX_NODE_ALLOWED;
use self::node::{Claim, Crowded, MAX_NODES};
pub use self::{
    caps::{Caps, Refusal},
    node::Node,
    outcome::Counts,
};
use super::wire::{Presence, Said, Topic, Written};

/// How long what the bucket does not have holds, in milliseconds.
const UNKEPT: u64 = 60_000;
/// How young it must be to stay when a snapshot does not have it, in milliseconds.
const YOUNG: u64 = 30_000;

/// From where something was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// From the node, as it said it.
    Live,
    /// From the bucket, which has it since then, in milliseconds since 1970.
    Kept(u64),
}

/// What did not count, and would if the bucket was read again.
#[derive(Debug, Default)]
struct Missed {
    /// Something is to be read: what is in its way is not there any more.
    is_due: bool,
    /// There was no room among all nodes' for more of these kinds,
    crowded: Crowded,
    /// or for more nodes.
    nodes: bool,
}

/// All that was heard of other nodes.
#[derive(Debug)]
pub struct State {
    caps: Caps,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Who says something of a prefix.
    speakers: HashMap<Topic, Vec<Arc<str>>>,
    allowed: BTreeSet<PrefixKey>,
    /// What ends, the first to end first.
    ends: BTreeSet<(u64, Topic, Arc<str>)>,
    /// What the bucket is not known to have, by when it was heard.
    unkept: BTreeSet<(u64, Topic, Arc<str>)>,
    bans: usize,
    /// The number of the snapshot that is read or was read last.
    snapshot: u64,
    /// Prefixes that may be banned otherwise than was told, and what was told.
    changed_bans: BTreeSet<PrefixKey>,
    told: HashMap<PrefixKey, Counts>,
    /// Whether others are allowed than was told.
    changed_allowed: bool,
    missed: Missed,
}

impl State {
    /// Nothing was heard yet.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            nodes: BTreeMap::new(),
            speakers: HashMap::new(),
            allowed: BTreeSet::new(),
            ends: BTreeSet::new(),
            unkept: BTreeSet::new(),
            bans: 0,
            snapshot: 0,
            changed_bans: BTreeSet::new(),
            told: HashMap::new(),
            changed_allowed: false,
            missed: Missed::default(),
        }
    }

    /// Begins to read the bucket from its beginning.
    pub fn begin_snapshot(&mut self) {
        self.snapshot += 1;
        self.missed = Missed::default();
        for node in self.nodes.values_mut() {
            node.kept.refill();
            node.was_too_fast = false;
            node.crowded = Crowded::default();
        }
    }

    /// Has read all of it: what it does not have is gone, but for what was said just now.
    pub fn end_snapshot(&mut self, now: u64) {
        let snapshot = self.snapshot;
        let is_gone = |claim: &Claim| {
            let young = !claim.kept && claim.heard + YOUNG > now;
            claim.snapshot != snapshot && !young
        };
        let gone: Vec<_> = self
            .nodes
            .values()
            .flat_map(|node| {
                let gone = node.claims.iter().filter(|(_, claim)| is_gone(claim));
                gone.map(|(topic, _)| (Arc::clone(&node.name), *topic))
            })
            .collect();
        // The bucket may have had something older in their place, which did not count then.
        self.missed.is_due |= !gone.is_empty();
        for (node, topic) in gone {
            self.forget(&node, &topic);
        }
    }

    /// A node, or the bucket of it, has something to say, if that is not too much; how it is called here.
    /// Nothing else is done for who says too much.
    pub fn listen(&mut self, node: &str, heard: Heard, now: u64) -> Result<Arc<str>, Refusal> {
        if let Some(known) = self.nodes.get_mut(node) {
            known.speak(heard, now)?;
            return Ok(Arc::clone(&known.name));
        }
        let seen = match heard {
            Heard::Live => now,
            Heard::Kept(since) => since.min(now),
        };
        if !self.has_room_for_node(seen, now) {
            self.missed.nodes = true;
            return Err(Refusal::TooMany);
        }
        let name: Arc<str> = node.into();
        let mut new = Node::new(Arc::clone(&name), now);
        new.speak(heard, now)?;
        self.nodes.insert(Arc::clone(&name), new);
        Ok(name)
    }

    /// Whether there is room for another node, of which was heard at `seen`; one that is gone and says
    /// nothing makes it.
    fn has_room_for_node(&mut self, seen: u64, now: u64) -> bool {
        if self.nodes.len() < MAX_NODES {
            return true;
        }
        let idle = self.nodes.values().filter(|node| node.yields_to(seen, now));
        let idle = idle.min_by_key(|node| (node.presence.is_some(), node.seen));
        let Some(name) = idle.map(|node| Arc::clone(&node.name)) else {
            return false;
        };
        self.nodes.remove(&name);
        true
    }

    /// A node says something of a prefix.
    pub fn put(
        &mut self,
        name: &Arc<str>,
        topic: Topic,
        written: &Written<Said>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        if heard == Heard::Live {
            self.note_clock(name, written.at, now);
        }
        if let Err(refusal) = self.caps.check(name, &topic) {
            // What it said before of the prefix does not hold any more.
            self.forget(name, &topic);
            return Err(refusal);
        }
        let snapshot = self.snapshot;
        let Some(node) = self.nodes.get_mut(name) else {
            return Err(Refusal::TooMany);
        };
        if node.deletions.covers(&topic, written.seq) {
            return Ok(());
        }
        if let Some(claim) = node.claims.get_mut(&topic)
            && claim.seq >= written.seq
        {
            let before = (claim.heard, topic, Arc::clone(name));
            claim.heard = now;
            if matches!(heard, Heard::Kept(_)) && claim.seq == written.seq {
                claim.kept = true;
                claim.snapshot = snapshot;
            }
            let kept = claim.kept;
            if self.unkept.remove(&before) && !kept {
                self.unkept.insert((now, topic, Arc::clone(name)));
            }
            return Ok(());
        }
        // What others say holds for so long after they said it, by a clock that they cannot set.
        let since = match heard {
            Heard::Live => now,
            Heard::Kept(since) => since.min(now),
        };
        let longest = since.saturating_add(self.caps.longest);
        let until = written.said.expires.map_or(longest, |end| end.min(longest));
        if until <= now {
            self.forget(name, &topic);
            return Ok(());
        }
        if self.says_the_same(name, &topic, written, until, heard, now) {
            return Ok(());
        }
        if !self.has_room(name, &topic) {
            return Err(Refusal::TooMany);
        }
        self.remove(name, &topic);
        let kept = matches!(heard, Heard::Kept(_));
        let claim = Claim {
            seq: written.seq,
            until,
            said: Arc::new(written.said.clone()),
            kept,
            heard: now,
            snapshot,
        };
        self.learn(Arc::clone(name), topic, claim);
        Ok(())
    }

    /// A node, or somebody who may write in its name, takes back what it said of a prefix; without a
    /// number, whatever that was.
    pub fn delete(&mut self, name: &Arc<str>, topic: Topic, seq: Option<u64>, now: u64) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let known = node.claims.get(&topic).map(|claim| claim.seq);
        let Some(seq) = seq.or(known) else {
            return;
        };
        node.deletions.remember(topic, seq, now);
        if known.is_some_and(|known| known <= seq) {
            self.forget(name, &topic);
        }
    }

    /// A node has written something that is no value: what it said before does not hold any more.
    pub fn spoil(&mut self, name: &Arc<str>, topic: &Topic, heard: Heard) {
        self.forget(name, topic);
        // The bucket may not have taken it.
        self.missed.is_due |= heard == Heard::Live;
    }

    /// A node says that it is there.
    pub fn greet(&mut self, name: &Arc<str>, written: Written<Presence>, heard: Heard, now: u64) {
        if heard == Heard::Live {
            self.note_clock(name, written.at, now);
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.presence = Some(written.said);
        }
    }

    /// A node is not to be told of any more unless it is heard of again; what it says goes with its keys.
    pub fn dismiss(&mut self, name: &Arc<str>) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.presence = None;
        }
    }

    /// Forgets what is over, what was never kept, and who is gone.
    pub fn pass_time(&mut self, now: u64) {
        while let Some((until, topic, name)) = self.ends.first().cloned() {
            if until > now {
                break;
            }
            self.forget(&name, &topic);
        }
        while let Some((heard, topic, name)) = self.unkept.first().cloned() {
            if heard + UNKEPT > now {
                break;
            }
            self.missed.is_due = true;
            self.forget(&name, &topic);
        }
        let before = self.nodes.len();
        self.nodes.retain(|_, node| {
            node.deletions.pass_time(now);
            !node.is_over(now)
        });
        self.missed.is_due |= self.missed.nodes && self.nodes.len() < before;
        let mut nodes = self.nodes.values_mut();
        self.missed.is_due |= nodes.any(|node| node.is_to_be_heard_again(now));
    }

    /// Whether something did not count for want of room or time that would now, or may be otherwise in the
    /// bucket: then it is to be read again.
    pub fn wants_snapshot(&self) -> bool {
        self.missed.is_due
    }

    /// The nodes that were heard of.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (&**name, node))
    }

    fn note_clock(&mut self, name: &str, at: u64, now: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            let ahead = i128::from(at) - i128::from(now);
            node.ahead = Some(i64::try_from(ahead).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests;
