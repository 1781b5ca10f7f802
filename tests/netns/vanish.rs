//! Interfaces that come and go while the daemon runs.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Daemon, Namespace, Wire, veth};

use crate::support::{
    Frozen, OTHER_V4, banned, config, deliver, eventually, lay_again, listen, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

/// What `abuser status` says of the interface of this name.
fn state(daemon: &Daemon, name: &str) -> Value {
    let status = daemon.json(&["status"]);
    let interfaces = status["interfaces"].as_array().unwrap();
    let mut named = interfaces.iter().filter(|one| one["name"] == name);
    let found = named.next().cloned().unwrap_or_default();
    assert_eq!(named.next(), None, "{name} twice in {status:#}");
    found
}

#[track_caller]
fn becomes(daemon: &Daemon, name: &str, wanted: &str) {
    eventually(&format!("{name} is {wanted}"), || {
        state(daemon, name)["state"] == wanted
    });
}

/// How many lines of the daemon's log have all these words.
fn told(daemon: &Daemon, words: &[&str]) -> usize {
    let stderr = daemon.stderr();
    stderr
        .lines()
        .filter(|line| words.iter().all(|words| line.contains(words)))
        .count()
}

/// Asserts that one line has all these words. The daemon's log is written by a thread of its
/// own, which may lag behind what the daemon does.
#[track_caller]
fn assert_told_once(daemon: &Daemon, words: &[&str]) {
    eventually(&format!("the log says {words:?}"), || {
        told(daemon, words) > 0
    });
    assert_eq!(told(daemon, words), 1, "{}", daemon.stderr());
}

fn pin(daemon: &Daemon, index: u32) -> std::path::PathBuf {
    daemon
        .pin_dir()
        .join(format!("v{}", abuser_common::layout::LAYOUT_VERSION))
        .join(format!("link-{index}"))
}

#[test]
fn one_that_vanishes_is_reported_and_one_that_returns_is_filtered_again() {
    testkit::require_root!();
    let mut wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let index = wire.server_end.index();
    assert!(pin(&daemon, index).exists());

    wire.cut();
    becomes(&daemon, "veth-server", "missing");
    assert_eq!(
        state(&daemon, "veth-server"),
        json!({
            "name": "veth-server", "configured": "veth-server", "state": "missing",
            "index": null, "mode": null, "program_id": null,
            "dispatcher": null, "outcomes": null, "error": null,
        })
    );
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("DOES NOT protect veth-server"), "{said}");
    assert!(!pin(&daemon, index).exists());
    assert_told_once(&daemon, &["WARN", "veth-server is gone"]);

    lay_again(&mut wire);
    becomes(&daemon, "veth-server", "attached");
    let attached = state(&daemon, "veth-server");
    assert_eq!(attached["index"], wire.server_end.index());
    assert_eq!(attached["mode"], "driver");
    assert_told_once(&daemon, &["INFO", "protecting veth-server again"]);
    assert!(pin(&daemon, wire.server_end.index()).exists());

    let events = listen(&daemon);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 20);
    assert_eq!(events.next()["interface"], "veth-server");
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);

    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert!(!daemon.pin_dir().exists());
}

#[test]
fn one_that_returns_is_attached_to_in_the_configured_mode() {
    testkit::require_root!();
    let mut wire = wire();
    let daemon = Daemon::start(&wire.server, &config("[xdp]\nmode = \"generic\"\n"));
    wire.cut();
    lay_again(&mut wire);
    eventually("the program is on the new interface", || {
        wire.server_end.xdp().unwrap().is_some()
    });
    assert!(!wire.server_end.xdp().unwrap().unwrap().native);
    becomes(&daemon, "veth-server", "attached");
    assert_eq!(state(&daemon, "veth-server")["mode"], "generic");
}

#[test]
fn a_renamed_one_keeps_its_filter_and_a_new_one_of_its_name_gets_one() {
    testkit::require_root!();
    let mut wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let program = wire.server_end.xdp().unwrap();

    wire.server_end.rename("uplink").unwrap();
    becomes(&daemon, "uplink", "attached");
    assert_eq!(wire.server_end.xdp().unwrap(), program);
    assert_eq!(state(&daemon, "uplink")["configured"], "veth-server");
    assert_eq!(state(&daemon, "veth-server"), Value::Null);
    let said = daemon.abuser(&["status"]).success().stdout;
    let words = "protects uplink (configured as veth-server) in driver mode";
    assert!(said.contains(words), "{said}");
    assert_told_once(&daemon, &["WARN", "veth-server is now called uplink"]);
    let events = listen(&daemon);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    assert_eq!(events.next()["interface"], "uplink");

    let (second, _peer) = veth(&wire.server, "veth-server", &wire.client, "veth-2").unwrap();
    becomes(&daemon, "veth-server", "attached");
    assert!(second.xdp().unwrap().is_some());
    assert_eq!(wire.server_end.xdp().unwrap(), program);

    // The one that was renamed can be let go by the name it has.
    daemon.abuser(&["detach", "-i", "uplink"]).success();
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert!(second.xdp().unwrap().is_some());
}

#[test]
fn one_that_moves_to_another_namespace_is_let_go_and_filtered_again_when_it_is_back() {
    testkit::require_root!();
    let wire = wire();
    let daemon = Daemon::start(&wire.server, &config(""));
    let elsewhere = Namespace::new().unwrap();
    let moved = wire.server_end.clone().move_to(&elsewhere).unwrap();
    becomes(&daemon, "veth-server", "missing");
    assert_eq!(moved.xdp().unwrap(), None);
    let back = moved.move_to(&wire.server).unwrap();
    becomes(&daemon, "veth-server", "attached");
    assert!(back.xdp().unwrap().is_some());
}

