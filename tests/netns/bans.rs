//! A ban cuts a source off at once and wholly, and its end is as prompt.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use testkit::{
    Daemon, Wire,
    traffic::{TcpEcho, UdpCounter},
};

use crate::support::{
    Frozen, OTHER_V4, Sender, Talk, banned, config, deliver, deliver_to, eventually, know, number,
    outcome, server_for, settled, udp_v4, wire,
};

const SOURCE: &str = "192.0.2.10";

#[test]
fn a_ban_cuts_off_at_once_and_its_removal_lets_back() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 2000.0);
    eventually("datagrams arrive", || server.received() > 0);

    daemon
        .abuser(&["ban", "add", SOURCE, "--reason", "a test"])
        .success();
    // What passed before the ban may not have been read yet.
    let arrived = settled(&server, Wire::CLIENT_V4);
    sender.wait_for(1000);
    assert_eq!(settled(&server, Wire::CLIENT_V4), arrived);

    let ban = &daemon.json(&["ban", "show", SOURCE])[0];
    assert_eq!(
        (&ban["source"], &ban["cause"], &ban["reason"]),
        (&"192.0.2.10/32".into(), &"manual".into(), &"a test".into())
    );
    assert!(number(ban, "/hits") >= 1000, "{ban:#}");
    assert!(outcome(&daemon, "dropped_ban") >= 1000);

    daemon.abuser(&["ban", "remove", SOURCE]).success();
    eventually("datagrams arrive again", || {
        server.received_from(Wire::CLIENT_V4) > arrived
    });
    assert_eq!(banned(&daemon), [""; 0]);
}

#[test]
fn whom_a_block_list_names_is_cut_off_for_as_long_as_it_does() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, SOURCE).unwrap();
    let table = format!("[[blocklist]]\npath = \"{}\"\n", list.display());
    let daemon = Daemon::start(&wire.server, &config(&table));
    eventually("it is banned", || banned(&daemon) == ["192.0.2.10/32"]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 100), 100);
    std::fs::write(&list, "# nobody\n").unwrap();
    eventually("it is not banned any more", || banned(&daemon).is_empty());
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 100), 100);
}

#[test]
fn a_ban_silences_an_established_connection_and_its_removal_revives_it() {
    testkit::require_root!();
    let wire = wire();
    let server = TcpEcho::start(&wire.server, server_for(Wire::CLIENT_V4));
    let daemon = Daemon::start(&wire.server, &config(""));
    let mut talk = Talk::open(&wire, Wire::CLIENT_V4);
    let mut other = Talk::open(&wire, OTHER_V4);
    talk.works();

    daemon.abuser(&["ban", "add", SOURCE]).success();
    let before = server.bytes();
    talk.say(b"anyone?");
    assert!(!talk.hears(b"anyone?", Duration::from_millis(300)));
    assert_eq!(server.bytes(), before);
    let new = Talk::try_open(&wire, Wire::CLIENT_V4, Duration::from_millis(100));
    assert!(new.is_err());
    other.works();

    daemon.abuser(&["ban", "remove", SOURCE]).success();
    // TCP sends again what was dropped.
    assert!(talk.hears(b"anyone?", Duration::from_secs(5)));
    Talk::open(&wire, Wire::CLIENT_V4).works();
}

#[test]
fn a_ban_ends_by_itself_in_the_kernel_while_the_daemon_is_stopped() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    let sender = Sender::start(&wire, Wire::CLIENT_V4, 500.0);

    let asked = Instant::now();
    daemon
        .abuser(&["ban", "add", SOURCE, "--for", "5s"])
        .success();
    let answered = Instant::now();
    let frozen = Frozen::new(&daemon);
    let arrived = settled(&server, Wire::CLIENT_V4);
    sender.wait_for(100);
    assert_eq!(server.received_from(Wire::CLIENT_V4), arrived);
    eventually("datagrams arrive again", || {
        server.received_from(Wire::CLIENT_V4) > arrived
    });
    // The five seconds began between the question and the answer.
    assert!(
        asked.elapsed() >= Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        answered.elapsed() < Duration::from_millis(5750),
        "{:?}",
        answered.elapsed()
    );

    drop(frozen);
    assert_eq!(banned(&daemon), [""; 0]);
}

