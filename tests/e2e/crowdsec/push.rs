//! Bans that are made here are enforced by whoever follows the same local API.

use std::{thread, time::Duration};

use serde_json::Value;
use testkit::{Crowdsec, Daemon, Namespace, Wire, comes_true, pause_since, require_root};

use super::{Followed, bans, status, wait_for};
use crate::support::{PATIENCE, assert_keys, wait_until, wait_until_seen};

/// What makes a daemon push as the machine `name`.
fn pushing(crowdsec: &Crowdsec, name: &str) -> String {
    format!(
        "push = true\nmachine_id = \"{name}\"\npassword_file = \"{}\"",
        crowdsec.add_machine(name).display()
    )
}

/// A daemon that follows a local API and pushes to it.
fn followed(options: &[&str]) -> Followed {
    followed_with("", options)
}

/// One with more in the section.
fn followed_with(more: &str, options: &[&str]) -> Followed {
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let crowdsec = Crowdsec::start(&namespace);
    let key = crowdsec.add_bouncer("abuser");
    let push = format!("{}\n{more}", pushing(&crowdsec, "here"));
    let config = format!("interfaces = [\"lo\"]\n{}", super::section(&key, &push));
    let daemon = Daemon::start_with(&namespace, &config, options);
    Followed {
        namespace,
        crowdsec,
        daemon,
    }
}

/// Values of decisions in force that have come from abuser.
fn pushed(crowdsec: &Crowdsec) -> Vec<String> {
    let alerts = crowdsec.list("decisions", &["--origin", "abuser"]);
    let alerts = alerts.as_array().cloned().unwrap_or_default();
    let decisions = alerts
        .iter()
        .flat_map(|alert| alert["decisions"].as_array().expect("a list"));
    let mut values: Vec<_> = decisions
        .filter(|decision| {
            !decision["duration"]
                .as_str()
                .expect("a text")
                .starts_with('-')
        })
        .map(|decision| decision["value"].as_str().expect("a text").to_owned())
        .collect();
    values.sort_unstable();
    values
}

#[track_caller]
fn wait_for_pushed(crowdsec: &Crowdsec, expected: &[&str]) {
    wait_until_seen(
        &format!("{expected:?}"),
        || pushed(crowdsec),
        |pushed| pushed == expected,
    );
}

