//! What holds, and what is no condition.

use proptest::prelude::*;

use super::*;
use crate::{
    parse::{Kind, Parser, Settings},
    record::{Fields, Header},
};

const LINE: &str = r#"192.0.2.1 - bob [15/Jan/2024:10:00:00 +0000] "GET /api/users/7?full=1 HTTP/1.1" 401 2326 "-" "curl/8.5""#;

fn condition(text: &str) -> Condition {
    text.parse()
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn assert_holds(record: &Record<'_>, expected: bool, conditions: &[&str]) {
    for text in conditions {
        assert_eq!(condition(text).holds(record), expected, "{text}");
    }
}

fn with_record(check: impl Fn(&Record<'_>)) {
    let mut parser = Parser::new(Settings::new(Kind::NginxCombined)).expect("a parser");
    check(&parser.parse(LINE).expect("a record"));
}

#[test]
fn what_is_true_of_a_record_holds() {
    with_record(|record| {
        assert_holds(
            record,
            true,
            &[
                "status == 401",
                "status != 200",
                "status >= 400 and status < 500",
                "status in [401, 403]",
                "status in 401",
                "status not in [200, 304]",
                "status ~ '^4'",
                "bytes > 2000 && bytes <= 2326",
                "method == \"GET\"",
                "method in ['GET', 'HEAD']",
                "path ~ \"^/api/\" and path !~ '\\.php$'",
                r#"path ~ "users/\d+\?full""#,
                "uri == '/api/users/7' and query == 'full=1'",
                "path contains \"users\"",
                "path starts_with '/api/'",
                "source == 192.0.2.1",
                "source == \"192.0.2.1\"",
                "source != 192.0.2.2",
                "source in 192.0.2.0/24",
                "source in [2001:db8::/32, '192.0.2.9/24']",
                "source not in 10.0.0.0/8",
                "source ~ '^192\\.'",
                "user == \"bob\" and has(user)",
                "user_agent starts_with 'curl/'",
                "referer == '' and not has(referer)",
                "header.referer == ''",
                "time >= '2024-01-15T10:00:00Z' and time < '2024-01-15T11:00:01+01:00'",
                "line contains 'HTTP/1.1'",
                "not (user_agent == \"\" or source in 10.0.0.0/8)",
                "!(status == 200)",
                "not not status == 401",
                "status == 200 or status == 401",
                "status == 200 || status == 401 && method == 'GET'",
                // `and` binds tighter than `or`.
                "status == 401 or status == 200 and method == 'POST'",
            ],
        );
        assert_holds(
            record,
            false,
            &[
                "status == 400",
                "status != 401",
                "(status == 401 or status == 200) and method == 'POST'",
                "source in [10.0.0.0/8]",
                "source == 192.0.2.2",
                "path ~ '^api'",
                "message contains 'limit'",
                "has(key)",
                "time < '2024-01-15T10:00:00Z'",
            ],
        );
    });
}

#[test]
fn a_test_of_what_a_record_does_not_have_is_false() {
    with_record(|record| {
        assert_holds(
            record,
            false,
            &[
                "key == 'a'",
                "key != 'a'",
                "key !~ 'a'",
                "key not in ['a']",
                "header.origin == ''",
                "request.host == 'a'",
                "field.level != 'error'",
            ],
        );
        assert_holds(record, true, &["not key == 'a'", "not has(field.level)"]);
    });
}

#[test]
fn fields_that_only_the_log_has_compare_as_what_they_are() {
    let json = r#"{"duration": 1.5, "level": "warn", "code": "429", "deep": {"ok": true}, "peer": "10.1.2.3", "no": null}"#;
    let mut record = Record {
        fields: Fields::Json(serde_json::from_str(json).expect("JSON")),
        ..Record::default()
    };
    record.headers.others = vec![("x-api-key".into(), "k1".into())];
    record.headers.user_agent = Header::Absent;
    assert_holds(
        &record,
        true,
        &[
            "field.duration > 1.25",
            "field.duration < 2",
            "field.level == \"warn\"",
            "field.code == 429",
            "field.code in [429, 'x']",
            "deep.ok == 'true'",
            "field.peer in 10.0.0.0/8",
            "header.X-Api-Key == 'k1'",
            "user_agent == ''",
        ],
    );
    assert_holds(
        &record,
        false,
        &[
            "field.no == 'null'",
            "field.level > 5",
            "field.level in 10.0.0.0/8",
            "has(user_agent)",
            "has(field.no)",
        ],
    );
    let groups = Record {
        fields: Fields::Groups(vec![
            ("rt".into(), "0.35".into()),
            ("odd".into(), "inf".into()),
        ]),
        ..Record::default()
    };
    assert_holds(&groups, true, &["field.rt >= 0.35"]);
    assert_holds(&groups, false, &["field.odd > 1"]);
}

#[test]
fn quotes_in_texts_and_backslashes() {
    let record = Record {
        message: Some(r#"say "it's" C:\dir"#.into()),
        ..Record::default()
    };
    assert_holds(
        &record,
        true,
        &[
            r#"message contains "\"it's\"""#,
            r#"message contains '"it\'s"'"#,
            r#"message contains "C:\dir""#,
            r#"message ~ "C:\\dir""#,
        ],
    );
}

#[test]
fn what_is_no_condition_is_refused_with_its_column_and_what_was_expected() {
    for (text, column, phrases) in [
        ("", 1, &["expected a field", "found the end"][..]),
        ("status", 7, &["expected ==", "starts_with", "the end"]),
        ("status = 401", 8, &["write =="]),
        ("status == ", 11, &["expected a number", "the end"]),
        ("status == 'abc'", 11, &["expected a number", "'abc'"]),
        (
            "status == 'a\n\u{1b}[31m'",
            11,
            &["found 'a\\n\\u{1b}[31m'"],
        ),
        (
            "statsu == 401",
            1,
            &["\"statsu\"", "did you mean \"status\""],
        ),
        ("method == GET", 11, &["\"GET\"", "in quotes"]),
        ("path ~ \"[\"", 8, &["no regular expression", "unclosed"]),
        ("path ~ /api/", 8, &["regular expression in quotes"]),
        ("path == \"abc", 9, &["no \" at its end"]),
        ("source in 10.0.0.0/33", 11, &["an address or a prefix"]),
        ("source > 10.0.0.1", 10, &["==, != and in"]),
        ("status in [401 403]", 16, &["expected , or ]", "403"]),
        ("status in []", 12, &["expected a number"]),
        ("status in (401)", 11, &["a list in [ ]"]),
        ("status not 401", 12, &["expected in"]),
        ("(status == 401", 15, &["expected )"]),
        ("status == 401)", 14, &["and, or, or the end", "found )"]),
        ("status == 401 method == 'a'", 15, &["and, or"]),
        ("has(", 5, &["expected a field"]),
        ("has status", 5, &["expected ("]),
        ("time > 5", 8, &["2024-01-15"]),
        ("time > 'noon'", 8, &["2024-01-15"]),
        ("time in ['a']", 9, &["<, <=, > and >="]),
        ("user == '\u{fc}\u{fc}' # x", 14, &["'#'", "in quotes"]),
        ("and status == 401", 1, &["\"and\""]),
    ] {
        let error = text.parse::<Condition>().map(|_| ()).expect_err(text);
        assert_eq!(error.column, column, "{error}: {text}");
        for phrase in phrases {
            assert!(error.to_string().contains(phrase), "no {phrase:?}: {error}");
        }
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn what_is_nested_too_deep_or_too_large_is_refused() {
    let nested = |depth| format!("{}status == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(60).parse::<Condition>().is_ok());
    for text in [nested(100_000), "not ".repeat(100_000), "!".repeat(100_000)] {
        let error = text.parse::<Condition>().map(|_| ()).expect_err("too deep");
        assert!(error.problem.contains("within each other"), "{error}");
    }
    let error = r#"path ~ "(\pL{900}){900}""#.parse::<Condition>().map(|_| ());
    assert!(error.expect_err("too large").problem.contains("size limit"));
    let long = vec!["status == 1"; 10_000].join(" or ");
    assert!(!condition(&long).holds(&Record::default()));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        text in "\\PC{0,40}|((status|path|has|not|and|or|in|~|==|!|\\(|\\)|\\[|\\]|,|\"|'|\\\\|40|10\\.0\\.0\\.0/8|\u{fc}) ?){0,12}"
    ) {
        if let Ok(condition) = text.parse::<Condition>() {
            with_record(|record| { condition.holds(record); });
            prop_assert_eq!(condition.to_string(), text);
        }
    }
}
