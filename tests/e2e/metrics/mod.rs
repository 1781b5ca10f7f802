//! Metrics, as the real Prometheus scrapes and queries them.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `prometheus` | the server and `promtool` |
//! | `page` | a page, read by hand |
//! | `scrape` | where and how metrics are told |
//! | `values` | what they say, beside what `abuser status` says |
//! | `documents` | the dashboard, the alert rules and the table in docs/METRICS.md |

mod documents;
mod page;
mod prometheus;
mod scrape;
mod values;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tempfile::TempDir;
use testkit::{Daemon, Namespace, traffic::send_udp};

use self::page::Page;
use crate::{
    http::{Answer, connect_tcp, exchange, message},
    support::wait_until,
};

/// Where the daemon tells metrics.
const METRICS: &str = "127.0.0.1:9842";

/// Whose packets are dropped over the limit, and then because of a ban.
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Who is found in a log.
const DENIED: &str = "198.51.100.23";
/// Whom a block list names.
const LISTED: &str = "203.0.113.99";

/// All that there can be metrics of.
const TABLES: &str = r#"
interfaces = ["lo"]
[metrics]
listen = "127.0.0.1:9842"
[ban]
maxretry = 1
require_verified = false
[[limit]]
name = "discard"
protocol = "udp"
ports = [9]
rate = "1/h"
burst = 1
[[limit]]
name = "watch"
protocol = "udp"
ports = [10]
rate = "1/h"
burst = 0
action = "observe"
[[blocklist]]
name = "spam"
path = "FOLDER/spam.txt"
[[source]]
name = "app"
files = ["FOLDER/app.log"]
parser = "regex"
pattern = '^denied (?<ip>[0-9a-f.:]+)$'
[[detector]]
name = "denied"
count = 3
within = "10m"
action = "ban"
[crowdsec]
url = "http://127.0.0.1:8"
api_key_file = "FOLDER/key"
push = true
machine_id = "test"
password_file = "FOLDER/key"
[fleet]
nats = ["nats://127.0.0.1:8"]
node = "test"
[[notify]]
name = "nobody"
url = "http://127.0.0.1:8/"
"#;

/// Writes a secret, which nobody asks for here.
fn secret(path: &Path) {
    fs::write(path, "0123456789abcdef\n").expect("a secret");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("to hide it");
}

/// A daemon that has much to tell, in a namespace of its own.
struct Site {
    daemon: Daemon,
    namespace: Namespace,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("spam.txt"), format!("{LISTED}\n")).expect("a block list");
        secret(&folder.path().join("key"));
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        let tables = TABLES.replace("FOLDER", &folder.path().display().to_string());
        Self {
            daemon: Daemon::start(&namespace, &tables),
            namespace,
            folder,
        }
    }

    /// Makes something happen of each kind, and waits until it has.
    #[track_caller]
    fn live(&self) {
        let send = |port, count| {
            let target = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            send_udp(&self.namespace, ABUSER, target, 1000.0, count)
                .unwrap_or_else(|error| panic!("{error}"));
        };
        send(10, 5);
        // Two conform, the third is over the limit and bans.
        send(9, 3);
        self.wait_for_bans(2);
        send(9, 4);
        self.log(&format!("denied {DENIED}\nhello\n").repeat(3));
        self.wait_for_bans(3);
        let by_hand = ["ban", "add", "203.0.113.7", "2001:db8::/48"];
        self.daemon.abuser(&by_hand).success();
        self.daemon
            .abuser(&["allow", "add", "203.0.113.8"])
            .success();
    }

    #[track_caller]
    fn wait_for_bans(&self, count: u64) {
        wait_until("the bans", || {
            self.daemon.json(&["status"])["bans"] == count
        });
    }

    /// Appends to the log.
    fn log(&self, lines: &str) {
        let path = self.folder.path().join("app.log");
        let log = OpenOptions::new().append(true).create(true).open(path);
        let written = log.and_then(|mut log| log.write_all(lines.as_bytes()));
        written.expect("writing to the log");
    }

    /// What the daemon answers where it tells metrics.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = message(method, path, headers, b"");
        self.namespace
            .run(|| exchange(connect_tcp(METRICS), &request))
    }

    /// The page as it is now.
    #[track_caller]
    fn page(&self) -> Page {
        let answer = self.ask("GET", "/metrics", "");
        assert_eq!(answer.status, 200, "{}{}", answer.head, answer.body);
        Page::parse(&answer.body)
    }
}
