//! The Debian package on a real Debian with a real systemd: [`testkit::machine`].
//!
//! | module | what it holds |
//! | --- | --- |
//! | `site` | the machine, and the package on it |
//! | `readme` | the README's first session, as it is written there |
//! | `beside` | what the service needs to share an interface |

mod beside;
mod readme;
mod site;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use testkit::{Namespace, require_root, traffic::send_udp};

use self::site::{BANNED, FRIEND, HOST, PORT, Site, bring_package};
use crate::support::parse;

/// Those of the unit: `CAP_BPF`, `CAP_PERFMON`, `CAP_NET_ADMIN`, `CAP_DAC_READ_SEARCH`.
const CAPABILITIES: u64 = 1 << 39 | 1 << 38 | 1 << 12 | 1 << 2;

/// Datagrams of the banned client, all the time.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
}

impl Flood {
    fn start(client: &Namespace) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count, client) = (Arc::clone(&stop), Arc::clone(&sent), client.clone());
        let sender = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                send_udp(&client, BANNED, SocketAddr::new(HOST, PORT), 1000.0, 100)
                    .expect("sending");
                count.fetch_add(100, Ordering::Relaxed);
            }
        });
        Self { stop, sent, sender }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender");
        self.sent.load(Ordering::Relaxed)
    }
}