#[test]
fn a_ban_is_enforced_by_others_until_it_is_lifted_here() {
    require_root!();
    let wire = Wire::new();
    let crowdsec = Crowdsec::start(&wire.server);
    let start = |namespace: &Namespace, interface: &str, name: &str, host: &str| {
        let key = crowdsec.add_bouncer(name);
        let section = super::section(&key, &pushing(&crowdsec, name));
        let section = section.replace("127.0.0.1", host);
        Daemon::start(
            namespace,
            &format!("interfaces = [\"{interface}\"]\n{section}"),
        )
    };
    let here = start(&wire.server, "lo", "here", "127.0.0.1");
    let there = start(&wire.client, "lo", "there", &Wire::SERVER_V4.to_string());
    here.abuser(&[
        "ban",
        "add",
        "203.0.113.1",
        "--for",
        "1h",
        "--reason",
        "scans",
    ])
    .success();
    here.abuser(&["ban", "add", "2001:db8:7::/64", "--permanent"])
        .success();
    let crowdsecs = [
        ("203.0.113.1/32", "crowdsec"),
        ("2001:db8:7::/64", "crowdsec"),
    ];
    wait_for(&there, &crowdsecs);
    let ban = there.json(&["ban", "show", "203.0.113.1"])[0].clone();
    assert_eq!(
        (&ban["crowdsec"], &ban["reason"]),
        (&"abuser".into(), &"abuser/manual".into())
    );
    let left = ban["remaining_seconds"].as_u64().expect("an end");
    assert!((3500..=3600).contains(&left), "{left}");
    let ban = there.json(&["ban", "show", "2001:db8:7::1"])[0].clone();
    assert_eq!(ban["expires"], Value::Null, "for good stays for good");
    let alerts = crowdsec.list("alerts", &["-i", "203.0.113.1", "-a"]);
    assert_eq!(alerts[0]["message"], "scans", "{alerts}");
    assert_eq!(alerts[0]["machine_id"], "here");
    assert_eq!(alerts.as_array().map(Vec::len), Some(1));

    // What comes back changes nothing here, and is pushed by nobody again.
    wait_until("it to be known for ours", || {
        status(&here)["push"]["active"] == 2
    });
    let asked = status(&here)["last_answer"].clone();
    wait_until("another answer", || status(&here)["last_answer"] != asked);
    wait_for(
        &here,
        &[("203.0.113.1/32", "manual"), ("2001:db8:7::/64", "manual")],
    );
    assert_eq!(status(&here)["decisions"], 0);
    assert_eq!(status(&there)["decisions"], 2);
    let push = status(&here)["push"].clone();
    assert_keys(
        &push,
        &[
            "connected",
            "pushed",
            "withdrawn",
            "refused",
            "active",
            "queued",
            "failures",
            "error",
        ],
    );
    assert_eq!(
        (&push["pushed"], &push["queued"]),
        (&2.into(), &0.into()),
        "{push}"
    );
    assert_eq!(status(&there)["push"]["pushed"], 0);
    assert_eq!(pushed(&crowdsec), ["2001:db8:7::/64", "203.0.113.1"]);

    here.abuser(&["ban", "remove", "203.0.113.1"]).success();
    wait_for(&there, &crowdsecs[1..]);
    wait_for(&here, &[("2001:db8:7::/64", "manual")]);
    here.abuser(&["ban", "remove", "--all"]).success();
    wait_for(&there, &[]);
    wait_for_pushed(&crowdsec, &[]);
    assert_eq!(status(&here)["push"]["withdrawn"], 2);
    let said = here.abuser(&["status"]).success().stdout;
    assert!(said.contains("CrowdSec has 0 bans from here\n"), "{said}");
}

#[test]
fn what_happened_while_the_local_api_or_the_daemon_was_away_is_caught_up_with() {
    require_root!();
    let mut followed = followed(&[]);
    let ban = |daemon: &Daemon, address: &str| {
        daemon
            .abuser(&["ban", "add", address, "--for", "1h"])
            .success();
    };
    ban(&followed.daemon, "203.0.113.1");
    ban(&followed.daemon, "203.0.113.2");
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1", "203.0.113.2"]);
    followed.crowdsec.stop();
    ban(&followed.daemon, "203.0.113.3");
    followed
        .daemon
        .abuser(&["ban", "remove", "203.0.113.1"])
        .success();
    wait_until("it to be noticed", || {
        followed.status()["push"]["error"].is_string()
    });
    // It knows no token of before any more.
    followed.crowdsec.restart();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.2", "203.0.113.3"]);

    followed.crowdsec.stop();
    followed
        .daemon
        .abuser(&["ban", "remove", "203.0.113.2"])
        .success();
    followed.daemon.kill();
    followed.crowdsec.restart();
    followed.daemon.restart();
    ban(&followed.daemon, "203.0.113.4");
    wait_for_pushed(&followed.crowdsec, &["203.0.113.3", "203.0.113.4"]);
    // Nothing twice. An alert for which a busy local API could make no decision stays, and is told again.
    let alerts = followed
        .crowdsec
        .list("alerts", &["-i", "203.0.113.3", "-a"]);
    let decisions = alerts
        .as_array()
        .expect("alerts")
        .iter()
        .filter_map(|alert| alert["decisions"].as_array())
        .flatten();
    assert_eq!(decisions.count(), 1, "{alerts}");
    assert_eq!(bans(&followed.daemon).len(), 2);
}

