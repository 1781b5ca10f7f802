//! What is left of a component that went, and what is said of one that could not.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use testkit::{Daemon, only_in_a_guest};

use super::{ALWAYS, becomes, dispatchers, load_filter};
use crate::support::{config, eventually, lay_again, wire};

/// What all who speak libxdp's protocol take a lock on.
const DISPATCHERS: &str = "/sys/fs/bpf/xdp";

/// How long abuser waits for that lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The lock, as another program has it that changes dispatchers.
fn lock() -> File {
    let folder = File::open(DISPATCHERS).unwrap();
    folder.lock().unwrap();
    folder
}

/// Asks the engine something, without a process that takes its time to start.
fn ask_engine(daemon: &Daemon) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream
        .write_all(b"GET /v1/limits HTTP/1.1\r\nHost: abuser\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The programs that are pinned for this dispatcher.
fn pinned(dispatcher: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("{DISPATCHERS}/{dispatcher}"));
    let entries = entries.into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with("-prog")).collect()
}

/// The pins that tell which components are abuser's.
fn marks(daemon: &Daemon) -> usize {
    let layouts = fs::read_dir(daemon.pin_dir()).into_iter().flatten();
    let files = layouts.flat_map(|layout| fs::read_dir(layout.unwrap().path()).unwrap());
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("component-")).count()
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn a_dispatcher_that_is_switched_off_or_vanishes_leaves_no_pin_of_abuser() {
    only_in_a_guest!();
    let mut wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(ALWAYS));
    becomes(&wire, &daemon, &["abuser"]);
    let first = dispatchers(&wire);
    wire.server_end.take_xdp_off().unwrap();
    eventually("another dispatcher is there alone", || {
        let now = dispatchers(&wire);
        now.len() == 1 && now != first
    });
    becomes(&wire, &daemon, &["abuser"]);

    // What others have pinned is theirs.
    load_filter(&wire);
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    let [shared] = dispatchers(&wire).try_into().unwrap();
    assert_eq!(pinned(&shared).len(), 2);
    wire.server_end.take_xdp_off().unwrap();
    becomes(&wire, &daemon, &["abuser"]);
    assert_eq!(pinned(&shared).len(), 1);
    assert_eq!(dispatchers(&wire).len(), 2);
    fs::remove_dir_all(format!("{DISPATCHERS}/{shared}")).unwrap();

    // However long somebody else holds the lock meanwhile.
    let locked = lock();
    wire.cut();
    eventually("the interface is missing", || {
        daemon.json(&["status"])["interfaces"][0]["state"] == "missing"
    });
    assert_eq!(dispatchers(&wire).len(), 1);
    drop(locked);
    eventually("the dispatcher's pins are gone", || {
        dispatchers(&wire).is_empty() && marks(&daemon) == 0
    });

    lay_again(&mut wire);
    becomes(&wire, &daemon, &["abuser"]);
    assert_eq!(dispatchers(&wire).len(), 1);
    // And without a daemon.
    daemon.kill();
    wire.cut();
    let pins = daemon.pin_dir().display().to_string();
    daemon.abuser(&["detach", "--pin-dir", &pins]).success();
    assert_eq!(dispatchers(&wire), [""; 0]);
    assert!(!daemon.pin_dir().exists());
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn the_engine_goes_on_while_somebody_else_changes_dispatchers() {
    only_in_a_guest!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(ALWAYS));
    becomes(&wire, &daemon, &["abuser"]);
    let locked = lock();
    let began = Instant::now();
    let (said, longest) = thread::scope(|scope| {
        let detaching = scope.spawn(|| daemon.abuser(&["detach"]));
        let mut longest = Duration::ZERO;
        while !detaching.is_finished() {
            let asked = Instant::now();
            ask_engine(&daemon);
            longest = longest.max(asked.elapsed());
        }
        (detaching.join().unwrap(), longest)
    });
    let waited = began.elapsed();
    assert!(waited >= PATIENCE, "{waited:?}");
    assert!(
        longest < waited / 2,
        "the engine took {longest:?} of {waited:?}"
    );
    let said = said.exits(1).stderr;
    let holder = format!("process {} holds the lock", std::process::id());
    for words in [
        &*holder,
        "dispatcher on interface veth-server",
        "it goes on filtering there",
    ] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    // Not asked of xdp-loader, which would wait for the lock.
    let status = daemon.json(&["status"]);
    assert_eq!(status["interfaces"][0]["state"], "attached", "{status:#}");

    // One that is done in time is waited for.
    let released = thread::scope(|scope| {
        let detaching = scope.spawn(|| daemon.abuser(&["detach"]));
        thread::sleep(Duration::from_secs(1));
        drop(locked);
        detaching.join().unwrap()
    });
    assert_eq!(
        released.success().stdout,
        "detached from veth-server\nthe daemon has stopped\n"
    );
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(wire.server_end.xdp().unwrap(), None);
}

#[test]
#[ignore = "it runs in a guest: `cargo xtask vm dispatcher`"]
fn a_component_that_cannot_be_taken_out_is_told_with_what_to_do() {
    only_in_a_guest!();
    let wire = wire();
    let mut daemon = Daemon::start(&wire.server, &config(ALWAYS));
    load_filter(&wire);
    becomes(&wire, &daemon, &["abuser", "xdpfilt_alw_ip"]);
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    let both = text.replace("[\"veth-server\"]", "[\"veth-server\", \"lo\"]");
    fs::write(daemon.config_path(), both).unwrap();
    daemon.abuser(&["reload"]).success();
    let [dispatcher] = dispatchers(&wire).try_into().unwrap();
    fs::remove_file(format!("{DISPATCHERS}/{dispatcher}/prog1-prog")).unwrap();
    let told = [
        "cannot take abuser's program out of the dispatcher on interface veth-server",
        "its component 1 is not pinned",
        "`ip link set dev veth-server xdpdrv off`",
    ];
    let said = daemon.abuser(&["detach"]).exits(1).stderr;
    for words in told.into_iter().chain(["Done: detached from lo"]) {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    let status = daemon.json(&["status"]);
    assert_eq!(status["interfaces"][0]["state"], "attached", "{status:#}");

    // The same when it stops, and when it is gone.
    assert_eq!(daemon.terminate().code(), Some(1));
    let said = daemon.stderr();
    for words in told {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    let pins = daemon.pin_dir().display().to_string();
    let said = daemon
        .abuser(&["detach", "--pin-dir", &pins])
        .exits(1)
        .stderr;
    assert!(said.contains(told[1]), "{said}");
    wire.server_end.take_xdp_off().unwrap();
    daemon.abuser(&["detach", "--pin-dir", &pins]).success();
    assert!(!daemon.pin_dir().exists());
    assert_eq!(pinned(&dispatcher), [""; 0]);
    // What is left is the other's link without its program.
    fs::remove_dir_all(format!("{DISPATCHERS}/{dispatcher}")).unwrap();
}
