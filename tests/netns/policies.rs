//! Policies: who is banned for longer, and when a whole prefix is.

use std::{fs, net::IpAddr};

use testkit::{Daemon, Wire};

use crate::support::{banned, config, deliver, eventually, number, udp_v4, wire};

const LIMIT: &str = r#"
[[limit]]
name = "tight"
protocol = "udp"
rate = "1/h"
policy = "quick"

[[policy]]
name = "quick"
maxretry = 1
require_verified = false
bantime = "1h"
rollup = { hosts = 3, ipv4_prefix = 29 }
"#;

fn host(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

/// A wire whose client has these addresses, too.
fn wire_with(numbers: &[u8]) -> Wire {
    let wire = wire();
    for number in numbers {
        let address = format!("{}/24", host(*number));
        wire.client_end.add_address(&address).unwrap();
    }
    wire
}

/// Has each of these banned for going over the limit.
fn offend(wire: &Wire, daemon: &Daemon, numbers: &[u8]) {
    let server = udp_v4(wire);
    for number in numbers {
        assert_eq!(deliver(wire, &server, host(*number), 3), 1);
        eventually("the ban", || {
            banned(daemon).contains(&format!("{}/32", host(*number)))
        });
    }
}

#[test]
fn enough_banned_hosts_ban_their_prefix_which_outlives_a_restart() {
    testkit::require_root!();
    let wire = wire_with(&[40, 41, 42, 43, 56]);
    let mut daemon = Daemon::start(&wire.server, &config(LIMIT));
    offend(&wire, &daemon, &[40, 41, 56]);
    assert_eq!(
        banned(&daemon).len(),
        3,
        "two of one prefix, one of another"
    );
    // The count is taken anew from the bans that there are.
    daemon.kill();
    daemon.restart();
    offend(&wire, &daemon, &[42]);
    eventually("the prefix's ban", || {
        banned(&daemon).contains(&"192.0.2.40/29".to_owned())
    });
    let bans = daemon.json(&["ban", "show", "192.0.2.47"]);
    assert_eq!(bans[0]["cause"], "rollup");
    assert_eq!(bans[0]["policy"], "quick");
    assert_eq!(bans[0]["reason"], "3 hosts in it are banned");
    let server = udp_v4(&wire);
    assert_eq!(deliver(&wire, &server, host(43), 5), 0);
    assert_eq!(number(&daemon.json(&["status"]), "/bans"), 5);
}

#[test]
fn who_is_not_banned_any_more_does_not_count_for_the_prefix() {
    testkit::require_root!();
    let wire = wire_with(&[40, 41, 42, 43]);
    let daemon = Daemon::start(&wire.server, &config(LIMIT));
    offend(&wire, &daemon, &[40, 41]);
    daemon.abuser(&["ban", "remove", "192.0.2.40"]).success();
    offend(&wire, &daemon, &[42]);
    assert_eq!(banned(&daemon), ["192.0.2.41/32", "192.0.2.42/32"]);
    offend(&wire, &daemon, &[43]);
    eventually("the prefix's ban", || {
        banned(&daemon).contains(&"192.0.2.40/29".to_owned())
    });
}

#[test]
fn bans_count_for_the_prefix_of_a_rule_that_was_reloaded() {
    testkit::require_root!();
    let wire = wire_with(&[40, 41, 42]);
    let daemon = Daemon::start(&wire.server, &config(LIMIT));
    offend(&wire, &daemon, &[40, 41]);
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("ipv4_prefix = 29", "ipv4_prefix = 28")).unwrap();
    daemon.abuser(&["reload"]).success();
    offend(&wire, &daemon, &[42]);
    eventually("the wider prefix's ban", || {
        banned(&daemon).contains(&"192.0.2.32/28".to_owned())
    });
}

#[test]
fn no_prefix_is_banned_that_holds_an_allowed_address() {
    testkit::require_root!();
    let wire = wire_with(&[40, 41, 42, 43]);
    let daemon = Daemon::start(&wire.server, &config(LIMIT));
    daemon.abuser(&["allow", "add", "192.0.2.43"]).success();
    offend(&wire, &daemon, &[40, 41, 42]);
    eventually("the daemon says why not", || {
        daemon
            .stderr()
            .contains("not all of it because 192.0.2.43/32 is allowed")
    });
    assert_eq!(banned(&daemon).len(), 3);
    let server = udp_v4(&wire);
    assert_eq!(deliver(&wire, &server, host(43), 5), 5);
}

#[test]
fn neither_a_trusted_proxy_nor_its_prefix_is_banned_and_what_is_too_much_is_dropped() {
    testkit::require_root!();
    let wire = wire_with(&[40, 41, 42, 43]);
    let trusting = "[[source]]\nfiles = [\"/nonexistent/a.log\"]\nparser = \"json\"\n\
                    trusted_proxies = [\"192.0.2.43\"]\n";
    let daemon = Daemon::start(&wire.server, &config(&format!("{LIMIT}{trusting}")));
    let server = udp_v4(&wire);
    assert_eq!(deliver(&wire, &server, host(43), 5), 1);
    drop(server);
    // Offences come in the order of their packets.
    offend(&wire, &daemon, &[40, 41, 42]);
    eventually("the daemon says why not", || {
        daemon
            .stderr()
            .contains("not all of it because 192.0.2.43/32 is a trusted proxy")
    });
    let hosts = ["192.0.2.40/32", "192.0.2.41/32", "192.0.2.42/32"];
    assert_eq!(banned(&daemon), hosts);
}

#[test]
fn who_is_banned_again_after_a_restart_is_banned_for_longer() {
    testkit::require_root!();
    let wire = wire();
    let text = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\n\
                [ban]\nmaxretry = 1\nbantime = \"1s\"\nincrement = true\nmultipliers = [1, 3600]\n\
                require_verified = false\n";
    let mut daemon = Daemon::start(&wire.server, &config(text));
    let server = udp_v4(&wire);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 3), 1);
    eventually("the ban", || banned(&daemon).len() == 1);
    eventually("its end", || banned(&daemon).is_empty());
    daemon.terminate();
    daemon.restart();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 3), 1);
    eventually("the second ban", || banned(&daemon).len() == 1);
    let bans = daemon.json(&["ban", "list"]);
    assert!(number(&bans, "/0/remaining_seconds") > 3000, "{bans}");
    let reason = bans[0]["reason"].to_string();
    assert!(reason.contains("banned 1 time before"), "{reason}");
}