#[test]
fn a_ban_that_is_renewed_is_pushed_anew() {
    require_root!();
    let followed = followed(&[]);
    let left = || {
        let alerts = followed.crowdsec.list("decisions", &["--origin", "abuser"]);
        let alerts = alerts.as_array().cloned().unwrap_or_default();
        let decisions = alerts
            .iter()
            .flat_map(|alert| alert["decisions"].as_array().expect("a list"));
        let durations =
            decisions.map(|decision| decision["duration"].as_str().expect("a text").to_owned());
        durations
            .filter(|duration| !duration.starts_with('-'))
            .collect::<Vec<_>>()
    };
    for (time, beginning) in [("1h", "59m"), ("3h", "2h59m"), ("30m", "29m")] {
        followed
            .daemon
            .abuser(&["ban", "add", "203.0.113.1", "--for", time])
            .success();
        wait_until_seen(time, left, |left| {
            left.len() == 1 && left[0].starts_with(beginning)
        });
    }
    assert_eq!(bans(&followed.daemon)["203.0.113.1/32"], "manual");
}

#[test]
fn a_decision_that_is_deleted_there_is_not_pushed_again() {
    require_root!();
    let followed = followed(&[]);
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.1", "--for", "1h"])
        .success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1"]);
    wait_until("it to be known for ours", || {
        followed.status()["push"]["active"] == 1
    });
    followed
        .crowdsec
        .decisions(&["delete", "-i", "203.0.113.1"]);
    wait_until("it to be noticed", || {
        followed.status()["push"]["active"] == 0
    });
    assert!(
        followed.daemon.stderr().contains("the ban stays"),
        "{}",
        followed.daemon.stderr()
    );
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.2", "--for", "1h"])
        .success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.2"]);
    assert_eq!(bans(&followed.daemon).len(), 2);
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.1", "--for", "2h"])
        .success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1", "203.0.113.2"]);
}

#[test]
fn a_decision_that_is_deleted_there_is_heard_of_whatever_else_is_left_out() {
    require_root!();
    let left_out = "origins = [\"cscli\"]\nscenarios_containing = [\"wanted\"]\n\
                    scenarios_not_containing = [\"spared\"]";
    let followed = followed_with(left_out, &[]);
    for (address, reason) in [
        ("203.0.113.1", "is Wanted"),
        ("203.0.113.2", "is not"),
        ("203.0.113.3", "wanted and spared"),
    ] {
        followed
            .crowdsec
            .decisions(&["add", "-i", address, "-d", "1h", "-R", reason]);
    }
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.4", "--for", "1h"])
        .success();
    let expected = [("203.0.113.1/32", "crowdsec"), ("203.0.113.4/32", "manual")];
    wait_for(&followed.daemon, &expected);
    wait_until("it to be known for ours", || {
        followed.status()["push"]["active"] == 1
    });
    followed
        .crowdsec
        .decisions(&["delete", "-i", "203.0.113.4"]);
    wait_until("it to be noticed", || {
        followed.status()["push"]["active"] == 0
    });
    wait_for(&followed.daemon, &expected);
    assert_eq!(
        followed.status()["ignored"],
        serde_json::json!({"type": 0, "scope": 0, "simulated": 0, "wide": 0, "malformed": 0})
    );
}

#[test]
fn a_decision_that_was_deleted_while_the_daemon_was_away_is_not_pushed_again() {
    require_root!();
    let mut followed = followed(&[]);
    let ban = |daemon: &Daemon, address: &str, time: &str| {
        daemon
            .abuser(&["ban", "add", address, "--for", time])
            .success();
    };
    ban(&followed.daemon, "203.0.113.1", "1h");
    ban(&followed.daemon, "203.0.113.2", "1h");
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1", "203.0.113.2"]);
    followed.daemon.kill();
    followed
        .crowdsec
        .decisions(&["delete", "-i", "203.0.113.1"]);
    followed.daemon.restart();
    ban(&followed.daemon, "203.0.113.3", "1h");
    wait_for_pushed(&followed.crowdsec, &["203.0.113.2", "203.0.113.3"]);
    wait_until("nothing to be left", || {
        let push = followed.status()["push"].clone();
        push["connected"] == true && push["queued"] == 0
    });
    followed.daemon.abuser(&["reload"]).success();
    ban(&followed.daemon, "203.0.113.4", "1h");
    let others = ["203.0.113.2", "203.0.113.3", "203.0.113.4"];
    wait_for_pushed(&followed.crowdsec, &others);
    let alerts = followed
        .crowdsec
        .list("alerts", &["-i", "203.0.113.1", "-a"]);
    assert_eq!(alerts.as_array().map(Vec::len), Some(1), "{alerts}");
    assert_eq!(bans(&followed.daemon).len(), 4, "the ban stays");
    ban(&followed.daemon, "203.0.113.1", "2h");
    wait_for_pushed(
        &followed.crowdsec,
        &["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"],
    );
}

