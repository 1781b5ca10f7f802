//! nftables: what is exported is loaded, and what is loaded is imported.

use std::time::{Duration, Instant, SystemTime};

use testkit::{Daemon, Namespace, require_root};

use super::{
    assert_bans, assert_same_end, ban, bans, end, expected, export, feed, import, import_anew,
    peer, problems, run,
};
use crate::support::daemon_on_lo;

/// Loads what `abuser ban export --format nft` prints.
fn load(namespace: &Namespace, daemon: &Daemon) {
    let command = peer(namespace, "nft", &["-j", "-f", "-"]);
    feed(command, &export(daemon, "nft")).success();
}

fn list(namespace: &Namespace, arguments: &[&str]) -> String {
    let arguments = [&["-j", "list"], arguments].concat();
    run(namespace, "nft", &arguments).success().stdout
}

/// The element of a set that an address is in, as nft writes it, if there is one.
fn element(namespace: &Namespace, set: &str, address: &str) -> Option<String> {
    let element = format!("{{ {address} }}");
    // Not with -j, which nft 1.0.6 does not heed here.
    let arguments = ["get", "element", "inet", "abuser", set, &element];
    let said = run(namespace, "nft", &arguments);
    if said.status.code() == Some(1) {
        assert!(said.stderr.contains("No such file"), "{said}");
        return None;
    }
    let found = said.success().stdout;
    let (_, element) = found.split_once("elements = { ").expect("an element");
    let (element, _) = element.rsplit_once(" }").expect("its end");
    Some(element.to_owned())
}

/// What is left of an address of its own in a set. Of a prefix, nft 1.0.6 does not get that.
fn left(namespace: &Namespace, set: &str, address: &str) -> Duration {
    let element = element(namespace, set, address).expect("it is there");
    let (_, after) = element.split_once(" expires ").expect("it ends");
    let left = after.split_whitespace().next().expect("a duration");
    humantime::parse_duration(left).expect("a duration")
}

#[test]
fn sets_that_are_exported_are_loaded_listed_and_imported() {
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
    // One bit from its neighbour, with which nft would merge it.
    ban(&daemon, "203.0.113.6", &["--for", "2h"]);
    ban(
        &daemon,
        "198.51.100.0/24",
        &["--permanent", "--reason", &"long ".repeat(60)],
    );
    ban(&daemon, "192.0.2.0/25", &["--for", "30d"]);
    ban(
        &daemon,
        "2001:db8::/48",
        &["--permanent", "--reason", "six"],
    );
    ban(&daemon, "2001:db9::1", &["--for", "20m"]);
    let mut before = bans(&daemon);
    let written = Instant::now();
    for _ in 0..2 {
        load(&namespace, &daemon);
        for (set, address, source) in [
            ("abuser4", "203.0.113.7", "203.0.113.7/32"),
            ("abuser4", "203.0.113.6", "203.0.113.6/32"),
            ("abuser6", "2001:db9::1", "2001:db9::1/128"),
        ] {
            let found = left(&namespace, set, address);
            assert_same_end(
                address,
                Some(SystemTime::now() + found),
                before[source].0,
                written,
            );
        }
        for (set, address, expected) in [
            ("abuser4", "198.51.100.200", Some("198.51.100.0/24")),
            ("abuser4", "192.0.2.127", Some("192.0.2.0/25")),
            ("abuser4", "192.0.2.128", None),
            ("abuser4", "203.0.113.8", None),
            ("abuser6", "2001:db8:0:ffff::1", Some("2001:db8::/48")),
            ("abuser6", "2001:db8:1::1", None),
        ] {
            let found = element(&namespace, set, address);
            let found = found.as_deref().and_then(|found| found.split(' ').next());
            assert_eq!(found, expected, "{address}");
        }
    }
    // As comments of nft are: without quotation marks, and no longer than 128 bytes.
    let reason = |of: &str| before[of].1.clone().expect("a reason");
    let (scans, long) = (reason("203.0.113.7/32"), reason("198.51.100.0/24"));
    before.get_mut("203.0.113.7/32").expect("it is there").1 = Some(scans.replace('"', "'"));
    before.get_mut("198.51.100.0/24").expect("it is there").1 =
        Some(long[..128].trim_end().to_owned());
    let ruleset = list(&namespace, &["ruleset"]);
    assert_bans(&import_anew(&daemon, "nft", &ruleset), &before, written);
    let one_set = list(&namespace, &["set", "inet", "abuser", "abuser6"]);
    before.retain(|source, _| source.contains(':'));
    assert_bans(&import_anew(&daemon, "nft", &one_set), &before, written);
}

