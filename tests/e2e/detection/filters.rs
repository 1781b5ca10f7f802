//! Filters of fail2ban: files of their own, which may be missing, broken, or change.

use std::fs;

use testkit::{CommandOutput, Daemon, Namespace, require_root};

use super::Logged;
use crate::support::{Complains as _, abuser, parse};

const GOOD: &str = "[Definition]\nfailregex = ^\\s*denied <HOST>$\ndatepattern = {NONE}\n";
const BROKEN: &str = "[Definition]\nfailregex = ^denied (<HOST>$\n";

/// The filter is by its path, beside the log.
const TABLES: &str = "[[source]]\nname = \"app\"\nfiles = [\"LOG\"]\n\
     [[detector]]\nname = \"denied\"\nfilter = \"fail2ban:FOLDER/filter.conf\"\ncount = 5\n\
     within = \"10m\"\naction = \"ban\"\n";

#[test]
fn a_filter_that_is_missing_or_broken_is_refused_by_check_and_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("abuser.toml");
    let filters = folder.path().join("filter.d");
    fs::create_dir(&filters).expect("a folder");
    let source = "interfaces = [\"lo\"]\n[[source]]\nname = \"app\"\nstdin = true\n";
    let detector = "[[detector]]\nname = \"denied\"\nfilter = \"fail2ban:ours[mode=x]\"\n";
    let refused = |phrases: &[&str]| {
        let path = config.display().to_string();
        for arguments in [
            &["check", "-c", &path][..],
            &["check", "--json", "-c", &path],
            &["run", "-c", &path],
        ] {
            abuser(arguments).complains(2, phrases);
        }
    };
    fs::write(&config, format!("{source}{detector}")).expect("writing");
    let beside = filters.display().to_string();
    refused(&[
        "[[detector]] \"denied\" cannot use \"fail2ban:ours[mode=x]\": there is no fail2ban filter \
         `ours`: looked for",
        &format!("put the file into {beside}"),
    ]);
    fs::write(filters.join("ours.conf"), BROKEN).expect("writing");
    let phrases = [
        "cannot use \"fail2ban:ours",
        "ours.conf, option failregex",
        "mend the file, or name another filter",
    ];
    refused(&phrases);
    fs::write(
        &config,
        format!("{source}parser = \"fail2ban:ours\"\n[[detector]]\nname = \"x\"\n"),
    )
    .expect("writing");
    refused(&["[[source]] \"app\" cannot use \"fail2ban:ours\""]);

    fs::write(filters.join("ours.conf"), GOOD).expect("writing");
    let said = check(&config.display().to_string(), &[]).success();
    let summary = "sources: app; detectors: x; notify: none\n";
    assert!(said.stdout.ends_with(summary), "{said}");
    let said = check(&config.display().to_string(), &["--json"]).success();
    let said = parse(&said.stdout);
    assert_eq!(said["sources"], serde_json::json!(["app"]));
    assert_eq!(said["detectors"], serde_json::json!(["x"]));
}

fn check(config: &str, more: &[&str]) -> CommandOutput {
    abuser(&[&["check", "-c", config], more].concat())
}

#[test]
fn a_daemon_that_finds_a_broken_filter_at_its_start_has_touched_nothing() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let binary = testkit::abuser_binary().unwrap_or_else(|error| panic!("{error}"));
    let tables = TABLES
        .replace("FOLDER", "/nonexistent")
        .replace("LOG", "/nonexistent/log");
    let config = format!("interfaces = [\"lo\"]\n{tables}");
    let error = Daemon::try_start(&binary, &namespace, &config).expect_err("it starts");
    let error = error.to_string();
    assert!(error.contains("/nonexistent/filter.conf"), "{error}");
    assert!(!crate::support::has_xdp(&namespace, "lo"));
}

/// A log that a filter reads.
fn filtered() -> Logged {
    let logged = Logged::new("");
    fs::write(logged.folder.path().join("filter.conf"), GOOD).expect("a filter");
    let interfaces = "interfaces = [\"lo\"]\n";
    logged.configure(interfaces, &format!("{interfaces}{TABLES}"));
    logged.reload().success();
    logged
}

#[test]
fn a_reload_with_a_broken_filter_is_refused_and_changes_nothing() {
    require_root!();
    let logged = filtered();
    logged.deny("192.0.2.7", 4);
    fs::write(logged.folder.path().join("filter.conf"), BROKEN).expect("a filter");
    logged.configure("count = 5", "count = 2");
    let refused = logged.reload().exits(2);
    for phrase in ["[[detector]] \"denied\"", "filter.conf, option failregex"] {
        assert!(refused.stderr.contains(phrase), "{refused}");
    }
    // Neither the count nor the filter nor what was counted.
    logged.deny("192.0.2.8", 4);
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn a_reload_reads_a_filter_again_whose_file_has_changed() {
    require_root!();
    let logged = filtered();
    logged.deny("192.0.2.7", 4);
    logged.reload().success();
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
    logged.deny("192.0.2.8", 4);
    let changed = GOOD.replace("denied", "refused");
    fs::write(logged.folder.path().join("filter.conf"), changed).expect("a filter");
    logged.reload().success();
    logged.deny("192.0.2.8", 9);
    assert_eq!(logged.detector()["matched"], 0);
    logged.write(&"refused 192.0.2.9\n".repeat(5));
    wait_until_banned(&logged, "192.0.2.9/32");
}

#[track_caller]
fn wait_until_banned(logged: &Logged, source: &str) {
    crate::support::wait_until("the ban", || {
        logged.banned().iter().any(|banned| banned == source)
    });
}