#[test]
fn what_was_taken_back_from_here_is_pushed_again_when_the_configuration_says_so() {
    require_root!();
    let followed = followed(&[]);
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.1", "--permanent"])
        .success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1"]);
    let path = followed.daemon.config_path();
    let with = std::fs::read_to_string(&path).expect("the configuration");
    let without = with.replace("push = true", "push = true\npush_causes = [\"limit\"]");
    std::fs::write(&path, without).expect("writing the configuration");
    followed.daemon.abuser(&["reload"]).success();
    wait_for_pushed(&followed.crowdsec, &[]);
    std::fs::write(&path, with).expect("writing the configuration");
    followed.daemon.abuser(&["reload"]).success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.1"]);
}

#[test]
fn more_bans_than_one_answer_has_are_all_known_again() {
    require_root!();
    let mut followed = followed_with("push_causes = [\"import\"]", &[]);
    let mut sources: Vec<_> = (0..220)
        .map(|number| format!("198.18.{}.{}", number / 20, number % 20))
        .collect();
    // Those that hold others of them are in no half of theirs.
    sources.extend(
        [
            "198.18.0.0/16",
            "198.18.0.0/23",
            "2001:db8::/64",
            "2001:db8::1",
        ]
        .map(str::to_owned),
    );
    let file = followed.crowdsec.write("list.txt", &sources.join("\n"));
    followed
        .daemon
        .abuser(&["ban", "import", file.to_str().expect("UTF-8")])
        .success();
    let count = sources.len();
    let all_there = |followed: &Followed| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let look = std::time::Instant::now();
            let push = followed.status()["push"].clone();
            if push["active"] == count && push["queued"] == 0 && push["connected"] == true {
                return push;
            }
            assert!(std::time::Instant::now() < deadline, "{push}");
            pause_since(look);
        }
    };
    assert_eq!(all_there(&followed)["pushed"], count);
    followed.daemon.kill();
    followed.daemon.restart();
    let push = all_there(&followed);
    assert_eq!(
        (&push["pushed"], &push["withdrawn"]),
        (&0.into(), &0.into()),
        "{push}"
    );
    assert_eq!(bans(&followed.daemon).len(), count);
}

#[test]
fn what_others_list_what_is_allowed_and_what_is_only_observed_is_not_pushed() {
    require_root!();
    let followed = followed(&[]);
    followed.add("203.0.113.1", "1h");
    followed
        .daemon
        .abuser(&["allow", "add", "203.0.113.2"])
        .success();
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.2", "--force"])
        .success();
    let file = followed.crowdsec.write("list.txt", "203.0.113.3\n");
    followed
        .daemon
        .abuser(&["ban", "import", file.to_str().expect("UTF-8")])
        .success();
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.4"])
        .success();
    wait_for_pushed(&followed.crowdsec, &["203.0.113.4"]);
    wait_until("what others list to be heard of, too", || {
        bans(&followed.daemon).len() == 4
    });
    assert_eq!(followed.status()["push"]["queued"], 0);

    let observing = self::followed(&["--observe"]);
    observing
        .daemon
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    observing.add("203.0.113.2", "1h");
    wait_for(
        &observing.daemon,
        &[("203.0.113.1/32", "manual"), ("203.0.113.2/32", "crowdsec")],
    );
    assert_eq!(observing.status()["push"], Value::Null);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(pushed(&observing.crowdsec), Vec::<String>::new());
    let _kept = &observing.namespace;
}

