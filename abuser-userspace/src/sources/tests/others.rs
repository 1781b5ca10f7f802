use std::{net::UdpSocket, os::unix::fs::PermissionsExt as _, os::unix::net::UnixDatagram};

use super::*;

fn syslog(listen: Listen) -> SourceConfig {
    SourceConfig {
        name: "syslog".to_owned(),
        kind: Kind::Syslog(SyslogConfig {
            listen,
            group: None,
        }),
        begin: Begin::End,
    }
}

/// A port that is free now.
fn free() -> std::net::SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn messages_come_over_a_unix_socket_that_only_root_and_a_group_may_write_to() {
    let logs = Logs::new();
    let path = logs.path("run/log.sock");
    let reading = logs.start(vec![syslog(Listen::Unix(path.clone()))]);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let socket = UnixDatagram::unbound().unwrap();
    socket
        .send_to(b"<34>Oct 11 22:14:15 web su[7]: one", &path)
        .unwrap();
    reading.expect(&["web su[7]: one"]);
    let long = format!("<34>Oct 11 22:14:15 web su[7]: {}", "x".repeat(100_000));
    socket.send_to(long.as_bytes(), &path).unwrap();
    assert_eq!(reading.next().len(), MAX_LINE);
    assert_eq!(reading.status().cut, 1);
    // Somebody cleans up.
    fs::remove_file(&path).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while socket
        .send_to(b"<34>Oct 11 22:14:15 web su[7]: two", &path)
        .is_err()
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    reading.expect(&["web su[7]: two"]);
    reading.stop();
    assert!(!path.exists());
}

#[test]
fn a_socket_that_a_dead_program_left_is_replaced_and_nothing_else_is() {
    let logs = Logs::new();
    let path = logs.path("log.sock");
    drop(UnixDatagram::bind(&path).unwrap());
    logs.start(vec![syslog(Listen::Unix(path.clone()))]).stop();
    let listening = UnixDatagram::bind(&path).unwrap();
    let reading = logs.start(vec![syslog(Listen::Unix(path.clone()))]);
    let error = reading.status().error.unwrap();
    assert!(error.contains("another program listens"), "{error}");
    reading.stop();
    drop(listening);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let reading = logs.start(vec![syslog(Listen::Unix(path.clone()))]);
    let error = reading.status().error.unwrap();
    assert!(error.contains("is not a socket"), "{error}");
    reading.stop();
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn datagrams_that_the_kernel_drops_are_counted() {
    let logs = Logs::new();
    let address = free();
    let reading = logs.start(vec![syslog(Listen::Udp(address))]);
    let (go_on, wait) = mpsc::channel::<()>();
    reading.handle.with(move |_| {
        let _gone = wait.recv_timeout(PATIENCE);
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let message = format!("<34>Oct 11 22:14:15 web su: {}", "x".repeat(1000));
    let sent = 20_000;
    for _ in 0..sent {
        socket.send_to(message.as_bytes(), address).unwrap();
    }
    drop(go_on);
    // How many are lost is told with the next one that is not.
    reading.wait_for(|status| status.lines > 100);
    std::thread::sleep(Duration::from_millis(200));
    let late = b"<34>Oct 11 22:14:15 web su: last";
    for _ in 0..2 {
        socket.send_to(late, address).unwrap();
    }
    // Each of the last two tells of all that are lost.
    let lost = reading.wait_for(|status| status.lost > 0).lost;
    let status = reading.wait_for(|status| status.lines + lost == sent + 2);
    assert_eq!(status.lost, lost);
}

#[test]
fn standard_input_is_read_until_it_ends_and_waits_for_a_slow_sink() {
    let (read, mut write) = std::io::pipe().unwrap();
    let (sender, lines) = mpsc::channel();
    let mut sink = Channel(sender);
    let gauge = status::Gauge::new("stdin");
    let mut stream = stream::Stdin::of(read.into());
    let mut turn = |ready: bool| {
        reader::Turn::with(&mut sink, &gauge, |turn| {
            reader::Driver::turn(&mut stream, ready, turn);
        });
    };
    write.write_all(b"one\ntwo\nthr").unwrap();
    turn(false);
    assert_eq!(lines.try_iter().count(), 0);
    turn(true);
    write.write_all(b"ee\nno end").unwrap();
    drop(write);
    turn(true);
    assert!(!gauge.status().ended);
    turn(true);
    assert!(gauge.status().ended);
    let lines: Vec<_> = lines.try_iter().map(|(_, text, _)| text).collect();
    assert_eq!(lines, ["one", "two", "three", "no end"]);
}

#[test]
fn nothing_to_read_costs_next_to_nothing() {
    let logs = Logs::new();
    for number in 0..50 {
        logs.append(&format!("{number}.log"), "line\n");
    }
    let reading = logs.read("*.log", Begin::End);
    let (tell, told) = mpsc::channel();
    let spent = move || {
        let tell = tell.clone();
        reading.handle.with(move |_| {
            let time =
                nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            tell.send(Duration::from(time)).unwrap();
        });
        told.recv_timeout(PATIENCE).unwrap()
    };
    let before = spent();
    std::thread::sleep(Duration::from_secs(5));
    let share = spent().saturating_sub(before).as_secs_f64() / 5.0;
    println!(
        "50 files that do not change take {:.3}% of a CPU",
        share * 100.0
    );
    assert!(share < 0.02, "{share}");
}
