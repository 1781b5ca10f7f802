//! What a rule looks for, as conditions on records.
//!
//! A rule sees bytes of a request, a record has what a log tells of it. What is certain is
//! carried over: the method, the target, headers that logs have, and the status.

use super::{super::expression::Test, buffer::Buffer, syntax::split};

/// The methods that logs know.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND",
];

/// A `content`, with what modifies it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) buffer: Buffer,
    pub(super) is_negated: bool,
    pub(super) nocase: bool,
    pub(super) at_start: bool,
    pub(super) at_end: bool,
}

/// What comes of one: conditions that must all hold, and what is to be said about them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Conditions {
    pub(super) all: Vec<Test>,
    pub(super) remark: Option<&'static str>,
}

impl Conditions {
    fn of(condition: Test) -> Self {
        Self {
            all: vec![condition],
            remark: None,
        }
    }
}

/// Reads `!"GET /"` with Snort 3's modifiers behind it, which are returned.
pub(super) fn parse(value: &str) -> Result<(bool, Vec<u8>, Vec<&str>), String> {
    let mut parts = split(value, ',').into_iter().map(str::trim);
    let text = parts.next().unwrap_or_default();
    let (is_negated, text) = negated(text);
    let inner = unquoted(text).ok_or_else(|| format!("{text} is not in quotes"))?;
    Ok((is_negated, bytes(inner)?, parts.collect()))
}

/// What follows a `!`, if there is one.
pub(super) fn negated(text: &str) -> (bool, &str) {
    match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    }
}

/// What is between the quotes.
pub(super) fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// `GET |2f|` as bytes.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    let mut utf8 = [0; 4];
    while let Some(c) = chars.next() {
        match c {
            '|' => {
                let mut digits = String::new();
                loop {
                    match chars.next() {
                        Some('|') => break,
                        Some(c) if c.is_whitespace() => {}
                        Some(c) => digits.push(c),
                        None => return Err("a | is not closed".to_owned()),
                    }
                }
                let pairs = digits.as_bytes().chunks(2);
                for pair in pairs {
                    let pair = std::str::from_utf8(pair)
                        .ok()
                        .filter(|pair| pair.len() == 2);
                    let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
                    bytes.push(byte.ok_or_else(|| format!("|{digits}| is no list of bytes"))?);
                }
            }
            '\\' => {
                let c = chars.next().unwrap_or('\\');
                bytes.extend(c.encode_utf8(&mut utf8).bytes());
            }
            c => bytes.extend(c.encode_utf8(&mut utf8).bytes()),
        }
    }
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(bytes)
}

impl Content {
    /// The conditions that say the same; the error says why there are none.
    pub(super) fn conditions(&self) -> Result<Conditions, String> {
        let text = std::str::from_utf8(&self.bytes)
            .map_err(|_| "it looks for bytes that are no text".to_owned())?;
        let mut found = match &self.buffer {
            Buffer::Raw | Buffer::RequestLine => self.request(text)?,
            Buffer::Header => self.header_line(text)?,
            Buffer::Field(field) => Conditions::of(self.text(field, text)),
            Buffer::Named(field) => {
                let mut found = Conditions::of(self.text(field, text));
                found.remark = Some(NEEDS_HEADERS);
                found
            }
            Buffer::Status => Conditions::of(status(text)?),
            Buffer::Unknown(name) => return Err(unknown(name)),
        };
        if self.is_negated {
            found.all = vec![Test::Not(found.all)];
        }
        Ok(found)
    }

    /// That the text is in the field, where it is to be.
    fn text(&self, field: &str, text: &str) -> Test {
        let is_whole = field == "method" || (self.at_start && self.at_end);
        if (self.nocase && field != "method") || (self.at_end && !is_whole) {
            let flags = if self.nocase { "(?i)" } else { "" };
            let begin = if self.at_start { "^" } else { "" };
            let end = if self.at_end { "$" } else { "" };
            let pattern = format!("{flags}{begin}{}{end}", regex::escape(text));
            return Test::Matches(field.to_owned(), pattern);
        }
        if is_whole {
            Test::Is(field.to_owned(), text.to_owned())
        } else if self.at_start {
            Test::StartsWith(field.to_owned(), text.to_owned())
        } else {
            Test::Contains(field.to_owned(), text.to_owned())
        }
    }

