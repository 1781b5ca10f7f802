//! The ring buffer's reading end, and the records that come of it.

#![expect(
    unsafe_code,
    reason = "aya wants it promised that a descriptor stays the same"
)]

use std::{collections::HashMap, io};

use abuser_common::{
    event::{Event, Reason, Verdict},
    gcra::KernelTime,
    packet::{ICMP, ICMPV6, TCP, UDP},
};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::clock;
use crate::{
    api::types::{EventKind, EventRecord},
    dataplane::{Dataplane, wall_clock},
};

/// Events read at once before anything else gets its turn.
const BATCH: usize = 256;

/// The ring buffer as a source of events.
pub(super) struct EventReader {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Records that were not events, which only another version's program writes.
    undecodable: u64,
}

impl EventReader {
    /// Must be called within a tokio runtime.
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self {
            // SAFETY: the ring owns its descriptor and never changes it.
            ring: unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? },
            undecodable: 0,
        })
    }

    /// Waits for events and reads some; at least one, unless what came was not one.
    /// Dropping the future loses none.
    pub(super) async fn read(&mut self) -> io::Result<Vec<Event>> {
        let mut ready = self.ring.readable_mut().await?;
        let mut events = Vec::new();
        let ring = ready.get_inner_mut();
        while events.len() < BATCH {
            let Some(record) = ring.next() else {
                ready.clear_ready();
                break;
            };
            match Event::decode(&record) {
                Ok(event) => events.push(event),
                Err(error) => {
                    if self.undecodable == 0 {
                        tracing::warn!(%error, "unreadable event; further ones are only counted");
                    }
                    self.undecodable += 1;
                }
            }
        }
        Ok(events)
    }
}

/// What is needed to say what an event is about.
#[derive(Debug, Default)]
pub struct Names {
    /// Limits by id.
    pub limits: HashMap<u64, String>,
    /// Interfaces by index.
    pub interfaces: HashMap<u32, String>,
}

impl Names {
    /// The limit that an event is about, if it is about one that is still in force.
    pub fn limit(&self, event: &Event) -> Option<&String> {
        match event.reason()? {
            Reason::Limit => self.limits.get(&event.cause),
            Reason::Ban => None,
        }
    }

    /// The record that readers of events get; `None` if the event makes no sense.
    pub fn record(&self, event: &Event) -> Option<EventRecord> {
        let kind = match event.verdict()? {
            Verdict::Drop => EventKind::Drop,
            Verdict::Observe => EventKind::Observe,
            Verdict::Allow => EventKind::Allow,
        };
        let time = clock::format(wall_clock(KernelTime(event.time_ns)));
        Some(EventRecord {
            interface: self.interfaces.get(&event.interface).cloned(),
            source: Some(event.source.address()?.to_string()),
            protocol: Some(protocol(event.protocol)),
            port: event.has_port().then_some(event.port),
            limit: self.limit(event).cloned(),
            ban: (event.reason()? == Reason::Ban).then_some(event.cause),
            drops: Some(event.drops),
            verified: (event.reason()? == Reason::Limit).then_some(event.verified()),
            bytes: Some(event.length),
            ..EventRecord::new(kind, time)
        })
    }
}

fn protocol(number: u8) -> String {
    match number {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        number => number.to_string(),
    }
}

/// Passes on what the XDP program itself logs.
pub(super) fn log_program(dataplane: &mut Dataplane) {
    dataplane.programs_mut().for_each(log);
}

fn log(program: &mut Ebpf) {
    let logger = EbpfLogger::init(program)
        .map_err(io::Error::other)
        .and_then(|logger| {
            // SAFETY: the logger owns its ring, which owns its descriptor.
            Ok(unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE)? })
        });
    match logger {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut ready) = logger.readable_mut().await {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "the XDP program's own log is not read"),
    }
}
