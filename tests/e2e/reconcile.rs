//! Maps and rows that somebody else changed are put right.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use abuser_common::{
    layout::{AllowOrigin, Ban, LAYOUT_VERSION, maps},
    prefix::PrefixKey,
};
use testkit::{Daemon, Namespace, require_root};

use crate::support::{daemon_on_lo, finish, pinned, wait_until};

/// Has bpftool delete an entry or, with a value, write one.
fn bpftool(
    namespace: &Namespace,
    daemon: &Daemon,
    name: &str,
    key: &PrefixKey,
    value: Option<u64>,
) {
    let map = daemon
        .pin_dir()
        .join(format!("v{LAYOUT_VERSION}"))
        .join(name);
    let octets = |octets: &[u8]| octets.iter().map(u8::to_string).collect::<Vec<_>>();
    let PrefixKey {
        family,
        length,
        address,
    } = key;
    let key = [&family.to_ne_bytes()[..], &length.to_ne_bytes(), address].concat();
    let mut command = testkit::peers::command(namespace, "bpftool").expect("bpftool");
    command.args(["map", if value.is_some() { "update" } else { "delete" }]);
    command.arg("pinned").arg(map).arg("key").args(octets(&key));
    if let Some(value) = value {
        command.arg("value").args(octets(&value.to_ne_bytes()));
    }
    finish(&mut command).success();
}

fn key(address: &str, length: u8) -> PrefixKey {
    PrefixKey::new(address.parse().expect("an address"), length).expect("a prefix")
}

#[test]
fn entries_that_were_deleted_changed_or_forged_are_put_right_within_a_pass() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("[allow]\naddresses = [\"10.0.0.0/8\"]\n");
    let meddle = |name, entry: &PrefixKey, value| bpftool(&namespace, &daemon, name, entry, value);
    daemon
        .abuser(&["ban", "add", "203.0.113.1", "203.0.113.2", "2001:db8::/48"])
        .success();
    daemon.abuser(&["allow", "add", "192.0.2.1"]).success();
    let mut bans = pinned::<Ban>(&daemon, maps::BANS);
    let before: BTreeMap<_, _> = bans.iter().map(|entry| entry.expect("an entry")).collect();
    meddle(maps::BANS, &key("203.0.113.1", 32), None);
    let mut shortened = before[&key("203.0.113.2", 32)];
    shortened.expires_ns = 1;
    bans.insert(key("203.0.113.2", 32), shortened, 0)
        .expect("changing");
    bans.insert(key("198.51.100.1", 32), Ban::default(), 0)
        .expect("forging");
    let allowed = pinned::<u64>(&daemon, maps::ALLOWED);
    meddle(maps::ALLOWED, &key("10.0.0.0", 8), None);
    let forged = Some(AllowOrigin::Command as u64);
    meddle(maps::ALLOWED, &key("198.51.100.2", 32), forged);
    let deadline = Instant::now() + Duration::from_secs(90);
    while daemon.json(&["status"])["reconciler"]["kernel_repairs"] != 5 {
        assert!(Instant::now() < deadline, "not put right within 90 s");
        thread::sleep(Duration::from_millis(100));
    }
    let after: BTreeMap<_, _> = bans.iter().map(|entry| entry.expect("an entry")).collect();
    assert_eq!(after, before);
    let allowed: Vec<_> = allowed.keys().map(|key| key.expect("a key")).collect();
    assert_eq!(allowed.len(), 2, "{allowed:?}");
    for expected in [key("10.0.0.0", 8), key("192.0.2.1", 32)] {
        assert!(allowed.contains(&expected), "{allowed:?}");
    }
    let status = daemon.json(&["status"]);
    assert_eq!(status["reconciler"]["store_repairs"], 0);
    let said = daemon.stderr();
    for phrase in [
        "the ban of 203.0.113.1/32 was missing",
        "a ban of 198.51.100.1/32 that nobody made",
        "allow list was not as it should be about 10.0.0.0/8",
    ] {
        assert!(said.contains(phrase), "no {phrase:?} in {said}");
    }
}

#[test]
fn what_only_the_kernel_has_after_a_crash_is_kept_and_written_down() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    for source in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        daemon
            .abuser(&["ban", "add", source, "--reason", "first"])
            .success();
    }
    daemon.kill();
    // As if it had been killed between the map and the disk: a ban that was made, one that was
    // renewed, one that was lifted, one that was lifted and made again.
    let mut bans = pinned::<Ban>(&daemon, maps::BANS);
    let mut renewed = bans.get(&key("203.0.113.1", 32), 0).expect("the first");
    renewed.expires_ns += 3_600_000_000_000;
    bans.insert(key("203.0.113.1", 32), renewed, 0)
        .expect("renewing");
    let permanent = |id| Ban {
        id,
        ..Ban::default()
    };
    bans.insert(key("198.51.100.1", 32), permanent(4), 0)
        .expect("a new one");
    bans.remove(&key("203.0.113.2", 32)).expect("lifting");
    bans.insert(key("203.0.113.3", 32), permanent(5), 0)
        .expect("made again");
    // The second time the store alone knows.
    for put_back in [1, 0] {
        daemon.restart();
        let list = daemon.json(&["ban", "list"]);
        let bans = list.as_array().expect("a list").iter();
        let bans = bans.map(|ban| {
            let source = ban["source"].as_str().unwrap_or_default();
            let reason = ban["reason"].as_str().unwrap_or("none");
            format!("{} {source} {reason}", ban["id"])
        });
        assert_eq!(
            bans.collect::<Vec<_>>(),
            [
                "4 198.51.100.1/32 none",
                "1 203.0.113.1/32 first",
                "2 203.0.113.2/32 first",
                "5 203.0.113.3/32 none",
            ]
        );
        let renewed = list.as_array().expect("a list").iter();
        let mut renewed = renewed.filter(|ban| ban["source"] == "203.0.113.1/32");
        let left = renewed
            .next()
            .and_then(|ban| ban["remaining_seconds"].as_u64());
        assert!(left > Some(3600), "{list}");
        // It was known what to do: nothing had to be put right but the ban whose end nobody had an answer for.
        let reconciler = || daemon.json(&["status"])["reconciler"].clone();
        wait_until("the first pass", || reconciler()["passes"] == 1);
        assert_eq!(reconciler()["store_repairs"], 0);
        assert_eq!(reconciler()["kernel_repairs"], put_back);
        let warning = "the kernel had no ban of 203.0.113.2/32 when abuser started";
        let said = daemon.stderr();
        assert_eq!(said.matches(warning).count(), put_back, "{said}");
        daemon.terminate();
    }
}

#[test]
fn a_restart_itself_forgets_who_is_not_configured_any_more() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("[allow]\naddresses = [\"192.0.2.50\"]\n");
    daemon.kill();
    let path = daemon.config_path();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, text.replace("192.0.2.50", "192.0.2.51")).expect("writing it");
    daemon.restart();
    wait_until("a pass", || {
        daemon.json(&["status"])["reconciler"]["passes"] != 0
    });
    let status = daemon.json(&["status"]);
    assert_eq!(status["reconciler"]["kernel_repairs"], 0, "{status}");
    assert_eq!(
        daemon.json(&["allow", "list"])[0]["source"],
        "192.0.2.51/32"
    );
}