    /// The text somewhere in a request.
    fn request(&self, text: &str) -> Result<Conditions, String> {
        let mut found = Conditions::default();
        let lines: Vec<_> = text.split("\r\n").collect();
        let is_several = lines.len() > 1;
        for (number, line) in lines.iter().enumerate() {
            if line.is_empty() {
                continue;
            }
            let is_ended = number + 1 < lines.len();
            if let Some((method, target)) = request_line(line) {
                found.all.push(is_method(method));
                if let Some((target, _version)) = target.split_once(" HTTP/") {
                    found.all.push(self.at("path", target, true, true));
                } else if !target.is_empty() {
                    found.all.push(self.at("path", target, true, false));
                }
            } else if METHODS.contains(line) && !is_several {
                found.all.push(is_method(line));
            } else if let Some((field, value, remark)) = header(line) {
                found.remark = found.remark.or(remark);
                found.all.push(self.header_value(&field, value, is_ended));
            } else if line.contains("HTTP/") {
                return Err("a record does not have the protocol's version".to_owned());
            } else if is_several || line.contains(char::is_control) {
                return Err("it looks for a part of a request that no access log has".to_owned());
            } else {
                found.all.push(self.at("path", line, false, false));
                if !line.starts_with('/') {
                    found.remark = Some(
                        "it is looked for in the request's target alone, not in its headers and body",
                    );
                }
            }
        }
        if found.all.is_empty() {
            return Err("it looks for the end of a line, which every request has".to_owned());
        }
        Ok(found)
    }

    /// A part of the headers, which must be one header.
    fn header_line(&self, text: &str) -> Result<Conditions, String> {
        let line = text.strip_suffix("\r\n");
        let (line, is_ended) = (
            line.unwrap_or(text).trim_start_matches("\r\n"),
            line.is_some(),
        );
        match header(line) {
            Some((field, value, remark)) if !line.contains(['\r', '\n']) => Ok(Conditions {
                all: vec![self.header_value(&field, value, is_ended)],
                remark,
            }),
            _ => Err(
                "it looks for a part of a header without its name, or in several at once"
                    .to_owned(),
            ),
        }
    }

    fn header_value(&self, field: &str, value: &str, is_ended: bool) -> Test {
        if value.is_empty() && !is_ended {
            return Test::Has(field.to_owned());
        }
        self.at(field, value, true, is_ended)
    }

    fn at(&self, field: &str, text: &str, at_start: bool, at_end: bool) -> Test {
        let part = Self {
            bytes: Vec::new(),
            buffer: Buffer::Raw,
            is_negated: false,
            nocase: self.nocase,
            at_start,
            at_end,
        };
        part.text(field, text)
    }
}

/// Why a buffer is of no use.
pub(super) fn unknown(name: &str) -> String {
    format!("`{name}` is a part of the traffic that no access log has")
}

const NEEDS_HEADERS: &str = "this header is only known of logs that have it, as JSON logs may";

fn is_method(method: &str) -> Test {
    Test::Is("method".to_owned(), method.to_owned())
}

/// `GET /x` as method and target.
fn request_line(line: &str) -> Option<(&'static str, &str)> {
    METHODS
        .iter()
        .find_map(|method| Some((*method, line.strip_prefix(method)?.strip_prefix(' ')?)))
}

/// `User-Agent: curl` as field and value.
fn header(line: &str) -> Option<(String, &str, Option<&'static str>)> {
    let (name, value) = line.split_once(':')?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || !name.chars().all(is_token) || name.len() < 3 {
        return None;
    }
    let value = value.strip_prefix(' ').unwrap_or(value);
    let (field, remark) = match name.to_ascii_lowercase().as_str() {
        "user-agent" => ("user_agent".to_owned(), None),
        "referer" => ("referer".to_owned(), None),
        name => (format!("header.{name}"), Some(NEEDS_HEADERS)),
    };
    Some((field, value, remark))
}

/// `404`, or the `40` that 400 to 409 have in common.
fn status(text: &str) -> Result<Test, String> {
    let number: u16 = text
        .parse()
        .map_err(|_| format!("{text:?} is no part of a status"))?;
    match text.len() {
        3 => Ok(Test::Status(number)),
        2 => Ok(Test::Matches(
            "status".to_owned(),
            format!("^{number}[0-9]$"),
        )),
        1 => Ok(Test::Matches(
            "status".to_owned(),
            format!("^{number}[0-9][0-9]$"),
        )),
        _ => Err(format!("{text:?} is no status")),
    }
}
