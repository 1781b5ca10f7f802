//! A disk that is full, read-only, or breaks at work: what is in force stays so, nobody is told that it is
//! written down, and it is as soon as it can be.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use testkit::{
    Daemon, Mounts, Namespace,
    mounts::{mount_small, set_read_only},
    require_root,
};

use crate::{
    faults::in_kernel,
    http::request,
    support::{finish, wait_until, written},
};

/// Where each test here has a disk of its own.
const DISK: &str = "/mnt";
const STORE: &str = "/mnt/abuser.db";
/// From one attempt to write a store that failed to the next, and as long again for a busy machine.
const TRIED_AGAIN: Duration = Duration::from_secs(10);

/// Has `work` done where there is a small disk.
fn on_a_small_disk(work: impl FnOnce() + Send) {
    let mounts = Mounts::new(|| mount_small(DISK, 1 << 20));
    mounts.expect("a disk").run(work);
}

fn daemon() -> (Namespace, Daemon) {
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let tables = format!("interfaces = [\"lo\"]\n[store]\npath = \"{STORE}\"\n");
    let daemon = Daemon::start(&namespace, &tables);
    (namespace, daemon)
}

fn ban(daemon: &Daemon, number: u8) -> String {
    let source = format!("203.0.113.{number}");
    let ban = ["ban", "add", &source, "--for", "1d", "--reason", "why"];
    daemon.abuser(&ban).success().stderr
}