#[test]
fn another_s_program_on_the_one_that_returned_is_left_alone_until_it_goes() {
    testkit::require_root!();
    let mut wire = wire();
    let daemon = Daemon::start(&wire.server, &config(""));
    wire.cut();
    becomes(&daemon, "veth-server", "missing");

    let (mut end, _peer) = veth(&wire.server, "veth-new", &wire.client, "veth-client").unwrap();
    let mut other = Daemon::start(&wire.server, "interfaces = [\"veth-new\"]\n");
    let foreign = end.xdp().unwrap();
    end.rename("veth-server").unwrap();
    becomes(&daemon, "veth-server", "refused");
    let refused = state(&daemon, "veth-server");
    assert_eq!(refused["program_id"], Value::Null);
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("already has an XDP program"), "{error}");
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("DOES NOT protect veth-server"), "{said}");
    // Changes that do not help are not worth another word.
    for _ in 0..3 {
        end.down().unwrap();
        thread::sleep(Duration::from_millis(100));
        end.up().unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(end.xdp().unwrap(), foreign);
    assert_told_once(&daemon, &["ERROR", "veth-server is not protected"]);

    assert_eq!(other.terminate().code(), Some(0));
    end.down().unwrap();
    end.up().unwrap();
    becomes(&daemon, "veth-server", "attached");
    assert!(end.xdp().unwrap().is_some());
    wire.server_end = end;
}

#[test]
fn a_program_that_goes_without_a_word_from_the_kernel_is_noticed_within_seconds() {
    testkit::require_root!();
    let wire = wire();
    let daemon = Daemon::start(&wire.server, &config(""));
    let (mut end, _peer) = veth(&wire.server, "veth-new", &wire.client, "veth-2").unwrap();
    let mut other = Daemon::start(&wire.server, "interfaces = [\"veth-new\"]\n");
    wire.cut();
    becomes(&daemon, "veth-server", "missing");
    end.rename("veth-server").unwrap();
    becomes(&daemon, "veth-server", "refused");
    assert_eq!(other.terminate().code(), Some(0));
    let deadline = Instant::now() + Duration::from_secs(20);
    while state(&daemon, "veth-server")["state"] != "attached" {
        assert!(Instant::now() < deadline, "{}", daemon.stderr());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn more_changes_than_the_kernel_keeps_for_the_daemon_end_with_the_filter_on() {
    testkit::require_root!();
    let mut wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    {
        let _frozen = Frozen::new(&daemon);
        // A notification takes about two kilobytes of the socket's two hundred.
        let (noise, _peer) = veth(&wire.server, "noise", &wire.client, "noise-peer").unwrap();
        for _ in 0..300 {
            noise.down().unwrap();
            noise.up().unwrap();
        }
        for _ in 0..5 {
            wire.cut();
            lay_again(&mut wire);
        }
    }
    eventually("the program is on the last interface", || {
        wire.server_end.xdp().unwrap().is_some()
    });
    becomes(&daemon, "veth-server", "attached");
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 20);
    assert_told_once(&daemon, &["protecting veth-server again"]);
    assert_told_once(
        &daemon,
        &["network interfaces change faster than the kernel can tell"],
    );
}

#[test]
fn one_that_returns_with_its_old_index_before_the_daemon_looked_is_filtered() {
    testkit::require_root!();
    let wire = wire();
    let daemon = Daemon::start(&wire.server, &config(""));
    let elsewhere = Namespace::new().unwrap();
    let new = {
        let _frozen = Frozen::new(&daemon);
        wire.cut();
        // The first interface of a namespace has the same index as that of any other, and keeps
        // it where it goes.
        let (new, _peer) = veth(&elsewhere, "veth-server", &wire.client, "veth-2").unwrap();
        new.move_to(&wire.server).unwrap()
    };
    assert_eq!(new.index(), wire.server_end.index());
    eventually("the program is on the new interface", || {
        new.xdp().unwrap().is_some()
    });
    assert_told_once(&daemon, &["WARN", "is not abuser's any more"]);
}

#[test]
fn one_that_vanished_can_be_given_up_and_is_not_attached_to_when_it_returns() {
    testkit::require_root!();
    let mut wire = wire();
    let mut daemon = Daemon::start(
        &wire.server,
        "interfaces = [\"lo\", \"veth-server\"]\n[xdp]\nmode = \"generic\"\n",
    );
    wire.cut();
    becomes(&daemon, "veth-server", "missing");
    let detached = daemon.json(&["detach", "-i", "veth-server"]);
    assert_eq!(
        detached,
        json!({"interfaces": ["veth-server"], "stopped": false})
    );
    assert_eq!(state(&daemon, "veth-server"), Value::Null);
    lay_again(&mut wire);
    // Long after the daemon has heard of it.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert_eq!(daemon.json(&["detach"])["stopped"], true);
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn a_daemon_whose_interfaces_have_all_vanished_waits_and_stops_cleanly() {
    testkit::require_root!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(""));
    wire.cut();
    becomes(&daemon, "veth-server", "missing");
    daemon.abuser(&["ban", "add", SOURCE]).success();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.pin_dir().exists());
}
