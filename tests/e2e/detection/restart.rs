//! What outlives the daemon's end: where it was in its logs.

use std::{fs, time::Duration};

use testkit::require_root;

use super::{DENIED, FIVE, Logged, append, deny_each};
use crate::support::{PATIENCE, wait_until};

#[test]
fn lines_that_were_written_while_the_daemon_was_down_are_read_once_and_earlier_ones_are_not_again()
{
    require_root!();
    for rotated in [false, true] {
        let mut logged = Logged::new(&format!("{DENIED}{FIVE}"));
        logged.deny("192.0.2.7", 4);
        logged.deny("192.0.2.8", 1);
        assert!(logged.daemon.terminate().success());
        append(&logged.log(), &"denied 192.0.2.8\n".repeat(4));
        if rotated {
            let old = logged.folder.path().join("app.log.1");
            fs::rename(logged.log(), old).expect("rotating");
            append(&logged.log(), "denied 192.0.2.8\n");
        } else {
            append(&logged.log(), "denied 192.0.2.8\n");
        }
        logged.daemon.restart();
        logged.assert_banned(&["192.0.2.8/32"]);
        wait_until("it is told", || logged.source()["lines"] == 5);
        // Of the four before nothing is left, and nothing comes back.
        logged.deny("192.0.2.7", 1);
        assert_eq!(logged.banned(), ["192.0.2.8/32"]);
        let matched = logged.detector()["matched"].clone();
        assert_eq!(matched, 6, "rotated: {rotated}");
    }
}

#[test]
fn a_daemon_that_was_killed_reads_what_it_may_have_missed_and_bans_go_on() {
    require_root!();
    let mut logged = Logged::new(&format!("{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 5);
    logged.assert_banned(&["192.0.2.7/32"]);
    // Positions are kept each second.
    std::thread::sleep(Duration::from_millis(2500));
    logged.daemon.kill();
    append(&logged.log(), &"denied 192.0.2.8\n".repeat(5));
    logged.daemon.restart();
    wait_until("the second ban", || logged.banned().len() == 2);
    assert_eq!(logged.banned(), ["192.0.2.7/32", "192.0.2.8/32"]);
    wait_until("it is told", || logged.source()["lines"] == 5);
    let bans = logged.daemon.json(&["ban", "list"]);
    assert_eq!(bans[0]["offences"], 5, "{bans}");
}

#[test]
fn a_log_that_is_rotated_while_it_is_read_is_read_through() {
    require_root!();
    let logged = Logged::new(&format!("{DENIED}{FIVE}"));
    logged.deny("192.0.2.7", 3);
    fs::rename(logged.log(), logged.folder.path().join("app.log.1")).expect("rotating");
    logged.deny("192.0.2.7", 1);
    assert_eq!(logged.banned(), Vec::<String>::new());
    fs::write(logged.log(), "").expect("truncating");
    logged.deny("192.0.2.7", 1);
    logged.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn a_stop_amid_findings_loses_none_of_them() {
    // It takes a while to ban so many, and the log is read in some four parts.
    const SOURCES: usize = 40_000;
    require_root!();
    let one = FIVE.replace("count = 5", "count = 1");
    let mut logged = Logged::new(&format!("{DENIED}{one}"));
    let events = logged.daemon.stream(&["events", "--kind", "ban", "--json"]);
    append(&logged.log(), &deny_each(SOURCES));
    events.wait_for(PATIENCE, |line| line.contains("198.18.0.0/32"));
    // As long as a service manager waits.
    let ended = logged.daemon.terminate_within(Duration::from_secs(30));
    assert!(ended.success());
    logged.daemon.restart();
    // Lines that were read are not read again: who was found in them was banned before the end.
    wait_until("all are banned", || {
        logged.daemon.json(&["status"])["bans"] == SOURCES
    });
    wait_until("it is told", || logged.source()["lines"] != 0);
    let read = logged.source()["lines"].as_u64().expect("a number");
    assert!(read < SOURCES as u64, "it had read nothing before");
}
