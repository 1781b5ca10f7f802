//! nginx's error log.
//!
//! ```text
//! 2024/01/15 10:00:00 [error] 31#31: *7 limiting requests, excess: 20.400 by zone "api_limit",
//! client: 192.0.2.1, server: example.com, request: "GET /x HTTP/1.1", host: "example.com"
//! ```
//!
//! (in one line). nginx writes what clients send into it as it is: a decoded path into the message, the
//! request and the referrer behind it, all without escapes. So a line can have two clients, one of whom
//! wrote the other. Messages of limits begin with what is nginx's own up to their client; of
//! other messages, the client counts only if there is no other in the line.
//!
//! What no reader of lines can see: a decoded path may have a line end in it (`%0A`), and what follows looks like a
//! line of nginx's. The access log has no such gap.

use std::{borrow::Cow, net::IpAddr};

use memchr::memmem;

use super::{
    Unparsed,
    clock::{Clock, NGINX_ERROR},
    combined::target,
    proxies::address,
};
use crate::record::{Fields, Header, Record};

/// How the messages begin that are about limits.
const LIMITS: [&str; 3] = [
    "limiting requests,",
    "limiting connections ",
    "delaying request,",
];

const CLIENT: &str = ", client: ";

pub(super) fn parse<'l>(line: &'l str, clock: &mut Clock) -> Result<Record<'l>, Unparsed> {
    let (time, rest) = line
        .split_at_checked(NGINX_ERROR)
        .ok_or(Unparsed::Missing("time at its beginning"))?;
    let time = clock.nginx_error(time).ok_or(Unparsed::Bad("the time"))?;
    let (level, rest) = rest
        .strip_prefix(" [")
        .and_then(|rest| rest.split_once("] "))
        .ok_or(Unparsed::Missing("level in brackets behind the time"))?;
    // `31#31: *7 `, the second part only for messages of a connection.
    let (_, rest) = rest
        .split_once(": ")
        .ok_or(Unparsed::Missing("process behind the level"))?;
    let message = rest
        .strip_prefix('*')
        .and_then(|rest| rest.split_once(' '))
        .map_or(rest, |(_, message)| message);

    let mut groups = vec![(Cow::Borrowed("level"), Cow::Borrowed(level))];
    let mut record = Record {
        time: Some(time),
        message: Some(message.into()),
        raw: line,
        ..Record::default()
    };
    if let Some((message, client, tail)) = client(message) {
        record.source = client;
        record.message = Some(message.into());
        if let Some(zone) = between(message, "by zone \"", "\"") {
            groups.push(("zone".into(), zone.into()));
        }
        if let Some(request) = behind(tail, ", request: \"") {
            let (method, path) = target(request);
            record.method = method.map(Cow::Borrowed);
            record.path = path.map(Cow::Borrowed);
        }
        if let Some(host) = behind(tail, ", host: \"") {
            groups.push(("host".into(), host.into()));
        }
        if let Some(referer) = behind(tail, ", referrer: \"") {
            record.headers.referer = Header::Sent(referer.into());
        }
    }
    record.fields = Fields::Groups(groups);
    Ok(record)
}

/// The message before the client, the client, and what follows; the client is `None` if it is in
/// doubt or has no address.
fn client(message: &str) -> Option<(&str, Option<IpAddr>, &str)> {
    let (before, behind) = message.split_once(CLIENT)?;
    let (client, tail) = behind.split_at_checked(behind.find(", ").unwrap_or(behind.len()))?;
    let is_alone = memmem::find(tail.as_bytes(), CLIENT.as_bytes()).is_none();
    let is_certain = is_alone || LIMITS.iter().any(|limit| message.starts_with(limit));
    Some((before, address(client).filter(|_| is_certain), tail))
}

fn between<'l>(text: &'l str, before: &str, after: &str) -> Option<&'l str> {
    let (_, text) = text.split_once(before)?;
    text.split_once(after).map(|(text, _)| text)
}

/// The quoted text behind `name`: it ends at the last quote before the next of nginx's fields.
fn behind<'l>(tail: &'l str, name: &str) -> Option<&'l str> {
    const NEXT: [&str; 4] = [
        "\", upstream: \"",
        "\", host: \"",
        "\", referrer: \"",
        "\", subrequest: \"",
    ];
    let (_, text) = tail.split_once(name)?;
    let end = NEXT.iter().filter_map(|next| text.find(next)).min();
    let end = end.or_else(|| text.rfind('"'))?;
    text.get(..end)
}
