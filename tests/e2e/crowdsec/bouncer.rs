//! Decisions of a real local API are in force as long as it says.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use testkit::{
    Crowdsec, Daemon, Wire, require_root,
    traffic::{TcpEcho, connect_from},
};

use super::{Followed, bans, section, status, wait_for};
use crate::support::{Complains as _, assert_keys, wait_until};

#[test]
fn decisions_of_before_and_of_later_drop_packets_until_they_are_deleted() {
    require_root!();
    let wire = Wire::new();
    let crowdsec = Crowdsec::start(&wire.server);
    let key = crowdsec.add_bouncer("abuser");
    let client = Wire::CLIENT_V4.to_string();
    crowdsec.decisions(&["add", "-i", &client, "-d", "4h", "-R", "by hand"]);
    let config = format!("interfaces = [\"veth-server\"]\n{}", section(&key, ""));
    let daemon = Daemon::start(&wire.server, &config);
    let server = SocketAddr::new(Wire::SERVER_V4, 9000);
    let _server = TcpEcho::start(&wire.server, server);
    let connects = || {
        wire.client
            .run(|| connect_from(Wire::CLIENT_V4, server, Duration::from_millis(300)).is_ok())
    };
    wait_for(&daemon, &[("192.0.2.10/32", "crowdsec")]);
    assert!(!connects(), "it is banned");
    let ban = daemon.json(&["ban", "show", &client])[0].clone();
    assert_eq!(ban["crowdsec"], "cscli");
    assert_eq!(ban["reason"], "by hand");
    let left = ban["remaining_seconds"].as_u64().expect("an end");
    assert!((14_000..=14_400).contains(&left), "{left}");
    let status = status(&daemon);
    assert_keys(
        &status,
        &[
            "url",
            "connected",
            "last_answer",
            "failures",
            "error",
            "decisions",
            "ignored",
            "push",
        ],
    );
    assert_eq!(status["url"], "http://127.0.0.1:8080");
    assert_eq!(
        (&status["connected"], &status["decisions"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(status["push"], Value::Null);
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(
        said.contains("CrowdSec at http://127.0.0.1:8080: 1 decision, last answer"),
        "{said}"
    );
    daemon.abuser(&["ban", "remove", &client]).complains(
        1,
        &["is banned by CrowdSec (cscli)", "cscli decisions delete"],
    );

    crowdsec.decisions(&["delete", "-i", &client]);
    wait_for(&daemon, &[]);
    assert!(connects(), "it was freed");
    let explained = daemon.json(&["explain", &client]);
    assert_eq!(
        explained["history"][0]["how"],
        "no longer decided by CrowdSec"
    );

    crowdsec.decisions(&["add", "-r", "192.0.2.0/24", "-d", "1h"]);
    wait_for(&daemon, &[("192.0.2.0/24", "crowdsec")]);
    assert!(!connects(), "its network is banned");
    // CrowdSec shows who asks.
    let bouncers = crowdsec.cscli(&["bouncers", "list", "-o", "json"]).stdout;
    let bouncers: Value = serde_json::from_str(&bouncers).expect("JSON");
    assert_eq!(bouncers[0]["type"], "abuser", "{bouncers}");
    assert_eq!(
        bouncers[0]["version"],
        env!("CARGO_PKG_VERSION"),
        "{bouncers}"
    );
}

#[test]
fn a_decision_ends_when_its_time_is_over() {
    require_root!();
    let followed = Followed::new("");
    followed.add("203.0.113.2", "1h");
    let short = ["add", "-i", "203.0.113.1", "-d", "8s"];
    followed.crowdsec.decisions(&short);
    wait_for(
        &followed.daemon,
        &[
            ("203.0.113.1/32", "crowdsec"),
            ("203.0.113.2/32", "crowdsec"),
        ],
    );
    wait_for(&followed.daemon, &[("203.0.113.2/32", "crowdsec")]);
    let history = || followed.daemon.json(&["explain", "203.0.113.1"])["history"].clone();
    wait_until("it to be cleared away", || {
        history() != serde_json::json!([])
    });
    assert_eq!(history().as_array().map(Vec::len), Some(1), "{}", history());
}

#[test]
fn of_two_decisions_about_one_source_the_end_of_one_leaves_the_other() {
    require_root!();
    let followed = Followed::new("");
    let short = followed.add("203.0.113.1", "1h");
    let long = followed.add("203.0.113.1", "2h");
    assert_ne!(short, long);
    let left = || {
        let ban = followed.daemon.json(&["ban", "show", "203.0.113.1"]);
        ban[0]["remaining_seconds"].as_u64().unwrap_or_default()
    };
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
    wait_until("the longer one", || left() > 3600);
    followed
        .crowdsec
        .decisions(&["delete", "--id", &long.to_string()]);
    wait_until("the shorter one", || left() <= 3600);
    assert_eq!(bans(&followed.daemon).len(), 1, "it is banned still");
    let third = followed.add("203.0.113.1", "10m");
    wait_until("it to be known", || followed.status()["decisions"] == 2);
    followed
        .crowdsec
        .decisions(&["delete", "--id", &third.to_string()]);
    wait_until("it to be gone", || followed.status()["decisions"] == 1);
    assert!(left() > 600 && left() <= 3600, "{}", left());
    followed
        .crowdsec
        .decisions(&["delete", "--id", &short.to_string()]);
    wait_for(&followed.daemon, &[]);
}

#[test]
fn decisions_that_are_filtered_or_ban_no_address_are_left_out() {
    require_root!();
    let followed = Followed::with(
        "origins = [\"cscli-import\"]\nscenarios_not_containing = [\"spared\"]",
        |crowdsec| {
            let file = crowdsec.write(
                "decisions.json",
                r#"[{"duration": "1h", "reason": "wanted", "scope": "Ip", "type": "ban", "value": "203.0.113.2"},
                    {"duration": "1h", "reason": "wanted", "scope": "Ip", "type": "captcha", "value": "203.0.113.3"},
                    {"duration": "1h", "reason": "is spared", "scope": "Ip", "type": "ban", "value": "203.0.113.4"},
                    {"duration": "1h", "reason": "wanted", "scope": "Range", "type": "ban", "value": "8.0.0.0/7"}]"#,
            );
            crowdsec.decisions(&["add", "-i", "203.0.113.1", "-d", "1h"]);
            crowdsec.decisions(&["import", "-i", file.to_str().expect("UTF-8")]);
        },
    );
    wait_for(&followed.daemon, &[("203.0.113.2/32", "crowdsec")]);
    let ignored = &followed.status()["ignored"];
    assert_eq!(
        *ignored,
        json!({"type": 1, "scope": 0, "simulated": 0, "wide": 1, "malformed": 0})
    );
    let said = followed.daemon.stderr();
    assert!(
        said.contains("8.0.0.0/7") && said.contains("force = true"),
        "{said}"
    );
    let forced = Followed::with("force = true", |crowdsec| {
        crowdsec.decisions(&["add", "-r", "8.0.0.0/7", "-d", "1h"]);
    });
    wait_for(&forced.daemon, &[("8.0.0.0/7", "crowdsec")]);
}

#[test]
fn a_local_api_that_is_gone_leaves_its_bans_and_is_caught_up_with_when_it_is_back() {
    require_root!();
    let mut followed = Followed::new("");
    followed.add("203.0.113.1", "1h");
    followed.add("203.0.113.2", "1h");
    let both = [
        ("203.0.113.1/32", "crowdsec"),
        ("203.0.113.2/32", "crowdsec"),
    ];
    wait_for(&followed.daemon, &both);
    followed.crowdsec.stop();
    wait_until("it to be noticed", || {
        followed.status()["connected"] == false
    });
    assert!(followed.status()["error"].is_string());
    assert!(followed.status()["failures"].as_u64() > Some(0));
    let said = followed.daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("DOES NOT ANSWER since"), "{said}");
    assert_eq!(bans(&followed.daemon).len(), 2);
    // A start without it changes nothing either.
    followed.daemon.kill();
    followed.daemon.restart();
    wait_until("it to be tried", || followed.status()["error"].is_string());
    wait_for(&followed.daemon, &both);
    let said = followed.daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("HAS NOT ANSWERED yet"), "{said}");

    let database = rusqlite::Connection::open(followed.crowdsec.database()).expect("a database");
    let deleted = database.execute("DELETE FROM decisions WHERE value = '203.0.113.1'", []);
    assert_eq!(deleted.expect("deleting a decision"), 1);
    drop(database);
    followed.crowdsec.restart();
    wait_for(&followed.daemon, &both[1..]);
    assert_eq!(followed.status()["connected"], true);
    assert_eq!(followed.status()["error"], Value::Null);
    followed.add("203.0.113.3", "1h");
    wait_for(&followed.daemon, &[both[1], ("203.0.113.3/32", "crowdsec")]);
}

