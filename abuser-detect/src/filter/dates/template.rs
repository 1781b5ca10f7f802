//! What a date looks like: fail2ban's date patterns, which are regular expressions with strptime's
//! `%` codes.

use std::sync::{Arc, LazyLock, OnceLock};

use super::{super::pattern::Pattern, strptime::Fields};
use crate::filter::pattern::Scratch;

pub(super) const DAYS: &str = "mon|tue|wed|thu|fri|sat|sun";
pub(super) const MONTHS: &str = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
const ZONE: &str = "[A-Z](?:[A-Z]{2,4})?";
/// Within a line: not amid a word.
const WORD_BEGIN: &str = r"(?=^|\b|\W)";
const WORD_END: &str = r"(?=\b|\W|$)";
const LINE_BEGIN: &str = "{^LN-BEG}";

/// What fail2ban looks for if a filter does not say, in this order; most of them first where a line
/// begins.
const DEFAULTS: [&str; 17] = [
    // 2026-01-23T21:59:59.981Z, 2026/01/23 21:59:59, 2026.01.23  8:59:59 +0100
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    // Sun Jan 23 21:59:59.011 2026, Jan 23 21:59:59
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // Sun Jan 23 2026 21:59:59.011
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    // 23/01/2026 21:59:59, 23-01-26 21:59:59
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    // 23/Jan/2026:21:59:59 +0100, 23-Jan-2026 21:59:59.252
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    // 01/23/2026:21:59:59
    r"%m/%d/%ExY:%H:%M:%S",
    // 01-23-2026 21:59:59.252
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    "EPOCH",
    // 21:59:59
    r"{^LN-BEG}%H:%M:%S",
    // <01/23/26@21:59:59>
    r"^<%m/%d/%Exy@%H:%M:%S>",
    // 260123 21:59:59
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    // Jan 23, 2026 9:59:59 PM
    r"%b %d, %ExY %I:%M:%S %p",
    // Jan-23-26 21:59:59
    r"^%b-%d-%Exy %k:%M:%S",
    // 20260123T215959, 20260123-21:59:59
    r"%ExY%Exm%Exd(?:-|T|  ?)%ExH:?%ExM:?%ExS(?:[.,]%f)?(?:\s*%z)?",
    // PDT Jan 23 21:59:59
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // +00:00 Jan 23 21:59:59.011 2026
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    "TAI64N",
];

/// One way to find and read a date.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) name: String,
    /// As it was written, if it has `%` codes.
    source: Option<String>,
    regex: String,
    pub(super) anchored: bool,
    kind: Kind,
    pub(super) weight: f64,
    compiled: OnceLock<Option<Compiled>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fields,
    Epoch { long: bool, group: usize },
    Tai64n,
}

#[derive(Debug)]
struct Compiled {
    pattern: Pattern,
    fields: Fields,
}

/// Where a template may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Anywhere,
    Word,
    Line,
}

/// Where a date was found: the whole match and the date itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) date: (usize, usize),
}

