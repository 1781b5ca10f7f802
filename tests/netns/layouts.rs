//! Another layout version takes over what one left, or fails and leaves it in force.
//!
//! The older version is a daemon of today's whose pin folder is given an older name: what is in
//! the kernel is not read but replaced, so it does not matter what is in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Instant,
};

use abuser_common::{
    layout::{Ban, LAYOUT_VERSION, maps},
    prefix::PrefixKey,
};
use aya::{
    maps::{HashMap, Map, MapData},
    programs::{
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use testkit::{Daemon, Wire, abuser_binary, bridge, veth};

use crate::support::{
    OTHER_V4, Sender, banned, config, deliver, eventually, settled, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";
const OLD: u32 = LAYOUT_VERSION - 1;

fn folder(daemon: &Daemon, layout: u32) -> PathBuf {
    daemon.pin_dir().join(format!("v{layout}"))
}

fn link_pin(daemon: &Daemon, layout: u32, wire: &Wire) -> PathBuf {
    folder(daemon, layout).join(format!("link-{}", wire.server_end.index()))
}

/// Kills the daemon, and makes what it left that of an older version.
fn kill_and_age(daemon: &mut Daemon) {
    daemon.kill();
    fs::rename(folder(daemon, LAYOUT_VERSION), folder(daemon, OLD)).unwrap();
}

fn link_id(pin: &Path) -> u32 {
    let link = FdLink::from(PinnedLink::from_pin(pin).unwrap());
    link.info().unwrap().id()
}

fn program(wire: &Wire) -> u32 {
    let attached = wire.server_end.xdp().unwrap();
    attached.expect("the filter is on").program_id
}

fn is_loaded(program: u32) -> bool {
    let mut programs = loaded_programs().filter_map(Result::ok);
    programs.any(|loaded| loaded.id() == program)
}

/// Bans in the kernel what the store knows nothing of.
fn ban_in_the_map_only(daemon: &Daemon, address: &str) {
    let path = folder(daemon, LAYOUT_VERSION).join(maps::BANS);
    let data = MapData::from_pin(path).unwrap();
    let mut bans: HashMap<_, PrefixKey, Ban> = HashMap::try_from(Map::HashMap(data)).unwrap();
    let key = PrefixKey::new(address.parse().unwrap(), 32).unwrap();
    let ban = Ban {
        id: 99,
        ..Ban::default()
    };
    bans.insert(key, ban, 0).unwrap();
}

/// The names of everything that is pinned.
fn pins(daemon: &Daemon) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(daemon.pin_dir()).unwrap() {
        let folder = folder.unwrap();
        for pin in fs::read_dir(folder.path()).unwrap() {
            let (folder, pin) = (folder.file_name(), pin.unwrap().file_name());
            found.insert(format!("{}/{}", folder.display(), pin.display()));
        }
    }
    found
}

fn configure(daemon: &Daemon, old: &str, new: &str) {
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replace(old, new);
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
}

/// A start that has to fail, with one more interface besides the usual one.
fn fail_with(wire: &Wire, daemon: &Daemon, interface: &str) -> Output {
    let (one, two) = (
        "interfaces = [\"veth-server\"]",
        format!("interfaces = [\"veth-server\", \"{interface}\"]"),
    );
    configure(daemon, one, &two);
    let output = wire
        .server
        .command(abuser_binary().unwrap())
        .args(["run", "-c"])
        .arg(daemon.config_path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{interface}");
    configure(daemon, &two, one);
    output
}

#[track_caller]
fn said(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(words), "no {words:?} in: {said}");
}

#[test]
fn another_version_takes_over_under_a_flood_and_not_one_packet_slips_through() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    // So slow that what it lets through is its burst.
    let limit = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 9\n\
                 [ban]\nmaxretry = 1000\n";
    let mut daemon = Daemon::start(&wire.server, &config(limit));
    daemon
        .abuser(&["ban", "add", SOURCE, "--for", "1h"])
        .success();
    let link = link_id(&link_pin(&daemon, LAYOUT_VERSION, &wire));
    let banned_sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    let limited_sender = Sender::start(&wire, OTHER_V4, 5000.0);
    for round in 1..=3 {
        limited_sender.wait_for(200);
        // Its buckets are new ones, so each version grants the burst once; but it grants no more.
        assert_eq!(settled(&server, OTHER_V4), 10 * round);
        let old = program(&wire);
        kill_and_age(&mut daemon);
        banned_sender.wait_for(200);
        assert_eq!(program(&wire), old);

        daemon.restart();
        banned_sender.wait_for(500);
        limited_sender.wait_for(500);
        assert_ne!(program(&wire), old);
        assert_eq!(link_id(&link_pin(&daemon, LAYOUT_VERSION, &wire)), link);
        assert!(!folder(&daemon, OLD).exists());
        assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
        let told = format!("took over from layout v{OLD} on veth-server");
        assert!(daemon.stderr().contains(&told), "{}", daemon.stderr());
        // Its maps would stay in memory with it.
        eventually("the old program is gone", || !is_loaded(old));
    }
    drop((banned_sender, limited_sender));
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(settled(&server, OTHER_V4), 40);

    daemon.abuser(&["detach"]).success();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.pin_dir().exists());
    assert_eq!(wire.server_end.xdp().unwrap(), None);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 5);
}

