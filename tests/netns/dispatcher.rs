//! Beside other XDP programs: as a component of libxdp's dispatcher, with Debian's xdp-tools for the
//! others.
//!
//! A component is a program of the type `BPF_PROG_TYPE_EXT`, which not every kernel takes: hardened ones
//! refuse it. So the tests that need it are ignored here, and `cargo xtask vm` runs them with kernels that do.

use std::{fs, net::IpAddr, process::Command};

use abuser::dataplane::dispatcher::OBJECT;
use abuser_common::dispatcher::{CONFIG, Config, PROGRAM};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use serde_json::Value;
use testkit::{Daemon, Namespace, Wire, abuser_binary, bridge, only_in_a_guest, peers};

use crate::support::{OTHER_V4, Sender, config, eventually, number, settled, udp_v4, wire};

/// Whom abuser bans.
const BANNED: IpAddr = Wire::CLIENT_V4;
/// Whom xdp-filter drops.
const FILTERED: IpAddr = OTHER_V4;
/// Whom nobody does.
const CLEAN: &str = "192.0.2.77";

/// How often somebody comes and goes: each time takes the verifier seconds in a guest, and there are two guests.
const ROUNDS: u32 = 2;

const JOIN: &str = "";
const ALWAYS: &str = "[xdp]\ndispatcher = \"always\"\n";

mod leaving;

/// Runs one of xdp-tools to its end.
#[track_caller]
fn tool(namespace: &Namespace, program: &str, arguments: &[&str]) -> String {
    let mut command: Command = peers::command(namespace, program).unwrap();
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said.into_owned()
}

/// Loads xdp-filter, which drops [`FILTERED`].
fn load_filter(wire: &Wire) {
    let arguments = ["load", "veth-server", "-m", "native", "-f", "ipv4"];
    tool(&wire.server, "xdp-filter", &arguments);
    let arguments = ["ip", &FILTERED.to_string(), "-m", "src"];
    tool(&wire.server, "xdp-filter", &arguments);
}

fn unload_filter(wire: &Wire) {
    tool(&wire.server, "xdp-filter", &["unload", "veth-server"]);
}

/// The names of those that are called, as libxdp has them and as abuser has them.
#[track_caller]
fn chain(wire: &Wire, daemon: &Daemon) -> Vec<String> {
    let status = daemon.json(&["status"]);
    let components = &status["interfaces"][0]["dispatcher"]["components"];
    let names: Vec<_> = components
        .as_array()
        .unwrap_or_else(|| panic!("no component in {status:#}"))
        .iter()
        .map(|component| component["name"].as_str().unwrap().to_owned())
        .collect();
    let told = loaded(wire);
    eventually(&format!("libxdp has {names:?}, not {told:?}"), || {
        loaded(wire) == names
    });
    names
}