impl Template {
    /// The template of a pattern.
    ///
    /// # Errors
    /// A `%` that is no code, or what is wrong with the expression.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let key = if pattern.contains('%') {
            pattern.to_owned()
        } else {
            pattern.to_uppercase()
        };
        let long = key.contains("LEPOCH");
        if let Some(at) = epoch_tag(&key) {
            return Ok(Self::epoch_within(pattern, at, long));
        }
        match key.as_str() {
            "EPOCH" | "LEPOCH" => return Ok(Self::epoch(long, false)),
            "{^LN-BEG}EPOCH" | "^EPOCH" | "{^LN-BEG}LEPOCH" | "^LEPOCH" => {
                return Ok(Self::epoch(long, true));
            }
            "TAI64N" => return Ok(Self::tai64n(false)),
            "{^LN-BEG}TAI64N" | "^TAI64N" => return Ok(Self::tai64n(true)),
            _ => {}
        }
        let (mut text, mut begin, mut end) = (pattern, Begin::Word, true);
        if let Some(rest) = text.strip_prefix("{UNB}") {
            (text, begin, end) = (rest, Begin::Anywhere, false);
        }
        if begin == Begin::Word
            && let Some(rest) = text.strip_prefix(LINE_BEGIN)
        {
            (text, begin) = (rest, Begin::Line);
        }
        let mut regex = codes(text)?;
        if has_words(text) {
            regex.insert_str(0, "(?i)");
        }
        let mut template = Self::with(&regex, text.to_owned(), begin, end, Kind::Fields);
        template.source = Some(pattern.to_owned());
        Ok(template)
    }

    fn epoch(long: bool, line: bool) -> Self {
        let digits = epoch_digits(long);
        let name = if long { "LongEpoch" } else { "Epoch" };
        let kind = Kind::Epoch { long, group: 1 };
        if line {
            return Self::with(digits, name.to_owned(), Begin::Line, true, kind);
        }
        // Where a line begins, perhaps in brackets, or in what SELinux writes.
        let regex = format!(r"((?:^|(?<=^\[)|(?<=\baudit\()){digits})");
        Self::with(&regex, name.to_owned(), Begin::Anywhere, true, kind)
    }

    fn epoch_within(pattern: &str, (at, len): (usize, usize), long: bool) -> Self {
        let before = pattern.get(..at).unwrap_or_default();
        let after = pattern.get(at + len..).unwrap_or_default();
        let digits = epoch_digits(long);
        let mut regex = format!("{before}({digits}){after}");
        if !grouped(pattern) {
            regex = format!("({regex})");
        }
        let kind = Kind::Epoch { long, group: 2 };
        Self::with(&regex, pattern.to_owned(), Begin::Word, true, kind)
    }

    fn tai64n(line: bool) -> Self {
        let begin = if line { Begin::Line } else { Begin::Anywhere };
        Self::with(
            "@[0-9a-f]{24}",
            "TAI64N".to_owned(),
            begin,
            true,
            Kind::Tai64n,
        )
    }

    /// Bounds an expression by words or the line, and sees to it that its first group is the date.
    fn with(regex: &str, mut name: String, begin: Begin, end: bool, kind: Kind) -> Self {
        let (flags, mut regex) = take_flags(regex.trim());
        let bound_begin = begin != Begin::Anywhere && !begins_bound(&regex);
        let bound_end = end && !ends_bound(&regex);
        if !grouped(&regex) {
            let (start, rest) = match regex.strip_prefix('^') {
                Some(rest) => ("^", rest),
                None => ("", regex.as_str()),
            };
            let (rest, stop) = match rest.strip_suffix('$') {
                Some(rest) => (rest, "$"),
                None => (rest, ""),
            };
            regex = format!("{start}({rest}){stop}");
        }
        let mut anchored = false;
        if bound_begin {
            if begin == Begin::Line {
                regex = format!(r"^(?:\W{{0,2}})?{regex}");
                if !name.starts_with(LINE_BEGIN) {
                    name.insert_str(0, LINE_BEGIN);
                }
                anchored = true;
            } else {
                regex = format!("{WORD_BEGIN}{regex}");
            }
        }
        if bound_end {
            regex.push_str(WORD_END);
        }
        let group_start = regex
            .strip_prefix("(?:^")
            .or_else(|| regex.strip_prefix("(^"));
        anchored |=
            regex.starts_with('^') || group_start.is_some_and(|rest| !rest.starts_with('|'));
        let stop = regex.strip_suffix(')').unwrap_or(&regex);
        anchored |= stop
            .strip_suffix('$')
            .is_some_and(|rest| !rest.ends_with(['\\', '|']));
        let regex = format!("{flags}{}", without_stars(&regex));
        Self {
            name,
            source: None,
            regex,
            anchored,
            kind,
            weight: 1.0,
            compiled: OnceLock::new(),
        }
    }

    /// The same where a line begins; `None` if it is so already.
    fn at_line_begin(&self) -> Option<Self> {
        if self.name.starts_with(LINE_BEGIN) || self.name.starts_with('^') {
            return None;
        }
        let text = self.source.as_ref().unwrap_or(&self.name);
        let mut template = Self::new(&format!("{LINE_BEGIN}{text}")).ok()?;
        if template.name == self.name {
            return None;
        }
        template.weight = 100.0;
        Some(template)
    }

    /// The same as part of a pattern that has it as `{DATE}`.
    pub(super) fn within(&self, pattern: &str) -> Result<Self, String> {
        let text = self.source.as_ref().unwrap_or(&self.name);
        let text = text.strip_prefix("{UNB}").unwrap_or(text);
        let text = text.strip_prefix(LINE_BEGIN).unwrap_or(text);
        let text = text
            .strip_prefix("(?:^|\\b|\\W)")
            .or_else(|| text.strip_prefix("(^|\\b|\\W)"))
            .unwrap_or(text);
        let text = text.strip_suffix(WORD_END).unwrap_or(text);
        let mut out = String::new();
        let mut rest = pattern;
        while let Some(at) = date_tag(rest) {
            out.push_str(rest.get(..at).unwrap_or_default());
            out.push_str(text);
            rest = rest.get(at + DATE.len()..).unwrap_or_default();
        }
        out.push_str(rest);
        Self::new(&out)
    }

    fn compile(&self) -> Result<Compiled, String> {
        let keep = match self.kind {
            Kind::Epoch { group, .. } => group,
            Kind::Fields | Kind::Tai64n => 1,
        };
        let pattern = Pattern::new(&self.regex, false, keep)?;
        let fields = Fields::of(&pattern);
        Ok(Compiled { pattern, fields })
    }

    /// Compiles it now.
    ///
    /// # Errors
    /// What is wrong with its expression.
    pub(super) fn check(&self) -> Result<(), String> {
        let compiled = self.compile()?;
        // Nobody else has it yet.
        let _ = self.compiled.set(Some(compiled));
        Ok(())
    }

    fn compiled(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| self.compile().ok()).as_ref()
    }

    /// Where a date is in the text; the scratch then has its parts.
    pub(super) fn find(&self, text: &str, scratch: &mut Scratch) -> Option<Place> {
        self.find_from(text, 0, scratch)
    }

    /// The same, from `start` on.
    pub(super) fn find_from(
        &self,
        text: &str,
        start: usize,
        scratch: &mut Scratch,
    ) -> Option<Place> {
        let compiled = self.compiled()?;
        if compiled.pattern.search_from(text, start, scratch) != crate::filter::pattern::Found::Yes
        {
            return None;
        }
        let (start, end) = scratch.group(0)?;
        let date = scratch.group(1).unwrap_or((start, start));
        Some(Place { start, end, date })
    }

    /// The time of the date that was found last, in milliseconds.
    pub(super) fn read(
        &self,
        text: &str,
        scratch: &Scratch,
        clock: &super::Clock<'_>,
    ) -> Option<u64> {
        let group = |group| {
            scratch
                .group(group)
                .and_then(|(from, to)| text.get(from..to))
        };
        match self.kind {
            Kind::Fields => self.compiled()?.fields.time(&group, clock),
            Kind::Epoch {
                long,
                group: number,
            } => {
                let digits = group(number)?;
                let value: f64 = digits.parse().ok()?;
                let seconds = if long && digits.len() >= 16 && !digits.contains('.') {
                    value / 1_000_000.0
                } else if long && digits.len() >= 13 {
                    value / 1000.0
                } else {
                    value
                };
                millis(seconds)
            }
            Kind::Tai64n => {
                let seconds = u64::from_str_radix(group(1)?.get(2..17)?, 16).ok()?;
                seconds.checked_mul(1000)
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was looked at whether it is in range"
)]
fn millis(seconds: f64) -> Option<u64> {
    let millis = (seconds * 1000.0).round();
    (0.0..1e15).contains(&millis).then_some(millis as u64)
}

/// All templates that fail2ban has: first those where a line begins.
pub(super) fn all() -> &'static [Arc<Template>] {
    static ALL: LazyLock<Vec<Arc<Template>>> = LazyLock::new(|| {
        let begin = plain()
            .iter()
            .filter_map(|template| template.at_line_begin().map(Arc::new));
        begin.chain(plain().iter().cloned()).collect()
    });
    &ALL
}

