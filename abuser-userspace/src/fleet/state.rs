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

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use abuser_common::{
    layout::{MAX_ALLOWED, MAX_BANS},
    prefix::PrefixKey,
};

use super::wire::{Kind, Presence, Said, Topic, Written, span};
use crate::config::FleetConfig;

/// Bans of one node at most.
const MAX_NODE_BANS: usize = 100_000;
/// Bans of all nodes at most: the rest of the table is for this host's own.
const MAX_ALL_BANS: usize = MAX_BANS as usize / 2;
/// Allow entries of one node at most.
pub(super) const MAX_NODE_ALLOWED: usize = 1024;
/// Allow entries of all nodes at most.
const MAX_ALL_ALLOWED: usize = MAX_ALLOWED as usize / 4;
/// Nodes at most.
const MAX_NODES: usize = 256;
/// How long a deletion is remembered, in milliseconds: what is older than it comes within seconds.
const REMEMBERED: u64 = 60_000;
/// Deletions that are remembered at most.
const MAX_REMEMBERED: usize = 200_000;
/// How long what the bucket does not have holds, in milliseconds.
const UNKEPT: u64 = 60_000;
/// How young it must be to stay when a snapshot does not have it, in milliseconds.
const YOUNG: u64 = 30_000;
/// Values and deletions of one node that are looked at in a second; a tenth of a second of a flood is
/// more than a busy node has to say.
const RATE: u64 = 5_000;
/// And at once.
const BURST: u64 = 20_000;

/// Why something that was heard does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// It is no key or no value that this version knows.
    Unknown,
    /// The configuration says not to listen to the node, or to no allow entries.
    Ignored,
    /// The prefix is too wide.
    Wide,
    /// The node, or all of them, have said too much.
    TooMany,
    /// The node says too much at once.
    TooFast,
}

impl Refusal {
    pub(super) const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Ignored,
        Self::Wide,
        Self::TooMany,
        Self::TooFast,
    ];

    /// As in the API.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
            Self::Wide => "wide",
            Self::TooMany => "too_many",
            Self::TooFast => "too_fast",
        }
    }
}

/// From where something was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// From the node, as it said it.
    Live,
    /// From the bucket, which has it since then, in milliseconds since 1970.
    Kept(u64),
}

/// Whom to believe and how far.
#[derive(Clone, Debug)]
pub(super) struct Caps {
    config: FleetConfig,
    /// The longest that something holds after it was said, in milliseconds.
    longest: u64,
}

impl Caps {
    pub(super) fn new(config: &FleetConfig) -> Self {
        Self {
            config: config.clone(),
            longest: span(config.max_bantime),
        }
    }

    fn check(&self, node: &str, topic: &Topic) -> Result<(), Refusal> {
        let unwanted = topic.kind == Kind::Allow && !self.config.accept_allow;
        if !self.config.accepts(node) || unwanted {
            return Err(Refusal::Ignored);
        }
        let widest = match topic.source.address() {
            Some(address) if address.is_ipv4() => self.config.widest_ipv4,
            _ => self.config.widest_ipv6,
        };
        if topic.source.length < u32::from(widest) {
            return Err(Refusal::Wide);
        }
        Ok(())
    }
}

/// What a node says of a prefix, as it counts here.
#[derive(Clone, Debug)]
struct Claim {
    seq: u64,
    /// When it ends here, in milliseconds since 1970.
    until: u64,
    said: Arc<Said>,
    /// Whether the bucket is known to have it.
    kept: bool,
    /// When it was heard last.
    heard: u64,
    /// The number of the snapshot that had it last.
    snapshot: u64,
}

/// How often a node may speak.
#[derive(Debug)]
struct Budget {
    left: u64,
    since: u64,
}

