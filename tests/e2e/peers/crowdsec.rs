//! `CrowdSec`: its local API, alone and on loopback, and `cscli`, which talks to it.

use std::time::Instant;

use testkit::{Crowdsec, require_root};

use super::{Bans, assert_bans, ban, bans, expected, export, import, import_anew, problems, text};
use crate::support::daemon_on_lo;

fn list(crowdsec: &Crowdsec) -> String {
    crowdsec
        .decisions(&["list", "-l", "0", "-o", "json"])
        .stdout
}

#[test]
fn decisions_are_imported() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let crowdsec = Crowdsec::start(&namespace);
    assert!(import_anew(&daemon, "crowdsec", &list(&crowdsec)).is_empty());
    let unsaid = Some("manual 'ban' from 'test'");
    let made = Instant::now();
    let mut added = Bans::new();
    for (arguments, ban) in [
        (
            &["-i", "203.0.113.1", "-d", "1h", "-R", "by \"hand\""][..],
            &[("203.0.113.1/32", Some(3600), Some("by \"hand\""))][..],
        ),
        (
            &["-r", "198.51.100.0/24", "-d", "24h"],
            &[("198.51.100.0/24", Some(86400), unsaid)],
        ),
        (
            &["-i", "2001:db8::1", "-d", "1h30m"],
            &[("2001:db8::1/128", Some(5400), unsaid)],
        ),
        (
            &["-r", "2001:db9::/32", "-d", "60s", "-R", "six"],
            &[("2001:db9::/32", Some(60), Some("six"))],
        ),
        // No bans of addresses.
        (&["-i", "203.0.113.2", "-d", "1h", "-t", "captcha"], &[]),
        (&["--scope", "country", "-v", "XX", "-d", "1h"], &[]),
    ] {
        added.extend(expected(ban));
        crowdsec.decisions(&[&["add"], arguments].concat());
    }
    let outcome = import(&daemon, &list(&crowdsec));
    assert_eq!(outcome["format"], "crowdsec");
    assert_bans(&bans(&daemon), &added, made);
    let problems = problems(&outcome);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    for phrase in ["captcha", "Country"] {
        assert!(
            problems.iter().any(|problem| problem.contains(phrase)),
            "no {phrase}: {problems:#?}"
        );
    }
}

#[test]
fn bans_that_are_exported_are_decisions_and_imported_again() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let crowdsec = Crowdsec::start(&namespace);
    ban(
        &daemon,
        "203.0.113.7",
        &["--for", "1h", "--reason", "scans \"ports\" \\ n\u{e9}t"],
    );
    ban(
        &daemon,
        "203.0.113.0/24",
        &["--permanent", "--reason", "all of them"],
    );
    ban(
        &daemon,
        "2001:db8::/48",
        &["--for", "30d", "--reason", "six"],
    );
    ban(&daemon, "2001:db9::1", &["--permanent", "--reason", "one"]);
    ban(&daemon, "198.51.100.1", &["--for", "20m"]);
    let mut before = bans(&daemon);
    let written = Instant::now();
    let file = crowdsec.write("f.json", &export(&daemon, "crowdsec"));
    crowdsec.decisions(&["import", "-i", text(&file)]);
    // Without an origin, it lists none that were imported.
    let listed = crowdsec.decisions(&["list", "--origin", "cscli-import", "-o", "json"]);
    // What cscli says where there is no reason.
    before.get_mut("198.51.100.1/32").expect("it is there").1 = Some("manual".to_owned());
    let after = import_anew(&daemon, "crowdsec", &listed.stdout);
    assert_bans(&after, &before, written);
}