/// The templates as they are listed.
pub(super) fn plain() -> &'static [Arc<Template>] {
    static PLAIN: LazyLock<Vec<Arc<Template>>> = LazyLock::new(|| {
        DEFAULTS
            .iter()
            .filter_map(|pattern| Template::new(pattern).ok())
            .map(Arc::new)
            .collect()
    });
    &PLAIN
}

const DATE: &str = "{DATE}";

/// Where `{DATE}` is.
pub(super) fn date_tag(pattern: &str) -> Option<usize> {
    let upper = pattern.to_ascii_uppercase();
    let mut found = upper.match_indices(DATE).map(|(at, _)| at);
    found.find(|&at| {
        !pattern
            .get(..at)
            .is_some_and(|before| before.ends_with('\\'))
    })
}

/// Where `{EPOCH}` or `{LEPOCH}` is, and how long it is.
fn epoch_tag(key: &str) -> Option<(usize, usize)> {
    let upper = key.to_ascii_uppercase();
    ["{EPOCH}", "{LEPOCH}"].into_iter().find_map(|tag| {
        let at = upper.find(tag)?;
        let escaped = upper.get(..at).is_some_and(|before| before.ends_with('\\'));
        (!escaped).then_some((at, tag.len()))
    })
}

fn epoch_digits(long: bool) -> &'static str {
    if long {
        r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?"
    } else {
        r"\d{10,11}\b(?:\.\d{3,6})?"
    }
}

