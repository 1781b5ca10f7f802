//! Conditions as `where` takes them, written so that [`Condition`] reads the same back.

use ipnet::IpNet;

use crate::condition::Condition;

/// A test of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// The answer had this status.
    Status(u16),
    /// It is this text.
    Is(String, String),
    /// It has any text.
    Has(String),
    /// It begins with this text.
    StartsWith(String, String),
    /// It has this text in it.
    Contains(String, String),
    /// A regular expression matches in it.
    Matches(String, String),
    /// The client is one of these.
    From(Vec<IpNet>),
    /// One of these does not hold.
    Not(Vec<Test>),
}

impl Test {
    /// As it is written.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Status(status) => format!("status == {status}"),
            // A text cannot end with a backslash, an expression need not.
            Self::Is(field, text) if text.ends_with('\\') => {
                matches(field, "~", &format!("^{}$", regex::escape(text)))
            }
            Self::StartsWith(field, text) if text.ends_with('\\') => {
                matches(field, "~", &format!("^{}", regex::escape(text)))
            }
            Self::Contains(field, text) if text.ends_with('\\') => {
                matches(field, "~", &regex::escape(text))
            }
            Self::Is(field, text) => format!("{field} == {}", string(text)),
            Self::Has(field) => format!("has({field})"),
            Self::StartsWith(field, text) => format!("{field} starts_with {}", string(text)),
            Self::Contains(field, text) => format!("{field} contains {}", string(text)),
            Self::Matches(field, pattern) => matches(field, "~", pattern),
            Self::From(prefixes) => format!("source in {}", list(prefixes)),
            Self::Not(tests) => match &tests[..] {
                [test] => test.negated(),
                tests => {
                    let tests: Vec<_> = tests.iter().map(Self::negated).collect();
                    format!("({})", tests.join(" or "))
                }
            },
        }
    }

    /// That it does not hold. Not `not`, which would hold for a log that does not tell: that is no
    /// evidence.
    fn negated(&self) -> String {
        match self {
            Self::Status(status) => format!("status != {status}"),
            Self::Is(field, text) if !text.ends_with('\\') => {
                format!("{field} != {}", string(text))
            }
            Self::Is(field, text) => matches(field, "!~", &format!("^{}$", regex::escape(text))),
            Self::Has(field) => format!("{field} == \"\""),
            Self::StartsWith(field, text) => {
                matches(field, "!~", &format!("^{}", regex::escape(text)))
            }
            Self::Contains(field, text) => matches(field, "!~", &regex::escape(text)),
            Self::Matches(field, pattern) => matches(field, "!~", pattern),
            Self::From(prefixes) => format!("source not in {}", list(prefixes)),
            Self::Not(tests) => format!("({})", all(tests)),
        }
    }

    /// The same, if `where` can have it; the error says why not.
    pub(super) fn checked(self) -> Result<Self, String> {
        match self.written().parse::<Condition>() {
            Ok(_) => Ok(self),
            Err(error) => Err(format!("it cannot be a condition here: {}", error.problem)),
        }
    }
}

/// That all of these hold.
pub(super) fn all(tests: &[Test]) -> String {
    let tests: Vec<_> = tests.iter().map(Test::written).collect();
    tests.join(" and ")
}

fn matches(field: &str, operator: &str, pattern: &str) -> String {
    // An expression that ends with a backslash ends with one that is escaped.
    let pattern = match pattern.strip_suffix("\\\\") {
        Some(begin) => format!("{begin}[\\\\]"),
        None => pattern.to_owned(),
    };
    format!("{field} {operator} {}", string(&pattern))
}

fn list(prefixes: &[IpNet]) -> String {
    let prefixes: Vec<_> = prefixes
        .iter()
        .map(|prefix| format!("\"{prefix}\""))
        .collect();
    format!("[{}]", prefixes.join(", "))
}

/// `text` in quotes. A backslash is itself but before the quote that it is in.
fn string(text: &str) -> String {
    if text.contains('"') && !text.contains('\'') {
        format!("'{text}'")
    } else {
        format!("\"{}\"", text.replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Header, Headers, Record};

    fn holds(test: &Test, path: Option<&str>) -> bool {
        let written = test.written();
        let condition: Condition = written
            .parse()
            .unwrap_or_else(|error| panic!("{written}: {error}"));
        condition.holds(&Record {
            path: path.map(Into::into),
            ..Record::default()
        })
    }

    #[test]
    fn a_negation_holds_only_where_the_log_tells() {
        let absent = Test::Not(vec![Test::Has("user_agent".to_owned())]);
        let condition: Condition = absent.written().parse().expect("a condition");
        let with = |user_agent| Record {
            headers: Headers {
                user_agent,
                ..Headers::default()
            },
            ..Record::default()
        };
        assert!(condition.holds(&with(Header::Absent)));
        assert!(!condition.holds(&with(Header::Unknown)));
        assert!(!condition.holds(&with(Header::Sent("curl".into()))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn a_text_is_found_where_it_is_and_nowhere_else(
            text in prop_oneof!["[\\\\\"'a.]{1,9}", "[ -~]{1,9}", "\\PC{1,9}"],
            other in "[ -~]{0,9}",
        ) {
            let field = || "path".to_owned();
            for (test, expected) in [
                (Test::Is(field(), text.clone()), other == text),
                (Test::StartsWith(field(), text.clone()), other.starts_with(&text)),
                (Test::Contains(field(), text.clone()), other.contains(&text)),
                (Test::Matches(field(), regex::escape(&text)), other.contains(&text)),
            ] {
                prop_assert!(holds(&test, Some(&text)), "{}", test.written());
                prop_assert_eq!(holds(&test, Some(&other)), expected, "{}", test.written());
                prop_assert!(!holds(&test, None));
                let not = Test::Not(vec![test]);
                prop_assert!(!holds(&not, Some(&text)), "{}", not.written());
                prop_assert_eq!(holds(&not, Some(&other)), !expected, "{}", not.written());
                prop_assert!(!holds(&not, None));
            }
        }
    }
}
