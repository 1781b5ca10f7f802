//! `[[notify]]`, good and bad.

use std::{fs, path::Path, time::Duration};

use super::{assert_error, good};
use crate::{
    api::types::EventKind,
    config::{CommandConfig, NotifyTarget, WebhookConfig},
    notify::Batching,
};

/// A webhook with these lines from line 4 on.
fn webhook(lines: &str) -> String {
    format!("[[notify]]\nname = \"a\"\nurl = \"https://example.com/SECRET\"\n{lines}\n")
}

/// A command with these lines from line 4 on.
fn command(lines: &str) -> String {
    format!("[[notify]]\nname = \"a\"\ncommand = [\"/bin/true\"]\n{lines}\n")
}

fn as_webhook(text: &str) -> WebhookConfig {
    match good(text).notify.remove(0).target {
        NotifyTarget::Webhook(webhook) => webhook,
        NotifyTarget::Command(command) => panic!("{command:?}"),
    }
}

#[test]
fn what_is_not_said_is_as_documented() {
    let notify = good(&webhook("")).notify.remove(0);
    assert_eq!(notify.filter.events, [EventKind::Ban]);
    assert!(notify.filter.policies.is_empty());
    assert_eq!(
        notify.filter.causes,
        ["limit", "detector", "application", "rollup", "manual"]
    );
    assert_eq!(
        (notify.timeout, notify.queue),
        (Duration::from_secs(10), 10_000)
    );
    let told = as_webhook(&webhook(""));
    assert_eq!(told.batch, Batching::NONE);
    assert_eq!(told.give_up, Duration::from_secs(3600));
    assert_eq!(told.url.server(), "example.com");
    assert!(!format!("{told:?}").contains("SECRET"), "{told:?}");
    let batch = as_webhook(&webhook("batch = {}")).batch;
    assert_eq!((batch.max, batch.wait), (100, Duration::from_secs(2)));
    let config = good(&command("")).notify.remove(0);
    let expected = CommandConfig {
        program: "/bin/true".into(),
        arguments: Vec::new(),
        parallel: 4,
    };
    assert_eq!(config.target, NotifyTarget::Command(expected));
}

#[test]
fn what_is_said_is_kept() {
    let told = as_webhook(&webhook(
        "batch = { max = 7, wait = \"3s\" }\nheaders = { X-Key = \"v\", Authorization = \"Basic eA==\" }\n\
         secret_file = \"/s\"\nca_file = \"/c\"\ngive_up = \"1d\"\ntemplate = '{\"a\": {{ id }}}'",
    ));
    assert_eq!(
        (told.batch.max, told.batch.wait),
        (7, Duration::from_secs(3))
    );
    assert_eq!(told.headers["x-key"], "v");
    assert_eq!(told.headers["authorization"], "Basic eA==");
    assert_eq!(told.secret_file.as_deref(), Some(Path::new("/s")));
    assert_eq!(told.template.as_deref(), Some("{\"a\": {{ id }}}"));
    let text = webhook(
        "events = [\"ban\", \"unban\", \"ban\"]\npolicies = [\"default\", \"p\"]\ncauses = [\"limit\"]\n\
         [[policy]]\nname = \"p\"",
    );
    let filter = good(&text).notify.remove(0).filter;
    assert_eq!(filter.events, [EventKind::Ban, EventKind::Unban]);
    assert_eq!(filter.policies, ["default", "p"]);
    assert_eq!(filter.causes, ["limit"]);
}

