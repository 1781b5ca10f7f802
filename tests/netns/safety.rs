//! Nobody is locked out: not this host's own, and not who forgets to confirm.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Daemon, Wire};

use crate::support::{banned, config, deliver, eventually, udp_v4, wire};

const AUTOMATIC: &str = "[allow]\nautomatic = true\n";

/// The automatic entries of the test's own addresses, with their notes.
fn automatic(daemon: &Daemon) -> Vec<(String, String)> {
    let list = daemon.json(&["allow", "list"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = list.as_array().expect("a list").iter();
    let entries = entries.filter(|entry| entry["origin"] == "automatic");
    let entries = entries.map(|entry| (text(&entry["source"]), text(&entry["note"])));
    let ours = |source: &str| source.starts_with("192.0.2.") || source.starts_with("198.51.100.");
    entries.filter(|(source, _)| ours(source)).collect()
}

fn ip(wire: &Wire, arguments: &str) {
    let mut command = wire.server.command("ip");
    let status = command.args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn own_addresses_and_gateways_are_allowed_as_they_come_and_go() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(AUTOMATIC));
    let own = (
        "192.0.2.1/32".to_owned(),
        "own address on veth-server".to_owned(),
    );
    assert_eq!(automatic(&daemon), std::slice::from_ref(&own));
    // The client becomes the gateway.
    ip(&wire, "route add default via 192.0.2.10");
    ip(&wire, "addr add 198.51.100.7/32 dev veth-server");
    let gateway = (
        "192.0.2.10/32".to_owned(),
        "gateway on veth-server".to_owned(),
    );
    let second = (
        "198.51.100.7/32".to_owned(),
        "own address on veth-server".to_owned(),
    );
    eventually("the gateway is allowed", || {
        automatic(&daemon) == [own.clone(), gateway.clone(), second.clone()]
    });
    for source in ["192.0.2.10", "192.0.2.0/24", "192.0.2.1"] {
        let said = daemon.abuser(&["ban", "add", source]).exits(1);
        assert!(said.stderr.contains(" stays allowed ("), "{said}");
        // One address has no rest.
        let has_rest = said.stderr.contains("the rest of it");
        assert_eq!(has_rest, source.contains('/'), "{said}");
    }
    assert!(banned(&daemon).is_empty());
    let said = daemon.abuser(&["allow", "remove", "192.0.2.10"]).exits(1);
    assert!(said.stderr.contains("gateway on veth-server"), "{said}");
    // By force the rest of it is banned.
    daemon
        .abuser(&["ban", "add", "192.0.2.0/24", "--force"])
        .success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 5);
    assert_eq!(deliver(&wire, &server, crate::support::OTHER_V4, 5), 0);
    ip(&wire, "route del default");
    ip(&wire, "addr del 198.51.100.7/32 dev veth-server");
    eventually("the gateway is none any more", || {
        automatic(&daemon) == std::slice::from_ref(&own)
    });
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 0);
}

#[test]
fn next_hops_of_every_kind_are_gateways() {
    testkit::require_root!();
    let wire = wire();
    ip(
        &wire,
        "route add 203.0.113.0/25 nexthop via 192.0.2.20 nexthop via 192.0.2.21",
    );
    ip(
        &wire,
        "route add 203.0.113.128/25 via inet6 2001:db8::aa dev veth-server",
    );
    ip(&wire, "route add 2001:db8:1::/48 via 2001:db8::bb");
    let daemon = Daemon::start(&wire.server, &config(AUTOMATIC));
    let list = daemon.json(&["allow", "list"]);
    let gateways = list.as_array().expect("a list").iter();
    let gateways = gateways.filter(|entry| entry["note"] == "gateway on veth-server");
    let gateways = gateways.map(|entry| entry["source"].as_str().unwrap_or_default());
    assert_eq!(
        gateways.collect::<Vec<_>>(),
        [
            "192.0.2.20/32",
            "192.0.2.21/32",
            "2001:db8::aa/128",
            "2001:db8::bb/128"
        ],
        "{list}"
    );
}

#[test]
fn the_ssh_session_that_started_the_daemon_is_allowed_and_banned_by_force_only() {
    testkit::require_root!();
    let wire = wire();
    let daemon = Daemon::start(&wire.server, &config(""));
    let over_ssh = |arguments: &[&str]| {
        let mut command = daemon.command(arguments);
        command.env("SSH_CONNECTION", "192.0.2.10 50000 192.0.2.1 22");
        testkit::CommandOutput::of(&mut command)
    };
    let said = over_ssh(&["ban", "add", "198.51.100.1", "192.0.2.0/24"]).exits(1);
    assert!(
        said.stderr
            .contains("192.0.2.0/24 holds 192.0.2.10, which your SSH session comes from"),
        "{said}"
    );
    assert!(banned(&daemon).is_empty());
    over_ssh(&["ban", "add", "192.0.2.0/24", "--force"]).success();
    assert_eq!(banned(&daemon), ["192.0.2.0/24"]);
}

#[test]
fn who_does_not_confirm_is_let_in_again() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let tables =
        "[xdp]\npersist = true\n[[limit]]\nname = \"none\"\nprotocol = \"udp\"\nrate = \"1/h\"\n";
    let mut daemon = Daemon::start_with(&wire.server, &config(tables), &["--confirm", "3s"]);
    let started = Instant::now();
    assert!(daemon.json(&["status"])["confirm_by"].is_string());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 1);
    eventually("the daemon gives up", || !daemon.socket().exists());
    assert!(started.elapsed() > Duration::from_secs(2));
    assert_eq!(daemon.terminate().code(), Some(1));
    let said = daemon.stderr();
    assert!(
        said.contains("nobody ran `abuser confirm` in time"),
        "{said}"
    );
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert!(!daemon.pin_dir().exists());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 5);

    daemon.restart();
    let said = daemon.abuser(&["confirm"]).success();
    assert_eq!(said.stdout, "confirmed: the daemon goes on\n");
    assert_eq!(daemon.json(&["status"])["confirm_by"], json!(null));
    let said = daemon.abuser(&["confirm"]).exits(1);
    assert!(said.stderr.contains("nothing to confirm"), "{said}");
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(
        deliver(&wire, &server, Wire::CLIENT_V4, 5),
        1,
        "still limited"
    );
}
