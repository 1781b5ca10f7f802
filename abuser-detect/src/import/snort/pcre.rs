//! `pcre` as a condition.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    super::expression::Test,
    buffer::Buffer,
    content::{Conditions, negated, unknown, unquoted},
};

/// `^GET\s+` and `(?:GET|POST) ` at the begin of an expression.
static METHOD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^\^?(?:\((?:\?:)?([A-Z]{3,8}(?:\|[A-Z]{3,8})*)\)|([A-Z]{3,8}))(?:\\s|\\x20| )[+*]?(.*)$",
    )
    .ok()
});

/// `^User-Agent\x3a\s*` at the begin of an expression.
static HEADER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)^\^?(User|Content|Accept|Referer|Host|Cookie|Authorization|X|Origin)((?:\\?-[a-z]+)*)(?:\\?:|\\x3a)(?:\\s|\\x20| )?[+*]?(.*)$",
    )
    .ok()
});

/// Reads `"/\/api\/\d+/Ui"` where `buffer` is where the rule looks unless a letter says otherwise.
pub(super) fn conditions(value: &str, buffer: &Buffer) -> Result<(Buffer, Conditions), String> {
    let (is_negated, text) = negated(value);
    let text = unquoted(text).ok_or_else(|| format!("{text} is not in quotes"))?;
    let inner = text
        .strip_prefix('/')
        .and_then(|text| text.rsplit_once('/'))
        .ok_or_else(|| format!("{text} is not between slashes"))?;
    let (pattern, letters) = inner;
    let mut flags = String::new();
    let mut is_anchored = false;
    let mut buffer = buffer.clone();
    let mut remark = None;
    for letter in letters.chars() {
        match letter {
            'i' | 's' | 'm' | 'x' => flags.push(letter),
            'G' => flags.push('U'),
            'A' => is_anchored = true,
            'R' => remark = Some("where in the request it is to be does not matter here"),
            'E' | 'B' | 'O' => {}
            letter => {
                buffer = Buffer::of_letter(letter)
                    .ok_or_else(|| format!("what the letter {letter} behind it says is unknown"))?;
            }
        }
    }
    let mut found = Conditions {
        all: Vec::new(),
        remark,
    };
    let pattern = pattern.replace("\\/", "/").replace("\\\"", "\"");
    let pattern = if is_anchored {
        format!("^{pattern}")
    } else {
        pattern
    };
    let mut matches = |field: &str, pattern: &str| -> Result<(), String> {
        let flags = if flags.is_empty() {
            String::new()
        } else {
            format!("(?{flags})")
        };
        let pattern = format!("{flags}{pattern}");
        found
            .all
            .push(Test::Matches(field.to_owned(), pattern).checked()?);
        Ok(())
    };
    match &buffer {
        Buffer::Field(field) => matches(field, &pattern)?,
        Buffer::Named(field) => matches(field, &pattern)?,
        Buffer::Status => matches("status", &pattern)?,
        Buffer::Unknown(name) => return Err(unknown(name)),
        Buffer::Raw | Buffer::RequestLine | Buffer::Header => {
            request(&pattern, &buffer, &mut matches)?;
            if buffer == Buffer::Raw && !pattern.starts_with(['/', '^']) {
                found.remark = found.remark.or(Some(
                    "it is looked for in the request's target alone, not in its headers and body",
                ));
            }
        }
    }
    if is_negated {
        found.all = vec![Test::Not(found.all)];
    }
    Ok((buffer, found))
}

/// An expression that is looked for in more than a record has one field for.
fn request(
    pattern: &str,
    buffer: &Buffer,
    matches: &mut impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    if let Some(found) = HEADER.as_ref().and_then(|regex| regex.captures(pattern)) {
        let group = |number| found.get(number).map_or("", |group| group.as_str());
        let name = format!("{}{}", group(1), group(2).replace('\\', "")).to_ascii_lowercase();
        let field = match name.as_str() {
            "user-agent" => "user_agent".to_owned(),
            "referer" => "referer".to_owned(),
            name => format!("header.{name}"),
        };
        let rest = group(3);
        let rest = match rest.strip_suffix("\\r\\n") {
            Some(rest) => format!("^{rest}$"),
            None => format!("^{rest}"),
        };
        return if is_within_a_line(&rest) && !has_alternatives(&rest) {
            matches(&field, &rest)
        } else {
            Err("it looks at more than one header".to_owned())
        };
    }
    if *buffer == Buffer::Header {
        return Err("it looks for a part of a header without its name".to_owned());
    }
    if !is_within_a_line(pattern) || pattern.contains("HTTP/") {
        return Err("it looks at more than the request's method and target".to_owned());
    }
    if let Some(found) = METHOD.as_ref().and_then(|regex| regex.captures(pattern)) {
        let group = |number| found.get(number).map(|group| group.as_str());
        let rest = group(3).unwrap_or_default();
        if has_alternatives(rest) {
            return Err("it has alternatives of which only some name the method".to_owned());
        }
        let methods = group(1).or(group(2)).unwrap_or_default();
        matches("method", &format!("^(?:{methods})$"))?;
        return if rest.is_empty() {
            Ok(())
        } else {
            matches("path", &format!("^{rest}"))
        };
    }
    if pattern.starts_with('^') {
        return Err("it looks at the begin of what is sent, and does not name a method".to_owned());
    }
    matches("path", pattern)
}

/// Whether it looks for no end of a line. `[^\r\n]` does not.
fn is_within_a_line(pattern: &str) -> bool {
    let pattern = pattern
        .replace("[^\\r\\n]", "")
        .replace("[^\\n\\r]", "")
        .replace("[^\\n]", "")
        .replace("[^\\r]", "");
    !["\\r", "\\n", "\\x0d", "\\x0a", "\\x0D", "\\x0A"]
        .iter()
        .any(|end| pattern.contains(end))
}

/// Whether there is a `|` outside of all groups.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0_usize;
    let mut is_class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class => depth += 1,
            ')' if !is_class => depth = depth.saturating_sub(1),
            '|' if !is_class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}