#[test]
fn loading_a_list_again_replaces_the_one_before() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    ban(&daemon, "203.0.113.7", &["--for", "1h"]);
    ban(&daemon, "2001:db8::1", &["--permanent"]);
    load(&namespace, &daemon);
    daemon.abuser(&["ban", "remove", "--all"]).success();
    ban(&daemon, "203.0.113.8", &["--permanent"]);
    load(&namespace, &daemon);
    let holds = |set, address| element(&namespace, set, address).is_some();
    assert!(!holds("abuser4", "203.0.113.7"));
    assert!(holds("abuser4", "203.0.113.8"));
    assert!(!holds("abuser6", "2001:db8::1"));
    daemon.abuser(&["ban", "remove", "--all"]).success();
    load(&namespace, &daemon);
    assert!(!holds("abuser4", "203.0.113.8"));
}

#[test]
fn an_address_is_banned_as_long_as_before_where_bans_are_within_each_other() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    // Cut out of a wider one; left out for a wider one; and one within one within one.
    ban(&daemon, "203.0.113.0/24", &["--for", "30m"]);
    ban(&daemon, "203.0.113.7", &["--for", "1h"]);
    ban(&daemon, "203.0.113.128/25", &["--for", "2h"]);
    ban(&daemon, "203.0.113.255", &["--permanent"]);
    ban(&daemon, "203.0.113.254", &["--for", "5m"]);
    ban(&daemon, "2001:db8::/32", &["--for", "1h"]);
    ban(&daemon, "2001:db8:ffff::/48", &["--permanent"]);
    let probes = [
        "203.0.113.0",
        "203.0.113.6",
        "203.0.113.7",
        "203.0.113.8",
        "203.0.113.127",
        "203.0.113.128",
        "203.0.113.254",
        "203.0.113.255",
        "2001:db8::",
        "2001:db8:fffe:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:ffff::",
    ];
    // The end of the ban that lasts longest.
    let ends = || {
        probes.map(|address| {
            let shown = daemon.json(&["ban", "show", address]);
            let ends = shown.as_array().expect("a list").iter().map(end);
            ends.reduce(|one, other| Some(one?.max(other?)))
                .expect("it is banned")
        })
    };
    let before = ends();
    let written = Instant::now();
    load(&namespace, &daemon);
    import_anew(&daemon, "nft", &list(&namespace, &["ruleset"]));
    for (address, (found, expected)) in probes.iter().zip(ends().into_iter().zip(before)) {
        assert_same_end(address, found, expected, written);
    }
    daemon.abuser(&["ban", "show", "203.0.114.0"]).exits(1);
    daemon.abuser(&["ban", "show", "2001:db9::"]).exits(1);
}

/// What people write: sets of every kind, and what only looks like one.
const RULESET: &str = "
table inet filter {
  set timed { type ipv4_addr; flags timeout; timeout 1h; elements = {
    203.0.113.1, 203.0.113.2 timeout 2h, 203.0.113.3 timeout 30m comment \"said\" } }
  set nets { type ipv4_addr; flags interval; auto-merge; elements = {
    198.51.100.0/24, 192.0.2.10-192.0.2.12 } }
  set six { type ipv6_addr; flags interval, timeout; elements = {
    2001:db8::/48 timeout 1d, 2001:db9::1 } }
  set counted { typeof ip saddr; counter; elements = { 203.0.113.9 comment \"c\" } }
  set metered { type ipv4_addr; size 65535; flags dynamic, timeout; timeout 10m; elements = {
    203.0.113.11 limit rate 10/second timeout 5m expires 4m } }
  set ports { type inet_service; elements = { 22, 80 } }
  set pairs { type ipv4_addr . inet_service; elements = { 203.0.113.5 . 22 } }
  set empty { type ipv4_addr; }
  map verdicts { type ipv4_addr : verdict; elements = { 203.0.113.6 : drop } }
  chain input {
    type filter hook input priority 0;
    ip saddr @timed drop
    ip saddr { 203.0.113.90, 203.0.113.91 } drop
    ip saddr vmap { 203.0.113.92 : drop }
  }
}
";

#[test]
fn a_ruleset_written_by_hand_is_imported() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let written = Instant::now();
    feed(peer(&namespace, "nft", &["-f", "-"]), RULESET).success();
    let expected = expected(&[
        ("192.0.2.10/31", None, None),
        ("192.0.2.12/32", None, None),
        ("198.51.100.0/24", None, None),
        ("2001:db8::/48", Some(86400), None),
        ("2001:db9::1/128", None, None),
        ("203.0.113.1/32", Some(3600), None),
        ("203.0.113.2/32", Some(7200), None),
        ("203.0.113.3/32", Some(1800), Some("said")),
        ("203.0.113.9/32", None, Some("c")),
        ("203.0.113.11/32", Some(240), None),
    ]);
    let outcome = import(&daemon, &list(&namespace, &["ruleset"]));
    assert_eq!(outcome["format"], "nft");
    assert_bans(&bans(&daemon), &expected, written);
    let problems = problems(&outcome);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    for (problem, phrase) in problems
        .iter()
        .zip(["inet_service", "inet_service", "maps"])
    {
        assert!(problem.contains(phrase), "{problem}");
    }
}
