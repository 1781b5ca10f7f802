//! Receivers that are down, busy, slow or unwilling.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use testkit::require_root;

use super::{SECRET, Server, Site, addresses, ban, list, sources, status, text, wait_for};

const HOOK: &str = "[[notify]]\nname = \"chat\"\nurl = \"URL\"\n";

#[test]
fn what_happens_while_a_receiver_is_down_is_told_once_when_it_is_back() {
    require_root!();
    let mut site = Site::new();
    let daemon = site.daemon(HOOK);
    let address = site.server.address;
    ban(&daemon, "198.51.100.1");
    site.server.wait_for(1);
    site.server = Server::start(&site.namespace);
    for number in 2..5 {
        ban(&daemon, &format!("198.51.100.{number}"));
    }
    let down = wait_for(&daemon, "chat", "tried again", |status| {
        status["retried"].as_u64() >= Some(3)
    });
    assert_eq!(down["pending"], 3);
    let error = down["error"].as_str().expect("an error");
    assert!(error.contains("refused"), "{error}");
    let shown = daemon.abuser(&["status"]).success().stdout;
    assert!(shown.contains("DOES NOT WORK"), "{shown}");

    let server = Server::start_at(&site.namespace, address);
    let up = wait_for(&daemon, "chat", "sent", |status| status["sent"] == 4);
    assert_eq!(up["error"], Value::Null);
    assert_eq!((&up["failed"], &up["pending"]), (&json!(0), &json!(0)));
    let expected = [2, 3, 4].map(|number| format!("198.51.100.{number}/32"));
    assert_eq!(sources(&server.events()), expected);
    let ids: BTreeSet<_> = server
        .requests()
        .iter()
        .map(|request| request.id().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    let said = daemon.stderr();
    // The first attempt may still have met the old connection.
    let refused = said.lines().filter(|line| line.contains("refused"));
    assert_eq!(refused.count(), 1, "{said}");
    assert!(said.contains("notify chat: it works again"), "{said}");
}

#[test]
fn a_busy_receiver_gets_the_same_request_again_when_it_asks_for_it() {
    require_root!();
    let site = Site::new();
    site.write("secret", SECRET);
    let daemon = site.daemon(&format!("{HOOK}secret_file = \"FOLDER/secret\"\n"));
    site.server.answer(&[
        "503 Service Unavailable",
        "429 Too Many Requests\r\nRetry-After: 4",
        "408 Request Timeout",
    ]);
    ban(&daemon, "198.51.100.1");
    let requests = site.server.wait_for(4);
    let sent = wait_for(&daemon, "chat", "sent", |status| status["sent"] == 1);
    assert_eq!((&sent["retried"], &sent["failed"]), (&json!(3), &json!(0)));
    for again in &requests[1..] {
        assert_eq!(again.id(), requests[0].id());
        assert_eq!(again.body, requests[0].body);
    }
    // Without the receiver's wish it would be a second or two.
    let waited = requests[2].at - requests[1].at;
    assert!(waited >= Duration::from_millis(3900), "{waited:?}");
    let signed = |number: usize| requests[number].header("x-abuser-signature");
    assert_ne!(signed(1), signed(2), "a signature has its own time");
    assert_eq!(site.server.requests().len(), 4);
}

#[test]
fn who_refuses_is_not_asked_again_and_is_told_how_much_it_missed() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(HOOK);
    site.server.answer(&[
        "400 Bad Request\r\n\r\nno such field: events",
        "302 Found\r\nLocation: http://127.0.0.1:1/",
    ]);
    ban(&daemon, "198.51.100.1");
    let refused = wait_for(&daemon, "chat", "refused", |status| status["failed"] == 1);
    let error = refused["error"].as_str().expect("an error");
    assert!(error.contains("400 Bad Request: no such field"), "{error}");
    ban(&daemon, "198.51.100.2");
    let refused = wait_for(&daemon, "chat", "refused", |status| status["failed"] == 2);
    let error = refused["error"].as_str().expect("an error");
    assert!(
        error.contains("302 Found, which is not followed"),
        "{error}"
    );
    ban(&daemon, "198.51.100.3");
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 1);
    let requests = site.server.requests();
    assert_eq!(requests.len(), 3);
    let lost = requests
        .iter()
        .map(|request| request.json()["lost"].clone());
    assert_eq!(lost.collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(status(&daemon, "chat")["retried"], 0);
    // Its address may be a secret.
    assert!(!daemon.stderr().contains("/hook"), "{}", daemon.stderr());
}

#[test]
fn nobody_waits_for_a_receiver_that_does_not_answer() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(&format!("{HOOK}timeout = \"60s\"\n"));
    site.server.hold();
    ban(&daemon, "198.51.100.1");
    site.server.wait_for(1);
    for number in 2..30 {
        ban(&daemon, &format!("198.51.100.{number}"));
    }
    assert_eq!(
        daemon.json(&["ban", "list"]).as_array().map(Vec::len),
        Some(29)
    );
    // All of that happened before it answered the first.
    assert_eq!(site.server.requests().len(), 1);
    assert_eq!(status(&daemon, "chat")["pending"], 29);
    site.server.release();
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 29);
    let expected: Vec<_> = (1..30).map(|n| format!("198.51.100.{n}/32")).collect();
    assert_eq!(sources(&site.server.events()), expected);
}

#[test]
fn a_full_queue_keeps_the_latest_and_tells_what_it_lost() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(&format!(
        "{HOOK}causes = [\"import\", \"manual\"]\nqueue = 5\ntimeout = \"60s\"\n"
    ));
    site.server.hold();
    ban(&daemon, "198.51.100.1");
    site.server.wait_for(1);
    let file = list(&site, &addresses(100));
    daemon
        .abuser(&["ban", "import", text(&file), "--for", "1h"])
        .success();
    let full = wait_for(&daemon, "chat", "full", |status| status["dropped"] == 95);
    assert_eq!(full["pending"], 6);
    site.server.release();
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 6);
    let requests = site.server.requests();
    let lost = requests
        .iter()
        .map(|request| request.json()["lost"].clone());
    assert_eq!(lost.collect::<Vec<_>>(), [0, 95, 0, 0, 0, 0]);
    let numbers: Vec<_> = site
        .server
        .events()
        .iter()
        .map(|event| event["ban"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers, [1, 97, 98, 99, 100, 101]);
}

#[test]
fn what_is_too_old_is_given_up_after_one_more_attempt() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(&format!("{HOOK}give_up = \"2s\"\n"));
    site.server.answer(&["500 Internal Server Error"; 20]);
    ban(&daemon, "198.51.100.1");
    wait_for(&daemon, "chat", "given up", |status| status["failed"] == 1);
    let attempts = site.server.requests().len();
    assert!((2..=4).contains(&attempts), "{attempts}");
    assert!(
        daemon.stderr().contains("1 event is lost"),
        "{}",
        daemon.stderr()
    );
}
