//! nginx's and Apache's access logs.
//!
//! ```text
//! 192.0.2.1 - bob [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "-" "curl/8" "203.0.113.7"
//! ```
//!
//! Each field after the first quote is quoted or the server's own. Before it is the user, whom clients name
//! themselves: with spaces and brackets, but their quotes are escaped. So the time is what stands in
//! the 29 bytes before the first quote, and the address what stands before the first space.

use std::{borrow::Cow, net::IpAddr};

use super::{
    Unparsed,
    clock::{COMBINED, Clock},
    escapes::Quoting,
    proxies::{Proxies, address},
};
use crate::record::{Fields, Header, Headers, Record};

/// The longest method that is one: those that are registered have at most 17 letters.
const LONGEST_METHOD: usize = 32;

#[inline]
pub(super) fn parse<'l>(
    line: &'l str,
    clock: &mut Clock,
    proxies: &Proxies,
) -> Result<Record<'l>, Unparsed> {
    const MISSING_TIME: Unparsed = Unparsed::Missing("time in brackets before the request");
    const MISSING_REQUEST: Unparsed = Unparsed::Missing("request in quotes");

    let quoting = Quoting::of(line);
    let (head, rest) = quoted(line, quoting).ok_or(MISSING_REQUEST)?;
    let head = head.strip_suffix("] ").ok_or(MISSING_TIME)?;
    let (who, time) = head
        .len()
        .checked_sub(COMBINED)
        .and_then(|start| head.split_at_checked(start))
        .ok_or(MISSING_TIME)?;
    let who = who.strip_suffix(" [").ok_or(MISSING_TIME)?;
    let time = clock.combined(time).ok_or(Unparsed::Bad("the time"))?;
    let (mut source, user) = client(who)?;

    let (request, rest) = quoted(rest, quoting).ok_or(MISSING_REQUEST)?;
    let (method, path) = target(request);
    let (status, rest) = token(rest).ok_or(Unparsed::Missing("status"))?;
    let (bytes, rest) = token(rest).ok_or(Unparsed::Missing("size"))?;
    let status = number(status).map_err(|()| Unparsed::Bad("the status"))?;
    let bytes = number(bytes).map_err(|()| Unparsed::Bad("the size"))?;
    let (referer, rest) = next_quoted(rest, quoting).unzip();
    let (user_agent, rest) = rest.and_then(|rest| next_quoted(rest, quoting)).unzip();
    if !proxies.is_empty()
        && let Some((forwarded, _)) = rest.and_then(|rest| next_quoted(rest, quoting))
    {
        source = proxies.client(source, Some(forwarded));
    }
    let header = |text: Option<&'l str>| match text {
        None => Header::Unknown,
        Some("-") => Header::Absent,
        Some(text) => Header::Sent(quoting.unescape(text)),
    };
    // In one piece, or it would be copied.
    Ok(Record {
        time: Some(time),
        source,
        method: method.map(Cow::Borrowed),
        path: path.map(|path| quoting.unescape(path)),
        status,
        bytes,
        key: None,
        user: (!matches!(user, "-" | "")).then(|| quoting.unescape(user)),
        message: None,
        headers: Headers {
            user_agent: header(user_agent),
            referer: header(referer),
            ..Headers::default()
        },
        fields: Fields::None,
        raw: line,
    })
}

/// The address and the user of what stands before the time. Apache's `vhost_combined` has the
/// virtual host and its port before them.
fn client(who: &str) -> Result<(Option<IpAddr>, &str), Unparsed> {
    const MISSING: Unparsed = Unparsed::Missing("client and user before the time");
    let (first, rest) = split(who).ok_or(MISSING)?;
    let (second, user) = split(rest).unwrap_or((rest, ""));
    if let Ok(address) = first.parse::<IpAddr>() {
        return Ok((Some(address.to_canonical()), user));
    }
    let is_virtual_host = first.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit())
    });
    if !is_virtual_host {
        return Ok((address(first), user));
    }
    let user = split(user).map_or("", |(_, user)| user);
    Ok((address(second), user))
}

/// What stands before the first space, and behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let space = space(text)?;
    Some((text.get(..space)?, text.get(space + 1..)?))
}

/// Where the first space is. It is near: to set out for a search takes longer than to go.
#[inline]
fn space(text: &str) -> Option<usize> {
    text.bytes().position(|byte| byte == b' ')
}

/// A quoted text whose first quote is gone already, and what follows its last one.
#[inline]
fn quoted(text: &str, quoting: Quoting) -> Option<(&str, &str)> {
    let end = quoting.closing_quote(text)?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[inline]
fn next_quoted(text: &str, quoting: Quoting) -> Option<(&str, &str)> {
    quoted(text.strip_prefix(" \"")?, quoting)
}

/// A word that a space precedes.
fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix(' ')?;
    let end = space(text).unwrap_or(text.len());
    text.split_at_checked(end)
}

/// A number; `None` if it is `-`.
fn number<T: std::str::FromStr>(text: &str) -> Result<Option<T>, ()> {
    if text == "-" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ())
}

/// Method and target of a request line; none of a text that is no request.
pub(super) fn target(request: &str) -> (Option<&str>, Option<&str>) {
    let Some((method, rest)) = split(request) else {
        return (None, None);
    };
    let is_of_method = |c: u8| c.is_ascii_uppercase() || c == b'-' || c == b'_';
    if method.is_empty() || method.len() > LONGEST_METHOD || !method.bytes().all(is_of_method) {
        return (None, None);
    }
    // ` HTTP/1.1` or ` HTTP/2`, which ends the line.
    let target = [9, 7].into_iter().find_map(|length| {
        let (target, protocol) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
        protocol.starts_with(" HTTP/").then_some(target)
    });
    let target = target.unwrap_or(rest);
    (Some(method), Some(target))
}
