//! fail2ban: its server writes a database, which is imported while it runs and after it.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use testkit::{CommandOutput, Daemon, Namespace, Service, require_root};

use super::{Folder, assert_bans, bans, expected, peer, run, text};
use crate::support::{daemon_on_lo, parse, wait_until};

/// The jail `recidive` bans for good.
const JAILS: &str = "\
[DEFAULT]
enabled = true
backend = polling
usedns = no
ignoreself = false
maxretry = 3
findtime = 600
filter = failure
action = nothing
logpath = FOLDER/log
[sshd]
bantime = 1h
[recidive]
logpath = FOLDER/other-log
bantime = -1
";

const SETTINGS: &str = "\
[Definition]
loglevel = INFO
logtarget = STDERR
syslogsocket = auto
allowipv6 = yes
socket = FOLDER/socket
pidfile = FOLDER/pid
dbfile = FOLDER/database
dbpurgeage = 1d
dbmaxmatches = 10
[Thread]
";

/// A server with a folder of its own.
struct Fail2ban {
    service: Service,
    namespace: Namespace,
    folder: Folder,
}

impl Fail2ban {
    fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new();
        folder.write("fail2ban.conf", SETTINGS);
        folder.write("jail.conf", JAILS);
        folder.write(
            "filter.d/failure.conf",
            "[Definition]\nfailregex = ^\\s*failure of <HOST>$\n",
        );
        folder.write("action.d/nothing.conf", "[Definition]\nactionban =\n");
        folder.write("log", "");
        folder.write("other-log", "");
        let root = folder.path("");
        let server = peer(
            namespace,
            "fail2ban-server",
            &["-c", text(&root), "-f", "start"],
        );
        let ping = ["-c", text(&root), "ping"];
        let service = Service::start(server, &folder.path("stderr"), || {
            run(namespace, "fail2ban-client", &ping).status.success()
        });
        Self {
            service: service.unwrap_or_else(|error| panic!("{error}")),
            namespace: namespace.clone(),
            folder,
        }
    }

    fn client(&self, arguments: &[&str]) {
        let root = self.folder.path("");
        let arguments = [&["-c", text(&root)], arguments].concat();
        run(&self.namespace, "fail2ban-client", &arguments).success();
    }

    fn database(&self) -> PathBuf {
        self.folder.path("database")
    }

    fn import(&self, daemon: &Daemon, options: &[&str]) -> CommandOutput {
        let database = self.database();
        let arguments = [&["ban", "import", text(&database), "--json"], options].concat();
        daemon.abuser(&arguments)
    }

    /// Waits until so many bans are in the database.
    fn wait_for_bans(&self, daemon: &Daemon, count: u64) {
        wait_until("fail2ban writes its bans", || {
            let said = self.import(daemon, &["--dry-run"]).success();
            parse(&said.stdout)["added"] == count
        });
    }
}

#[test]
fn a_database_is_imported_while_fail2ban_runs_and_after_it() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let mut fail2ban = Fail2ban::start(&namespace);
    let before = fs::read(fail2ban.database()).expect("a database");
    fail2ban.import(&daemon, &[]).success();
    assert!(bans(&daemon).is_empty());
    let after = fs::read(fail2ban.database()).expect("a database");
    assert!(before == after, "reading has changed the database");

    let made = Instant::now();
    let expected = expected(&[
        ("198.51.100.0/24", Some(3600), Some("fail2ban jail sshd")),
        ("2001:db8::1/128", Some(3600), Some("fail2ban jail sshd")),
        ("203.0.113.1/32", Some(3600), Some("fail2ban jail sshd")),
        ("203.0.113.2/32", None, Some("fail2ban jail recidive")),
        ("203.0.113.3/32", Some(3500), Some("fail2ban jail sshd")),
    ]);
    // One that it finds itself, some time after the fact, and one that it takes back.
    let mut log = fs::File::create(fail2ban.folder.path("log")).expect("the log");
    let then = SystemTime::now() - Duration::from_secs(100);
    let then = humantime::format_rfc3339_seconds(then);
    for _ in 0..3 {
        writeln!(log, "{then} failure of 203.0.113.3").expect("writing to the log");
    }
    let sources = [
        "203.0.113.1",
        "2001:db8::1",
        "198.51.100.0/24",
        "203.0.113.9",
    ];
    fail2ban.client(&[&["set", "sshd", "banip"], &sources[..]].concat());
    fail2ban.client(&["set", "recidive", "banip", "203.0.113.2"]);
    fail2ban.wait_for_bans(&daemon, 6);
    fail2ban.client(&["set", "sshd", "unbanip", "203.0.113.9"]);
    fail2ban.wait_for_bans(&daemon, 5);

    let said = fail2ban.import(&daemon, &["--strict"]).success();
    assert_eq!(parse(&said.stdout)["format"], "fail2ban");
    assert_bans(&bans(&daemon), &expected, made);

    assert!(fail2ban.service.terminate().success());
    daemon.abuser(&["ban", "remove", "--all"]).success();
    fail2ban.import(&daemon, &["--strict"]).success();
    assert_bans(&bans(&daemon), &expected, made);
}
