//! The detectors: who in a stream of records abuses.
//!
//! A detector is given records one by one, each with its time, and says whom it has found. It
//! remembers a bounded number of sources (or keys): when there is no room, whoever was quiet for longest is
//! forgotten. It keeps no lines; evidence is gathered by whoever feeds it.
//!
//! Times come from logs: they may be equal, and go back a little where several processes write.
//! A detector must take that, and a gap of years, as it comes.

pub mod baseline;
pub mod distributed;
pub mod enumeration;
pub mod fan_out;
pub mod lately;
pub mod missing_headers;
pub mod signup;
pub mod sketch;
pub mod stuffing;
mod subject;
pub mod table;
pub mod template;
pub mod threshold;
pub mod window;
mod words;

use ipnet::IpNet;

pub use subject::Track;

use crate::{record::Record, time::Time};

/// Looks for one kind of abuse.
pub trait Detector: Send {
    /// Takes note of a record that happened `at`, and says whom it gives away.
    ///
    /// A record that lacks what the detector counts by is of no consequence.
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding>;

    /// How much is remembered.
    fn occupancy(&self) -> Occupancy;
}

/// How much a detector remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sources, keys or whatever else it counts by.
    pub tracked: usize,
    /// How many of them there is room for.
    pub capacity: usize,
    /// How many were forgotten because there was no room.
    pub evicted: u64,
}

/// The longest reason of a finding, in bytes, whatever the line held that led to it.
pub const MAX_REASON: usize = 800;

/// What a detector has found: enough to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who did it: usually one source, more where many act as one.
    pub sources: Vec<IpNet>,
    /// The key or user it is about, where that is what is counted by.
    pub subject: Option<String>,
    /// When the last of it happened.
    pub at: Time,
    /// How many records it rests on.
    pub count: u32,
    /// Why, for people: `120 requests within 60s`. At most [`MAX_REASON`] bytes without control
    /// characters.
    pub reason: String,
}

#[cfg(test)]
mod tests;
