//! What outlives another configuration.

use testkit::require_root;

use super::{DENIED, FIVE, Logged};
use crate::support::wait_until;

#[test]
fn a_detector_that_is_as_it_was_goes_on_counting_after_a_reload() {
    require_root!();
    let logged = Logged::new(&format!("[ban]\nmaxretry = 3\n{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 4);
    // Something else has changed, so there is something to reload.
    logged.configure("[ban]\n", "[ban]\nbantime = \"2h\"\n");
    let reloaded = logged.reload().success();
    assert!(!reloaded.stdout.contains("[[detector]]"), "{reloaded}");
    assert_eq!(logged.source()["lines"], 4);
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
    let ban = &logged.daemon.json(&["ban", "list"])[0];
    assert!(ban["remaining_seconds"].as_u64() > Some(7000), "{ban}");
}

#[test]
fn a_detector_that_has_changed_begins_anew_and_others_go_on() {
    require_root!();
    let logged = Logged::new(&format!(
        "{DENIED}{FIVE}[[detector]]\nname = \"other\"\ncount = 6\nwithin = \"10m\"\n"
    ));
    logged.deny("192.0.2.7", 4);
    logged.configure("count = 5", "count = 3");
    let reloaded = logged.reload().success();
    assert!(reloaded.stdout.contains("[[detector]]"), "{reloaded}");
    logged.deny("192.0.2.7", 2);
    assert_eq!(logged.banned(), Vec::<String>::new());
    let detectors = logged.daemon.json(&["detectors"])["detectors"].clone();
    assert_eq!(detectors[0]["matched"], 2);
    assert_eq!(detectors[1]["matched"], 6);
    assert_eq!(detectors[1]["found"], 1);
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn a_source_that_is_added_is_read_and_what_reads_it_begins_anew() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}sources = [\"app\"]\n"));
    logged.deny("192.0.2.7", 4);
    let other = DENIED
        .replace("\"app\"", "\"other\"")
        .replace("LOG", "FOLDER/other.log");
    logged.configure("[[source]]\n", &format!("{other}[[source]]\n"));
    logged.configure("sources = [\"app\"]", "sources = [\"app\", \"other\"]");
    logged.reload().success();
    super::append(
        &logged.folder.path().join("other.log"),
        &"denied 192.0.2.8\n".repeat(5),
    );
    logged.assert_banned(&["192.0.2.8/32"]);
    // The log that was there is read on from where it was.
    super::append(&logged.log(), "denied 192.0.2.7\n");
    wait_until("it is read", || {
        logged.daemon.json(&["detectors"])["sources"][1]["lines"] == 5
    });
    assert_eq!(logged.banned(), ["192.0.2.8/32"]);
}

#[test]
fn a_detector_that_is_removed_finds_nothing_any_more() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 4);
    logged.configure(FIVE, "");
    logged.reload().success();
    logged.deny("192.0.2.7", 9);
    let detectors = logged.daemon.json(&["detectors"])["detectors"].clone();
    assert_eq!(detectors, serde_json::json!([]));
    assert_eq!(logged.banned(), Vec::<String>::new());
}
