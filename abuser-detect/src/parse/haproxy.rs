//! `HAProxy`'s `option httplog`, from a file (with the header that syslog puts before it) or as it
//! comes (without).
//!
//! ```text
//! Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in
//! static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html HTTP/1.1"
//! ```
//!
//! (in one line). `HAProxy` writes quotes, braces, bars and control characters of clients as `#22`.
//! Captured headers have no names in the log: those of the request are the groups `captured.0`
//! and so on, those of the answer `captured_response.0`.

use std::borrow::Cow;

use super::{
    Target, Unparsed,
    clock::Clock,
    combined::target,
    escapes::unescape_haproxy,
    proxies::{Proxies, address},
};
use crate::record::{Fields, Header, Record};

/// The words between the time and the request: frontend, backend/server, timers, status, bytes, two
/// cookies, termination state, connections, queues.
const WORDS: usize = 10;

pub(super) fn parse<'l>(
    line: &'l str,
    fields: &[(Target, String)],
    clock: &mut Clock,
    proxies: &Proxies,
) -> Result<Record<'l>, Unparsed> {
    const MISSING_TIME: Unparsed = Unparsed::Missing("client and time in brackets");

    // What is before the client's address is syslog's, and has no digit behind a bracket.
    let bracket = line
        .match_indices(" [")
        .find(|(place, _)| {
            let next = line.as_bytes().get(place + 2);
            next.is_some_and(u8::is_ascii_digit)
        })
        .map(|(place, _)| place)
        .ok_or(MISSING_TIME)?;
    let (before, after) = line.split_at_checked(bracket).ok_or(MISSING_TIME)?;
    // An address of IPv6 has no brackets, but a port there always is.
    let client = before.rsplit(' ').next().unwrap_or(before);
    let client = client.rsplit_once(':').map_or("", |(client, _)| client);
    let (time, rest) = after
        .get(2..)
        .and_then(|after| after.split_once("] "))
        .ok_or(MISSING_TIME)?;
    let time = clock.haproxy(time).ok_or(Unparsed::Bad("the time"))?;

    let mut words = [""; WORDS];
    let mut rest = rest;
    for word in &mut words {
        (*word, rest) = rest
            .split_once(' ')
            .ok_or(Unparsed::Missing("one of the fields before the request"))?;
    }
    let [frontend, backend, timers, status, bytes, _, _, state, ..] = words;
    // The log of a TCP connection has other words at these places.
    if timers.split('/').count() != 5 {
        return Err(Unparsed::Bad("the fourth field, of five timers,"));
    }
    let mut groups: Vec<(Cow<'l, str>, Cow<'l, str>)> = vec![
        ("frontend".into(), frontend.trim_end_matches('~').into()),
        ("backend".into(), backend.into()),
        ("state".into(), state.into()),
    ];
    for name in ["captured", "captured_response"] {
        let Some((captured, after)) = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once("} "))
        else {
            break;
        };
        for (place, header) in captured.split('|').enumerate() {
            groups.push((format!("{name}.{place}").into(), unescape_haproxy(header)));
        }
        rest = after;
    }
    let request = rest
        .strip_prefix('"')
        .ok_or(Unparsed::Missing("request in quotes"))?;
    // A request that is longer than `HAProxy`'s line has no quote at its end.
    let (method, path) = target(request.trim_end_matches('"'));

    let mut record = Record {
        time: Some(time),
        source: address(client),
        method: method.map(Cow::Borrowed),
        path: path.map(unescape_haproxy),
        status: match status {
            "-1" => None,
            status => Some(status.parse().map_err(|_| Unparsed::Bad("the status"))?),
        },
        // A `+` says that the log was written before the end.
        bytes: Some(
            bytes
                .trim_start_matches('+')
                .parse()
                .map_err(|_| Unparsed::Bad("the size"))?,
        ),
        raw: line,
        ..Record::default()
    };
    for (target, group) in fields {
        let found = groups.iter().find(|(name, _)| name == group);
        if let Some((_, value)) = found {
            set(&mut record, *target, value.clone(), proxies);
        }
    }
    record.fields = Fields::Groups(groups);
    Ok(record)
}

/// Sets what can be had from a captured header.
fn set<'l>(record: &mut Record<'l>, target: Target, value: Cow<'l, str>, proxies: &Proxies) {
    let text = |value: Cow<'l, str>| Some(value).filter(|value| !value.is_empty());
    let header = |value| text(value).map_or(Header::Absent, Header::Sent);
    match target {
        Target::UserAgent => record.headers.user_agent = header(value),
        Target::Referer => record.headers.referer = header(value),
        Target::Key => record.key = text(value),
        Target::User => record.user = text(value),
        Target::ForwardedFor => record.source = proxies.client(record.source, Some(&value)),
        Target::Message => record.message = text(value),
        // The log has these itself.
        Target::Source
        | Target::Time
        | Target::Method
        | Target::Path
        | Target::Status
        | Target::Bytes => {}
    }
}
