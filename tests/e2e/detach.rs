//! `abuser detach`, with a daemon and after one that died.

use std::path::Path;

use serde_json::json;
use testkit::{Daemon, Wire, abuser_binary, require_root};

use crate::support::{Complains as _, Site, daemon_on_lo, finish, has_xdp, wait_until};

#[test]
fn it_stops_the_daemon_and_leaves_the_interface_clean() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo("");
    assert!(has_xdp(&namespace, "lo"));
    let detached = daemon.json(&["detach"]);
    assert_eq!(detached, json!({"interfaces": ["lo"], "stopped": true}));
    // Another can be started at once.
    assert!(!daemon.socket().exists());
    assert!(!has_xdp(&namespace, "lo"));
    assert!(!daemon.pin_dir().exists());
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.stderr());
    assert!(
        daemon.stderr().contains("asked to detach"),
        "{}",
        daemon.stderr()
    );
}

#[test]
fn one_of_two_interfaces_can_be_let_go_and_the_last_stops_the_daemon() {
    require_root!();
    let wire = Wire::new();
    let config = "interfaces = [\"lo\", \"veth-server\"]\n";
    let mut daemon = Daemon::start(&wire.server, config);
    let said = daemon.abuser(&["detach", "-i", "lo", "-i", "lo"]).success();
    assert_eq!(said.stdout, "detached from lo\n");
    assert!(!has_xdp(&wire.server, "lo"));
    assert!(has_xdp(&wire.server, "veth-server"));
    assert_eq!(
        daemon.json(&["status"])["interfaces"][0]["name"],
        "veth-server"
    );

    for name in ["lo", "nosuch0"] {
        daemon
            .abuser(&["detach", "-i", "veth-server", "-i", name])
            .complains(
                1,
                &[
                    &format!("not attached to \"{name}\""),
                    "it is to: veth-server",
                ],
            );
        assert!(has_xdp(&wire.server, "veth-server"));
    }

    let said = daemon.abuser(&["detach", "-i", "veth-server"]).success();
    assert_eq!(
        said.stdout,
        "detached from veth-server\nthe daemon has stopped\n"
    );
    // Another can be started at once.
    assert!(!daemon.socket().exists());
    assert!(!has_xdp(&wire.server, "veth-server"));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn it_clears_away_what_a_killed_daemon_left() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo("");
    daemon.kill();
    assert!(has_xdp(&namespace, "lo"), "enforcement outlives the daemon");
    let pins = daemon.pin_dir().to_str().expect("UTF-8").to_owned();
    daemon
        .abuser(&["detach", "--pin-dir", &pins, "-i", "nosuch0"])
        .complains(1, &["there is no interface \"nosuch0\""]);
    assert!(has_xdp(&namespace, "lo"));
    let said = daemon.abuser(&["detach", "--pin-dir", &pins]).success();
    assert_eq!(said.stdout, "detached from lo\n");
    wait_until("the interface is clean", || !has_xdp(&namespace, "lo"));
    assert!(!daemon.pin_dir().exists());
}

#[test]
fn it_finds_the_daemon_and_what_one_left_by_the_configuration() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo("");
    let config = daemon.config_path();
    let detach = |config: &Path| {
        let mut command = namespace.command(abuser_binary().expect("a binary"));
        command.env_remove("ABUSER_SOCKET");
        finish(command.args(["detach", "--config"]).arg(config))
    };
    let said = detach(&config).success();
    assert_eq!(said.stdout, "detached from lo\nthe daemon has stopped\n");
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.restart();
    daemon.kill();
    assert!(has_xdp(&namespace, "lo"));
    let said = detach(&config).success();
    assert_eq!(said.stdout, "detached from lo\n");
    wait_until("the interface is clean", || !has_xdp(&namespace, "lo"));
    assert!(!daemon.pin_dir().exists());

    std::fs::write(&config, "[xdp]\npin_dri = \"/sys/fs/bpf/x\"\n").expect("writing it");
    detach(&config).complains(2, &["abuser.toml:2:1", "pin_dir"]);
}

#[test]
fn it_does_not_take_the_pins_of_a_daemon_that_listens_elsewhere() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let pins = daemon.pin_dir().to_str().expect("UTF-8");
    let site = Site::new();
    finish(&mut site.command(&["detach", "--pin-dir", pins]))
        .complains(1, &["already runs with the pins in"]);
    assert!(has_xdp(&namespace, "lo"));
    daemon.abuser(&["status"]).success();
}

#[test]
fn a_filter_whose_pins_are_elsewhere_is_not_told_as_none() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo("");
    daemon.kill();
    let pins = daemon.pin_dir();
    let other = pins.with_file_name("abuser-no-such-folder");
    let other = other.to_str().expect("UTF-8");
    daemon
        .abuser(&["detach", "--pin-dir", other])
        .complains(1, &["a program of abuser's is on lo", "--pin-dir"]);
    assert!(has_xdp(&namespace, "lo"));
    let pins = pins.to_str().expect("UTF-8");
    daemon.abuser(&["detach", "--pin-dir", pins]).success();
    wait_until("the interface is clean", || !has_xdp(&namespace, "lo"));
    let said = daemon.abuser(&["detach", "--pin-dir", other]).success();
    assert!(
        said.stdout.contains("nothing was attached"),
        "{}",
        said.stdout
    );
}
