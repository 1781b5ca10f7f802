//! `ipset save`: sets of addresses and networks, with timeouts and comments.

use std::{
    collections::HashMap,
    io::{self, BufRead},
    time::Duration,
};

use super::{BadLine, Expiry, Item, Sink, entries, lines};

/// So many sets there are at most in a kernel.
const MAX_SETS: usize = 65_536;

/// What a set says about its elements.
#[derive(Clone, Copy)]
enum Set {
    /// They hold this long if they do not say, and are networks of this length if they are of
    /// one.
    Read {
        default: Expiry,
        netmask: Option<u8>,
    },
    /// They are none for abuser, which was told.
    Skipped,
}

/// A set that nobody created here.
const UNKNOWN: Set = Set::Read {
    default: Expiry::Never,
    netmask: None,
};

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    let mut sets: HashMap<String, Set> = HashMap::new();
    lines::each(input, sink, |number, line, sink| {
        if line.trim_start().starts_with('#') {
            return;
        }
        let read = Line::of(line).and_then(|parsed| match parsed.words[..] {
            // The end of a file made by hand; and what has no part in who is listed.
            [] | ["COMMIT"] | ["flush" | "destroy", ..] => Ok(()),
            ["create" | "-N", name, kind, ref options @ ..] => {
                let set = create(kind, options);
                if sets.len() < MAX_SETS {
                    sets.insert(name.to_owned(), set.clone().unwrap_or(Set::Skipped));
                }
                set.map(|_| ())
            }
            ["add" | "-A", name, text, ref options @ ..] => {
                match sets.get(name).copied().unwrap_or(UNKNOWN) {
                    Set::Skipped => Ok(()),
                    Set::Read { default, netmask } => {
                        let (expires, reason) = add(default, options, parsed.quoted)?;
                        match netmask {
                            Some(length) if !text.contains('/') => {
                                let text = format!("{text}/{length}");
                                entries(number, line, &text, expires, reason, sink);
                            }
                            _ => entries(number, line, text, expires, reason, sink),
                        }
                        Ok(())
                    }
                }
            }
            _ => Err("neither `create` nor `add` of an ipset".to_owned()),
        });
        if let Err(problem) = read {
            sink(Item::Bad(BadLine::new(number, line, problem)));
        }
    })
}

fn create(kind: &str, options: &[&str]) -> Result<Set, String> {
    if !matches!(kind, "hash:ip" | "hash:net") {
        return Err(format!(
            "sets of type {kind} cannot be carried over, only hash:ip and hash:net; its elements \
             are left out"
        ));
    }
    let mut default = Expiry::Never;
    let mut netmask = None;
    for pair in options.windows(2) {
        match *pair {
            ["timeout", seconds] => {
                default = timeout(Some(seconds)).map_err(|problem| {
                    format!("{problem}; the elements of the set are left out")
                })?;
            }
            ["netmask", length] => {
                netmask = Some(length.parse().map_err(|_| {
                    format!("{length:?} is no netmask; the elements of the set are left out")
                })?);
            }
            ["bitmask", _] => {
                return Err(
                    "a set with a bitmask cannot be carried over; its elements are left out"
                        .to_owned(),
                );
            }
            _ => {}
        }
    }
    Ok(Set::Read { default, netmask })
}

/// Until when the element is there, and why.
fn add<'a>(
    default: Expiry,
    options: &[&'a str],
    quoted: Option<&'a str>,
) -> Result<(Expiry, Option<&'a str>), String> {
    let mut expires = default;
    let mut reason = quoted;
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        match option {
            "nomatch" => {
                return Err(
                    "abuser has no exceptions within a ban: put the prefix on the allow \
                            list instead"
                        .to_owned(),
                );
            }
            "timeout" => expires = timeout(options.next())?,
            // One of a single word needs no quotation marks.
            "comment" if quoted.is_none() => reason = options.next(),
            // Counters, and what else belongs to the set and not to the address.
            _ => {}
        }
    }
    Ok((expires, reason))
}

/// 0 is for good.
fn timeout(seconds: Option<&str>) -> Result<Expiry, String> {
    match seconds.map(str::parse) {
        Some(Ok(0)) => Ok(Expiry::Never),
        Some(Ok(seconds)) => Ok(Expiry::In(Duration::from_secs(seconds))),
        _ => Err("the timeout is not a number of seconds".to_owned()),
    }
}

/// A line, taken apart: its words, and what it has in quotation marks, which is its comment.
struct Line<'a> {
    words: Vec<&'a str>,
    quoted: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// A comment may hold anything but its end, also `\`, which ipset gives no meaning. One with
    /// quotation marks of its own, which the kernel does not forbid, is saved as it is: it ends
    /// with the last on the line.
    fn of(line: &'a str) -> Result<Self, String> {
        let Some((before, rest)) = line.split_once('"') else {
            return Ok(Self {
                words: line.split_whitespace().collect(),
                quoted: None,
            });
        };
        let Some((quoted, after)) = rest.rsplit_once('"') else {
            return Err("the quotation mark is not closed".to_owned());
        };
        let words = before.split_whitespace().chain(after.split_whitespace());
        Ok(Self {
            words: words.collect(),
            quoted: Some(quoted),
        })
    }
}