#[test]
fn a_reload_reads_the_key_again_and_lifts_what_is_not_followed_any_more() {
    require_root!();
    let followed = Followed::new("");
    let config = followed.daemon.config_path();
    let key = followed.crowdsec.path("abuser.key");
    let right = fs::read_to_string(&key).expect("a key");
    followed.add("203.0.113.1", "1h");
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
    fs::write(&key, "wrong").expect("writing a key");
    followed.daemon.abuser(&["reload"]).success();
    let refused = |status: &Value| {
        let error = status["error"].as_str().unwrap_or_default();
        error.contains("403") && error.contains("cscli bouncers add")
    };
    wait_until("it to be refused", || refused(&followed.status()));
    assert_eq!(bans(&followed.daemon).len(), 1, "its bans stay");
    fs::write(&key, right).expect("writing a key");
    followed.daemon.abuser(&["reload"]).success();
    wait_until("it to be let in", || followed.status()["connected"] == true);

    let with = fs::read_to_string(&config).expect("the configuration");
    let lines = with.lines().skip_while(|line| *line != "[crowdsec]");
    let section: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let without = with.replace(&section.join("\n"), "");
    assert_ne!(with, without);
    fs::write(&config, without).expect("writing the configuration");
    let said = followed.daemon.abuser(&["reload"]).success();
    assert!(said.stdout.contains("[crowdsec]"), "{said}");
    wait_for(&followed.daemon, &[]);
    assert_eq!(followed.status(), Value::Null);
    fs::write(&config, with).expect("writing the configuration");
    followed.daemon.abuser(&["reload"]).success();
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
}

#[test]
fn a_configuration_without_it_lifts_what_an_earlier_one_enforced() {
    require_root!();
    let mut followed = Followed::new("");
    followed.add("203.0.113.1", "1h");
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
    followed.daemon.kill();
    let config = followed.daemon.config_path();
    let with = fs::read_to_string(&config).expect("the configuration");
    let kept = with
        .split("[crowdsec]")
        .next()
        .expect("the beginning")
        .to_owned();
    let rest = with.split("interval = \"1s\"").nth(1).expect("the end");
    fs::write(&config, kept + rest).expect("writing the configuration");
    followed.daemon.restart();
    wait_for(&followed.daemon, &[]);
    let _kept = &followed.namespace;
}