/// Who is called on the server's interface, as `xdp-loader status` tells.
fn loaded(wire: &Wire) -> Vec<String> {
    let said = tool(&wire.server, "xdp-loader", &["status", "veth-server"]);
    said.lines()
        .filter_map(|line| line.trim().strip_prefix("=>"))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

#[track_caller]
fn becomes(wire: &Wire, daemon: &Daemon, names: &[&str]) {
    eventually(&format!("{names:?} are called"), || {
        let status = daemon.json(&["status"]);
        let components = status.pointer("/interfaces/0/dispatcher/components");
        let components = components.and_then(Value::as_array);
        components.is_some_and(|components| components.iter().map(|one| &one["name"]).eq(names))
    });
    assert_eq!(chain(wire, daemon), names);
}

/// What is pinned of dispatchers on the server's interface.
fn dispatchers(wire: &Wire) -> Vec<String> {
    let prefix = format!("dispatch-{}-", wire.server_end.index());
    let Ok(entries) = fs::read_dir("/sys/fs/bpf/xdp") else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// A wire with a third client.
fn wire_of_three() -> (Wire, IpAddr) {
    let wire = wire();
    wire.add_client(&format!("{CLEAN}/24"));
    (wire, CLEAN.parse().unwrap())
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn abuser_comes_and_goes_beside_xdp_filter_and_nothing_lapses() {
    only_in_a_guest!();
    let (wire, clean) = wire_of_three();
    let server = udp_v4(&wire);
    load_filter(&wire);
    let filtered = Sender::start(&wire, FILTERED, 1000.0);
    let passing = Sender::start(&wire, clean, 200.0);

    let mut daemon = Daemon::start(&wire.server, &config(JOIN));
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    daemon
        .abuser(&["ban", "add", &BANNED.to_string()])
        .success();
    let banned = Sender::start(&wire, BANNED, 1000.0);
    for _ in 0..ROUNDS {
        // Another version, as far as the kernel can tell.
        daemon.kill();
        banned.wait_for(50);
        assert_eq!(loaded(&wire), ["abuser", "xdpfilt_alw_ip"]);
        daemon.restart();
        becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
        assert_eq!(dispatchers(&wire).len(), 1);
        banned.wait_for(50);
    }
    drop(banned);
    assert_eq!(settled(&server, BANNED), 0);

    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(loaded(&wire), ["xdpfilt_alw_ip"]);
    assert!(!daemon.pin_dir().exists());
    filtered.wait_for(50);
    drop((filtered, passing));
    assert_eq!(settled(&server, FILTERED), 0);
    assert_ne!(settled(&server, clean), 0);
    unload_filter(&wire);
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert_eq!(dispatchers(&wire), [""; 0]);
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn others_come_and_go_beside_abuser_and_no_ban_lapses() {
    only_in_a_guest!();
    let (wire, clean) = wire_of_three();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(ALWAYS));
    becomes(&wire, &daemon, &["abuser"]);
    daemon
        .abuser(&["ban", "add", &BANNED.to_string()])
        .success();
    let banned = Sender::start(&wire, BANNED, 1000.0);
    let passing = Sender::start(&wire, clean, 200.0);
    for _ in 0..ROUNDS {
        load_filter(&wire);
        becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
        unload_filter(&wire);
        becomes(&wire, &daemon, &["abuser"]);
    }
    let status = daemon.json(&["status"]);
    let dispatcher = number(&status, "/interfaces/0/dispatcher/program_id");
    let attached = wire.server_end.xdp().unwrap().unwrap();
    assert_eq!(u64::from(attached.program_id), dispatcher);
    assert_eq!(status["interfaces"][0]["mode"], "driver");
    assert!(attached.native);
    drop((banned, passing));
    assert_eq!(settled(&server, BANNED), 0);
    assert_ne!(settled(&server, clean), 0);

    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert_eq!(dispatchers(&wire), [""; 0]);
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn who_is_thrown_out_comes_back_and_the_dead_are_taken_out_alone() {
    only_in_a_guest!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(ALWAYS));
    load_filter(&wire);
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    tool(
        &wire.server,
        "xdp-loader",
        &["unload", "veth-server", "--all"],
    );
    becomes(&wire, &daemon, &["abuser"]);

    load_filter(&wire);
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    // By a daemon that runs, and without one.
    daemon.abuser(&["detach"]).success();
    eventually("abuser is out", || loaded(&wire) == ["xdpfilt_alw_ip"]);
    daemon.terminate();
    daemon.restart();
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    daemon.kill();
    let pins = daemon.pin_dir().display().to_string();
    daemon.abuser(&["detach", "--pin-dir", &pins]).success();
    assert_eq!(loaded(&wire), ["xdpfilt_alw_ip"]);
    assert!(!daemon.pin_dir().exists());
    unload_filter(&wire);
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn the_capabilities_of_the_service_with_its_drop_in_are_enough_to_join() {
    only_in_a_guest!();
    let wire = wire();
    load_filter(&wire);
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF, and CAP_SYS_ADMIN of docs/COEXISTENCE.md.
    testkit::privilege::leave_only(&[2, 12, 38, 39, 21]);
    let mut daemon = Daemon::start(&wire.server, &config(JOIN));
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(loaded(&wire), ["xdpfilt_alw_ip"]);
    unload_filter(&wire);
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn a_start_that_fails_puts_back_the_component_that_it_replaced() {
    only_in_a_guest!();
    let wire = wire();
    load_filter(&wire);
    let mode = "[xdp]\nmode = \"driver\"\n";
    let mut daemon = Daemon::start(&wire.server, &config(mode));
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    let program = |daemon: &Daemon| number(&daemon.json(&["status"]), "/interfaces/0/program_id");
    let before = program(&daemon);
    daemon.kill();

    // It has no native XDP, and is attached to last.
    let _bridge = bridge(&wire.server, "bridge").unwrap();
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    let both = text.replace("[\"veth-server\"]", "[\"veth-server\", \"bridge\"]");
    fs::write(daemon.config_path(), both).unwrap();
    let output = wire
        .server
        .command(abuser_binary().unwrap())
        .args(["run", "-c"])
        .arg(daemon.config_path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = tool(&wire.server, "xdp-loader", &["status", "veth-server"]);
    let line = said.lines().find(|line| line.contains("abuser"));
    let line = line.unwrap_or_else(|| panic!("no abuser in {said}"));
    let id = line
        .split_whitespace()
        .nth(3)
        .and_then(|id| id.parse().ok());
    assert_eq!(id, Some(before), "{said}");
    assert_eq!(loaded(&wire), ["abuser", "xdpfilt_alw_ip"]);

    fs::write(daemon.config_path(), text).unwrap();
    daemon.restart();
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    assert_ne!(program(&daemon), before);
    daemon.terminate();
    unload_filter(&wire);
}

/// A dispatcher on the server's interface that says this of itself. It goes when it is dropped.
fn dispatcher(wire: &Wire, config: &Config) -> Ebpf {
    let mut loaded = EbpfLoader::new()
        .override_global(CONFIG, config, true)
        .load(OBJECT)
        .unwrap();
    let program: &mut Xdp = loaded.program_mut(PROGRAM).unwrap().try_into().unwrap();
    program.load().unwrap();
    let index = wire.server_end.index();
    wire.server
        .run(|| program.attach_to_if_index(index, XdpMode::Driver))
        .unwrap();
    loaded
}

/// What a start says that has to fail, and that leaves the interface as it was.
#[track_caller]
fn refused(wire: &Wire, tables: &str) -> String {
    let before = wire.server_end.xdp().unwrap();
    let error = Daemon::try_start(&abuser_binary().unwrap(), &wire.server, &config(tables))
        .expect_err("the interface is taken")
        .to_string();
    assert_eq!(wire.server_end.xdp().unwrap(), before);
    error
}

#[track_caller]
fn assert_told(error: &str, words: &[&str]) {
    for words in words {
        assert!(error.contains(words), "no {words:?} in: {error}");
    }
}

#[test]
fn a_dispatcher_of_an_unknown_version_is_refused_by_what_was_found() {
    testkit::require_root!();
    let wire = wire();
    let newer = Config {
        version: 3,
        ..Config::EMPTY
    };
    let on_it = dispatcher(&wire, &newer);
    let id = wire.server_end.xdp().unwrap().unwrap().program_id;
    let found = format!("dispatcher of libxdp (id {id})");
    let error = refused(&wire, JOIN);
    assert_told(
        &error,
        &[
            "veth-server",
            &found,
            "it is of version 3",
            "joins dispatchers of version 2",
        ],
    );

    drop(on_it);
    let other = Config {
        magic: 1,
        ..Config::EMPTY
    };
    let _on_it = dispatcher(&wire, &other);
    assert_told(&refused(&wire, JOIN), &["begins with 1, not with 236"]);
}

#[test]
fn a_dispatcher_is_not_joined_against_the_configuration() {
    testkit::require_root!();
    let wire = wire();
    let on_it = dispatcher(&wire, &Config::EMPTY);
    assert_told(
        &refused(&wire, "[xdp]\ndispatcher = \"never\"\n"),
        &["veth-server", "dispatcher = \"never\"", "write \"join\""],
    );
    assert_told(
        &refused(&wire, "[xdp]\nmode = \"generic\"\n"),
        &["runs in driver mode", "mode is \"generic\"", "\"auto\""],
    );
    let full = Config {
        components: 10,
        ..Config::EMPTY
    };
    drop(on_it);
    let _on_it = dispatcher(&wire, &full);
    assert_told(&refused(&wire, JOIN), &["10 of them already"]);
}
