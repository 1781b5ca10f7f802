//! What follows from what a detector finds.

use std::{net::IpAddr, time::Duration};

use abuser_common::layout::MAX_THROTTLED;
use serde_json::{Value, json};
use testkit::require_root;

use super::{DENIED, FIVE, Logged, Site, address, append, deny_each};
use crate::support::{PATIENCE, parse, wait_until};

#[test]
fn who_is_throttled_gets_the_limit_that_it_is_throttled_by_and_nobody_else_does() {
    require_root!();
    let site = Site::new(
        "server { listen 80; location /none { return 404; } location / { return 200; } }",
    );
    let daemon = site.daemon(
        "[ban]\nmaxretry = 1000\n\
         [[limit]]\nname = \"slow\"\nonly = \"throttled\"\nprotocol = \"tcp\"\nports = [80]\n\
         count = \"connections\"\nrate = \"1/h\"\nburst = 2\n\
         [[source]]\nfiles = [\"ACCESS_LOG\"]\nparser = \"nginx-combined\"\n\
         [[detector]]\nname = \"scans\"\nwhere = 'status == 404'\ncount = 5\nwithin = \"1m\"\n\
         action = \"throttle\"\nlimit = \"slow\"\nthrottle_for = \"1h\"\n",
    );
    let [scanner, other] = [66, 67].map(|number| site.client(number));
    for number in 0..5 {
        assert_eq!(site.get(scanner, &format!("/none/{number}")), Some(404));
        assert_eq!(site.get(other, "/"), Some(200));
    }
    wait_until("the throttle", || {
        daemon.json(&["throttle", "list"]) != json!([])
    });
    let throttled = &daemon.json(&["throttle", "list"])[0];
    assert_eq!(throttled["source"], format!("{scanner}/32"));
    assert_eq!(throttled["limit"], "slow");
    let reason = throttled["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("scans: 5 "), "{reason}");
    let left = throttled["remaining_seconds"].as_u64().expect("a time");
    assert!((3500..=3600).contains(&left), "{throttled}");
    let passed = |source: IpAddr| (0..6).filter(|_| site.answers(source)).count();
    assert!((2..=3).contains(&passed(scanner)), "{}", daemon.stderr());
    assert_eq!(passed(other), 6);
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
    daemon
        .abuser(&["throttle", "remove", &scanner.to_string()])
        .success();
    assert_eq!(passed(scanner), 6);
}

#[test]
fn an_alert_is_told_and_nothing_else() {
    require_root!();
    let logged = Logged::new(&format!(
        "{DENIED}[[detector]]\nname = \"told\"\ncount = 1\nwithin = \"1m\"\n"
    ));
    let events = logged
        .daemon
        .stream(&["events", "--kind", "detect", "--json"]);
    wait_until("the reader listens", || {
        logged.deny("198.51.100.1", 1);
        events.next_line(Duration::from_millis(100)).is_some()
    });
    logged.deny("192.0.2.7", 1);
    let told = events.wait_for(PATIENCE, |line| line.contains("192.0.2.7"));
    let told: Value = parse(&told);
    assert_eq!(told["kind"], "detect");
    assert_eq!(told["source"], "192.0.2.7/32");
    assert_eq!(told["detector"], "told");
    assert_eq!(told["action"], "alert");
    assert!(told["reason"].as_str().is_some_and(|why| why.contains('1')));
    assert_eq!(logged.banned(), Vec::<String>::new());
    assert_eq!(logged.daemon.json(&["throttle", "list"]), json!([]));
    assert_eq!(logged.detector()["action"], "alert");
}

#[test]
fn the_second_ban_of_a_source_is_longer_by_the_detectors_policy() {
    require_root!();
    let logged = Logged::new(&format!(
        "[[policy]]\nname = \"twice\"\nbantime = \"3s\"\nincrement = true\n\
         {DENIED}{FIVE}policy = \"twice\"\n"
    ));
    let mut times = Vec::new();
    for _ in 0..2 {
        logged.deny("192.0.2.7", 5);
        logged.assert_banned(&["192.0.2.7/32"]);
        let ban = &logged.daemon.json(&["ban", "list"])[0];
        assert_eq!(ban["policy"], "twice");
        assert_eq!(ban["detector"], "denied");
        times.push(ban["remaining_seconds"].as_u64().expect("a time"));
        wait_until("it is over", || logged.banned().is_empty());
    }
    assert!((1..=3).contains(&times[0]), "{times:?}");
    assert!((4..=6).contains(&times[1]), "{times:?}");
}

#[test]
fn a_ban_is_explained_by_the_lines_that_led_to_it() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    for number in 0..5 {
        let lines = format!("denied 192.0.2.7 line-{number}\ndenied 192.0.2.8 other-{number}\n");
        let lines = if number < 4 {
            lines.as_str()
        } else {
            "denied 192.0.2.7 line-4\n"
        };
        logged.write(lines);
    }
    logged.assert_banned(&["192.0.2.7/32"]);
    let explained = logged.daemon.json(&["explain", "192.0.2.7"]);
    let ban = &explained["bans"][0];
    let reason = ban["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("denied: 5 "), "{reason}");
    let evidence = ban["evidence"].as_array().expect("a list");
    let texts: Vec<_> = evidence.iter().map(|line| line["text"].as_str()).collect();
    let expected = [0, 1, 2, 3, 4].map(|number| format!("denied 192.0.2.7 line-{number}"));
    assert_eq!(texts, expected.each_ref().map(|text| Some(text.as_str())));
    let said = logged.daemon.abuser(&["explain", "192.0.2.7"]).success();
    assert!(said.stdout.contains("line-4"), "{said}");
}

#[test]
fn where_there_is_no_room_that_is_told_and_the_log_does_not_say_all_of_it() {
    // As many as can be throttled, and some.
    const ROOM: usize = MAX_THROTTLED as usize;
    const SOURCES: usize = ROOM + 500;
    require_root!();
    let logged = Logged::new(&format!(
        "{DENIED}[[limit]]\nname = \"slow\"\nonly = \"throttled\"\nrate = \"1/h\"\n\
         [[detector]]\nname = \"denied\"\ncount = 1\nwithin = \"1m\"\naction = \"throttle\"\n\
         limit = \"slow\"\nthrottle_for = \"1h\"\n"
    ));
    let events = logged
        .daemon
        .stream(&["events", "--kind", "detect", "--json"]);
    append(&logged.log(), &deny_each(SOURCES));
    let last = address(SOURCES - 1).to_string();
    let told = events.wait_for(9 * PATIENCE, |line| line.contains(&last));
    let full = format!(
        "nothing: the throttle table is full: it holds at most {ROOM} entries; remove some first"
    );
    assert_eq!(parse(&told)["action"], full);
    assert_eq!(logged.daemon.json(&["status"])["throttles"], ROOM);
    wait_until("the log says how many more there were", || {
        logged
            .daemon
            .stderr()
            .contains("more was detected than the log is told of")
    });
    let log = logged.daemon.stderr();
    let detected = log
        .lines()
        .filter(|line| line.contains("detected detector="))
        .count();
    assert!((1..2000).contains(&detected), "{detected} lines");
}
