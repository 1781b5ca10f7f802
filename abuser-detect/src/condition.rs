//! Which records a detector or `abuser scan` looks at:
//! `status == 401 and path ~ "^/api/" and not source in 10.0.0.0/8`.
//!
//! | test | holds if |
//! | --- | --- |
//! | `status == 401`, `!= < <= > >=` | a number compares so; texts compare by their bytes |
//! | `time >= "2024-01-15T10:00:00Z"` | it happened then or later |
//! | `path ~ "^/api/"`, `!~` | a regular expression of the `regex` crate fits, or does not |
//! | `message contains "limit"`, `path starts_with "/api/"` | the text has it |
//! | `status in [401, 403]`, `not in` | it is one of them |
//! | `source in 10.0.0.0/8`, `source in [10.0.0.0/8, "2001:db8::/32"]` | it lies in one of the prefixes |
//! | `has(key)` | there is one, and it is not empty |
//!
//! `not` (`!`) binds tighter than `and` (`&&`), and that tighter than `or` (`||`). Texts are in `"` or `'`; in
//! them a backslash before the quote that they are in is none, and any other is itself, so
//! that regular expressions stand as they are. The names are those of [`crate::field`].
//!
//! A test of a field that a record does not have is false, also one with `!=` or `!~`. A header
//! that was not sent is empty.

mod parse;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use memchr::memmem::Finder;
use regex::Regex;

use crate::{
    field::{Field, Value},
    record::Record,
    time::Time,
};

/// A condition, ready to be asked about records.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    node: Node,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the condition: {problem}")]
pub struct ConditionError {
    /// Where, in characters; the first is 1.
    pub column: usize,
    /// What is wrong there, and what would not be.
    pub problem: String,
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        Ok(Self {
            text: text.to_owned(),
            node: parse::parse(text)?,
        })
    }
}

impl fmt::Display for Condition {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Whether it holds for a record. Allocates nothing.
    pub fn holds(&self, record: &Record<'_>) -> bool {
        self.node.holds(record)
    }
}

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Has(Field),
    Test(Field, Test),
}

/// What a field is asked.
#[derive(Clone, Debug)]
enum Test {
    Number(Comparison, f64),
    Text(Comparison, Box<str>),
    Time(Comparison, Time),
    Matches(Regex, Wanted),
    Contains(Box<Finder<'static>>),
    StartsWith(Box<str>),
    In(Items, Wanted),
}

/// Whether it is to be so.
type Wanted = bool;

/// What a field may be one of.
#[derive(Clone, Debug, Default)]
struct Items {
    numbers: Vec<f64>,
    texts: Vec<Box<str>>,
    prefixes: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Node {
    fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(record)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(record)),
            Self::Not(node) => !node.holds(record),
            Self::Has(field) => field.of(record).is_some_and(|value| match value {
                Value::Text(text) => !text.is_empty(),
                _ => true,
            }),
            Self::Test(field, test) => field.of(record).is_some_and(|value| test.holds(&value)),
        }
    }
}

impl Test {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Number(comparison, expected) => number(value)
                .and_then(|number| number.partial_cmp(expected))
                .is_some_and(|ordering| comparison.holds(ordering)),
            Self::Text(comparison, expected) => {
                value.with_text(|text| comparison.holds(text.cmp(expected)))
            }
            Self::Time(comparison, expected) => {
                matches!(value, Value::Time(time) if comparison.holds(time.cmp(expected)))
            }
            Self::Matches(regex, wanted) => value.with_text(|text| regex.is_match(text)) == *wanted,
            Self::Contains(finder) => {
                value.with_text(|text| finder.find(text.as_bytes()).is_some())
            }
            Self::StartsWith(start) => value.with_text(|text| text.starts_with(&**start)),
            Self::In(items, wanted) => items.have(value) == *wanted,
        }
    }
}

impl Items {
    fn have(&self, value: &Value<'_>) -> bool {
        if !self.numbers.is_empty()
            && let Some(number) = number(value)
            && self.numbers.contains(&number)
        {
            return true;
        }
        if !self.prefixes.is_empty()
            && let Some(address) = address(value)
            && self.prefixes.iter().any(|prefix| prefix.contains(&address))
        {
            return true;
        }
        !self.texts.is_empty()
            && value.with_text(|text| self.texts.iter().any(|item| **item == *text))
    }
}

/// A number, also of a text that is one: groups of regular expressions are texts.
#[expect(
    clippy::cast_precision_loss,
    reason = "no log has counts of which the sixteenth digit matters"
)]
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Whole(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Address(_) | Value::Time(_) => None,
    }
}

fn address(value: &Value<'_>) -> Option<IpAddr> {
    match value {
        Value::Address(address) => Some(*address),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
