//! Whom to believe, and how far.

use super::super::wire::{Kind, Topic, span};
use crate::config::FleetConfig;

/// Why something that was heard does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
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
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Ignored,
        Self::Wide,
        Self::TooMany,
        Self::TooFast,
    ];

    /// As in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
            Self::Wide => "wide",
            Self::TooMany => "too_many",
            Self::TooFast => "too_fast",
        }
    }
}

/// Whom to believe and how far, as the configuration says.
#[derive(Clone, Debug)]
pub struct Caps {
    config: FleetConfig,
    /// The longest that something holds after it was said, in milliseconds.
    pub(super) longest: u64,
}

impl Caps {
    /// What the configuration says.
    pub fn new(config: &FleetConfig) -> Self {
        Self {
            config: config.clone(),
            longest: span(config.max_bantime),
        }
    }

    pub(super) fn check(&self, node: &str, topic: &Topic) -> Result<(), Refusal> {
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
