//! An event as a line for people: in a terminal, and in notifications.

use std::fmt::Write as _;

use super::{EventKind, EventRecord};
use crate::words::{counted, plain};

impl EventRecord {
    /// The event in one line, in which nothing commands a terminal.
    pub fn line(&self) -> String {
        let EventRecord {
            time,
            kind,
            interface,
            source,
            protocol,
            port,
            limit,
            ban,
            cause: _,
            policy: _,
            drops,
            verified,
            bytes: _,
            expires,
            reason,
            detector,
            action,
            among_all: _,
        } = self;
        let mut line = format!("{time}  {:<7}", kind.name());
        let source = source.as_deref().unwrap_or_default();
        // Writing to a String cannot fail.
        let _infallible = match kind {
            EventKind::Drop | EventKind::Observe | EventKind::Allow => {
                let transport = match (protocol.as_deref(), port) {
                    (Some(protocol), Some(port)) => format!("{protocol}/{port}"),
                    (protocol, _) => protocol.unwrap_or_default().to_owned(),
                };
                let cause = match (limit, ban) {
                    (Some(limit), _) => format!("limit {limit}"),
                    (None, Some(ban)) => format!("ban {ban}"),
                    (None, None) => String::new(),
                };
                write!(
                    line,
                    "  {:<8}  {source:<15}  {transport:<9}  {cause:<14}  {} {}{}",
                    interface.as_deref().unwrap_or("?"),
                    drops.unwrap_or_default(),
                    if *drops == Some(1) {
                        "packet"
                    } else {
                        "packets"
                    },
                    // Why no ban follows.
                    if *verified == Some(false) {
                        ", unverified"
                    } else {
                        ""
                    },
                )
            }
            EventKind::Ban => write!(
                line,
                "  {source}  {}  ban {}  {}",
                expires.as_ref().map_or_else(
                    || "for good".to_owned(),
                    |expires| format!("until {expires}")
                ),
                ban.unwrap_or_default(),
                reason.as_deref().unwrap_or_default(),
            ),
            EventKind::Unban => write!(
                line,
                "  {source}  ban {}  {}  after {}",
                ban.unwrap_or_default(),
                reason.as_deref().unwrap_or_default(),
                counted(drops.unwrap_or_default(), "packet", "packets"),
            ),
            EventKind::Detect => write!(
                line,
                "  {source}  {}  {}  {}",
                detector.as_deref().unwrap_or("?"),
                action.as_deref().unwrap_or_default(),
                reason.as_deref().unwrap_or_default(),
            ),
            EventKind::Throttle => write!(
                line,
                "  {source}  {}  limit {}  {}",
                expires.as_ref().map_or_else(
                    || "for good".to_owned(),
                    |expires| format!("until {expires}")
                ),
                limit.as_deref().unwrap_or_default(),
                reason.as_deref().unwrap_or_default(),
            ),
            EventKind::Unthrottle => write!(
                line,
                "  {source}  limit {}  {}",
                limit.as_deref().unwrap_or_default(),
                reason.as_deref().unwrap_or_default(),
            ),
            EventKind::Missed => write!(line, "  {} events", drops.unwrap_or_default()),
        };
        plain(line.trim_end()).into_owned()
    }
}
