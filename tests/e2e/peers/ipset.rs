//! ipset: what is exported is restored, and what is saved is imported. Sets belong to the
//! network namespace.

use std::time::Instant;

use testkit::{Namespace, require_root};

use super::{
    assert_bans, ban, bans, expected, export, feed, import, import_anew, peer, problems, run,
};
use crate::support::daemon_on_lo;

fn restore(namespace: &Namespace, list: &str, options: &[&str]) {
    let arguments = [&["restore"], options].concat();
    feed(peer(namespace, "ipset", &arguments), list).success();
}

fn save(namespace: &Namespace, options: &[&str]) -> String {
    let arguments = [&["save"], options].concat();
    run(namespace, "ipset", &arguments).success().stdout
}

fn holds(namespace: &Namespace, set: &str, address: &str) -> bool {
    let said = run(namespace, "ipset", &["test", set, address]);
    match said.status.code() {
        Some(0) => true,
        Some(1) if said.stderr.contains("is NOT in set") => false,
        _ => panic!("{said}"),
    }
}

#[test]
fn sets_that_are_exported_are_restored_saved_and_imported() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    ban(
        &daemon,
        "203.0.113.7",
        &[
            "--for",
            "1h",
            "--reason",
            "scans \"ports\", all of \\ them; { n\u{e9}t } # 1",
        ],
    );
    ban(
        &daemon,
        "203.0.113.0/24",
        &["--permanent", "--reason", &"long ".repeat(60)],
    );
    ban(&daemon, "198.51.100.0/22", &["--for", "20d"]);
    ban(
        &daemon,
        "2001:db8::/48",
        &["--permanent", "--reason", "six"],
    );
    ban(&daemon, "2001:db9::1", &["--for", "20m"]);
    ban(&daemon, "192.0.2.1", &["--for", "90d"]);
    let mut before = bans(&daemon);
    let written = Instant::now();
    let exported = export(&daemon, "ipset");
    // No timeout is longer than this.
    let longest = expected(&[("192.0.2.1/32", Some(2_147_483), None)]);
    restore(&namespace, &exported, &[]);
    for (set, address, is_there) in [
        ("abuser4", "203.0.113.7", true),
        ("abuser4", "203.0.113.255", true),
        ("abuser4", "203.0.114.0", false),
        ("abuser4", "198.51.103.1", true),
        ("abuser6", "2001:db8:0:1::1", true),
        ("abuser6", "2001:db9::1", true),
        ("abuser6", "2001:db9::2", false),
    ] {
        assert_eq!(holds(&namespace, set, address), is_there, "{address}");
    }
    // Sets that are there already are filled up if one says so.
    restore(&namespace, &exported, &["-exist"]);
    // As comments of ipset are: without quotation marks, and no longer than 255 bytes.
    let reason = |of: &str| before[of].1.clone().expect("a reason");
    let (scans, long) = (reason("203.0.113.7/32"), reason("203.0.113.0/24"));
    before.get_mut("203.0.113.7/32").expect("it is there").1 = Some(scans.replace('"', "'"));
    before.get_mut("203.0.113.0/24").expect("it is there").1 =
        Some(long[..255].trim_end().to_owned());
    before.extend(longest);
    assert_bans(
        &import_anew(&daemon, "ipset", &save(&namespace, &[])),
        &before,
        written,
    );
    let sorted = save(&namespace, &["-sorted"]);
    assert_bans(&import_anew(&daemon, "ipset", &sorted), &before, written);
    let one_set = save(&namespace, &["abuser6"]);
    before.retain(|source, _| source.contains(':'));
    assert_bans(&import_anew(&daemon, "ipset", &one_set), &before, written);
}

#[test]
fn everybody_is_banned_in_halves() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    ban(&daemon, "0.0.0.0/0", &["--for", "1h", "--force"]);
    ban(&daemon, "::/0", &["--for", "1h", "--force"]);
    restore(&namespace, &export(&daemon, "ipset"), &[]);
    for (set, address) in [
        ("abuser4", "0.0.0.1"),
        ("abuser4", "255.255.255.254"),
        ("abuser6", "::1"),
        ("abuser6", "ffff::1"),
    ] {
        assert!(holds(&namespace, set, address), "{address}");
    }
}

/// What people have: sets of every kind.
const SETS: &str = "\
create plain hash:ip
add plain 203.0.113.1
create timed hash:ip timeout 3600 comment counters skbinfo
add timed 203.0.113.2 comment \"x y\"
add timed 203.0.113.3 timeout 60 packets 5 bytes 300 skbmark 0x1 comment z
create masked hash:ip netmask 24
add masked 198.51.100.77
create nets hash:net timeout 0 comment forceadd
add nets 192.0.2.0/25 timeout 7200
add nets 192.0.2.7 nomatch
create six hash:net family inet6
add six 2001:db8::/48
create ports hash:ip,port
add ports 203.0.113.9,tcp:22
create bits bitmap:ip range 192.0.2.128/25
add bits 192.0.2.129
create all list:set
add all plain
";

#[test]
fn sets_made_by_hand_are_imported() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let written = Instant::now();
    restore(&namespace, SETS, &[]);
    let expected = expected(&[
        ("192.0.2.0/25", Some(7200), None),
        ("198.51.100.0/24", None, None),
        ("2001:db8::/48", None, None),
        ("203.0.113.1/32", None, None),
        ("203.0.113.2/32", Some(3600), Some("x y")),
        ("203.0.113.3/32", Some(60), Some("z")),
    ]);
    let outcome = import(&daemon, &save(&namespace, &[]));
    assert_eq!(outcome["format"], "ipset");
    assert_bans(&bans(&daemon), &expected, written);
    let problems = problems(&outcome);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for phrase in ["hash:ip,port", "bitmap:ip", "list:set", "no exceptions"] {
        assert!(
            problems.iter().any(|problem| problem.contains(phrase)),
            "no {phrase}: {problems:#?}"
        );
    }
}
