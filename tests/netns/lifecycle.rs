//! The filter comes and goes with the daemon, except where the daemon had no say in it.

use std::{fs, os::unix::fs::MetadataExt as _};

use nix::sys::signal::Signal;
use testkit::{Daemon, Wire};

use crate::support::{
    OTHER_V4, Sender, banned, config, deliver, eventually, settled, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

/// Asserts that nothing says that a daemon has been there.
#[track_caller]
fn assert_gone(wire: &Wire, daemon: &Daemon) {
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    for path in [daemon.pin_dir(), daemon.socket()] {
        assert!(!path.exists(), "{} is still there", path.display());
    }
}

#[test]
fn sigterm_and_sigint_and_detach_leave_the_interface_as_it_was() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    for way in ["SIGTERM", "SIGINT", "detach"] {
        if way != "SIGTERM" {
            daemon.restart();
        }
        daemon.abuser(&["ban", "add", SOURCE]).success();
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 0, "{way}");
        match way {
            "SIGINT" => daemon.signal(Signal::SIGINT),
            "detach" => drop(daemon.abuser(&["detach"]).success()),
            _ => daemon.signal(Signal::SIGTERM),
        }
        eventually("the daemon has left", || !daemon.socket().exists());
        let status = daemon.terminate();
        assert_eq!(status.code(), Some(0), "{way}: {status}");
        assert_gone(&wire, &daemon);
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 5, "{way}");
    }
}

#[test]
fn a_killed_daemon_leaves_the_filter_on_and_the_next_one_adopts_it_without_a_gap() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let limit = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n";
    let mut daemon = Daemon::start(&wire.server, &config(limit));
    daemon
        .abuser(&["ban", "add", SOURCE, "--for", "1h"])
        .success();
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 10);
    let before = wire.server_end.xdp().unwrap().unwrap();
    let link = daemon
        .pin_dir()
        .join(format!("v{}", abuser_common::layout::LAYOUT_VERSION))
        .join(format!("link-{}", wire.server_end.index()));
    let link = || fs::metadata(&link).unwrap().ino();
    let link_before = link();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    sender.wait_for(100);

    daemon.kill();
    assert_eq!(wire.server_end.xdp().unwrap(), Some(before));
    sender.wait_for(1000);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 0);

    daemon.restart();
    sender.wait_for(1000);
    let after = wire.server_end.xdp().unwrap().unwrap();
    assert_ne!(after.program_id, before.program_id);
    assert_eq!(after.native, before.native);
    assert_eq!(link(), link_before);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
    // Not one of the flood came through, and a bucket that was empty still is.
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 0);

    // The adopted ban is as good as a new one.
    daemon.abuser(&["ban", "remove", SOURCE]).success();
    eventually("the banned source is back", || {
        server.received_from(Wire::CLIENT_V4) > 0
    });
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_gone(&wire, &daemon);
}

#[test]
fn detach_without_a_daemon_clears_what_a_killed_one_left() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    daemon.kill();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);

    let pins = daemon.pin_dir().to_string_lossy().into_owned();
    let detached = daemon.json(&["detach", "--pin-dir", &pins]);
    assert_eq!(detached["interfaces"], serde_json::json!(["veth-server"]));
    assert_eq!(detached["stopped"], false);
    // The kernel frees a link a moment after its pin is gone.
    eventually("the interface is free", || {
        wire.server_end.xdp().unwrap().is_none()
    });
    assert!(!daemon.pin_dir().exists());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 20);
}

