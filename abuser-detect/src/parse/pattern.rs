//! Any log that a regular expression fits.
//!
//! The `regex` crate takes time that is linear in the line, whatever the expression; the size of what it
//! makes of an expression is bounded.

use std::borrow::Cow;

use regex::{CaptureLocations, Regex, RegexBuilder};

use super::{
    ParserError, Target, Unparsed,
    clock::Clock,
    proxies::{Proxies, address},
};
use crate::record::{Fields, Header, Record};

/// The most memory that a compiled expression may take, in bytes.
const MAX_SIZE: usize = 4 << 20;

/// A regular expression, and what its groups are.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    locations: CaptureLocations,
    groups: Vec<(usize, Use)>,
}

#[derive(Debug)]
enum Use {
    /// A field of the record.
    Target(Target),
    /// Something that only the log has.
    Other(String),
}

impl Pattern {
    pub(super) fn new(pattern: &str, fields: &[(Target, String)]) -> Result<Self, ParserError> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(MAX_SIZE)
            .dfa_size_limit(MAX_SIZE)
            .build()
            .map_err(|error| ParserError::Regex(in_a_line(&error)))?;
        let groups: Vec<_> = regex.capture_names().enumerate().collect();
        for (target, group) in fields {
            if !groups.iter().any(|(_, name)| *name == Some(group)) {
                let named = Target::ALL.iter().find(|(_, other)| other == target);
                return Err(ParserError::Group {
                    target: named.map_or("", |(name, _)| name).to_owned(),
                    group: group.clone(),
                });
            }
        }
        let groups: Vec<_> = groups
            .into_iter()
            .filter_map(|(place, name)| {
                let name = name?;
                let set = fields.iter().find(|(_, group)| group == name);
                let named = match name {
                    "ip" => Some(Target::Source),
                    name => name.parse().ok(),
                };
                // A field that is taken from another group is not taken from that of its name.
                let is_taken = |named: &Target| !fields.iter().any(|(target, _)| target == named);
                let target = set
                    .map(|(target, _)| *target)
                    .or_else(|| named.filter(is_taken));
                let usage = target.map_or_else(|| Use::Other(name.to_owned()), Use::Target);
                Some((place, usage))
            })
            .collect();
        if groups.is_empty() {
            return Err(ParserError::NoGroups);
        }
        Ok(Self {
            locations: regex.capture_locations(),
            regex,
            groups,
        })
    }

    pub(super) fn parse<'l>(
        &mut self,
        line: &'l str,
        clock: &mut Clock,
        proxies: &Proxies,
    ) -> Result<Record<'l>, Unparsed> {
        let Self {
            regex,
            locations,
            groups,
        } = self;
        regex
            .captures_read(locations, line)
            .ok_or(Unparsed::NoMatch)?;
        let mut record = Record {
            raw: line,
            ..Record::default()
        };
        let mut others = Vec::new();
        let mut forwarded = None;
        for (place, usage) in groups {
            let text = locations.get(*place);
            let Some(text) = text.and_then(|(start, end)| line.get(start..end)) else {
                continue;
            };
            match usage {
                Use::Target(Target::ForwardedFor) => forwarded = Some(text),
                Use::Target(target) => set(&mut record, *target, text, clock),
                Use::Other(name) => {
                    others.push((Cow::Owned(name.clone()), Cow::Borrowed(text)));
                }
            }
        }
        record.source = proxies.client(record.source, forwarded);
        if !others.is_empty() {
            record.fields = Fields::Groups(others);
        }
        Ok(record)
    }
}

/// Sets a field from a group's text.
fn set<'l>(record: &mut Record<'l>, target: Target, text: &'l str, clock: &mut Clock) {
    let value = || Some(Cow::Borrowed(text)).filter(|text| !matches!(text.as_ref(), "" | "-"));
    let header = || match text {
        "" | "-" => Header::Absent,
        _ => Header::Sent(Cow::Borrowed(text)),
    };
    match target {
        Target::Source => record.source = address(text),
        Target::Time => record.time = clock.any(text),
        Target::Method => record.method = value(),
        Target::Path => record.path = value(),
        Target::Status => record.status = text.parse().ok(),
        Target::Bytes => record.bytes = text.parse().ok(),
        Target::UserAgent => record.headers.user_agent = header(),
        Target::Referer => record.headers.referer = header(),
        Target::Key => record.key = value(),
        Target::User => record.user = value(),
        Target::Message => record.message = value(),
        Target::ForwardedFor => {}
    }
}

/// The crate's errors are a drawing of several lines; the last one says what is wrong.
fn in_a_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
