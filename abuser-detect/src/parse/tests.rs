//! Lines as the real programs write them, and lines as attackers would have them written.

mod forged;
mod samples;
mod sshd;

use super::*;
use crate::{record::Header, time::Time};

/// A parser without proxies, for a zone two hours east.
fn parser(kind: Kind) -> Parser {
    trusting(kind, &[])
}

fn trusting(kind: Kind, proxies: &[&str]) -> Parser {
    let proxies = proxies.iter().map(|text| text.parse().expect("a prefix"));
    let settings = Settings {
        trusted_proxies: proxies.collect(),
        zone: TimeZone::fixed(jiff::tz::offset(2)),
        ..Settings::new(kind)
    };
    Parser::new(settings).expect("a parser")
}

fn with_fields(kind: Kind, pattern: Option<&str>, fields: &[(&str, &str)]) -> Parser {
    let fields = fields
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    let settings = Settings {
        pattern: pattern.map(str::to_owned),
        fields: fields.collect(),
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a prefix")],
        ..Settings::new(kind)
    };
    Parser::new(settings).expect("a parser")
}

/// The fields of a line by their names; none for those that are absent.
fn fields(record: &Record<'_>, names: &[&str]) -> Vec<Option<String>> {
    names
        .iter()
        .map(|name| record.field(name).map(|value| value.to_string()))
        .collect()
}

/// Asserts what a line's fields are; `~` is for those that it does not have.
#[track_caller]
fn assert_fields(parser: &mut Parser, line: &str, expected: &[(&str, &str)]) {
    let record = parser
        .parse(line)
        .unwrap_or_else(|error| panic!("{error}: {line}"));
    for (name, expected) in expected {
        let found = record.field(name).map(|value| value.to_string());
        assert_eq!(
            found.as_deref().unwrap_or("~"),
            *expected,
            "{name} of {line}"
        );
    }
}

#[test]
fn a_parser_that_makes_no_sense_is_refused_with_what_would() {
    let refused = |settings: Settings| Parser::new(settings).expect_err("nonsense").to_string();
    let fields = |kind, name: &str, place: &str| Settings {
        fields: [(name.to_owned(), place.to_owned())].into(),
        ..Settings::new(kind)
    };
    let pattern = |text: &str| Settings {
        pattern: Some(text.to_owned()),
        ..Settings::new(Kind::Regex)
    };
    for (error, phrases) in [
        (
            refused(Settings::new(Kind::Regex)),
            ["needs a pattern", "(?<source>"],
        ),
        (
            refused(pattern("(?<ip>[")),
            ["no regular expression", "unclosed"],
        ),
        (refused(pattern("(\\S+)")), ["no named group", "(?<source>"]),
        (
            refused(pattern("(?<a>(?:\\pL{900}){900})")),
            ["no regular expression", "size limit"],
        ),
        (
            refused(Settings {
                kind: Kind::Json,
                ..pattern("(?<ip>a)")
            }),
            ["\"json\" takes no pattern", "\"regex\""],
        ),
        (
            refused(fields(Kind::NginxCombined, "source", "x")),
            ["takes no fields", "json"],
        ),
        (
            refused(fields(Kind::Json, "sorce", "x")),
            ["\"sorce\"", "\"source\""],
        ),
        (
            refused(Settings {
                pattern: Some("(?<a>b)".into()),
                ..fields(Kind::Regex, "user", "c")
            }),
            ["\"user\"", "group \"c\""],
        ),
        (
            "nginx-combind"
                .parse::<Kind>()
                .expect_err("no parser")
                .to_string(),
            [
                "no parser \"nginx-combind\"",
                "did you mean \"nginx-combined\"",
            ],
        ),
    ] {
        for phrase in phrases {
            assert!(error.contains(phrase), "no {phrase:?} in {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn each_parser_has_a_name_that_finds_it() {
    for (name, kind) in Kind::ALL {
        assert_eq!(name.parse(), Ok(kind));
        assert_eq!(kind.to_string(), name);
    }
    for (place, (name, target)) in Target::ALL.into_iter().enumerate() {
        assert_eq!(name.parse(), Ok(target));
        assert_eq!(target as usize, place, "{name}");
    }
}

#[test]
fn what_is_no_line_of_a_log_is_refused_with_why() {
    for (kind, line, reason) in [
        (Kind::NginxCombined, "", "empty"),
        (Kind::NginxCombined, "hello", "request in quotes"),
        (
            Kind::NginxCombined,
            "a - - \"GET / HTTP/1.1\" 200 1",
            "time in brackets",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [10/Oct/2000:13:55:36] \"G / H\" 200 1",
            "time in brackets",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [40/Oct/2000:13:55:36 +0000] \"G / H\" 200 1",
            "the time",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET",
            "request in quotes",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /\"",
            "status",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /\" 200",
            "size",
        ),
        (
            Kind::NginxCombined,
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /\" abc 1",
            "status",
        ),
        (Kind::NginxError, "2024/01/15 10:00:00", "level"),
        (
            Kind::NginxError,
            "2024-01-15 10:00:00 [error] 1#1: x",
            "time",
        ),
        (Kind::NginxError, "short", "time"),
        (
            Kind::CaddyJson,
            r#"{"level":"info","msg":"serving initial configuration"}"#,
            "client",
        ),
        (Kind::Json, "{\"a\": ", "JSON"),
        (Kind::Json, "no object", "JSON"),
        (Kind::Json, "{} trailing", "JSON"),
        (
            Kind::HaproxyHttp,
            "Feb  6 12:12:09 localhost haproxy[1]: Proxy web started.",
            "client and time",
        ),
    ] {
        let error = parser(kind).parse(line).expect_err(line).to_string();
        assert!(error.contains(reason), "{kind}: {error}: {line}");
    }
    let deep = "{\"a\":".repeat(30_000);
    assert!(parser(Kind::Json).parse(&deep).is_err());
}
