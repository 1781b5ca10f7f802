//! A limit on connections counts attempts to open one, not what flows in them.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use testkit::{
    Daemon, Namespace, Wire,
    traffic::{Pace, TcpEcho},
};

use crate::support::{
    OTHER_V4, Talk, assert_limited, config, eventually, number, server_for, wire,
};

fn echo(wire: &Wire) -> TcpEcho {
    TcpEcho::start(&wire.server, server_for(Wire::CLIENT_V4))
}

#[test]
fn established_connections_go_on_when_new_ones_are_over_the_limit() {
    testkit::require_root!();
    let wire = wire();
    let server = echo(&wire);
    let few = "[[limit]]\nname = \"few\"\ncount = \"connections\"\nrate = \"1/h\"\nburst = 1\n";
    let daemon = Daemon::start(&wire.server, &config(few));
    let mut talks = [(); 2].map(|()| Talk::open(&wire, Wire::CLIENT_V4));

    let refused = Talk::try_open(&wire, Wire::CLIENT_V4, Duration::from_millis(300));
    let error = refused.err().expect("the third is over the limit");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    for _ in 0..500 {
        talks.iter_mut().for_each(Talk::works);
    }
    // Closing costs nothing either, and others have a limit of their own.
    drop(talks);
    Talk::open(&wire, OTHER_V4).works();

    assert_eq!(server.accepted(), 3);
    let limits = daemon.json(&["limits"]);
    assert_eq!(number(&limits, "/0/passed"), 3);
    assert_eq!(number(&limits, "/0/dropped"), 1);
}

#[test]
fn a_flood_of_connections_is_cut_to_the_rate() {
    testkit::require_root!();
    let wire = wire();
    let server = echo(&wire);
    let limit = r#"
[[limit]]
name = "hundred"
protocol = "tcp"
ports = [7]
count = "connections"
rate = "100/s"
burst = 50

[ban]
maxretry = 1000
"#;
    let daemon = Daemon::start(&wire.server, &config(limit));
    let (attempts, elapsed) = knock(&wire.client, Wire::CLIENT_V4, 500.0, Duration::from_secs(4));
    eventually("all that got through are accepted", || {
        server.accepted() == number(&daemon.json(&["limits"]), "/0/passed")
    });
    assert!(attempts > 3 * server.accepted(), "{attempts} attempts");
    assert_limited(server.accepted(), 100.0, 50.0, elapsed);
}

/// Opens connections at a pace and drops them soon after: before an unanswered SYN would be
/// sent again. Says how many, and in which time.
fn knock(
    client: &Namespace,
    source: IpAddr,
    per_second: f64,
    duration: Duration,
) -> (u64, Duration) {
    /// Well below the second that a SYN's repetition takes.
    const OPEN: usize = 50;
    client.run(|| {
        let mut pace = Pace::per_second(per_second);
        let mut open = VecDeque::new();
        let started = Instant::now();
        let mut attempts = 0;
        while started.elapsed() < duration {
            pace.wait();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
            let pending = socket.connect(&server_for(source).into());
            assert!(
                pending.as_ref().is_err_and(
                    |error| error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
                ),
                "{pending:?}"
            );
            attempts += 1;
            open.push_back(socket);
            if open.len() > OPEN {
                open.pop_front();
            }
        }
        (attempts, started.elapsed())
    })
}