#[test]
fn a_template_in_a_file_is_read_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let text = webhook(&format!("template_file = \"{}\"", path.display()));
    assert_error(&text, "4:17", &["cannot read", "template\": No such file"]);
    fs::write(&path, "{\n\"a\": {{ nobody }}}").unwrap();
    assert_error(&text, "4:17", &["line 2 of the template", "undefined"]);
    fs::write(&path, b"\"\xff\"").unwrap();
    assert_error(&text, "4:17", &["is not UTF-8"]);
    fs::write(&path, "{{ events }}").unwrap();
    assert_eq!(as_webhook(&text).template.as_deref(), Some("{{ events }}"));
    assert_error(
        &webhook("template_file = \"/dev/zero\""),
        "4:17",
        &["not a regular file"],
    );
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    for (text, place, phrase) in [
        (
            "[[notify]]\nurl = \"http://a/\"".to_owned(),
            "1:1",
            "`name` is missing",
        ),
        (
            "[[notify]]\nname = \"a\"".to_owned(),
            "1:1",
            "`url` or `command` is missing",
        ),
        (
            webhook("command = [\"/a\"]"),
            "4:11",
            "there is a `url` as well",
        ),
        (
            webhook("") + &webhook(""),
            "6:8",
            "\"a\" is taken by a.toml:2",
        ),
        (webhook("parallel = 2"), "4:12", "is for a `command`"),
        (
            webhook("event = [\"ban\"]"),
            "4:1",
            "did you mean `events`?",
        ),
        (
            webhook("events = [\"bans\"]"),
            "4:11",
            "did you mean \"ban\"?",
        ),
        (webhook("events = []"), "4:10", "an empty list"),
        (webhook("events = [\"missed\"]"), "4:11", "is not one of"),
        (
            webhook("policies = [\"strict\"]"),
            "4:13",
            "there is no [[policy]]",
        ),
        (
            webhook("detectors = [\"x\"]"),
            "4:14",
            "there is no [[detector]]",
        ),
        (
            webhook("causes = [\"limits\"]"),
            "4:11",
            "did you mean \"limit\"?",
        ),
        (
            webhook("events = [\"ban\", \"throttle\"]\ncauses = [\"limit\"]"),
            "5:10",
            "a `throttle` has none",
        ),
        (webhook("timeout = \"1ms\""), "4:11", "too short"),
        (webhook("timeout = \"1h\""), "4:11", "write at most \"5m\""),
        (webhook("queue = 0"), "4:9", "from 1 to 1000000"),
        (webhook("batch = { max = 1001 }"), "4:17", "from 1 to 1000"),
    ] {
        assert_error(&text, place, &[phrase]);
    }
}

#[test]
fn what_is_wrong_with_the_way_somebody_is_told_is_told_where_it_stands() {
    for (text, place, phrase) in [
        (
            webhook("batch = { mx = 10 }"),
            "4:11",
            "did you mean `max`?",
        ),
        (
            webhook("template = '{{ id'"),
            "4:12",
            "line 1 of the template",
        ),
        (
            webhook("template = '\"{{ id }}\"'"),
            "4:12",
            "put none around it",
        ),
        (
            webhook("template = '1'\ntemplate_file = \"/a\""),
            "5:17",
            "there is a `template` as well",
        ),
        (
            webhook("headers = { \"a b\" = \"c\" }"),
            "4:11",
            "cannot be the name",
        ),
        (
            webhook("headers = { a = \"b\\nc\" }"),
            "4:11",
            "characters that no header",
        ),
        (
            webhook("headers = { Host = \"c\" }"),
            "4:11",
            "abuser sets this",
        ),
        (
            webhook("headers = { A = \"c\", a = \"d\" }"),
            "4:11",
            "it is there twice",
        ),
        (
            webhook("headers = { Authorization = \"c\" }\nbearer_file = \"/a\""),
            "5:15",
            "an Authorization already",
        ),
        (
            webhook("ca_file = \"ca.pem\""),
            "4:11",
            "not an absolute path",
        ),
        (webhook("give_up = -1"), "4:11", "cannot be without end"),
        (command("batch = {}"), "4:9", "is for a `url`"),
        (command("secret_file = \"/a\""), "4:15", "is for a `url`"),
        (command("parallel = 65"), "4:12", "from 1 to 64"),
        (
            "[[notify]]\nname = \"a\"\ncommand = \"/a\"".to_owned(),
            "3:11",
            "a program and its",
        ),
        (
            "[[notify]]\nname = \"a\"\ncommand = []".to_owned(),
            "3:11",
            "a program and its",
        ),
        (
            "[[notify]]\nname = \"a\"\ncommand = [\"a\"]".to_owned(),
            "3:12",
            "not an absolute path",
        ),
        (
            "[[notify]]\nname = \"a\"\ncommand = [\"/a\", \"\\u0000\"]".to_owned(),
            "3:18",
            "zero byte",
        ),
        ("[notify]\nname = \"a\"".to_owned(), "1:1", "[[notify]]"),
    ] {
        assert_error(&text, place, &[phrase]);
    }
}

#[test]
fn an_address_that_is_wrong_is_not_shown() {
    for (url, phrase) in [
        ("SECRET", "relative URL"),
        ("ftp://example.com/SECRET", "neither http nor https"),
        ("https://user:SECRET@example.com/", "a user or a password"),
        ("https:///", "host"),
    ] {
        let text = format!("[[notify]]\nname = \"a\"\nurl = \"{url}\"\n");
        assert_error(&text, "3:7", &[phrase]);
        let error = super::read(&text).unwrap_err().to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn there_is_an_end_to_them() {
    let each = |number: usize| format!("[[notify]]\nname = \"n{number}\"\nurl = \"http://a/\"\n");
    let most: String = (0..64).map(each).collect();
    good(&most);
    assert_error(&(most + &each(64)), "193:1", &["one more than the 64"]);
}