/// Fills the disk to the last byte.
fn fill() {
    let mut filler = File::create(Path::new(DISK).join("filler")).expect("a file");
    for size in [4096, 1] {
        while filler.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

fn make_room() {
    fs::remove_file(Path::new(DISK).join("filler")).expect("to make room");
}

/// Asserts that somebody who bans is told that it is in force and not written down, and so is everyone who
/// asks.
#[track_caller]
fn assert_only_in_force(daemon: &Daemon, number: u8, why: &str) {
    let said = ban(daemon, number);
    assert!(said.contains("NOT ON DISK"), "{said}");
    assert!(in_kernel(daemon).contains(&number), "not in force");
    let status = daemon.json(&["status"]);
    let error = status["store"]["error"].as_str().unwrap_or_default();
    assert!(error.contains(why), "{status}");
    assert!(status["store"]["failed"].is_string(), "{status}");
    let metrics = request(daemon, "GET", "/metrics", b"").body;
    assert!(metrics.contains("\nabuser_store_up 0\n"), "{metrics}");
    let log = daemon.stderr();
    assert!(log.contains("cannot write to the store"), "{log}");
}

/// Waits until the store is written again without a restart, then asserts that it has these bans: a stop takes
/// them from the kernel.
#[track_caller]
fn assert_written(mut daemon: Daemon, bans: &[u8]) {
    let count = u32::try_from(bans.len()).expect("few") + 1;
    let deadline = Instant::now() + TRIED_AGAIN;
    while !daemon.json(&["status"])["store"]["error"].is_null() {
        assert!(Instant::now() < deadline, "{}", daemon.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = ban(&daemon, 99);
    assert!(!said.contains("NOT ON DISK"), "{said}");
    // The rest is written by comparison.
    wait_until("all is compared", || {
        written(Path::new(STORE), "bans") == Some(count)
    });
    daemon.terminate();
    assert!(!daemon.pin_dir().exists(), "the kernel has forgotten");
    daemon.restart();
    let expected: BTreeSet<_> = bans.iter().copied().chain([99]).collect();
    assert_eq!(in_kernel(&daemon), expected);
    let shown = daemon.json(&["ban", "show", "203.0.113.1"]);
    assert_eq!(shown[0]["reason"], "why", "{shown}");
    // Before the disk goes.
    drop(daemon);
}

#[test]
fn what_ended_while_a_disk_was_full_is_erased_and_who_offended_then_is_written_down() {
    require_root!();
    on_a_small_disk(|| {
        let (_namespace, mut daemon) = daemon();
        ban(&daemon, 1);
        ban(&daemon, 2);
        fill();
        assert_only_in_force(&daemon, 3, "full");
        let remove = ["ban", "remove", "203.0.113.2"];
        daemon.abuser(&remove).success();
        let offence = br#"{"offences": [{"source": "203.0.113.50", "reason": "why"}]}"#;
        let taken = request(&daemon, "POST", "/v1/offences", offence);
        assert_eq!(taken.status, 200, "{}", taken.body);
        make_room();
        let deadline = Instant::now() + TRIED_AGAIN * 2;
        let written = |table| written(Path::new(STORE), table);
        while (written("bans"), written("offenders")) != (Some(2), Some(1)) {
            assert!(Instant::now() < deadline, "{}", daemon.stderr());
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon.terminate();
        daemon.restart();
        assert_eq!(in_kernel(&daemon), [1, 3].into());
        drop(daemon);
    });
}

#[test]
fn a_full_disk_costs_only_the_copy_and_that_is_made_when_there_is_room() {
    require_root!();
    on_a_small_disk(|| {
        let (_namespace, daemon) = daemon();
        assert!(!ban(&daemon, 1).contains("NOT ON DISK"));
        fill();
        assert_only_in_force(&daemon, 2, "full");
        // It can be opened again, and that is not enough.
        let until = Instant::now() + TRIED_AGAIN * 6 / 10;
        while Instant::now() < until {
            let status = daemon.json(&["status"]);
            assert!(status["store"]["error"].is_string(), "{status}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = daemon.stderr();
        assert!(!log.contains("bringing it up to date"), "{log}");
        assert_eq!(log.matches("cannot write to the store").count(), 1, "{log}");
        assert_only_in_force(&daemon, 3, "full");
        make_room();
        assert_written(daemon, &[1, 2, 3]);
    });
}

#[test]
fn a_start_on_a_full_disk_protects_and_writes_when_there_is_room() {
    require_root!();
    on_a_small_disk(|| {
        fill();
        let (_namespace, daemon) = daemon();
        assert_only_in_force(&daemon, 1, "");
        make_room();
        assert_written(daemon, &[1]);
    });
}

#[test]
fn a_start_on_a_read_only_disk_knows_all_bans_and_writes_when_it_may() {
    require_root!();
    on_a_small_disk(|| {
        let (_namespace, mut daemon) = daemon();
        ban(&daemon, 1);
        daemon.terminate();
        set_read_only(DISK, true).expect("to make it read-only");
        daemon.restart();
        assert_eq!(in_kernel(&daemon), [1].into());
        assert_only_in_force(&daemon, 2, "");
        set_read_only(DISK, false).expect("to make it writable");
        assert_written(daemon, &[1, 2]);
    });
}

/// Runs a command that has to succeed.
fn run(program: &str, arguments: &[&str]) {
    finish(Command::new(program).args(arguments)).success();
}

#[test]
fn a_file_system_that_goes_read_only_at_work_is_written_again_when_it_is_mounted_anew() {
    require_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let made = File::create(&image).and_then(|image| image.set_len(8 << 20));
    made.expect("an image");
    let image = image.to_str().expect("UTF-8");
    run("mkfs.ext4", &["-q", image]);
    let mounts = Mounts::new(|| Ok(())).expect("mounts");
    mounts.run(|| {
        run("mount", &["-o", "loop", image, DISK]);
        let (_namespace, daemon) = daemon();
        assert!(!ban(&daemon, 1).contains("NOT ON DISK"));
        // What the kernel does to a disk whose metadata it cannot write.
        run("mount", &["-o", "remount,abort", DISK]);
        assert_only_in_force(&daemon, 2, "");
        // The daemon holds nothing open there.
        run("umount", &[DISK]);
        run("mount", &["-o", "loop", image, DISK]);
        assert_written(daemon, &[1, 2]);
        run("umount", &[DISK]);
    });
}