#[test]
fn a_start_that_fails_leaves_a_killed_daemon_s_filter_on() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 1000.0);
    daemon.kill();

    let path = daemon.config_path();
    let good = fs::read_to_string(&path).unwrap();
    let bad = good.replace("[\"veth-server\"]", "[\"veth-server\", \"veth-none\"]");
    assert_ne!(bad, good);
    fs::write(&path, bad).unwrap();
    let output = wire
        .server
        .command(testkit::abuser_binary().unwrap())
        .args(["run", "--observe", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    sender.wait_for(300);
    fs::write(&path, good).unwrap();
    daemon.restart();
    sender.wait_for(300);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
}

#[test]
fn a_restart_in_another_mode_replaces_what_a_killed_daemon_left() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config("[xdp]\nmode = \"generic\"\n"));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    // What the kernel defers, it defers for longer while packets come in.
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    for (mode, native) in [("driver", true), ("generic", false)] {
        daemon.kill();
        let path = daemon.config_path();
        let text = fs::read_to_string(&path).unwrap();
        let mode_line = text.lines().find(|line| line.starts_with("mode")).unwrap();
        let text = text.replace(mode_line, &format!("mode = \"{mode}\""));
        fs::write(&path, text).unwrap();
        daemon.restart();
        let xdp = wire.server_end.xdp().unwrap().expect("it is attached");
        assert_eq!(xdp.native, native, "{mode}");
        assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
        let arrived = settled(&server, Wire::CLIENT_V4);
        sender.wait_for(500);
        assert_eq!(settled(&server, Wire::CLIENT_V4), arrived);
    }
}

#[test]
fn a_restart_right_after_a_clean_exit_finds_the_interface_free() {
    testkit::require_root!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(""));
    // What the kernel defers, it defers for longer while packets come in.
    let _sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    for _ in 0..3 {
        assert_eq!(daemon.terminate().code(), Some(0));
        assert_eq!(wire.server_end.xdp().unwrap(), None);
        daemon.restart();
    }
}

#[test]
fn two_wires_have_daemons_that_know_nothing_of_each_other() {
    testkit::require_root!();
    let wires = [wire(), wire()];
    let servers = [udp_v4(&wires[0]), udp_v4(&wires[1])];
    let [daemon, other] = [0, 1].map(|n| Daemon::start(&wires[n].server, &config("")));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    assert_eq!(banned(&other), [""; 0]);
    let [cut, free] = [0, 1].map(|n| deliver(&wires[n], &servers[n], Wire::CLIENT_V4, 20));
    assert_eq!((cut, free), (0, 20));
}

#[test]
fn what_was_allowed_by_command_stays_allowed_after_a_crash_and_the_old_configuration_does_not() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let allow = "addresses = [\"192.0.2.20\"]\n";
    let mut daemon = Daemon::start(&wire.server, &config(&format!("[allow]\n{allow}")));
    daemon.abuser(&["allow", "add", SOURCE]).success();
    daemon.kill();
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(allow, "")).unwrap();
    daemon.restart();
    let listed = daemon.json(&["allow", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["source"], "192.0.2.10/32");
    assert_eq!(listed[0]["origin"], "command");
    daemon.abuser(&["ban", "add", "192.0.2.0/24"]).success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 20);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 0);
}

#[test]
fn limits_that_changed_while_no_daemon_ran_are_in_force_with_what_was_counted() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let port = crate::support::server_for(Wire::CLIENT_V4).port();
    let kept =
        "[[limit]]\nname = \"kept\"\nprotocol = \"udp\"\nrate = \"1000000/s\"\nburst = 1000\n";
    let gone = format!("[[limit]]\nname = \"gone\"\nports = [{port}]\nrate = \"1/h\"\nburst = 4\n");
    let mut daemon = Daemon::start(&wire.server, &config(&format!("{gone}{kept}")));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 5);
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    // Twice: the second time, what the first configuration left in its bank is written over.
    for _ in 0..2 {
        daemon.kill();
        fs::write(&path, text.replace(&gone, "")).unwrap();
        daemon.restart();
        let limits = daemon.json(&["limits"]);
        assert_eq!(limits.as_array().unwrap().len(), 1, "{limits}");
        assert_eq!(limits[0]["name"], "kept");
        // What the other limit dropped was not charged to this one.
        assert!(limits[0]["passed"].as_u64().unwrap() >= 5, "{limits}");
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 20);
    }
}