impl Budget {
    fn spend(&mut self, now: u64) -> bool {
        let earned = now.saturating_sub(self.since).saturating_mul(RATE) / 1000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// A node as it was heard of.
#[derive(Debug)]
pub(super) struct Node {
    name: Arc<str>,
    claims: BTreeMap<Topic, Claim>,
    pub(super) bans: usize,
    pub(super) allowed: usize,
    budget: Budget,
    pub(super) presence: Option<Presence>,
    /// When it was heard of last, in milliseconds since 1970.
    pub(super) seen: u64,
    /// By how much its clock is ahead of this host's, in milliseconds; what it takes to get here counts, too.
    pub(super) ahead: Option<i64>,
}

/// The node whose word counts for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) node: Arc<str>,
    /// When it ends, in milliseconds since 1970.
    pub(super) until: u64,
    pub(super) said: Arc<Said>,
}

/// All that was heard of other nodes.
#[derive(Debug)]
pub(super) struct State {
    caps: Caps,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Who says something of a prefix.
    speakers: HashMap<Topic, Vec<Arc<str>>>,
    allowed: BTreeSet<PrefixKey>,
    /// What ends, the first to end first.
    ends: BTreeSet<(u64, Topic, Arc<str>)>,
    /// Deletions: their numbers, and until when they are remembered; then those ends in their order.
    deleted: HashMap<(Topic, Arc<str>), (u64, u64)>,
    forgotten: VecDeque<(u64, Topic, Arc<str>)>,
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
    /// Whether something did not count that would now if it were said again.
    missed: bool,
}

impl State {
    pub(super) fn new(caps: Caps) -> Self {
        Self {
            caps,
            nodes: BTreeMap::new(),
            speakers: HashMap::new(),
            allowed: BTreeSet::new(),
            ends: BTreeSet::new(),
            deleted: HashMap::new(),
            forgotten: VecDeque::new(),
            unkept: BTreeSet::new(),
            bans: 0,
            snapshot: 0,
            changed_bans: BTreeSet::new(),
            told: HashMap::new(),
            changed_allowed: false,
            missed: false,
        }
    }

    /// Begins to read the bucket from its beginning.
    pub(super) fn begin_snapshot(&mut self) {
        self.snapshot += 1;
        self.missed = false;
    }

    /// Has read all of it: what it does not have is gone, but for what was said just now.
    pub(super) fn end_snapshot(&mut self, now: u64) {
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
        self.missed |= !gone.is_empty();
        for (node, topic) in gone {
            self.forget(&node, &topic);
        }
    }

    /// A node says something of a prefix.
    pub(super) fn put(
        &mut self,
        node: &str,
        topic: Topic,
        written: &Written<Said>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.speak(node, heard, now)?;
        if heard == Heard::Live {
            self.note_clock(&name, written.at, now);
        }
        if let Err(refusal) = self.caps.check(node, &topic) {
            // What it said before of the prefix does not hold any more.
            self.forget(&name, &topic);
            return Err(refusal);
        }
        let removed = self.deleted.get(&(topic, Arc::clone(&name)));
        if removed.is_some_and(|(deleted, _)| *deleted >= written.seq) {
            return Ok(());
        }
        let snapshot = self.snapshot;
        let known = self
            .nodes
            .get_mut(&name)
            .and_then(|node| node.claims.get_mut(&topic));
        if let Some(claim) = known
            && claim.seq >= written.seq
        {
            let before = (claim.heard, topic, Arc::clone(&name));
            claim.heard = now;
            if matches!(heard, Heard::Kept(_)) && claim.seq == written.seq {
                claim.kept = true;
                claim.snapshot = snapshot;
            }
            let kept = claim.kept;
            if self.unkept.remove(&before) && !kept {
                self.unkept.insert((now, topic, name));
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
            self.forget(&name, &topic);
            return Ok(());
        }
        if self.says_the_same(&name, &topic, written, until, heard, now) {
            return Ok(());
        }
        if !self.has_room(&name, &topic) {
            self.missed = true;
            return Err(Refusal::TooMany);
        }
        self.forget(&name, &topic);
        let kept = matches!(heard, Heard::Kept(_));
        let claim = Claim {
            seq: written.seq,
            until,
            said: Arc::new(written.said.clone()),
            kept,
            heard: now,
            snapshot,
        };
        self.learn(name, topic, claim);
        Ok(())
    }

    /// A node, or somebody who may write in its name, takes back what it said of a prefix; without a
    /// number, whatever that was.
    pub(super) fn delete(
        &mut self,
        node: &str,
        topic: Topic,
        seq: Option<u64>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.speak(node, heard, now)?;
        let known = self
            .nodes
            .get(&name)
            .and_then(|node| node.claims.get(&topic));
        let known = known.map(|claim| claim.seq);
        let Some(seq) = seq.or(known) else {
            return Ok(());
        };
        if known.is_none_or(|known| known <= seq) {
            self.forget(&name, &topic);
        }
        if self.deleted.len() < MAX_REMEMBERED {
            let end = now + REMEMBERED;
            let latest = self.deleted.entry((topic, Arc::clone(&name))).or_default();
            *latest = (seq.max(latest.0), end);
            self.forgotten.push_back((end, topic, name));
        }
        Ok(())
    }

    /// A node has written something that is no value: what it said before does not hold any more.
    pub(super) fn spoil(&mut self, node: &str, topic: Topic, heard: Heard, now: u64) -> Refusal {
        match self.speak(node, heard, now) {
            Ok(name) => {
                self.forget(&name, &topic);
                // The bucket may not have taken it.
                self.missed |= heard == Heard::Live;
                Refusal::Unknown
            }
            Err(refusal) => refusal,
        }
    }

    /// A node says that it is there.
    pub(super) fn greet(
        &mut self,
        node: &str,
        written: Written<Presence>,
        heard: Heard,
        now: u64,
    ) -> Result<(), Refusal> {
        let name = self.speak(node, heard, now)?;
        if heard == Heard::Live {
            self.note_clock(&name, written.at, now);
        }
        if let Some(node) = self.nodes.get_mut(&name) {
            node.presence = Some(written.said);
        }
        Ok(())
    }

    /// A node is not to be told of any more unless it is heard of again; what it says goes with its keys.
    pub(super) fn dismiss(&mut self, node: &str) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.presence = None;
        }
    }

