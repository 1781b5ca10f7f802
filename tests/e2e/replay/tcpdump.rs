//! A capture that tcpdump itself made, of a real client and a real server.

use std::{
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{Namespace, peers, require_root, veth};

use super::{CONFIG, Site};

#[test]
fn what_tcpdump_captures_is_replayed() {
    require_root!();
    let [host, client] = [(); 2].map(|()| Namespace::new().expect("a namespace"));
    let (eth0, peer) = veth(&host, "eth0", &client, "eth0").expect("a cable");
    eth0.add_address("192.0.2.10/24").expect("an address");
    peer.add_address("192.0.2.77/24").expect("an address");
    for (interface, link) in [("eth0", "EN10MB"), ("any", "LINUX_SLL2")] {
        let site = Site::new(CONFIG);
        let file = site.path("capture");
        let mut tcpdump =
            peers::command(&host, "tcpdump").unwrap_or_else(|error| panic!("{error}"));
        let mut tcpdump = tcpdump
            .args(["-U", "-n", "-Z", "root", "-i", interface, "-y", link, "-w"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        let mut said = BufReader::new(tcpdump.stderr.take().expect("a pipe"));
        let mut line = String::new();
        // It says so once it listens.
        while !line.contains("listening on") {
            line.clear();
            let read = said.read_line(&mut line).expect("what tcpdump says");
            assert_ne!(read, 0, "tcpdump ended");
        }
        let listener = host.run(|| TcpListener::bind(("192.0.2.10", 443)).expect("a port"));
        // One that is real, then eight at once in each of four seconds.
        let mut open =
            vec![client.run(|| TcpStream::connect(("192.0.2.10", 443)).expect("a server"))];
        std::io::Write::write_all(&mut open[0], b"hello").expect("a connection");
        for _ in 0..4 {
            for _ in 0..8 {
                open.push(
                    client.run(|| TcpStream::connect(("192.0.2.10", 443)).expect("a server")),
                );
            }
            thread::sleep(Duration::from_millis(1_050));
        }
        drop(open);
        drop(listener);
        thread::sleep(Duration::from_millis(300));
        let pid = Pid::from_raw(tcpdump.id().try_into().expect("a number"));
        kill(pid, Signal::SIGINT).expect("our own child");
        tcpdump.wait().expect("our own child");
        let report = site.replay(&["capture"]);
        let ban = &report["bans"][0];
        assert_eq!(ban["source"], "192.0.2.77/32", "{interface}: {report}");
        assert_eq!(ban["seconds"], 600);
        assert_eq!(
            report["limits"][0]["passed"]
                .as_u64()
                .map(|passed| passed >= 5),
            Some(true)
        );
        assert!(
            report["outcomes"]["dropped_ban"]["packets"].as_u64() > Some(0),
            "{report}"
        );
        let replayed = report["captures"][0]["replayed"].as_u64();
        assert!(
            replayed < report["captures"][0]["frames"].as_u64(),
            "{report}"
        );
    }
}
