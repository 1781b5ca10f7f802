//! The daemon is restarted under a flood, and no packet slips through.

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal;
use testkit::{Daemon, Wire};

use crate::support::{
    OTHER_V4, Sender, banned, config, deliver, eventually, settled, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

#[test]
fn not_one_packet_of_a_banned_source_arrives_through_ten_restarts() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    // So slow that what it lets through is its burst: 20 at once and no other.
    let limit = "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\nburst = 19\n\
                 [xdp]\npersist = true\n[ban]\nmaxretry = 1000\n";
    let mut daemon = Daemon::start(&wire.server, &config(limit));
    daemon
        .abuser(&["ban", "add", SOURCE, "--for", "1h"])
        .success();
    let banned_sender = Sender::start(&wire, Wire::CLIENT_V4, 5000.0);
    let limited_sender = Sender::start(&wire, OTHER_V4, 5000.0);
    limited_sender.wait_for(100);
    for restart in 1..=10 {
        if restart % 2 == 0 {
            daemon.kill();
        } else {
            daemon.signal(Signal::SIGTERM);
            eventually("the daemon has left", || !daemon.socket().exists());
            assert_eq!(daemon.terminate().code(), Some(0));
        }
        // The program stays on without it.
        assert!(wire.server_end.xdp().unwrap().is_some(), "{restart}");
        banned_sender.wait_for(200);
        daemon.restart();
        banned_sender.wait_for(200);
        limited_sender.wait_for(200);
    }
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
    drop((banned_sender, limited_sender));
    assert_eq!(settled(&server, Wire::CLIENT_V4), 0);
    assert_eq!(settled(&server, OTHER_V4), 20);
    // Nor does it stay for ever.
    daemon.abuser(&["detach"]).success();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.pin_dir().exists());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 5), 5);
}

#[test]
fn a_ban_of_an_earlier_boot_is_in_force_from_the_first_packet() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    // A clean stop leaves nothing in the kernel, as a boot does.
    daemon.terminate();
    assert!(!daemon.pin_dir().exists());
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 2000.0);
    eventually("the source is not filtered", || {
        server.received_from(Wire::CLIENT_V4) > 50
    });
    let mut before = 0;
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            // What has arrived when the program is first seen on the interface.
            while wire.server_end.xdp().unwrap().is_none() {
                thread::sleep(Duration::from_micros(200));
            }
            settled(&server, Wire::CLIENT_V4)
        });
        daemon.restart();
        before = watch.join().unwrap();
    });
    sender.wait_for(500);
    assert_eq!(settled(&server, Wire::CLIENT_V4), before);
}

#[test]
fn a_store_that_is_gone_takes_no_ban_from_the_kernel() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let mut daemon = Daemon::start(&wire.server, &config(""));
    daemon.abuser(&["ban", "add", SOURCE]).success();
    daemon.kill();
    // Together with its log, which would mend it.
    fs::remove_file(daemon.store_path().with_extension("db-wal")).unwrap();
    fs::write(
        daemon.store_path(),
        "no database at all, but long enough ".repeat(200),
    )
    .unwrap();
    daemon.restart();
    assert!(daemon.stderr().contains("damaged"), "{}", daemon.stderr());
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    // And it is written down anew.
    daemon.terminate();
    daemon.restart();
    assert_eq!(banned(&daemon), ["192.0.2.10/32"]);
}