/// Whether it has `%` codes for names of days, months or halves of the day.
fn has_words(pattern: &str) -> bool {
    let mut before = None;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '%' && before != Some('%') && chars.peek().is_some_and(|c| "aAbBpc".contains(*c)) {
            return true;
        }
        before = Some(c);
    }
    false
}

/// A pattern with its `%` codes as expressions.
fn codes(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() * 4);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let exact = rest.strip_prefix("Ex");
        let code = exact.unwrap_or(rest).chars().next();
        let Some(code) = code.filter(char::is_ascii) else {
            return Err("a `%` at its end; write `%%` for the character".to_owned());
        };
        let regex = code_regex(code, exact.is_some());
        out.push_str(&regex.ok_or_else(|| {
            let exact = if exact.is_some() { "Ex" } else { "" };
            format!("`%{exact}{code}` is no code; write `%%` for the character")
        })?);
        rest = rest
            .get(if exact.is_some() { 3 } else { 1 }..)
            .unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

fn code_regex(code: char, exact: bool) -> Option<String> {
    let simple = match (code, exact) {
        ('%', false) => "%",
        ('d', false) => r"(?P<d>[12]\d|[0 ]?[1-9]|3[01])",
        ('d', true) => r"(?P<d>[12]\d|0[1-9]|3[01])",
        ('m', false) => "(?P<m>0?[1-9]|1[0-2])",
        ('m', true) => "(?P<m>0[1-9]|1[0-2])",
        ('Y', false) => r"(?P<Y>\d{4})",
        // The century from 2000 on, but not what is more likely a count of bits.
        ('Y', true) => r"(?P<Y>20[0-3]\d)",
        ('y', _) => r"(?P<y>\d{2})",
        ('H', false) => r"(?P<H>[01]?\d|2[0-3])",
        ('H', true) => r"(?P<H>[01]\d|2[0-3])",
        ('M', false) => r"(?P<M>[0-5]?\d)",
        ('M', true) => r"(?P<M>[0-5]\d)",
        ('S', false) => r"(?P<S>[0-5]?\d|6[01])",
        ('S', true) => r"(?P<S>[0-5]\d|6[01])",
        ('k', false) => r" ?(?P<H>[0-2]?\d)",
        ('k', true) => r" ?(?P<H>[01]?\d|2[0-3])",
        ('l', false) => r" ?(?P<I>1?\d)",
        ('l', true) => r" ?(?P<I>1[0-2]|\d)",
        ('I', false) => "(?P<I>1[0-2]|0[1-9]|[1-9])",
        ('f', false) => r"(?P<f>\d{1,6})",
        ('j', false) => r"(?P<j>36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])",
        ('p', false) => "(?P<p>am|pm)",
        ('w', false) => "(?P<w>[0-6])",
        ('u', false) => "(?P<u>[1-7])",
        ('U', false) => r"(?P<U>5[0-3]|[0-4]\d|\d)",
        ('W', false) => r"(?P<W>5[0-3]|[0-4]\d|\d)",
        ('V', false) => r"(?P<V>5[0-3]|0[1-9]|[1-4]\d|\d)",
        ('G', false) => r"(?P<G>\d{4})",
        ('A', false) => "(?P<A>wednesday|thursday|saturday|tuesday|monday|friday|sunday)",
        ('B', false) => {
            "(?P<B>september|february|november|december|january|october|august|march|april|june|july|may)"
        }
        ('Z', false) => "(?P<Z>Z|[A-Z]{3,5})",
        ('z', false) => r"(?P<z>Z|UTC|GMT|[+-][01]\d(?::?\d{2})?)",
        _ => "",
    };
    if !simple.is_empty() {
        return Some(simple.to_owned());
    }
    Some(match (code, exact) {
        ('a', false) => format!("(?P<a>{DAYS})"),
        ('b', false) => format!("(?P<b>{MONTHS})"),
        ('Z', true) => format!("(?P<Z>{ZONE})"),
        ('z', true) => format!(r"(?P<z>(?:{ZONE})?[+-][01]\d(?::?\d{{2}})?|{ZONE})"),
        ('c', false) => codes(r"%a\s+%b\s+%d\s+%H:%M:%S\s+%Y").ok()?,
        ('x', false) => codes("%m/%d/%y").ok()?,
        ('X', false) => codes("%H:%M:%S").ok()?,
        _ => return None,
    })
}

