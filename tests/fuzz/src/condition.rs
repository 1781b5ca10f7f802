//! What must hold for any text as a condition.

use std::borrow::Cow;

use abuser_detect::{
    condition::Condition,
    record::{Fields, Header, Headers, Record},
    time::Time,
};

use crate::shown;

/// Reads a condition, and asks it about some records.
///
/// # Panics
///
/// If an error points nowhere, or what a condition says of a record contradicts itself.
pub fn condition(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let condition: Condition = match text.parse() {
        Ok(condition) => condition,
        Err(error) => return refused(text, &error),
    };
    assert_eq!(condition.to_string(), text, "as it was written");
    // It may be deeper, or longer, than conditions may be.
    let derived = |text: String| -> Option<Condition> { text.parse().ok() };
    let negated = derived(format!("not ({text})"));
    let both = derived(format!("({text}) and not ({text})"));
    let either = derived(format!("({text}) or not ({text})"));
    for record in &records() {
        let holds = condition.holds(record);
        assert_eq!(condition.holds(record), holds, "asked twice");
        let says = |other: &Option<Condition>, expected| {
            let said = other.as_ref().map(|other| other.holds(record));
            assert_eq!(said.unwrap_or(expected), expected, "{record:?}");
        };
        says(&negated, !holds);
        says(&both, false);
        says(&either, true);
    }
}

fn refused(text: &str, error: &abuser_detect::condition::ConditionError) {
    let characters = text.chars().count();
    assert!(
        (1..=characters + 1).contains(&error.column),
        "column {} of {characters}",
        error.column
    );
    shown::is_one_plain_line(&error.problem);
}

/// Records of each kind: of an access log, of groups, of JSON, and one that knows nothing.
fn records() -> [Record<'static>; 4] {
    let access = Record {
        time: Some(Time(1_700_000_000_000)),
        source: "203.0.113.7".parse().ok(),
        method: Some("GET".into()),
        path: Some("/api/users?id=7".into()),
        status: Some(401),
        bytes: Some(0),
        user: Some("".into()),
        headers: Headers {
            user_agent: Header::Sent("curl/8".into()),
            referer: Header::Absent,
            ..Headers::default()
        },
        raw: "a line",
        ..Record::default()
    };
    let group =
        |name: &'static str, value: &'static str| (Cow::Borrowed(name), Cow::Borrowed(value));
    let groups = Record {
        source: "2001:db8::7".parse().ok(),
        message: Some("Failed password".into()),
        fields: Fields::Groups(vec![group("a", "1e3"), group("b", "")]),
        ..Record::default()
    };
    let document =
        serde_json::json!({"a": {"b": -1.5, "c": true, "d": null}, "b": [1, "x"], "s": "10.0.0.1"});
    let json = Record {
        fields: Fields::Json(document),
        ..Record::default()
    };
    [access, groups, json, Record::default()]
}
