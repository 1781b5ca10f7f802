//! Reload and stop: nothing that waits is forgotten without a word.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::require_root;

use super::{Server, Site, ban, sources, status, wait_for};
use crate::support::{Complains as _, wait_until};

const HOOK: &str = "[[notify]]\nname = \"chat\"\nurl = \"URL\"\ntimeout = \"60s\"\n";

#[test]
fn a_reload_keeps_what_waits_for_who_is_as_he_was_and_tells_others_from_then_on() {
    require_root!();
    let site = Site::new();
    let other = Server::start(&site.namespace);
    let daemon = site.daemon(HOOK);
    site.server.hold();
    for number in 1..4 {
        ban(&daemon, &format!("198.51.100.{number}"));
    }
    site.server.wait_for(1);
    let added = format!(
        "{HOOK}[[notify]]\nname = \"other\"\nurl = \"{}\"\n",
        other.url()
    );
    site.configure(&daemon, HOOK, &added);
    let reloaded = daemon.abuser(&["reload"]).success().stdout;
    assert!(
        reloaded.contains("changed settings: [[notify]]"),
        "{reloaded}"
    );
    wait_until("the other one", || {
        daemon.json(&["status"])["notify"].as_array().map(Vec::len) == Some(2)
    });
    assert_eq!(status(&daemon, "chat")["pending"], 3);
    ban(&daemon, "198.51.100.4");
    wait_for(&daemon, "other", "sent", |status| status["sent"] == 1);
    assert_eq!(sources(&other.events()), ["198.51.100.4/32"]);
    site.server.release();
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 4);
    let expected = [1, 2, 3, 4].map(|number| format!("198.51.100.{number}/32"));
    assert_eq!(sources(&site.server.events()), expected);

    // Without anybody to be told, nobody is, and a broken template changes nothing.
    site.configure(&daemon, &added, HOOK);
    daemon.abuser(&["reload"]).success();
    wait_until("the other one's end", || {
        daemon.json(&["status"])["notify"].as_array().map(Vec::len) == Some(1)
    });
    let broken = format!("{HOOK}template = '{{{{ nothing }}}}'\n");
    site.configure(&daemon, HOOK, &broken);
    let refused = daemon.abuser(&["reload"]);
    refused.complains(2, &["`template` in [[notify]]", "undefined"]);
    ban(&daemon, "198.51.100.5");
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 5);
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn notifications_begin_with_a_reload_and_take_a_changed_template() {
    require_root!();
    let site = Site::new();
    site.write("template", "{\"a\": {{ events[0].source }}}");
    let daemon = site.daemon("[ban]\nmaxretry = 7\n");
    assert_eq!(daemon.json(&["status"])["notify"], json!([]));
    let with = format!("[ban]\nmaxretry = 7\n{HOOK}template_file = \"FOLDER/template\"\n");
    site.configure(&daemon, "[ban]\nmaxretry = 7\n", &with);
    daemon.abuser(&["reload"]).success();
    wait_until("somebody to be told", || {
        daemon.json(&["status"])["notify"] != json!([])
    });
    ban(&daemon, "198.51.100.1");
    assert_eq!(
        site.server.wait_for(1)[0].json(),
        json!({ "a": "198.51.100.1/32" })
    );
    site.write("template", "{\"b\": {{ events[0].source }}}");
    daemon.abuser(&["reload"]).success();
    wait_until("another one", || status(&daemon, "chat")["sent"] == 0);
    ban(&daemon, "198.51.100.2");
    assert_eq!(
        site.server.wait_for(2)[1].json(),
        json!({ "b": "198.51.100.2/32" })
    );
}

#[test]
fn at_the_stop_what_waits_for_others_is_sent_at_once() {
    require_root!();
    let site = Site::new();
    let mut daemon = site.daemon(&format!("{HOOK}batch = {{ max = 100, wait = \"1h\" }}\n"));
    for number in 1..4 {
        ban(&daemon, &format!("198.51.100.{number}"));
    }
    assert_eq!(status(&daemon, "chat")["pending"], 3);
    assert!(daemon.terminate().success(), "{}", daemon.stderr());
    let events = site.server.events();
    let expected = [1, 2, 3].map(|number| format!("198.51.100.{number}/32"));
    assert_eq!(sources(&events), expected);
    assert!(
        !daemon.stderr().contains("no time left"),
        "{}",
        daemon.stderr()
    );
}

#[test]
fn a_stop_waits_two_seconds_and_tells_what_is_lost() {
    require_root!();
    let site = Site::new();
    site.write(
        "hook",
        &site.placed(
            "#!/bin/sh\necho $$ > FOLDER/pid.new\nmv FOLDER/pid.new FOLDER/pid\nexec sleep 1000\n",
        ),
    );
    let mut daemon = site.daemon(&format!(
        "{HOOK}[[notify]]\nname = \"hook\"\ncommand = [\"FOLDER/hook\"]\ntimeout = \"5m\"\n"
    ));
    site.server.hold();
    ban(&daemon, "198.51.100.1");
    ban(&daemon, "198.51.100.2");
    site.server.wait_for(1);
    wait_until("the hook", || site.path("pid").exists());
    wait_for(&daemon, "hook", "both", |status| status["pending"] == 2);
    let began = Instant::now();
    // It is killed after five seconds.
    assert!(daemon.terminate().success(), "{}", daemon.stderr());
    assert!(began.elapsed() >= Duration::from_millis(1900));
    let said = daemon.stderr();
    for name in ["chat", "hook"] {
        let lost = format!("notify {name}: there was no time left to deliver 2 events");
        assert!(said.contains(&lost), "{said}");
    }
    let pid = fs::read_to_string(site.path("pid")).expect("a number");
    wait_until("the hook's end", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}
