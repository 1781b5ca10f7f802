//! What a node can cause without end, and how often the others do it.

use std::{
    thread,
    time::{Duration, Instant},
};

use testkit::{nats::RawClient, require_root};

use super::{AGREE, Fleet};

/// As many allow entries as one node may have.
const MOST: u32 = 1024;
/// How many more it says.
const TOO_MANY: u32 = 50;
/// How long nothing is to happen: longer than the first pauses between two readings of the bucket together.
const QUIET: Duration = Duration::from_secs(8);

fn key(number: u32) -> String {
    format!(
        "$KV.abuser.web-3.allow.198-18-{}-{}_32",
        number >> 8,
        number & 255
    )
}

/// Says of so many addresses that they are allowed.
fn allow(client: &mut RawClient, numbers: std::ops::Range<u32>, reason: &str) {
    for number in numbers {
        let value = format!(
            r#"{{"v":1,"seq":1,"at":1,"expires":null,"cause":"allow","reason":"{reason}"}}"#
        );
        let value = value.as_bytes();
        client.queue(&key(number), value).expect("an allow entry");
    }
    client.flush().expect("allow entries");
}

#[test]
fn what_there_is_no_room_for_is_read_again_when_there_is_and_not_before() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1"]);
    let mut hostile = fleet.cluster.client(0, "web-3").expect("a client");
    allow(&mut hostile, 0..MOST + TOO_MANY, "mine");
    let status = |name: &str| fleet.status(0)[name].as_u64().expect("a number");
    fleet.wait(AGREE, "refusals", || {
        fleet.status(0)["refused"]["too_many"].as_u64() >= Some(TOO_MANY.into())
    });
    assert_eq!(status("allow"), u64::from(MOST));
    // Each is heard twice.
    let all = u64::from(2 * (MOST + TOO_MANY));
    fleet.wait(AGREE, "all of them", || status("received") >= all);
    let begun = Instant::now();
    while begun.elapsed() < QUIET {
        assert_eq!(status("received"), all, "it was read again");
        thread::sleep(Duration::from_millis(200));
    }
    let headers = "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n";
    hostile
        .publish_with_headers(&key(0), headers, b"")
        .expect("one less");
    fleet.wait(AGREE, "another reading", || status("received") > all + 2);
    fleet.wait(AGREE, "another in its place", || {
        status("allow") == u64::from(MOST)
    });
}

#[test]
fn allow_entries_by_the_thousand_take_few_lines_of_the_log_and_few_rounds() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1"]);
    let mut hostile = fleet.cluster.client(0, "web-3").expect("a client");
    let listed = || {
        let list = fleet.node(0).json(&["allow", "list"]);
        let entries = list.as_array().expect("a list").iter();
        entries.filter(|entry| entry["origin"] == "fleet").count()
    };
    allow(&mut hostile, 0..500, "first");
    fleet.wait(AGREE, "the entries", || listed() == 500);
    // As many others without end.
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < QUIET {
        rounds += 1;
        let headers = "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n";
        hostile
            .publish_with_headers(&key(rounds % 500), headers, b"")
            .expect("one less");
        thread::sleep(Duration::from_millis(20));
    }
    let said = fleet.node(0).stderr();
    let lines = said.lines().filter(|line| line.contains("198.18."));
    // A first one has all that was there by then, and each of the others what has come since.
    let lines = lines.count();
    assert!((20..=20 * 6).contains(&lines), "{lines} lines:\n{said}");
    assert!(
        said.contains("other allow entries that came or went"),
        "{said}"
    );
    fleet.wait(2 * AGREE, "the rest to go", || {
        listed() as u64 == 500 - u64::from(rounds.min(499))
    });
}
