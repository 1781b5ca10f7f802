//! What OpenSSH logs of who could not log in.
//!
//! sshd tells of one failed attempt once, twice or not at all, by the method and by how many came before:
//!
//! | attempt | told at its `LogLevel INFO` |
//! | --- | --- |
//! | a password | `Failed password` |
//! | keyboard-interactive by PAM | `error: PAM: … for`; and `Failed keyboard-interactive/pam` if the user does not exist or it is the third |
//! | a key | `Failed publickey`, by the same rule |
//! | none, or keys only | a connection that ends before a login: `Connection closed by authenticating user` |
//!
//! The end of a connection is told whatever came before. So what one process says of one address is put
//! together: what PAM has said is not counted again, and an end counts if nothing of that connection did. Keys are one
//! attempt, for an agent offers all it has. Those of a user that exists count by the end alone, for the next one
//! may fit. (auth.c, auth-pam.c and packet.c of OpenSSH 7.6 to 10.)
//!
//! The client chooses the user, which takes as much of a line as it can: the address is the last one.

use std::{borrow::Cow, net::IpAddr};

use foldhash::fast::RandomState;
use regex::{Captures, Regex};
use schnellru::{ByLength, LruMap};

use super::{Unparsed, clock::Clock, proxies::address};
use crate::record::Record;

/// How many connections are remembered. Those are few: each lives until its end is logged.
const CONNECTIONS: u32 = 4096;

/// The longest name of a host and a process that are one, in bytes: what is remembered has them.
const LONGEST_PROCESS: usize = 320;

/// Before each message. The process is told apart by all of it but the time.
const START: &str = concat!(
    r"^(?:(?<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) )?",
    r"(?<process>(?:\S+ )?sshd(?:-session)?(?:\[\d+\])?): (?<message>.*)$",
);
/// An address at the end of what a client may have written.
const ADDRESS: &str = r"(?<ip>\d+(?:\.\d+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+)";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// PAM's own word of an attempt.
    Pam,
    /// The same attempt, or one of which PAM has said nothing.
    KeyboardInteractive,
    /// A key that does not fit, of a user that exists.
    Key,
    /// A key of a user that does not.
    KeyOfNobody,
    /// Any other attempt.
    Failed,
    /// The connection ends, and nobody has logged in.
    End,
}

/// Puts together what sshd says of a connection.
pub(super) struct Sshd {
    start: Regex,
    /// What messages look like, each with the groups `user` and `ip`.
    messages: [(Regex, Said); 4],
    accepted: Regex,
    connections: LruMap<(Box<str>, IpAddr), Connection, ByLength, RandomState>,
}

/// What was told of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// Whether any of it was counted.
    counted: bool,
    /// Whether PAM has told of the attempt that sshd itself may tell of next.
    by_pam: bool,
}

impl std::fmt::Debug for Sshd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connections = self.connections.len();
        f.debug_struct("Sshd")
            .field("connections", &connections)
            .finish_non_exhaustive()
    }
}