#[test]
fn a_machine_that_is_not_known_is_told_and_leaves_the_decisions_in_force() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let crowdsec = Crowdsec::start(&namespace);
    let key = crowdsec.add_bouncer("abuser");
    let password = crowdsec.write_secret("password", "wrong");
    crowdsec.decisions(&["add", "-i", "203.0.113.1", "-d", "1h"]);
    let push = format!(
        "push = true\nmachine_id = \"nobody\"\npassword_file = \"{}\"",
        password.display()
    );
    let config = format!("interfaces = [\"lo\"]\n{}", super::section(&key, &push));
    let daemon = Daemon::start(&namespace, &config);
    wait_for(&daemon, &[("203.0.113.1/32", "crowdsec")]);
    let error = || {
        status(&daemon)["push"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    wait_until("an error", || error().contains("cscli machines add"));
    assert_eq!(status(&daemon)["connected"], true);
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("IS NOT TOLD"), "{said}");
}

/// Has a local API fail halfway through a dozen bans, each time its database is told `statement` about the
/// seventh, and asserts that it has one decision of each of the others, which goes with the ban.
fn what_a_failure_left_is_known_and_goes(statement: &str) {
    let followed = followed(&[]);
    let database = rusqlite::Connection::open(followed.crowdsec.database()).expect("a database");
    database
        .busy_timeout(Duration::from_secs(30))
        .expect("patience");
    database
        .execute_batch(&format!(
            "CREATE TRIGGER ill BEFORE {statement} ON decisions WHEN NEW.value = '203.0.113.7' \
             BEGIN SELECT RAISE(ABORT, 'ill'); END",
        ))
        .expect("a trigger");
    let in_force = || {
        let query = "SELECT value FROM decisions WHERE origin = 'abuser' AND until > datetime('now') \
                     ORDER BY value";
        let mut query = database.prepare(query).expect("a query");
        let values = query.query_map([], |row| row.get::<_, String>(0));
        values.and_then(Iterator::collect).expect("decisions")
    };
    let addresses: Vec<_> = (1..=12)
        .map(|number| format!("203.0.113.{number}"))
        .collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    followed
        .daemon
        .abuser(&[&["ban", "add", "--for", "1h"], &*addresses].concat())
        .success();
    let mut expected: Vec<_> = addresses
        .iter()
        .copied()
        .filter(|address| !address.ends_with(".7"))
        .collect();
    expected.sort_unstable();
    // A dozen requests, one after another.
    let refused = || followed.status()["push"]["refused"] == 1;
    assert!(comes_true(3 * PATIENCE, refused));
    assert_eq!(pushed(&followed.crowdsec), expected, "each once");
    let push = followed.status()["push"].clone();
    assert_eq!(
        (&push["active"], &push["pushed"]),
        (&11.into(), &11.into()),
        "{push}"
    );
    // What has no alert is taken back when it cannot get one any more, and what has one stays.
    let mut left: Vec<String> = Vec::new();
    let is_known = || {
        left = in_force();
        left == expected && followed.status()["decisions"] == 0
    };
    assert!(comes_true(Duration::from_secs(90), is_known), "{left:?}");
    followed
        .daemon
        .abuser(&["ban", "remove", "--all"])
        .success();
    wait_for_pushed(&followed.crowdsec, &[]);
    wait_for(&followed.daemon, &[]);
    wait_until_seen("the end of all", in_force, Vec::is_empty);
}

#[test]
fn what_was_taken_before_the_local_api_failed_is_not_told_again() {
    require_root!();
    // Of a list of alerts it keeps those before the one that failed, and answers with the error alone.
    what_a_failure_left_is_known_and_goes("INSERT");
}

#[test]
fn a_decision_that_a_local_api_that_failed_left_without_its_alert_is_taken_back() {
    require_root!();
    // Which alert a decision is of is written last.
    what_a_failure_left_is_known_and_goes("UPDATE OF alert_decisions");
}
