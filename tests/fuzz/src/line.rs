//! What must hold for any line of any log.

use std::collections::BTreeMap;

use abuser_detect::{
    field::Value,
    line,
    parse::{Kind, Parser, Settings, guess},
    record::Record,
    time::Time,
};

/// The fields that any record may have, and some of JSON's and of groups.
const FIELDS: [&str; 19] = [
    "time",
    "source",
    "method",
    "path",
    "uri",
    "query",
    "status",
    "bytes",
    "user_agent",
    "referer",
    "key",
    "user",
    "message",
    "line",
    "header.host",
    "header.x-api-key",
    "request.remote_ip",
    "a",
    "a.b",
];

/// About when the lines were written.
const NOW: Time = Time(1_700_000_000_000);

/// Reads lines with the parser that the first byte names, as the second says it is configured. For
/// `regex` the first line is the pattern.
///
/// # Panics
///
/// If a record is of another line than it was made of, two parsers make two things of one log, or a
/// field is not what it is as text.
pub fn line(bytes: &[u8]) {
    let [kind, how, rest @ ..] = bytes else {
        return;
    };
    let (_, kind) = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let mut lines = rest.split(|byte| *byte == b'\n');
    let mut settings = Settings::new(kind);
    if kind == Kind::Regex {
        settings.pattern = lines.next().map(|line| line::text(line).into_owned());
    }
    if how & 1 != 0 {
        settings.trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().expect("a prefix"))
            .to_vec();
    }
    if how & 2 != 0 {
        let field = |(target, place): (&str, &str)| (target.to_owned(), place.to_owned());
        settings.fields = match kind {
            Kind::HaproxyHttp => BTreeMap::from([("user_agent", "captured.0")].map(field)),
            Kind::Regex => BTreeMap::from([("source", "a")].map(field)),
            _ => BTreeMap::from(
                [
                    ("source", "request.ip"),
                    ("time", "a"),
                    ("user", "a.b"),
                    ("status", "s"),
                ]
                .map(field),
            ),
        };
    }
    if how & 4 != 0 {
        settings.zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(-11));
    }
    let (Ok(mut parser), Ok(mut other)) = (Parser::new(settings.clone()), Parser::new(settings))
    else {
        return;
    };
    parser.set_now(NOW);
    other.set_now(NOW);
    let lines: Vec<_> = lines.map(line::text).collect();
    for text in &lines {
        let record = parser.parse(text);
        assert_eq!(record, other.parse(text), "read twice");
        if let Ok(record) = record {
            is_of_its_line(&record, text);
        }
    }
    let first: Vec<_> = lines.iter().take(20).collect();
    let guessed = guess(&first);
    assert_eq!(guessed, guess(&first), "guessed twice");
}

/// What a record has is what the line has, and is the same however it is asked for.
fn is_of_its_line(record: &Record<'_>, line: &str) {
    assert_eq!(record.raw, line);
    let texts = [
        &record.method,
        &record.path,
        &record.key,
        &record.user,
        &record.message,
    ];
    for text in texts.into_iter().flatten() {
        // An escaped character is longer than what it stands for, but for what is no UTF-8.
        assert!(text.len() <= 3 * line.len(), "{text:?} of {line:?}");
    }
    for name in FIELDS {
        let Some(value) = record.field(name) else {
            continue;
        };
        let text = value.to_string();
        value.with_text(|other| assert_eq!(other, text, "{name}"));
        if let Value::Float(number) = value {
            assert!(number.is_finite(), "{name} is {number}");
        }
    }
}
