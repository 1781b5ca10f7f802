//! Bodies as receivers want them: minijinja templates of which only JSON can come out.
//!
//! What is written by `{{ }}` is always JSON, quotes included, whatever the template says of
//! escaping: so nothing that somebody else wrote, such as a reason from a log, can end a string or
//! add a key. A template is tried on hostile events of every kind when the configuration is
//! read, and what it makes is read as JSON again before it is sent.

use std::sync::Arc;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, value::Serde};
use serde::de::IgnoredAny;

use super::message::{Message, sample};
use crate::api::types::{EventKind, EventRecord};

/// The largest template, in bytes.
pub const MAX_TEMPLATE: usize = 64 << 10;
/// The largest body, in bytes.
pub const MAX_BODY: usize = 4 << 20;

/// How much work a template may be: instructions, and 64 bytes of what it makes are as much as one.
/// It is some ten milliseconds.
const FUEL: u64 = 500_000;

/// Templates within templates and the like.
const DEPTH: usize = 64;

/// What somebody might write who wants out of a string.
const HOSTILE: &str = "\\\", \"injected\": \"\u{0}\u{1b}[31m\n\r\t\u{2028}{{ 7 * 7 }}{% raw %}$(id)`id`'</script>\u{1f4a3}";

/// A template that was tried.
pub struct Template(Environment<'static>);

/// Its name within the environment.
const NAME: &str = "template";

impl Template {
    /// Compiles it; the error says what is wrong, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE {
            return Err(format!(
                "the template is larger than {MAX_TEMPLATE} bytes; say less"
            ));
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Json);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_recursion_limit(DEPTH);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|output, _, value| {
            let json = serde_json::to_string(value).map_err(|error| {
                minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
            })?;
            output.write_str(&json).map_err(minijinja::Error::from)
        });
        // Written as JSON it is anyway; twice would be wrong.
        environment.add_filter("tojson", |value: Value| value);
        for unsafe_filter in ["safe", "escape", "e"] {
            environment.remove_filter(unsafe_filter);
        }
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| describe(&error))?;
        Ok(Self(environment))
    }

    /// Compiles a template and tries it on events of these kinds, plain, hostile and empty ones.
    pub fn tried(text: &str, kinds: &[EventKind]) -> Result<Self, String> {
        let template = Self::new(text)?;
        let all: Vec<_> = kinds.iter().flat_map(|kind| samples(*kind)).collect();
        let each = all.iter().map(std::slice::from_ref);
        for events in each.chain([all.as_slice()]) {
            template
                .render(&Message::new("sample", events, 1))
                .map_err(|error| match events {
                    [event] if event.reason.is_none() => {
                        format!("{error} (of a `{}` without a reason)", event.kind.name())
                    }
                    [event, ..] => format!("{error} (of a `{}`)", event.kind.name()),
                    [] => error,
                })?;
        }
        Ok(template)
    }

    /// The body for a message: JSON.
    pub fn render(&self, message: &Message) -> Result<Vec<u8>, String> {
        let context = Value::from(Serde(message));
        let rendered = self
            .0
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|error| describe(&error))?;
        if rendered.len() > MAX_BODY {
            return Err(format!(
                "it makes {} bytes, and {MAX_BODY} are the most; take fewer events at once",
                rendered.len()
            ));
        }
        match serde_json::from_str::<IgnoredAny>(&rendered) {
            Ok(_) => Ok(rendered.into_bytes()),
            Err(error) => Err(format!(
                "what it makes is no JSON: {error}: {:?}; `{{{{ … }}}}` writes JSON with its quotes, so \
                 put none around it",
                excerpt(&rendered, error.line(), error.column())
            )),
        }
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Template")
    }
}

/// Checks a template for events of these kinds; the error says what is wrong, on one line.
pub fn check(text: &str, kinds: &[EventKind]) -> Result<(), String> {
    Template::tried(text, kinds).map(drop)
}

/// Events of a kind: one as they are, one with hostile texts in it, and one of which little is known.
fn samples(kind: EventKind) -> [Arc<EventRecord>; 3] {
    let plain = sample(kind);
    let hostile = || Some(HOSTILE.to_owned());
    let hostile = EventRecord {
        reason: hostile(),
        limit: hostile(),
        policy: hostile(),
        detector: hostile(),
        action: hostile(),
        interface: hostile(),
        protocol: hostile(),
        cause: hostile(),
        expires: hostile(),
        source: hostile(),
        ..plain.clone()
    };
    let empty = EventRecord {
        source: plain.source.clone(),
        ..EventRecord::new(kind, plain.time.clone())
    };
    [plain, hostile, empty].map(Arc::new)
}

/// What is wrong with a template, on one line.
fn describe(error: &minijinja::Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return "the template is too much work; loop over less".to_owned();
    }
    let what = error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    );
    let what: String = what
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match error.line() {
        Some(line) => format!("line {line} of the template: {what}"),
        None => what,
    }
}

