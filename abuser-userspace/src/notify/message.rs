//! What a receiver is told: one form for templates, for the body without one, and for tests.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    api::types::{EventKind, EventRecord},
    daemon::clock,
};

/// The version of [`Message`]: another one if a key is renamed, removed, or changes its meaning.
const VERSION: u32 = 1;

/// Events for one receiver.
#[derive(Debug, Serialize)]
pub struct Message {
    version: u32,
    /// The same whenever it is sent again, and no other's.
    pub id: String,
    /// The receiver's name in the configuration.
    notifier: String,
    /// This host's name.
    host: String,
    /// When it was made.
    time: String,
    /// Whether it only tries whether messages arrive.
    test: bool,
    /// Events that were lost since the last message that was delivered.
    lost: u64,
    events: Vec<Told>,
}

/// An event, and the line that people read of it.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    event: EventRecord,
    text: String,
}

impl Message {
    /// A new one.
    pub fn new(notifier: &str, events: &[Arc<EventRecord>], lost: u64) -> Self {
        let told = events.iter().map(|event| Told {
            event: EventRecord::clone(event),
            text: event.line(),
        });
        Self {
            version: VERSION,
            id: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            notifier: notifier.to_owned(),
            host: host(),
            time: clock::now(),
            test: false,
            lost,
            events: told.collect(),
        }
    }

    /// One that tries whether messages arrive.
    pub fn test(notifier: &str, kind: EventKind) -> Self {
        Self {
            test: true,
            ..Self::new(notifier, &[Arc::new(sample(kind))], 0)
        }
    }
}

/// This host's name.
fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// An event that says that it is a test, with an address that nobody has (RFC 5737).
pub fn sample(kind: EventKind) -> EventRecord {
    let text = |text: &str| Some(text.to_owned());
    let is_ban = matches!(kind, EventKind::Ban | EventKind::Unban);
    let is_packet = matches!(
        kind,
        EventKind::Drop | EventKind::Observe | EventKind::Allow
    );
    let has_end = matches!(kind, EventKind::Ban | EventKind::Throttle);
    let source = if is_packet {
        "192.0.2.7"
    } else {
        "192.0.2.7/32"
    };
    let now = clock::now();
    EventRecord {
        source: text(source),
        interface: text("eth0").filter(|_| is_packet),
        protocol: text("tcp").filter(|_| is_packet),
        port: is_packet.then_some(443),
        limit: text("test").filter(|_| kind != EventKind::Detect && !is_ban),
        ban: is_ban.then_some(1),
        cause: text("manual").filter(|_| is_ban),
        drops: (is_packet || kind == EventKind::Unban).then_some(1),
        verified: is_packet.then_some(true),
        bytes: is_packet.then_some(60),
        expires: Some(now.clone()).filter(|_| has_end),
        reason: text("this is a test; nobody was banned").filter(|_| !is_packet),
        detector: text("test").filter(|_| kind == EventKind::Detect),
        action: text("alert").filter(|_| kind == EventKind::Detect),
        ..EventRecord::new(kind, now)
    }
}
