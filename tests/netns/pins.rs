//! Pins that somebody removes, replaces, or takes away with their file system: the filter does without, and
//! they come back.

use std::{fs, io, path::Path};

use abuser_common::layout::{LAYOUT_VERSION, maps};
use aya::maps::MapData;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use testkit::{Daemon, Mounts, Wire, mounts::mount_empty, traffic::UdpCounter};

use crate::support::{OTHER_V4, config, deliver, eventually, lay_again, udp_v4, wire};

const BPFFS: &str = "/sys/fs/bpf";
const SOURCE: &str = "192.0.2.10";

/// Has the daemon look at interfaces, and so at its pins, which it does every ten seconds at the latest.
fn wake(wire: &Wire) {
    let noise = wire.server.interface("lo").unwrap();
    noise.down().unwrap();
    noise.up().unwrap();
}

fn pins(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["pins"].clone()
}

#[track_caller]
fn assert_filtered(wire: &Wire, server: &UdpCounter) {
    assert_eq!(deliver(wire, server, Wire::CLIENT_V4, 20), 0);
    assert_eq!(deliver(wire, server, OTHER_V4, 20), 20);
}

/// Takes away every BPF file system that the caller sees.
fn unmount() -> io::Result<()> {
    let mounted = || fs::read_to_string("/proc/thread-self/mounts");
    while mounted()?.contains(&format!(" {BPFFS} ")) {
        umount2(BPFFS, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

/// Mounts with one BPF file system, which is empty.
fn one_file_system() -> Mounts {
    let mounts = Mounts::new(|| {
        unmount()?;
        mount_empty("bpf", BPFFS)
    });
    mounts.unwrap()
}

#[test]
fn pins_that_somebody_removes_or_replaces_are_made_again_and_a_crash_leaves_the_filter_on() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let folder = daemon.pin_dir().join(format!("v{LAYOUT_VERSION}"));
    let link = folder.join(format!("link-{}", wire.server_end.index()));
    let program = wire.server_end.xdp().unwrap();
    let id = |name: &str| {
        MapData::from_pin(folder.join(name))
            .unwrap()
            .info()
            .unwrap()
            .id()
    };
    let bans = id(maps::BANS);

    fs::remove_dir_all(daemon.pin_dir()).unwrap();
    assert_filtered(&wire, &server);
    wake(&wire);
    let all = maps::ALL.len() as u64 + 1;
    eventually("all is pinned again", || pins(&daemon)["repairs"] == all);
    assert!(link.exists());
    assert_eq!(id(maps::BANS), bans);
    eventually("the log says so", || {
        daemon.stderr().contains("pins were removed or replaced")
    });
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(
        said.contains("were removed or replaced, and made again"),
        "{said}"
    );

    // One map in the place of another, and what is no BPF object in a link's.
    fs::remove_file(folder.join(maps::BANS)).unwrap();
    let other = MapData::from_pin(folder.join(maps::ALLOWED)).unwrap();
    other.pin(folder.join(maps::BANS)).unwrap();
    fs::remove_file(&link).unwrap();
    other.pin(&link).unwrap();
    wake(&wire);
    eventually("what was replaced is, too", || {
        pins(&daemon)["repairs"] == all + 2
    });
    assert_eq!(id(maps::BANS), bans);
    assert_eq!(pins(&daemon)["error"], Value::Null);

    daemon.kill();
    assert_eq!(wire.server_end.xdp().unwrap(), program);
    assert_filtered(&wire, &server);
    daemon.restart();
    assert!(daemon.stderr().contains("with the bans of an earlier run"));
    assert_filtered(&wire, &server);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
}

#[test]
fn a_file_system_of_pins_that_is_unmounted_or_mounted_over_is_mounted_and_filled_again() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mounts = Mounts::new(unmount).unwrap();
    // What may mount is given up otherwise.
    let text = config("[security]\nsandbox = \"off\"\n");
    let mut daemon = Daemon::start_in(&wire.server, &mounts, &text);
    assert!(daemon.stderr().contains("mounted a BPF file system"));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let pin_dir = daemon.pin_dir().to_owned();
    let is_pinned = || mounts.run(|| pin_dir.join(format!("v{LAYOUT_VERSION}/BANS")).exists());
    assert!(is_pinned());

    let all = maps::ALL.len() as u64 + 1;
    mounts.run(unmount).unwrap();
    assert!(!is_pinned());
    assert_filtered(&wire, &server);
    wake(&wire);
    eventually("another one is mounted", || pins(&daemon)["repairs"] == all);
    assert!(is_pinned());

    mounts.run(|| mount_empty("bpf", BPFFS)).unwrap();
    assert!(!is_pinned());
    assert_filtered(&wire, &server);
    wake(&wire);
    eventually("the new one is filled", || {
        pins(&daemon)["repairs"] == 2 * all
    });
    assert!(is_pinned());
    assert_eq!(pins(&daemon)["error"], Value::Null);

    // The link is still pinned in the file system below.
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
}

#[test]
fn a_daemon_that_has_given_up_mounting_says_so_and_fills_what_is_mounted_for_it() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mounts = one_file_system();
    let daemon = Daemon::start_in(&wire.server, &mounts, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    mounts.run(unmount).unwrap();
    wake(&wire);
    eventually("it is noticed", || pins(&daemon)["error"].is_string());
    assert_filtered(&wire, &server);
    mounts.run(|| mount_empty("bpf", BPFFS)).unwrap();
    wake(&wire);
    let all = maps::ALL.len() as u64 + 1;
    eventually("it is filled", || pins(&daemon)["repairs"] == all);
    assert_eq!(pins(&daemon)["error"], Value::Null);
    assert_filtered(&wire, &server);
}

#[test]
fn without_a_place_for_pins_interfaces_are_protected_all_the_same_and_it_is_said() {
    testkit::require_root!();
    let mut wire = wire();
    let server = udp_v4(&wire);
    let mounts = one_file_system();
    let daemon = Daemon::start_in(&wire.server, &mounts, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    let read_only = || {
        let (kind, place) = (Some("bpf"), Path::new(BPFFS));
        mount(kind, place, kind, MsFlags::MS_RDONLY, None::<&str>)
    };
    mounts.run(read_only).unwrap();
    wake(&wire);
    eventually("it is noticed", || pins(&daemon)["error"].is_string());
    assert!(pins(&daemon)["failed"].is_string());
    let said = daemon.abuser(&["status"]).success().stdout;
    assert!(said.contains("pins: ARE NOT THERE since"), "{said}");
    eventually("the log says so", || {
        daemon
            .stderr()
            .contains("pins are gone and cannot be made again")
    });
    assert_filtered(&wire, &server);

    // An interface that comes meanwhile.
    wire.cut();
    lay_again(&mut wire);
    eventually("the program is on the new one", || {
        wire.server_end.xdp().unwrap().is_some()
    });
    assert_filtered(&wire, &server);

    let link = format!("v{LAYOUT_VERSION}/link-{}", wire.server_end.index());
    let link = daemon.pin_dir().join(link);
    mounts.run(|| umount2(BPFFS, MntFlags::MNT_DETACH)).unwrap();
    wake(&wire);
    eventually("all is well again", || pins(&daemon)["error"].is_null());
    assert!(mounts.run(|| link.exists()));
    assert_filtered(&wire, &server);
}
