//! The wall clock is set: bans last as long as they were made for.
//!
//! There is one wall clock to a machine, so this is done in guests, by `cargo xtask vm`.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::Value;
use testkit::{Daemon, Wire, guest, only_in_a_guest, traffic::send_udp};

use crate::support::{OTHER_V4, banned, config, deliver, eventually, server_for, udp_v4, wire};

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Sets the wall clock of the guest forward, or back.
fn set_clock(by_seconds: i64) {
    assert!(
        guest::is_inside(),
        "this machine's clock is not ours to set"
    );
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let seconds = now.tv_sec() + by_seconds;
    let then = nix::sys::time::TimeSpec::new(seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
}

/// The ban of `source` as it is listed.
#[track_caller]
fn listed(daemon: &Daemon, source: &str) -> Value {
    let shown = daemon.json(&["ban", "show", source]);
    assert!(shown[0].is_object(), "{shown}");
    shown[0].clone()
}

/// Asserts that the ban has as much left as one for an hour that was made then, and is told to end at that
/// time of the wall clock.
#[track_caller]
fn assert_an_hour(daemon: &Daemon, source: &str, made: Instant, what: &str) {
    // Commands take a while where all is emulated, and steps are of an hour at least.
    const OFF: u64 = 120;
    let ban = listed(daemon, source);
    let left = ban["remaining_seconds"].as_u64().unwrap_or_default();
    let expected = 3600 - made.elapsed().as_secs();
    assert!(left.abs_diff(expected) <= OFF, "{what}: {expected}: {ban}");
    let expires = humantime::parse_rfc3339(ban["expires"].as_str().unwrap()).unwrap();
    let told = expires
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    assert!(
        told.as_secs().abs_diff(left) <= OFF,
        "{what}: {told:?}: {ban}"
    );
}

fn store_error(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["store"]["error"].clone()
}

#[test]
#[ignore = "it runs in a guest: cargo xtask vm"]
fn a_clock_that_is_set_while_the_daemon_runs_changes_no_ban() {
    only_in_a_guest!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon
        .abuser(&["ban", "add", "203.0.113.7", "--for", "1h"])
        .success();
    let made = Instant::now();
    for (step, words) in [(HOUR, "set forward by 1h"), (-YEAR, "set back by 1year")] {
        // One that ends soon, by the clock that nobody sets.
        let short = Instant::now();
        daemon
            .abuser(&["ban", "add", "192.0.2.10", "--for", "10s"])
            .success();
        // Humantime's year has a quarter of a day more.
        let words = words.split("1year").next().unwrap();
        let told = || daemon.stderr().matches(words).count();
        let before = told();
        set_clock(step);
        eventually("it notices", || told() > before);
        assert_an_hour(&daemon, "203.0.113.7", made, words);
        let mut arrived = 0;
        while arrived == 0 {
            arrived = deliver(&wire, &server, Wire::CLIENT_V4, 1);
            let patience = guest::patience(Duration::from_secs(60));
            assert!(short.elapsed() < patience, "{words}");
        }
        assert!(short.elapsed() >= Duration::from_secs(9), "{words}");
        eventually("it is listed no more", || {
            banned(&daemon) == ["203.0.113.7/32"]
        });
        assert_eq!(store_error(&daemon), Value::Null);
    }
    let status = daemon.json(&["status"]);
    assert_eq!(status["reconciler"]["kernel_repairs"], 0, "{status}");
    // The log's lines are told by the clock as it is.
    let log = daemon.stderr();
    let last = log.lines().last().unwrap();
    let year =
        |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string()[..4].to_owned();
    assert!(last.starts_with(&year(SystemTime::now())), "{last}");
}

#[test]
#[ignore = "it runs in a guest: cargo xtask vm"]
fn a_clock_that_is_set_while_no_daemon_runs_changes_no_ban() {
    only_in_a_guest!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon
        .abuser(&["ban", "add", "203.0.113.7", "--for", "1h"])
        .success();
    daemon
        .abuser(&["ban", "add", "203.0.113.8", "--permanent"])
        .success();
    let made = Instant::now();
    for step in [YEAR, -2 * HOUR] {
        // What the kernel had is gone.
        daemon.terminate();
        assert!(!daemon.pin_dir().exists());
        set_clock(step);
        daemon.restart();
        assert_an_hour(&daemon, "203.0.113.7", made, &step.to_string());
        // What it has is right, too.
        daemon.kill();
        set_clock(-step / 2);
        daemon.restart();
        assert_an_hour(&daemon, "203.0.113.7", made, &format!("kill {step}"));
        set_clock(step / 2);
        eventually("it notices", || {
            daemon.stderr().contains("the clock was set")
        });
        assert_eq!(listed(&daemon, "203.0.113.8")["expires"], Value::Null);
        // All of that is written down by the next stop: no pass is waited for.
    }
}

#[test]
#[ignore = "it runs in a guest: cargo xtask vm"]
fn offences_on_both_sides_of_a_step_are_counted_and_those_before_findtime_are_not() {
    only_in_a_guest!();
    for step in [YEAR, -YEAR] {
        let wire = wire();
        let tables = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 0\n\
                      [ban]\nmaxretry = 2\nfindtime = \"10m\"\nbantime = \"1h\"\n\
                      require_verified = false\n";
        let daemon = Daemon::start(&wire.server, &config(tables));
        // An event, and so an offence, is told once a second.
        let offend = || {
            let target = server_for(OTHER_V4);
            send_udp(&wire.client, OTHER_V4, target, 1000.0, 3).unwrap();
        };
        offend();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(banned(&daemon), [""; 0]);
        set_clock(step);
        eventually("it notices", || {
            daemon.stderr().contains("the clock was set")
        });
        offend();
        eventually("it is banned", || banned(&daemon) == ["192.0.2.66/32"]);
        assert_an_hour(&daemon, "192.0.2.66", Instant::now(), &step.to_string());
        set_clock(-step);
    }
}
