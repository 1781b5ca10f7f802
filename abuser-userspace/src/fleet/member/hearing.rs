//! What is heard of others, and of who has this node's name.

use std::time::Instant;

use async_nats::{Message, jetstream};

use super::{Member, now};
use crate::fleet::{
    state::{Heard, Refusal},
    wire::{self, Key, Presence, Said, Topic, Written},
};

/// By how much a node's clock may be off before the log tells, in milliseconds.
const CLOCK_OFF: u64 = 5_000;
/// Nodes with such clocks of which the log tells.
const MAX_CLOCKS_OFF: usize = 256;

impl Member {
    /// An entry of the bucket; whether it is the last one there is now.
    pub(super) fn hear_entry(&mut self, entry: &jetstream::Message) -> bool {
        let Ok(info) = entry.info() else {
            return false;
        };
        let since = info.published.unix_timestamp_nanos() / 1_000_000;
        let (since, is_last) = (u64::try_from(since).unwrap_or(0), info.pending == 0);
        self.hear(&entry.message, Heard::Kept(since));
        is_last
    }

    /// A message: a value, or a deletion.
    pub(super) fn hear(&mut self, message: &Message, heard: Heard) {
        let prefix = format!("$KV.{}.", self.config.bucket);
        let Some(key) = message.subject.as_str().strip_prefix(&prefix) else {
            return;
        };
        let deletes = wire::deletes(message.headers.as_ref());
        let value = deletes.is_none().then_some(&*message.payload);
        let seq = deletes.and_then(|deletion| deletion.seq);
        self.take(key, value, seq, heard);
    }

    fn take(&mut self, key: &str, value: Option<&[u8]>, seq: Option<u64>, heard: Heard) {
        if Key::node_of(key) == self.config.node {
            match Key::parse(key) {
                Some(Key::Topic(_, topic)) => self.hear_of_own(topic, value, heard),
                Some(Key::Presence(_)) => self.hear_of_twin(value, heard),
                None => {}
            }
            return;
        }
        self.counts.received += 1;
        if let Err(refusal) = self.hear_of_other(key, value, seq, heard) {
            self.counts.refuse(refusal);
        }
    }

    fn hear_of_other(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
        seq: Option<u64>,
        heard: Heard,
    ) -> Result<(), Refusal> {
        let now = now();
        let key = Key::parse(key).ok_or(Refusal::Unknown)?;
        let (Key::Topic(node, _) | Key::Presence(node)) = key;
        // Values of who says too much are not even read.
        let name = self.state.listen(node, heard, now)?;
        match (key, value) {
            (Key::Topic(_, topic), Some(value)) => {
                let Some(written) = Written::<Said>::parse(value) else {
                    self.state.spoil(&name, &topic, heard);
                    return Err(Refusal::Unknown);
                };
                if heard == Heard::Live {
                    self.counts.took(now.saturating_sub(written.at));
                    self.check_clock(node, written.at, now);
                }
                self.state.put(&name, topic, &written, heard, now)?;
            }
            (Key::Topic(_, topic), None) => self.state.delete(&name, topic, seq, now),
            (Key::Presence(_), Some(value)) => {
                let written = Written::<Presence>::parse(value).ok_or(Refusal::Unknown)?;
                if heard == Heard::Live {
                    self.check_clock(node, written.at, now);
                }
                self.state.greet(&name, written, heard, now);
            }
            (Key::Presence(_), None) => self.state.dismiss(&name),
        }
        Ok(())
    }

    /// What the bucket has of this node's own.
    fn hear_of_own(&mut self, topic: Topic, value: Option<&[u8]>, heard: Heard) {
        if let Heard::Kept(since) = heard {
            let written = value.and_then(Written::parse);
            self.own.found(topic, written, since);
        }
    }

    /// Somebody with this node's name says that he is there; it may be this node, or one before.
    fn hear_of_twin(&mut self, value: Option<&[u8]>, heard: Heard) {
        let Some(written) = value.and_then(Written::<Presence>::parse) else {
            return;
        };
        // What another run has left was there before this one said anything.
        if heard == Heard::Live && written.said.instance != self.instance {
            self.twin = Some(Instant::now());
            self.fail(format!(
                "another node calls itself {}, too; give each a name of its own ([fleet] node)",
                self.config.node
            ));
        }
    }

    fn check_clock(&mut self, node: &str, at: u64, now: u64) {
        if at.abs_diff(now) > CLOCK_OFF {
            if self.clocks_off.len() < MAX_CLOCKS_OFF && self.clocks_off.insert(node.to_owned()) {
                let (off, way) = if at > now {
                    (at - now, "ahead")
                } else {
                    (now - at, "behind")
                };
                tracing::warn!(
                    "fleet: the clock of {node} is {} s {way} of this one's, or its messages take that long; its \
                     bans end by so much too late or too soon",
                    off / 1000
                );
            }
        } else {
            self.clocks_off.remove(node);
        }
    }
}
