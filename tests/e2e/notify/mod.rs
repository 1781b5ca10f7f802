//! Notifications: what happens reaches others, in order and once, and holds up nobody.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `server` | somebody who is told |
//! | `webhook` | what a request is, and to whom it goes |
//! | `retries` | receivers that are down, busy, slow or unwilling |
//! | `tls` | a receiver behind the real nginx |
//! | `commands` | programs that are run |
//! | `lifecycle` | reload and stop |

mod commands;
mod lifecycle;
mod retries;
mod server;
mod tls;
mod webhook;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Daemon, Namespace, pause_since, traffic::send_udp};

use self::server::Server;
use crate::support::PATIENCE;

/// Who goes over limits.
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// What requests are signed with.
const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// A namespace with somebody who is told, and a folder for files.
struct Site {
    // The server goes before its network.
    server: Server,
    namespace: Namespace,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        Self {
            server: Server::start(&namespace),
            namespace,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// A daemon on `lo`. In its tables `URL` is the server's, and `FOLDER` the folder.
    fn daemon(&self, tables: &str) -> Daemon {
        let tables = self.placed(tables);
        Daemon::start(&self.namespace, &format!("interfaces = [\"lo\"]\n{tables}"))
    }

    fn placed(&self, tables: &str) -> String {
        tables
            .replace("URL", &self.server.url())
            .replace("FOLDER", &self.folder.path().display().to_string())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner can read, and run.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("writing a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("its mode");
        path
    }

    /// Sends datagrams to a port, from [`ABUSER`].
    fn send(&self, port: u16) {
        let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let sent = send_udp(&self.namespace, ABUSER, target, 1000.0, 3);
        sent.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Writes other tables into a daemon's configuration.
    fn configure(&self, daemon: &Daemon, from: &str, to: &str) {
        let path = daemon.config_path();
        let (from, to) = (self.placed(from), self.placed(to));
        let text = fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(&from), "no {from:?} in {text}");
        fs::write(path, text.replace(&from, &to)).expect("writing it");
    }
}

/// Bans somebody by hand.
#[track_caller]
fn ban(daemon: &Daemon, source: &str) {
    let banned = daemon.abuser(&["ban", "add", source, "--for", "1h"]);
    banned.success();
}

/// How it stands with somebody who is told.
#[track_caller]
fn status(daemon: &Daemon, name: &str) -> Value {
    let status = daemon.json(&["status"]);
    let notify = status["notify"].as_array().expect("a list").iter();
    let mut named = notify.filter(|notifier| notifier["name"] == name);
    named.next().expect("it is configured").clone()
}

/// Waits until that is so of somebody who is told.
#[track_caller]
fn wait_for(daemon: &Daemon, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let look = Instant::now();
        let status = status(daemon, name);
        if is_so(&status) {
            return status;
        }
        assert!(
            Instant::now() < deadline,
            "not {what}: {status}\n{}",
            daemon.stderr()
        );
        pause_since(look);
    }
}

/// The sources of events.
fn sources(events: &[Value]) -> Vec<&str> {
    let sources = events.iter().map(|event| event["source"].as_str());
    sources.map(|source| source.expect("a source")).collect()
}

/// So many different addresses.
fn addresses(count: usize) -> Vec<String> {
    let number = |number: usize| u32::try_from(number).expect("few");
    (0..count)
        .map(|index| Ipv4Addr::new(198, 18, 0, 0) | Ipv4Addr::from_bits(number(index)))
        .map(|address| address.to_string())
        .collect()
}

/// A list of them as a file.
fn list(site: &Site, addresses: &[String]) -> PathBuf {
    site.write("list.txt", &(addresses.join("\n") + "\n"))
}

/// As text.
fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
