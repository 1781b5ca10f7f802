//! From what applications log to a ban at the card, with the real programs that write the logs.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `systems` | the five systems that people use today, each with its configuration as it is |
//! | `presets` | three lines of configuration, and what they stop |

mod presets;
mod systems;

use std::{
    fs::OpenOptions,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{Daemon, Nginx, Wire, nginx};

use crate::support::PATIENCE;

/// How long a client waits that is cut off.
const CUT_OFF: Duration = Duration::from_millis(300);

/// A network with a web server and clients, and where the daemon is to run.
struct Site {
    // The server goes before its network.
    nginx: Nginx,
    wire: Wire,
}

impl Site {
    /// A web server that is configured so; see [`Nginx::start`].
    fn new(http: &str) -> Self {
        let wire = Wire::new();
        let nginx = Nginx::start(&wire.server, http);
        Self { nginx, wire }
    }

    /// A daemon on the server's end of the cable.
    fn daemon(&self, config: &str) -> Daemon {
        let log = self.nginx.access_log();
        let config = config.replace("ACCESS_LOG", &log.display().to_string());
        Daemon::start(
            &self.wire.server,
            &format!("interfaces = [\"veth-server\"]\n{config}"),
        )
    }

    /// A client with an address of its own: `10.0.0.N`.
    fn client(&self, number: u8) -> IpAddr {
        let address = IpAddr::from([192, 0, 2, number]);
        self.wire
            .client_end
            .add_address(&format!("{address}/24"))
            .unwrap_or_else(|error| panic!("{error}"));
        address
    }

    /// Requests something; the status of the answer, if there is one.
    fn get(&self, source: IpAddr, path: &str) -> Option<u16> {
        self.request(source, "GET", path, "User-Agent: test\r\n")
    }

    fn request(&self, source: IpAddr, method: &str, path: &str, headers: &str) -> Option<u16> {
        let server = SocketAddr::new(Wire::SERVER_V4, 80);
        let ask = || {
            nginx::request(
                source,
                server,
                method,
                path,
                headers,
                Duration::from_secs(5),
            )
        };
        self.wire.client.run(ask)
    }

    /// Whether a client is answered at all.
    fn answers(&self, source: IpAddr) -> bool {
        let server = SocketAddr::new(Wire::SERVER_V4, 80);
        let ask = || nginx::request(source, server, "GET", "/", "", CUT_OFF);
        self.wire.client.run(ask).is_some()
    }
}

/// Waits until somebody is banned, and asserts that it is this client and that it is cut off.
#[track_caller]
fn assert_banned(site: &Site, daemon: &Daemon, source: IpAddr) -> Value {
    let banned = format!("{source}/32");
    let mut ban = Value::Null;
    let patience = Instant::now() + PATIENCE;
    while ban.is_null() {
        ban = daemon.json(&["ban", "list"])[0].clone();
        assert!(
            Instant::now() < patience,
            "nobody was banned: {}",
            daemon.json(&["detectors"])
        );
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ban["source"], banned.as_str(), "{}", daemon.stderr());
    assert!(!site.answers(source), "{source} is banned and answered");
    ban
}

/// Appends lines to a log, as a program that has it open does.
fn append(log: &Path, lines: &str) {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
}
