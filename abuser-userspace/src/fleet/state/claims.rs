//! What nodes say of prefixes, within the room there is for it.

use std::sync::Arc;

use abuser_common::layout::{MAX_ALLOWED, MAX_BANS};

use super::{
    super::wire::{Kind, Said, Topic, Written},
    Claim, Heard, State,
};

/// Bans of one node at most.
pub(super) const MAX_NODE_BANS: usize = 100_000;
/// Bans of all nodes at most: the rest of the table is for this host's own.
const MAX_ALL_BANS: usize = MAX_BANS as usize / 2;
/// Allow entries of one node at most.
pub(in crate::fleet) const MAX_NODE_ALLOWED: usize = 1024;
/// Allow entries of all nodes at most.
const MAX_ALL_ALLOWED: usize = MAX_ALLOWED as usize / 4;
/// What all nodes say at most, if several say it of the same prefix.
pub(super) const MAX_CLAIMS: usize = MAX_BANS as usize;

impl State {
    /// Whether a node has said again what it had said, under another number.
    pub(super) fn says_the_same(
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

    /// Whether there is room for what a node says; if not, it is remembered that something is left out.
    pub(super) fn has_room(&mut self, name: &str, topic: &Topic) -> bool {
        let Some(node) = self.nodes.get_mut(name) else {
            return false;
        };
        if node.claims.contains_key(topic) {
            return true;
        }
        let (of_node, most_of_node, of_all, most_of_all) = match topic.kind {
            Kind::Ban => (node.bans, MAX_NODE_BANS, self.bans, MAX_ALL_BANS),
            Kind::Allow => {
                let all = self.allowed.len();
                (node.allowed, MAX_NODE_ALLOWED, all, MAX_ALL_ALLOWED)
            }
        };
        if of_node >= most_of_node {
            *node.crowded.of(topic.kind) = true;
            return false;
        }
        let is_new = !self.speakers.contains_key(topic);
        // Each claim has its end there.
        if self.ends.len() >= MAX_CLAIMS || (is_new && of_all >= most_of_all) {
            *self.missed.crowded.of(topic.kind) = true;
            return false;
        }
        true
    }

    pub(super) fn learn(&mut self, name: Arc<str>, topic: Topic, claim: Claim) {
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

    /// A node says this no more: there is room for something that was left out, if something was.
    pub(super) fn forget(&mut self, name: &Arc<str>, topic: &Topic) {
        if self.remove(name, topic)
            && let Some(node) = self.nodes.get_mut(name)
        {
            let kind = topic.kind;
            self.missed.is_due |= *node.crowded.of(kind) || *self.missed.crowded.of(kind);
        }
    }

    /// Takes out what a node says of a prefix, if it says something.
    pub(super) fn remove(&mut self, name: &Arc<str>, topic: &Topic) -> bool {
        let Some(node) = self.nodes.get_mut(name) else {
            return false;
        };
        let Some(claim) = node.claims.remove(topic) else {
            return false;
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
        true
    }
}