#[test]
fn the_package_protects_is_upgraded_without_a_gap_and_leaves_nothing_behind() {
    require_root!();
    let site = Site::new();
    bring_package(&site);
    let installed = site.run("apt-get install --yes /root/abuser.deb");
    assert!(
        installed.stdout.contains("abuser protects nothing yet"),
        "{installed}"
    );
    refuses_to_start_without_interfaces(&site);

    site.run(r#"sed -i 's/^# interfaces = .*/interfaces = ["eth0"]/' /etc/abuser/abuser.toml"#);
    site.run("systemctl enable --now abuser");
    assert!(site.is_filtered());
    assert_eq!(
        site.property("StatusText"),
        "protecting eth0 (driver), 0 bans"
    );
    is_confined(&site);

    site.run(&format!("abuser ban add {BANNED} --permanent"));
    goes_on_filtering(&site);
    reads_logs_and_journal(&site);
    tells_the_journal(&site);
    is_started_again_when_stuck(&site);
    runs_and_pins_elsewhere(&site);
    leaves_nothing(&site);
}

fn refuses_to_start_without_interfaces(site: &Site) {
    assert_eq!(site.property("ActiveState"), "inactive");
    assert_eq!(site.property("UnitFileState"), "disabled");
    assert!(!site.is_filtered(), "an installation has cut somebody off");
    site.machine.run("systemctl start abuser").exits(1);
    site.wait("the end of it", || site.property("ActiveState") == "failed");
    assert_eq!(site.property("ExecMainStatus"), "2");
    assert_eq!(site.property("NRestarts"), "0");
    let said = site.run("journalctl --unit abuser --priority err --output cat");
    assert!(
        said.stdout.contains(
            "which interface? /etc/abuser/abuser.toml names none; add `interfaces = [\"eth0\"]`"
        ),
        "{said}"
    );
    assert!(!site.is_filtered());
}

/// It has the rights that the unit gives it, and systemd finds nothing wrong with the unit.
fn is_confined(site: &Site) {
    let verified = site.run("systemd-analyze verify --man=no abuser.service");
    assert_eq!(verified.stderr, "", "{verified}");
    site.run("systemd-analyze security --offline=true --threshold=30 abuser.service");
    assert_eq!(site.capabilities(), (CAPABILITIES, CAPABILITIES));
    let socket = site.run("stat --format '%G %a' /run/abuser/abuser.sock");
    assert_eq!(socket.stdout, "abuser 660\n");
}

/// The banned client never gets through: neither during a restart, nor a crash, nor an upgrade.
fn goes_on_filtering(site: &Site) {
    let target = SocketAddr::new(HOST, PORT);
    send_udp(&site.client, FRIEND, target, 1000.0, 10).expect("sending");
    site.wait("a friend's datagrams", || {
        site.counter.received_from(FRIEND) == 10
    });
    let flood = Flood::start(&site.client);
    site.wait("the flood", || flood.sent() > 200);
    let event = site.run("timeout 30 abuser events -n 1 --kind drop --json");
    assert_eq!(parse(&event.stdout)["source"], BANNED.to_string());

    let first = site.property("MainPID");
    site.run("systemctl restart abuser");
    site.wait_for_another(&first);
    let second = site.property("MainPID");
    site.run("systemctl kill --signal KILL abuser");
    site.wait_for_another(&second);
    assert_eq!(site.property("NRestarts"), "1");
    let third = site.property("MainPID");
    site.run("apt-get install --yes /root/next.deb");
    assert_ne!(site.property("MainPID"), third, "the old one runs on");
    assert_eq!(site.property("ActiveState"), "active");
    let version = site.run("dpkg-query --show --showformat '${Version}' abuser");
    assert!(version.stdout.ends_with("+next"), "{version}");

    let seen = flood.sent();
    site.wait("more of the flood", || flood.sent() > seen + 200);
    assert!(flood.stop() > 1000, "the flood was none");
    assert_eq!(site.counter.received_from(BANNED), 0, "there was a gap");
    let bans = parse(&site.run("abuser ban list --json").stdout);
    assert_eq!(bans[0]["source"], format!("{BANNED}/32"));
}

/// Logs that only their owner may read, and the journal, which a program of its own reads.
fn reads_logs_and_journal(site: &Site) {
    let log = "/var/log/app/access.log";
    site.write(log, "");
    let path = site.machine.path(log);
    let owner = (Some(Uid::from_raw(33)), Some(Gid::from_raw(33)));
    chown(&path, owner.0, owner.1).expect("a file of somebody's");
    site.run(&format!("chmod 600 {log}"));
    site.write(
        "/etc/abuser/conf.d/logs.toml",
        "[[source]]\nname = \"file\"\nfiles = [\"/var/log/app/access.log\"]\npreset = \"nginx\"\n\
         [[source]]\nname = \"journal\"\njournal = [\"SYSLOG_IDENTIFIER=app\"]\nparser = \"json\"\n",
    );
    site.run("systemctl reload abuser");
    site.wait("both sources", || site.lines().len() == 2);
    let line =
        "203.0.113.9 - - [26/Nov/2026:08:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n";
    site.write(log, line);
    site.run(r#"logger --tag app '{"source": "203.0.113.9"}'"#);
    site.wait("a line of each", || {
        site.lines().iter().all(|(_, lines)| *lines == 1)
    });

    site.write("/etc/abuser/conf.d/typo.toml", "nonsense = 1\n");
    site.machine.run("systemctl reload abuser").exits(1);
    let said = site.run("journalctl --unit abuser --output cat -n 20");
    assert!(said.stdout.contains("typo.toml:1:1: unknown key"), "{said}");
    site.run("rm /etc/abuser/conf.d/typo.toml; systemctl reload abuser");
    assert_eq!(site.property("ActiveState"), "active");
}

/// What it says has fields that one can look for.
fn tells_the_journal(site: &Site) {
    let found = site
        .run("journalctl --unit abuser --output json -n 1 ABUSER_SOCKET=/run/abuser/abuser.sock");
    let entry: Value = parse(found.stdout.trim_end());
    assert_eq!(entry["PRIORITY"], "6", "{entry}");
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "abuser");
    assert_eq!(entry["ABUSER_TARGET"], "abuser::daemon");
    assert_eq!(entry["ABUSER_CONFIG"], "/etc/abuser/abuser.toml");
    let message = entry["MESSAGE"].as_str().expect("a text");
    assert!(
        message.starts_with("protecting eth0 (driver), with the bans of an earlier run config="),
        "{message}"
    );
}

/// The watchdog ends it; the program stays on its card.
fn is_started_again_when_stuck(site: &Site) {
    site.write(
        "/etc/systemd/system/abuser.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=2s\n",
    );
    site.run("systemctl daemon-reload; systemctl restart abuser");
    let stuck = site.property("MainPID");
    site.run(&format!("kill -STOP {stuck}"));
    site.wait_for_another(&stuck);
    let said = site.run("journalctl --unit abuser --output cat -n 50");
    assert!(said.stdout.contains("Watchdog timeout"), "{said}");
    assert!(site.is_filtered());
    site.run("rm -r /etc/systemd/system/abuser.service.d; systemctl daemon-reload");
}

/// With another configuration, which has it listen and pin elsewhere; the daemon is stopped, and has left
/// the program on.
fn runs_and_pins_elsewhere(site: &Site) {
    site.run("abuser detach");
    site.wait("the end of it", || {
        site.property("ActiveState") == "inactive"
    });
    assert!(!site.is_filtered());
    site.run("cp -r /etc/abuser /srv/abuser");
    site.write(
        "/srv/abuser/conf.d/where.toml",
        "[xdp]\npin_dir = \"/sys/fs/bpf/elsewhere\"\n[api]\nsocket = \"/run/abuser/other.sock\"\n",
    );
    site.write(
        "/etc/systemd/system/abuser.service.d/elsewhere.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/abuser run -c /srv/abuser/abuser.toml\n",
    );
    site.run("systemctl daemon-reload; systemctl start abuser");
    assert!(site.is_filtered());
    site.run("test -e /sys/fs/bpf/elsewhere && test ! -e /sys/fs/bpf/abuser");
    site.run("systemctl stop abuser");
    assert!(site.is_filtered(), "it did not persist");
}

fn leaves_nothing(site: &Site) {
    site.run("apt-get remove --yes abuser");
    assert!(!site.is_filtered(), "the program was left on the card");
    site.run("test ! -e /sys/fs/bpf/abuser && test ! -e /sys/fs/bpf/elsewhere");
    site.run("test -e /var/lib/abuser/abuser.db");
    send_udp(&site.client, BANNED, SocketAddr::new(HOST, PORT), 1000.0, 1).expect("sending");
    site.wait("who was banned", || site.counter.received_from(BANNED) == 1);
    site.run("rm /etc/abuser/conf.d/logs.toml; apt-get purge --yes abuser");
    site.run("test ! -e /var/lib/abuser && test ! -e /run/abuser && test ! -e /etc/abuser");
    // It may have been there before the package, and files may be its own.
    site.run("getent group abuser");
    let units = site.run("systemctl list-unit-files --no-legend 'abuser*'; ls /etc/systemd/system/multi-user.target.wants");
    assert!(!units.stdout.contains("abuser"), "{units}");
}
