//! From what applications log to a ban at the card, with the real programs that write the logs.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `systems` | the five systems that people use today, each with its configuration as it is |
//! | `presets` | three lines of configuration, and what they stop |
//! | `actions` | what follows from what a detector finds |
//! | `spared` | whom nothing happens to |
//! | `filters` | filters of fail2ban that are there, missing or broken |
//! | `reload`, `restart` | what outlives another configuration, and the daemon's end |
//! | `feeds` | syslog and the journal |
//! | `overrun` | logs that are written faster than they are read |
//! | `hostile` | lines that an attacker would write |

mod actions;
mod feeds;
mod filters;
mod hostile;
mod overrun;
mod presets;
mod reload;
mod restart;
mod spared;
mod systems;

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{CommandOutput, Daemon, Namespace, Nginx, Wire, nginx, pause_since};

use crate::support::{PATIENCE, wait_until};

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
        let look = Instant::now();
        ban = daemon.json(&["ban", "list"])[0].clone();
        assert!(
            Instant::now() < patience,
            "nobody was banned: {}",
            daemon.json(&["detectors"])
        );
        pause_since(look);
    }
    assert_eq!(ban["source"], banned.as_str(), "{}", daemon.stderr());
    assert!(!site.answers(source), "{source} is banned and answered");
    ban
}

/// A log and a daemon that reads it, without traffic.
struct Logged {
    daemon: Daemon,
    namespace: Namespace,
    folder: TempDir,
}

/// A source of lines such as `denied 192.0.2.7`, at most one word behind it. `LOG` is the log.
const DENIED: &str = "[[source]]\nname = \"app\"\nfiles = [\"LOG\"]\nparser = \"regex\"\n\
     pattern = '^denied (?<ip>[0-9a-f.:]+)(?: \\S+)?$'\n";

/// Who is denied five times is banned.
const FIVE: &str =
    "[[detector]]\nname = \"denied\"\ncount = 5\nwithin = \"10m\"\naction = \"ban\"\n";

impl Logged {
    /// A daemon with these tables. `LOG` in them is the log, and `FOLDER` its folder.
    fn new(tables: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        let tables = Self::placed(&folder, tables);
        let config = format!("interfaces = [\"lo\"]\n{tables}");
        Self {
            daemon: Daemon::start(&namespace, &config),
            namespace,
            folder,
        }
    }

    fn placed(folder: &TempDir, tables: &str) -> String {
        let folder = folder.path().display().to_string();
        tables
            .replace("\"LOG\"", &format!("\"{folder}/app.log\""))
            .replace("FOLDER", &folder)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("app.log")
    }

    /// Writes lines, and waits until the daemon has read them.
    #[track_caller]
    fn write(&self, lines: &str) {
        let before = self.source()["lines"].as_u64().expect("a number");
        append(&self.log(), lines);
        let written = lines.matches('\n').count() as u64;
        wait_until("the lines are read", || {
            let read = self.source()["lines"].as_u64().expect("a number");
            assert!(read <= before + written, "read twice: {}", self.source());
            read == before + written
        });
    }

    /// Writes that this address was denied, so often.
    #[track_caller]
    fn deny(&self, address: &str, count: usize) {
        self.write(&format!("denied {address}\n").repeat(count));
    }

    /// How it stands with the first source.
    fn source(&self) -> Value {
        self.daemon.json(&["detectors"])["sources"][0].clone()
    }

    /// How it stands with the first detector.
    fn detector(&self) -> Value {
        self.daemon.json(&["detectors"])["detectors"][0].clone()
    }

    /// Who is banned.
    fn banned(&self) -> Vec<String> {
        let bans = self.daemon.json(&["ban", "list"]);
        let sources = bans.as_array().expect("a list").iter();
        let text = |ban: &Value| ban["source"].as_str().expect("a text").to_owned();
        sources.map(text).collect()
    }

    /// Asserts who is banned, after a moment if need be.
    #[track_caller]
    fn assert_banned(&self, expected: &[&str]) {
        wait_until("the bans", || self.banned().len() >= expected.len());
        assert_eq!(self.banned(), expected);
    }

    /// Writes other tables into the configuration.
    fn configure(&self, from: &str, to: &str) {
        let path = self.daemon.config_path();
        let text = fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(from), "no {from:?} in {text}");
        let to = Self::placed(&self.folder, to);
        fs::write(path, text.replace(from, &to)).expect("writing it");
    }

    fn reload(&self) -> CommandOutput {
        self.daemon.abuser(&["reload"])
    }
}

/// The address of a client, of so many as there may be.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 0) | Ipv4Addr::from_bits(u32::try_from(number).expect("few"))
}

/// Says of each of so many clients that it was denied.
fn deny_each(clients: usize) -> String {
    (0..clients).fold(String::new(), |lines, client| {
        lines + "denied " + &address(client).to_string() + "\n"
    })
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