    /// Forgets what is over, and what was never kept.
    pub(super) fn pass_time(&mut self, now: u64) {
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
            self.missed = true;
            self.forget(&name, &topic);
        }
        while let Some((end, topic, name)) = self.forgotten.front().cloned() {
            if end > now {
                break;
            }
            self.forgotten.pop_front();
            // A later deletion is further behind.
            let key = (topic, name);
            if self.deleted.get(&key).is_some_and(|(_, last)| *last <= now) {
                self.deleted.remove(&key);
            }
        }
        self.nodes.retain(|_, node| {
            node.presence.is_some() || !node.claims.is_empty() || node.seen + REMEMBERED > now
        });
    }

    /// Whether something did not count for want of room or time that would now: then the bucket is to
    /// be read again.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.missed && self.bans < MAX_ALL_BANS
    }

    /// At most `count` of the prefixes that are banned otherwise than was told, with who bans them.
    pub(super) fn take_changed(&mut self, count: usize) -> Vec<(PrefixKey, Option<Counts>)> {
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

    pub(super) fn has_changed(&self) -> bool {
        !self.changed_bans.is_empty()
    }

    /// All that are banned, with who bans them; nothing of that has changed then. Who is allowed is to be
    /// told as a whole, too.
    pub(super) fn take_all(&mut self) -> Vec<(PrefixKey, Counts)> {
        self.changed_bans.clear();
        self.changed_allowed = true;
        let bans = self.speakers.keys().filter(|topic| topic.kind == Kind::Ban);
        let counts = bans.filter_map(|topic| Some((topic.source, self.counts(topic)?)));
        self.told = counts.collect();
        let told = self.told.iter();
        told.map(|(source, counts)| (*source, counts.clone()))
            .collect()
    }

    /// All who are allowed, if they are others than was told.
    pub(super) fn take_allowed(&mut self) -> Option<Vec<(PrefixKey, Counts)>> {
        std::mem::take(&mut self.changed_allowed).then(|| {
            let allowed = self.allowed.iter().filter_map(|source| {
                let topic = Topic {
                    kind: Kind::Allow,
                    source: *source,
                };
                Some((*source, self.counts(&topic)?))
            });
            allowed.collect()
        })
    }

    /// Prefixes that others ban.
    pub(super) fn banned(&self) -> usize {
        self.bans
    }

    /// Prefixes that others allow.
    pub(super) fn allowed(&self) -> usize {
        self.allowed.len()
    }

    /// The nodes that were heard of.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (&**name, node))
    }

    /// What counts for a prefix: what lasts longest, and of that what the first node by name says.
    fn counts(&self, topic: &Topic) -> Option<Counts> {
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

    /// The node, which may be new, if it is not to be silent.
    fn speak(&mut self, node: &str, heard: Heard, now: u64) -> Result<Arc<str>, Refusal> {
        if !self.nodes.contains_key(node) {
            if self.nodes.len() >= MAX_NODES {
                return Err(Refusal::TooMany);
            }
            let name: Arc<str> = node.into();
            let new = Node {
                name: Arc::clone(&name),
                claims: BTreeMap::new(),
                bans: 0,
                allowed: 0,
                budget: Budget {
                    left: BURST,
                    since: now,
                },
                presence: None,
                seen: 0,
                ahead: None,
            };
            self.nodes.insert(name, new);
        }
        let Some(node) = self.nodes.get_mut(node) else {
            return Err(Refusal::TooMany);
        };
        match heard {
            Heard::Kept(since) => node.seen = node.seen.max(since.min(now)),
            Heard::Live if node.budget.spend(now) => node.seen = now,
            Heard::Live => {
                self.missed = true;
                return Err(Refusal::TooFast);
            }
        }
        Ok(Arc::clone(&node.name))
    }

    /// Whether a node has said again what it had said, under another number.
    fn says_the_same(
        &mut self,
        name: &Arc<str>,
        topic: &Topic,
        written: &Written<Said>,
        until: u64,
        heard: Heard,
        now: u64,
    ) -> bool {
        /// Less than clocks and messages are off.
        const SLACK: u64 = 1000;
        let snapshot = self.snapshot;
        let known = self
            .nodes
            .get_mut(name)
            .and_then(|node| node.claims.get_mut(topic));
        let Some(claim) = known.filter(|claim| {
            claim.until.abs_diff(until) <= SLACK && claim.said.is_like(&written.said)
        }) else {
            return false;
        };
        self.unkept.remove(&(claim.heard, *topic, Arc::clone(name)));
        claim.seq = written.seq;
        claim.heard = now;
        claim.kept = matches!(heard, Heard::Kept(_));
        claim.snapshot = snapshot;
        if !claim.kept {
            self.unkept.insert((now, *topic, Arc::clone(name)));
        }
        true
    }

    fn note_clock(&mut self, name: &str, at: u64, now: u64) {
        if let Some(node) = self.nodes.get_mut(name) {
            let ahead = i128::from(at) - i128::from(now);
            node.ahead = Some(i64::try_from(ahead).unwrap_or(i64::MAX));
        }
    }

    fn has_room(&self, name: &str, topic: &Topic) -> bool {
        let Some(node) = self.nodes.get(name) else {
            return false;
        };
        if node.claims.contains_key(topic) {
            return true;
        }
        let is_new = !self.speakers.contains_key(topic);
        match topic.kind {
            Kind::Ban => node.bans < MAX_NODE_BANS && (!is_new || self.bans < MAX_ALL_BANS),
            Kind::Allow => {
                node.allowed < MAX_NODE_ALLOWED && (!is_new || self.allowed.len() < MAX_ALL_ALLOWED)
            }
        }
    }

    fn learn(&mut self, name: Arc<str>, topic: Topic, claim: Claim) {
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        self.ends.insert((claim.until, topic, Arc::clone(&name)));
        if !claim.kept {
            self.unkept.insert((claim.heard, topic, Arc::clone(&name)));
        }
        node.claims.insert(topic, claim);
        let speakers = self.speakers.entry(topic).or_default();
        let is_new = speakers.is_empty();
        speakers.push(name);
        match topic.kind {
            Kind::Ban => {
                node.bans += 1;
                self.bans += usize::from(is_new);
                self.changed_bans.insert(topic.source);
            }
            Kind::Allow => {
                node.allowed += 1;
                self.allowed.insert(topic.source);
                self.changed_allowed = true;
            }
        }
    }

    fn forget(&mut self, name: &Arc<str>, topic: &Topic) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let Some(claim) = node.claims.remove(topic) else {
            return;
        };
        self.ends.remove(&(claim.until, *topic, Arc::clone(name)));
        self.unkept.remove(&(claim.heard, *topic, Arc::clone(name)));
        let mut is_last = true;
        if let Some(speakers) = self.speakers.get_mut(topic) {
            speakers.retain(|speaker| speaker != name);
            is_last = speakers.is_empty();
        }
        if is_last {
            self.speakers.remove(topic);
        }
        match topic.kind {
            Kind::Ban => {
                node.bans -= 1;
                self.bans -= usize::from(is_last);
                self.changed_bans.insert(topic.source);
            }
            Kind::Allow => {
                node.allowed -= 1;
                if is_last {
                    self.allowed.remove(&topic.source);
                }
                self.changed_allowed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