#[test]
fn a_start_that_fails_leaves_the_other_version_as_it_was() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config("[xdp]\nmode = \"driver\"\n"));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 2000.0);
    kill_and_age(&mut daemon);
    let (attached, left) = (wire.server_end.xdp().unwrap(), pins(&daemon));
    let as_it_was = || {
        assert_eq!(wire.server_end.xdp().unwrap(), attached);
        assert_eq!(pins(&daemon), left);
        assert!(!folder(&daemon, LAYOUT_VERSION).exists());
        sender.wait_for(200);
    };

    said(&fail_with(&wire, &daemon, "veth-none"), "no interface");
    as_it_was();

    let _second = veth(&wire.server, "veth-second", &wire.client, "veth-other").unwrap();
    let stranger = Daemon::start(&wire.server, "interfaces = [\"veth-second\"]\n");
    said(
        &fail_with(&wire, &daemon, "veth-second"),
        "already has an XDP program",
    );
    as_it_was();
    drop(stranger);

    // This one refuses only when the program in the first was replaced.
    let _bridge = bridge(&wire.server, "bridge").unwrap();
    let output = fail_with(&wire, &daemon, "bridge");
    said(&output, "bridge in driver mode");
    said(&output, "put back the program");
    as_it_was();

    // The old version's maps are those that are in force, and the next start finds its way.
    daemon.restart();
    assert!(!folder(&daemon, OLD).exists());
    sender.wait_for(200);
    drop(sender);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
}

#[test]
fn a_filter_in_another_mode_is_replaced_and_put_back_if_the_start_fails() {
    testkit::require_root!();
    for layout in [LAYOUT_VERSION, OLD] {
        let wire = wire();
        let server = udp_v4(&wire);
        let mut daemon = Daemon::start(&wire.server, &config("[xdp]\nmode = \"generic\"\n"));
        daemon.abuser(&["ban", "add", SOURCE]).success();
        daemon.kill();
        fs::rename(folder(&daemon, LAYOUT_VERSION), folder(&daemon, layout)).unwrap();
        let (attached, left) = (wire.server_end.xdp().unwrap(), pins(&daemon));
        let _bridge = bridge(&wire.server, "bridge").unwrap();
        configure(&daemon, "mode = \"generic\"", "mode = \"driver\"");
        let output = fail_with(&wire, &daemon, "bridge");
        said(&output, "put back the program");
        assert_eq!(wire.server_end.xdp().unwrap(), attached);
        assert_eq!(pins(&daemon), left);
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);

        daemon.restart();
        assert!(wire.server_end.xdp().unwrap().unwrap().native);
        assert!(!folder(&daemon, OLD).exists());
        assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    }
}

#[test]
fn links_of_interfaces_that_vanished_or_are_not_configured_are_cleared_away() {
    testkit::require_root!();
    let wire = wire();
    let (gone, _other) = veth(&wire.server, "veth-gone", &wire.client, "veth-other").unwrap();
    let spare = bridge(&wire.server, "spare").unwrap();
    let more = ", \"veth-gone\", \"spare\"";
    let mut daemon = Daemon::start(
        &wire.server,
        &format!("interfaces = [\"veth-server\"{more}]\n"),
    );
    kill_and_age(&mut daemon);
    // What is pinned in the place of the one that is moved is not what is on the interface.
    let stranger = Daemon::start(&wire.server, "interfaces = [\"lo\"]\n");
    let link = folder(&stranger, LAYOUT_VERSION).join("link-1");
    let link = FdLink::from(PinnedLink::from_pin(link).unwrap());
    fs::create_dir(folder(&daemon, LAYOUT_VERSION)).unwrap();
    let place = link_pin(&daemon, LAYOUT_VERSION, &wire);
    drop(link.pin(&place).unwrap());
    gone.delete().unwrap();
    configure(&daemon, more, "");
    let moved = link_id(&link_pin(&daemon, OLD, &wire));
    daemon.restart();
    assert_eq!(link_id(&place), moved);
    eventually("the spare one is free", || spare.xdp().unwrap().is_none());
    assert!(!folder(&daemon, OLD).exists());
    // With nothing at all left on an interface, too.
    kill_and_age(&mut daemon);
    fs::remove_file(link_pin(&daemon, OLD, &wire)).unwrap();
    daemon.restart();
    assert!(!folder(&daemon, OLD).exists());
    let told = format!("cleared away what layout v{OLD} had left");
    assert!(daemon.stderr().contains(&told), "{}", daemon.stderr());
}

