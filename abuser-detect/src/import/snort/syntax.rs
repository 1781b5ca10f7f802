//! Rules and other statements, as Snort 2, Snort 3 and Suricata write them.

use std::{path::Path, sync::Arc};

use super::super::{ImportError, Place};

/// What is done about a match, at the begin of a rule.
const ACTIONS: [&str; 15] = [
    "alert",
    "log",
    "pass",
    "drop",
    "reject",
    "sdrop",
    "block",
    "rewrite",
    "react",
    "activate",
    "dynamic",
    "rejectsrc",
    "rejectdst",
    "rejectboth",
    "file_id",
];

/// One statement of a file.
#[derive(Debug)]
pub(super) enum Statement {
    Rule(Rule),
    /// `event_filter`, `suppress` and so on: pairs such as `sig_id 7`.
    Filter {
        kind: String,
        pairs: Vec<(String, String)>,
        place: Place,
    },
    /// Any other.
    Other {
        name: String,
        place: Place,
    },
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: String,
    pub(super) protocol: String,
    /// Source, its ports, direction, destination, its ports; empty for a rule of a service.
    pub(super) header: Vec<String>,
    pub(super) options: Vec<Parameter>,
    pub(super) place: Place,
}

/// An option of a rule; `Option` is another thing in Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// What follows the colon, as written.
    pub(super) value: String,
}

impl Rule {
    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().find(|option| option.name == name);
        option.map(|option| option.value.as_str())
    }
}

/// The statements of a file.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Statement>, ImportError> {
    let file: Arc<Path> = path.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut statements = Vec::new();
    let mut lines = text.lines().zip(1_usize..).peekable();
    while let Some((line, number)) = lines.next() {
        let place = Place {
            file: Arc::clone(&file),
            line: number,
        };
        let mut statement = String::new();
        let mut next = Some(line);
        let mut scan = Scan::default();
        while let Some(line) = next.take() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                // Between the lines of a rule of Snort 3, too.
            } else if let Some(begin) = trimmed.strip_suffix('\\').filter(|_| !scan.is_quoted) {
                scan.add(begin);
                statement.push_str(begin);
                statement.push(' ');
                next = lines.next().map(|(line, _)| line);
                continue;
            } else {
                scan.add(trimmed);
                statement.push_str(trimmed);
                statement.push(' ');
            }
            // Snort 3 lets a rule go on to the parenthesis that ends it.
            let is_whole = !scan.is_open() && (statement.contains('(') || !is_rule(&statement));
            let goes_on = !is_whole && !lines.peek().is_some_and(|(line, _)| begins_rule(line));
            if goes_on {
                next = lines.next().map(|(line, _)| line);
            }
        }
        let statement = statement.trim();
        if statement.is_empty() {
            continue;
        }
        if scan.is_quoted {
            return Err(place.error("a quote in the rule that begins here is not closed"));
        }
        if scan.is_open() {
            return Err(place.error("the rule that begins here has no )"));
        }
        statements.push(parse(statement, place)?);
    }
    Ok(statements)
}

/// Whether these are the first words of a rule.
fn is_rule(text: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or_default();
    ACTIONS.contains(&word)
}

fn begins_rule(line: &str) -> bool {
    is_rule(line) && line.contains('(')
}

/// What is open in what was read of a statement.
#[derive(Default)]
struct Scan {
    depth: usize,
    is_quoted: bool,
}

impl Scan {
    fn is_open(&self) -> bool {
        self.depth > 0 || self.is_quoted
    }

    fn add(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '"' => self.is_quoted = !self.is_quoted,
                '(' if !self.is_quoted => self.depth += 1,
                ')' if !self.is_quoted => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

fn parse(statement: &str, place: Place) -> Result<Statement, ImportError> {
    let (name, rest) = statement
        .split_once(char::is_whitespace)
        .unwrap_or((statement, ""));
    if matches!(
        name,
        "event_filter" | "threshold" | "suppress" | "rate_filter"
    ) {
        return Ok(Statement::Filter {
            kind: name.to_owned(),
            pairs: pairs(rest),
            place,
        });
    }
    if !ACTIONS.contains(&name) {
        return Ok(Statement::Other {
            name: name.to_owned(),
            place,
        });
    }
    let Some((header, options)) = rest.split_once('(') else {
        return Err(place.error("this rule has no options in parentheses"));
    };
    let Some((options, after)) = options.rsplit_once(')') else {
        return Err(place.error("the rule that begins here has no )"));
    };
    if !after.trim().is_empty() {
        return Err(place.error(format!("what is {:?} behind the rule's )?", after.trim())));
    }
    let mut header = words(header).into_iter();
    let Some(protocol) = header.next() else {
        return Err(place.error("this rule names no protocol"));
    };
    let header: Vec<_> = header.collect();
    if !matches!(header.len(), 0 | 5) {
        return Err(place.error(format!(
            "a rule has a source and its ports, -> and a destination and its ports; here are {} \
             words",
            header.len()
        )));
    }
    Ok(Statement::Rule(Rule {
        action: name.to_owned(),
        protocol,
        header,
        options: parameters(options),
        place,
    }))
}

/// The words of a header; a list in brackets is one.
fn words(header: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut depth = 0_usize;
    for c in header.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !c.is_whitespace() {
            word.push(c);
        } else if depth == 0 && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn parameters(text: &str) -> Vec<Parameter> {
    let split = split(text, ';').into_iter();
    split
        .filter(|option| !option.trim().is_empty())
        .map(|option| {
            let (name, value) = option.split_once(':').unwrap_or((option, ""));
            Parameter {
                name: name.trim().to_ascii_lowercase(),
                value: value.trim().to_owned(),
            }
        })
        .collect()
}

/// `type limit, track by_src` as pairs.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = split(text, ',').into_iter().map(|pair| {
        let pair = pair.trim();
        let (name, value) = pair.split_once(char::is_whitespace).unwrap_or((pair, ""));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

/// The parts of `text` between separators that are neither quoted, nor in brackets, nor behind a
/// backslash.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut depth, mut is_quoted) = (0, 0_usize, false);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '"' => is_quoted = !is_quoted,
            '[' if !is_quoted => depth += 1,
            ']' if !is_quoted => depth = depth.saturating_sub(1),
            c if c == separator && !is_quoted && depth == 0 => {
                parts.push(text.get(begin..at).unwrap_or_default());
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}