/// Splits off the flags for the whole expression, wherever they are.
fn take_flags(regex: &str) -> (String, String) {
    for (at, _) in regex.match_indices("(?") {
        let (before, rest) = regex.split_at(at);
        let inner = rest.get(2..).unwrap_or_default();
        let end = inner
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(inner.len());
        if end > 0
            && !before.ends_with('\\')
            && inner.get(end..).is_some_and(|rest| rest.starts_with(')'))
        {
            let (flags, after) = rest.split_at(end + 3);
            return (flags.to_owned(), format!("{before}{after}"));
        }
    }
    (String::new(), regex.to_owned())
}

/// Whether it has a group without a name.
fn grouped(regex: &str) -> bool {
    regex.match_indices('(').any(|(at, _)| {
        let (before, rest) = regex.split_at(at);
        !before.ends_with('\\') && !before.ends_with("(?") && !rest.starts_with("(?")
    })
}

/// Whether it says itself where it begins.
fn begins_bound(regex: &str) -> bool {
    let inner = regex.trim_start_matches('(');
    let group = inner.len() < regex.len();
    inner.starts_with('^') || inner.starts_with("**") || (group && inner.starts_with("?:^"))
}

/// Whether it says itself where it ends.
fn ends_bound(regex: &str) -> bool {
    let ends = |end: &str| {
        regex
            .strip_suffix(end)
            .is_some_and(|rest| !rest.ends_with('\\'))
    };
    let stars = regex.trim_end_matches(')').strip_suffix("**");
    ["$", "$)", r"\b", r"\s"].into_iter().any(ends)
        || stars.is_some_and(|rest| !rest.ends_with('\\'))
}

/// Takes away the `**` that say that it is not bound.
fn without_stars(regex: &str) -> String {
    let inner = regex.trim_start_matches('(');
    let parens = regex.len() - inner.len();
    let mut out = match inner.strip_prefix("**") {
        Some(rest) => format!("{}{rest}", "(".repeat(parens)),
        None => regex.to_owned(),
    };
    let kept = out.trim_end_matches(')').len();
    let parens = out.len() - kept;
    if let Some(rest) = out.get(..kept).and_then(|out| out.strip_suffix("**"))
        && !rest.ends_with('\\')
    {
        out = format!("{rest}{}", ")".repeat(parens));
    }
    out
}
