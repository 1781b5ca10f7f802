//! Another configuration without detaching: what is as it was stays as it is.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::{Daemon, Wire, veth};

use crate::support::{
    OTHER_V4, banned, config, deliver, eventually, number, server_for, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

const KEPT: &str = "[[limit]]\nname = \"kept\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 4\n";

/// Replaces a part of the daemon's configuration.
#[track_caller]
fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "no {from:?} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn limits(daemon: &Daemon) -> Vec<String> {
    let limits = daemon.json(&["limits"]);
    let limits = limits.as_array().unwrap().iter();
    limits
        .map(|limit| limit["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn bans_and_the_buckets_of_unchanged_limits_survive_a_reload() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let port = server_for(Wire::CLIENT_V4).port();
    let gone =
        format!("[[limit]]\nname = \"gone\"\nports = [{port}]\nrate = \"1/h\"\nburst = 99\n");
    let varied = "[[limit]]\nname = \"varied\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 50\n";
    let tables = format!("{gone}{KEPT}{varied}[ban]\nmaxretry = 1000\n");
    let daemon = Daemon::start(&wire.server, &config(&tables));
    daemon.abuser(&["ban", "add", "198.51.100.1"]).success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 5);
    let before = wire.server_end.xdp().unwrap().unwrap();

    edit(
        &daemon,
        &gone,
        "[[limit]]\nname = \"new\"\nrate = \"1000000/s\"\nburst = 1000\n",
    );
    edit(&daemon, "burst = 50", "burst = 60");
    let reloaded = daemon.json(&["reload"]);
    assert_eq!(
        reloaded,
        json!({
            "attached": [],
            "detached": [],
            "still_attached": [],
            "limits_added": ["new"],
            "limits_removed": ["gone"],
            "limits_changed": ["varied"],
            "settings": [],
            "needs_restart": [],
        })
    );
    assert_eq!(limits(&daemon), ["new", "kept", "varied"]);
    assert_eq!(wire.server_end.xdp().unwrap(), Some(before), "not detached");
    assert_eq!(banned(&daemon), ["198.51.100.1/32"]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 10), 5);
    // What was counted goes on.
    assert_eq!(number(&daemon.json(&["limits"]), "/1/passed"), 10);

    edit(&daemon, KEPT, "");
    edit(&daemon, "burst = 60", "burst = 2");
    daemon.signal(Signal::SIGHUP);
    eventually("SIGHUP reloads, too", || {
        limits(&daemon) == ["new", "varied"]
    });
    eventually("and says so", || {
        daemon
            .stderr()
            .contains("SIGHUP: reloaded; removed limits: kept; changed limits: varied")
    });
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 3);
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(KEPT));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 5);
    let good = fs::read_to_string(daemon.config_path()).unwrap();
    for (from, to, status, phrase) in [
        ("rate = \"1/h\"", "rate = \"1/x\"", 2, "abuser.toml:5:8"),
        ("burst = 4", "bursts = 4", 2, "did you mean `burst`?"),
        // A good one, and the system that is not as it says.
        (
            "[\"veth-server\"]",
            "[\"nosuch0\"]",
            1,
            "no interface \"nosuch0\"",
        ),
        ("interfaces = [\"veth-server\"]", "", 2, "which interface?"),
    ] {
        edit(&daemon, from, to);
        let said = daemon.abuser(&["reload"]).exits(status);
        assert!(said.stderr.contains(phrase), "{said}");
        assert_eq!(said.stdout, "");
        fs::write(daemon.config_path(), &good).unwrap();
    }
    daemon.signal(Signal::SIGHUP);
    edit(&daemon, "burst = 4", "bursts = 4");
    daemon.signal(Signal::SIGHUP);
    eventually("SIGHUP says why, too", || {
        daemon.stderr().contains("SIGHUP: nothing is reloaded")
    });
    assert_eq!(limits(&daemon), ["kept"]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 0);
}

#[test]
fn interfaces_and_allow_entries_and_policies_come_and_go() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let (second, other_end) =
        veth(&wire.server, "veth-second", &wire.client, "veth-other").unwrap();
    second.up().unwrap();
    other_end.up().unwrap();
    let tables = format!(
        "{KEPT}[allow]\naddresses = [\"192.0.2.66\"]\n[ban]\nmaxretry = 1000\nrequire_verified = false\n"
    );
    let mut daemon = Daemon::start(&wire.server, &config(&tables));
    edit(
        &daemon,
        "[\"veth-server\"]",
        "[\"veth-server\", \"veth-second\"]",
    );
    edit(&daemon, "\"192.0.2.66\"", &format!("\"{SOURCE}\""));
    let said = daemon.abuser(&["reload"]).success();
    assert_eq!(
        said.stdout,
        "reloaded; attached to: veth-second; changed settings: [allow]\n"
    );
    assert!(second.xdp().unwrap().is_some());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 10), 10, "allowed");
    assert_eq!(deliver(&wire, &server, OTHER_V4, 10), 5, "no more");

    edit(
        &daemon,
        "[\"veth-server\", \"veth-second\"]",
        "[\"veth-server\"]",
    );
    edit(&daemon, "maxretry = 1000", "maxretry = 1\nbantime = \"1h\"");
    edit(&daemon, "[xdp]", "[xdp]\npersist = true\nmode = \"driver\"");
    let said = daemon.abuser(&["reload"]).success();
    assert_eq!(
        said.stdout,
        "reloaded; detached from: veth-second; changed settings: [xdp] persist, [ban]; \
         needs a restart: [xdp] mode\n"
    );
    assert_eq!(
        daemon.abuser(&["reload"]).success().stdout,
        "reloaded; needs a restart: [xdp] mode\n"
    );
    eventually("the interface is free", || second.xdp().unwrap().is_none());
    // An event of a source comes once a second at most.
    eventually("the new policy bans", || {
        deliver(&wire, &server, OTHER_V4, 1);
        banned(&daemon) == ["192.0.2.66/32"]
    });
    // That the program is to stay on is in force as well.
    daemon.terminate();
    assert!(wire.server_end.xdp().unwrap().is_some());
}
