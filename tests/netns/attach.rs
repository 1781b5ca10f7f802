//! Where the program goes: the driver if it can, never over somebody else's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use testkit::{Daemon, Namespace, Wire, abuser_binary, traffic::UdpCounter};

use crate::support::{PORT, banned, config, deliver, number, settled, udp_v4, wire};

const TIGHT: &str = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n";

/// Without one there is a warning.
const LIMIT: &str = "[[limit]]\nname = \"any\"\nrate = \"1M/s\"\n";

#[test]
fn auto_mode_uses_the_driver_of_a_veth() {
    testkit::require_root!();
    let wire = wire();
    let daemon = Daemon::start(&wire.server, &config(LIMIT));
    let xdp = wire.server_end.xdp().unwrap().expect("it is attached");
    assert!(xdp.native);
    let status = daemon.json(&["status"]);
    assert_eq!(status["interfaces"][0]["mode"], "driver");
    assert_eq!(
        number(&status, "/interfaces/0/program_id"),
        u64::from(xdp.program_id)
    );
    assert!(!daemon.stderr().contains("WARN"), "{}", daemon.stderr());
}

#[test]
fn auto_mode_on_lo_falls_back_to_generic_says_why_and_limits() {
    testkit::require_root!();
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let target = SocketAddr::new(localhost, PORT);
    let namespace = Namespace::new().unwrap();
    let server = UdpCounter::start(&namespace, target);
    let daemon = Daemon::start(&namespace, &format!("interfaces = [\"lo\"]\n{TIGHT}"));
    assert_eq!(daemon.json(&["status"])["interfaces"][0]["mode"], "generic");
    assert!(
        !namespace
            .interface("lo")
            .unwrap()
            .xdp()
            .unwrap()
            .unwrap()
            .native
    );
    let stderr = daemon.stderr();
    let warning = stderr.lines().find(|line| line.contains("WARN"));
    let warning = warning.unwrap_or_else(|| panic!("no warning in {stderr}"));
    for words in ["lo", "no native XDP", "generic mode instead"] {
        assert!(warning.contains(words), "no {words:?} in {warning}");
    }

    testkit::traffic::send_udp(&namespace, localhost, target, 2000.0, 100).unwrap();
    assert_eq!(settled(&server, localhost), 10);
}

#[test]
fn generic_mode_limits_and_bans_as_the_driver_does() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(
        &wire.server,
        &config(&format!("[xdp]\nmode = \"generic\"\n{TIGHT}")),
    );
    assert!(!wire.server_end.xdp().unwrap().unwrap().native);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 10);
    daemon.abuser(&["ban", "add", "192.0.2.66"]).success();
    assert_eq!(deliver(&wire, &server, crate::support::OTHER_V4, 100), 0);
}

#[test]
fn a_foreign_program_is_refused_by_name_and_id_and_left_in_place() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    // To a daemon with other pins, ours is as foreign as any.
    let first = Daemon::start(&wire.server, &config(""));
    first.abuser(&["ban", "add", "192.0.2.10"]).success();
    let before = wire.server_end.xdp().unwrap().unwrap();

    let binary = abuser_binary().unwrap();
    let error = Daemon::try_start(&binary, &wire.server, &config(""))
        .expect_err("the interface is taken")
        .to_string();
    let foreigner = format!("\"abuser\" (id {})", before.program_id);
    for words in ["exit status: 1", "veth-server", &foreigner] {
        assert!(error.contains(words), "no {words:?} in: {error}");
    }
    assert_eq!(wire.server_end.xdp().unwrap(), Some(before));
    assert_eq!(banned(&first), ["192.0.2.10/32"]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
}

#[test]
fn an_interface_that_is_not_there_is_refused_and_the_others_are_not_attached_to() {
    testkit::require_root!();
    let wire = wire();
    let error = Daemon::try_start(
        &abuser_binary().unwrap(),
        &wire.server,
        "interfaces = [\"veth-server\", \"veth-none\"]\n",
    )
    .expect_err("there is no veth-none")
    .to_string();
    for words in [
        "exit status: 1",
        "\"veth-none\"",
        "there are: lo, veth-server",
    ] {
        assert!(error.contains(words), "no {words:?} in: {error}");
    }
    assert_eq!(wire.server_end.xdp().unwrap(), None);
}