#[test]
fn a_prefix_ban_covers_the_hosts_in_it_and_no_others() {
    testkit::require_root!();
    let wire = wire();
    for (end, address) in [
        (&wire.server_end, "198.51.100.1/24"),
        (&wire.client_end, "198.51.100.7/24"),
        (&wire.client_end, "198.51.100.200/24"),
        (&wire.client_end, "192.0.2.64/24"),
        (&wire.client_end, "192.0.2.127/24"),
        (&wire.client_end, "192.0.2.63/24"),
        (&wire.client_end, "192.0.2.128/24"),
    ] {
        end.add_address(address).unwrap();
    }
    let elsewhere: SocketAddr = "198.51.100.1:7".parse().unwrap();
    know(&wire, elsewhere.ip());
    let (near, far) = (udp_v4(&wire), UdpCounter::start(&wire.server, elsewhere));
    let daemon = Daemon::start(&wire.server, &config(""));
    let arrive = |source: &str| {
        let source: IpAddr = source.parse().unwrap();
        if source.to_string().starts_with("192.0.2.") {
            deliver(&wire, &near, source, 20)
        } else {
            deliver_to(&wire, &far, source, elsewhere, 20)
        }
    };

    daemon
        .abuser(&["ban", "add", "198.51.100.0/24", "192.0.2.64/26"])
        .success();
    for source in [
        "198.51.100.7",
        "198.51.100.200",
        "192.0.2.64",
        "192.0.2.127",
    ] {
        assert_eq!(arrive(source), 0, "{source} is in a banned prefix");
    }
    for source in ["192.0.2.63", "192.0.2.128", SOURCE] {
        assert_eq!(arrive(source), 20, "{source} is in none");
    }

    // Each ban stands by itself.
    daemon.abuser(&["ban", "add", "198.51.100.7"]).success();
    daemon
        .abuser(&["ban", "remove", "198.51.100.0/24"])
        .success();
    assert_eq!(arrive("198.51.100.7"), 0);
    assert_eq!(arrive("198.51.100.200"), 20);
    assert_eq!(banned(&daemon), ["192.0.2.64/26", "198.51.100.7/32"]);
}

#[test]
fn a_ban_holds_for_protocols_without_ports() {
    const GRE: i32 = 47;
    testkit::require_root!();
    let wire = wire();
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(GRE))).unwrap();
    let receiver = wire.server.run(raw);
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let sender = wire.client.run(raw);
    sender
        .bind(&SocketAddr::new(Wire::CLIENT_V4, 0).into())
        .unwrap();
    let send = || {
        sender
            .send_to(&[0; 64], &SocketAddr::new(Wire::SERVER_V4, 0).into())
            .unwrap()
    };
    let arrives = || receiver.recv(&mut [std::mem::MaybeUninit::uninit(); 256]);

    let daemon = Daemon::start(&wire.server, &config(""));
    send();
    arrives().expect("nobody is banned yet");
    daemon.abuser(&["ban", "add", SOURCE]).success();
    send();
    assert!(arrives().is_err());
    assert_eq!(outcome(&daemon, "dropped_ban"), 1);
}

#[test]
fn banning_many_and_removing_all_leaves_nobody_banned() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    let others: Vec<String> = (0..200).map(|n| format!("203.0.113.{n}")).collect();
    let mut command = vec!["ban", "add", SOURCE, "--permanent"];
    command.extend(others.iter().map(String::as_str));
    daemon.abuser(&command).success();
    assert_eq!(banned(&daemon).len(), 201);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
    assert_eq!(deliver(&wire, &server, OTHER_V4, 20), 20);

    daemon.abuser(&["ban", "remove", "--all"]).success();
    assert_eq!(banned(&daemon), [""; 0]);
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 20);
}

#[test]
fn lifting_one_of_two_bans_of_a_length_leaves_the_other_in_force() {
    testkit::require_root!();
    let wire = wire();
    let server = udp_v4(&wire);
    let daemon = Daemon::start(&wire.server, &config(""));
    daemon
        .abuser(&["ban", "add", "192.0.2.10", "198.51.100.9"])
        .success();
    daemon.abuser(&["ban", "remove", "198.51.100.9"]).success();
    assert_eq!(deliver(&wire, &server, Wire::CLIENT_V4, 20), 0);
}