/// What is around a place, from the first line and column on.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    /// In characters, on either side.
    const AROUND: usize = 20;
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let start = line
        .get(..column.min(line.len()))
        .map_or(0, |before| before.chars().count().saturating_sub(AROUND));
    line.chars().skip(start).take(2 * AROUND).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(text: &str, reason: &str) -> serde_json::Value {
        let event = EventRecord {
            reason: Some(reason.to_owned()),
            ..sample(EventKind::Ban)
        };
        let message = Message::new("a", &[Arc::new(event)], 0);
        let body = Template::new(text).unwrap().render(&message).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_template_makes_the_form_that_a_receiver_wants() {
        let text = r#"{"text": {{ events | map(attribute="text") | join("\n") }},
            "attachments": [{% for event in events %}
                {"title": {{ event.kind ~ " " ~ event.source }}, "fields": {{ event | tojson }},
                 "ban": {{ event.ban }}, "policy": {{ event.policy }}}{% if not loop.last %},{% endif %}
            {% endfor %}], "lost": {{ lost }}, "host": {{ host }}}"#;
        Template::tried(text, &EventKind::TOLD).unwrap();
        let body = render(text, "say \"no\"");
        assert_eq!(body["attachments"][0]["title"], "ban 192.0.2.7/32");
        assert_eq!(body["attachments"][0]["fields"]["reason"], "say \"no\"");
        assert_eq!(body["attachments"][0]["policy"], serde_json::Value::Null);
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("192.0.2.7/32"), "{text}");
    }

    #[test]
    fn what_is_no_template_or_makes_no_json_is_refused_with_its_place() {
        for (text, phrase) in [
            ("{\"a\": {{ id }", "line 1 of the template: syntax error"),
            (
                "{\n\"a\": {{ events[0].sorce }}}",
                "line 2 of the template: undefined",
            ),
            ("{\"a\": {{ nothing }}}", "undefined value"),
            ("{\"a\": \"{{ id }}\"}", "put none around it"),
            ("banned", "is no JSON"),
            ("", "is no JSON"),
            ("{\"a\": {{ id|safe }}}", "unknown filter"),
            ("{\"a\": {{ id|nonsense }}}", "unknown filter"),
            // Only in one kind of event.
            (
                "[{% if events[0].kind == \"unban\" %}\"{{ events[0].reason }}\"{% endif %}]",
                "(of a `unban`)",
            ),
            ("[{{ events[0].reason|length }}]", "without a reason"),
            ("{% include \"/etc/passwd\" %}", "the template"),
        ] {
            let error = Template::tried(text, &EventKind::TOLD).unwrap_err();
            assert!(error.contains(phrase), "{text}: {error}");
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn escaping_cannot_be_switched_off() {
        for text in [
            "{% autoescape false %}{\"a\": {{ events[0].reason }}}{% endautoescape %}",
            "{% autoescape \"html\" %}{\"a\": {{ events[0].reason }}}{% endautoescape %}",
        ] {
            let body = render(text, HOSTILE);
            assert_eq!(body, serde_json::json!({ "a": HOSTILE }));
        }
    }

    #[test]
    fn work_without_end_ends() {
        for text in [
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}1",
            "{{ \"x\" * 1000000000 }}",
            "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        ] {
            assert!(Template::tried(text, &[EventKind::Ban]).is_err(), "{text}");
        }
        let error = check(&" ".repeat(MAX_TEMPLATE + 1), &EventKind::TOLD).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
    }

    #[test]
    fn a_thousand_events_are_not_too_much() {
        let text = r#"{"text": {{ events | map(attribute="text") | join("\n") }},
            "all": [{% for event in events %}{{ event.kind ~ " " ~ event.source ~ ": " ~ event.reason }}{% if not loop.last %},{% endif %}{% endfor %}]}"#;
        let long = EventRecord {
            reason: Some("\u{1}".repeat(1000)),
            ..sample(EventKind::Ban)
        };
        let events: Vec<_> = (0..300).map(|_| Arc::new(long.clone())).collect();
        let template = Template::new(text).unwrap();
        template.render(&Message::new("a", &events, 0)).unwrap();
        let events = (0..1000).map(|_| Arc::new(sample(EventKind::Ban)));
        let events: Vec<_> = events.collect();
        template.render(&Message::new("a", &events, 0)).unwrap();
    }

    proptest! {
        #[test]
        fn no_reason_adds_anything_to_a_body(reason in any::<String>()) {
            let text = "{\"a\": {{ events[0].reason }}, \"b\": [{{ \"x\" ~ events[0].reason }}]}";
            let expected = serde_json::json!({"a": reason, "b": [format!("x{reason}")]});
            prop_assert_eq!(render(text, &reason), expected);
        }

        #[test]
        fn no_text_makes_it_panic(text in "([{}%#a-z \"|.]|\\PC){0,60}") {
            let _ = check(&text, &[EventKind::Ban]);
        }
    }
}