impl Sshd {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let message = |text: &str| Regex::new(&text.replace("ADDRESS", ADDRESS));
        Ok(Self {
            start: Regex::new(START)?,
            messages: [
                (
                    message(
                        r"^Failed (?<method>password|publickey|hostbased|keyboard-interactive(?:/pam)?) for (?<invalid>invalid user )?(?<user>.*) from ADDRESS port \d+(?: ssh\d)?(?: \[preauth\])?(?:: \S+ \S+)?$",
                    )?,
                    Said::Failed,
                ),
                (
                    message(
                        r"^error: PAM: [^:]+? for (?:illegal user )?(?<user>.*) from ADDRESS(?: via \S+)?(?: \[preauth\])?$",
                    )?,
                    Said::Pam,
                ),
                (
                    message(
                        r"^(?:Connection (?:closed|reset) by|Disconnected from) (?:authenticating|invalid) user (?<user>.*) ADDRESS port \d+(?: \[preauth\])?$",
                    )?,
                    Said::End,
                ),
                (
                    message(
                        r"^Disconnecting (?:authenticating|invalid) user (?<user>.*) ADDRESS port \d+: Too many authentication failures(?: \[preauth\])?$",
                    )?,
                    Said::End,
                ),
            ],
            accepted: message(r"^Accepted \S+ for .* from ADDRESS port \d+(?: ssh\d)?(?:: .*)?$")?,
            connections: LruMap::with_hasher(ByLength::new(CONNECTIONS), RandomState::default()),
        })
    }

    pub(super) fn parse<'l>(
        &mut self,
        line: &'l str,
        clock: &mut Clock,
    ) -> Result<Record<'l>, Unparsed> {
        let start = self.start.captures(line).ok_or(Unparsed::NoFailure)?;
        let group = |name| start.name(name).map_or("", |group| group.as_str());
        let (process, message) = (group("process"), group("message"));
        let message = once(message);
        if process.len() > LONGEST_PROCESS {
            return Err(Unparsed::Bad("the name of the host"));
        }
        let Some((found, said)) = self.failure(message) else {
            if let Some(source) = self.accepted.captures(message).as_ref().and_then(ip) {
                self.connections.remove(&(process.into(), source));
            }
            return Err(Unparsed::NoFailure);
        };
        let source = ip(&found).ok_or(Unparsed::Bad("the address"))?;
        if !self.counts((process.into(), source), said) {
            return Err(Unparsed::Repeated);
        }
        let user = found.name("user").map(|user| user.as_str());
        Ok(Record {
            time: start.name("time").and_then(|time| clock.any(time.as_str())),
            source: Some(source),
            user: user.filter(|user| !user.is_empty()).map(Cow::Borrowed),
            message: Some(Cow::Borrowed(message)),
            raw: line,
            ..Record::default()
        })
    }

    /// What a message says of an attempt, if it does.
    fn failure<'m>(&self, message: &'m str) -> Option<(Captures<'m>, Said)> {
        let mut messages = self.messages.iter();
        let (found, said) =
            messages.find_map(|(regex, said)| Some((regex.captures(message)?, *said)))?;
        let exists = found.name("invalid").is_none();
        let said = match found.name("method").map(|method| method.as_str()) {
            Some("publickey") if exists => Said::Key,
            Some("publickey") => Said::KeyOfNobody,
            Some("keyboard-interactive/pam") => Said::KeyboardInteractive,
            _ => said,
        };
        Some((found, said))
    }

    /// Whether what is said of a connection was not said before.
    fn counts(&mut self, connection: (Box<str>, IpAddr), said: Said) -> bool {
        if said == Said::End {
            let ended = self.connections.remove(&connection);
            return ended.is_none_or(|ended| !ended.counted);
        }
        let known = self
            .connections
            .get_or_insert(connection, Connection::default);
        let Some(known) = known else {
            return true;
        };
        let is_new = match said {
            Said::Key => false,
            Said::KeyOfNobody => !known.counted,
            Said::KeyboardInteractive => !known.by_pam,
            Said::Pam | Said::Failed | Said::End => true,
        };
        known.by_pam = said == Said::Pam;
        known.counted |= is_new;
        is_new
    }
}

/// A message that syslog says was repeated: `message repeated 2 times: [ Failed password for … ssh2]`. It
/// counts as one, for whoever wrote it need not have been syslog.
fn once(message: &str) -> &str {
    let repeated = message.strip_prefix("message repeated ");
    let said = repeated.and_then(|rest| {
        let (count, said) = rest.split_once(" times: [ ")?;
        let is_number = !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit());
        said.strip_suffix(']').filter(|_| is_number)
    });
    said.unwrap_or(message)
}

fn ip(found: &Captures<'_>) -> Option<IpAddr> {
    address(found.name("ip")?.as_str())
}