#[test]
fn a_start_that_was_cut_short_is_gone_on_with_by_the_next() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 2000.0);

    // Cut short before the link: its maps are there, and what they hold is out of date.
    ban_in_the_map_only(&daemon, "203.0.113.1");
    kill_and_age(&mut daemon);
    fs::create_dir(folder(&daemon, LAYOUT_VERSION)).unwrap();
    for name in maps::ALL {
        let map = MapData::from_pin(folder(&daemon, OLD).join(name)).unwrap();
        map.pin(folder(&daemon, LAYOUT_VERSION).join(name)).unwrap();
    }
    daemon.restart();
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
    assert!(!folder(&daemon, OLD).exists());

    // Cut short after the link: its maps are in force, and the link has two pins.
    ban_in_the_map_only(&daemon, "203.0.113.2");
    daemon.kill();
    fs::create_dir(folder(&daemon, OLD)).unwrap();
    let link = PinnedLink::from_pin(link_pin(&daemon, LAYOUT_VERSION, &wire)).unwrap();
    let old_pin = link_pin(&daemon, OLD, &wire);
    drop(FdLink::from(link).pin(old_pin).unwrap());
    daemon.restart();
    assert_eq!(banned(&daemon), ["192.0.2.10/32", "203.0.113.2/32"]);
    assert!(!folder(&daemon, OLD).exists());
    sender.wait_for(200);
    drop(sender);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
}

#[test]
fn a_start_that_is_killed_at_any_time_leaves_the_filter_on_for_either_version() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let link = link_id(&link_pin(&daemon, LAYOUT_VERSION, &wire));
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 2000.0);
    kill_and_age(&mut daemon);
    let started = Instant::now();
    daemon.restart();
    let (whole, moments) = (started.elapsed(), 12);
    daemon.kill();
    for moment in 1..=moments {
        // The next start is one of the other version.
        let (new, aside) = (
            folder(&daemon, LAYOUT_VERSION),
            daemon.pin_dir().join("aside"),
        );
        // If it was killed before it made anything, this one finds what that one found.
        if new.exists() {
            let older = fs::rename(folder(&daemon, OLD), &aside);
            fs::rename(&new, folder(&daemon, OLD)).unwrap();
            if older.is_ok() {
                fs::rename(&aside, &new).unwrap();
            }
        }
        daemon.start_and_kill(whole * moment / moments);
        program(&wire);
        sender.wait_for(50);
    }
    daemon.restart();
    assert_eq!(link_id(&link_pin(&daemon, LAYOUT_VERSION, &wire)), link);
    assert!(!folder(&daemon, OLD).exists());
    sender.wait_for(50);
    drop(sender);
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
}

#[test]
fn detach_removes_what_a_killed_daemon_of_any_version_left_and_nothing_else() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let _second = veth(&wire.server, "veth-second", &wire.client, "veth-other").unwrap();
    let mut daemon = Daemon::start(
        &wire.server,
        "interfaces = [\"veth-server\", \"veth-second\"]\n",
    );
    daemon.abuser(&["ban", "add", SOURCE]).success();
    kill_and_age(&mut daemon);
    // A map that this version has no name for, and a folder that is nobody's version.
    let old = folder(&daemon, OLD);
    fs::rename(old.join(maps::BANS), old.join("BANS_OF_OLD")).unwrap();
    let foreign = daemon.pin_dir().join("vault");
    fs::create_dir(&foreign).unwrap();
    let map = MapData::from_pin(old.join(maps::SETTINGS)).unwrap();
    map.pin(foreign.join("THEIRS")).unwrap();

    let pin_dir = daemon.pin_dir().to_string_lossy().into_owned();
    let detached = daemon.json(&["detach", "--pin-dir", &pin_dir, "-i", "veth-second"]);
    assert_eq!(detached["interfaces"], serde_json::json!(["veth-second"]));
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    let detached = daemon.json(&["detach", "--pin-dir", &pin_dir]);
    assert_eq!(detached["interfaces"], serde_json::json!(["veth-server"]));
    eventually("the interface is free", || {
        wire.server_end.xdp().unwrap().is_none()
    });
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 20);
    assert_eq!(pins(&daemon), BTreeSet::from(["vault/THEIRS".to_owned()]));
    fs::remove_file(foreign.join("THEIRS")).unwrap();
    fs::remove_dir(&foreign).unwrap();
    // It takes the folder, too, once that is empty.
    let detached = daemon.json(&["detach", "--pin-dir", &pin_dir]);
    assert_eq!(detached["interfaces"], serde_json::json!([]));
    assert!(!daemon.pin_dir().exists());
}
