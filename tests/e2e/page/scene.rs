//! The picture of the page in README.md: a host on which something is going on.

use std::{
    env, fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde_json::json;
use tempfile::TempDir;
use testkit::{
    Daemon, Namespace, require_root,
    traffic::{UdpCounter, send_udp},
    veth,
};

use super::{Browser, PAGE, TOKEN, listening, row};

/// In the environment: the picture is made anew.
const UPDATE: &str = "ABUSER_UPDATE_PICTURE";

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Who sends how many datagrams a second, in turns of a second.
const SENDERS: [(&str, u16, &[u32]); 9] = [
    ("203.0.113.66", 53, &[900, 1100, 1400, 1000]),
    ("198.51.100.23", 53, &[500, 420, 640]),
    ("203.0.113.9", 53, &[260, 240, 330, 280]),
    ("198.51.100.77", 4433, &[130, 60, 180]),
    ("203.0.113.140", 53, &[150]),
    ("198.51.100.4", 53, &[70, 90]),
    ("203.0.113.201", 53, &[45, 80]),
    ("198.51.100.18", 27015, &[210, 180, 260]),
    ("203.0.113.30", 53, &[35]),
];

const TABLES: &str = r#"
[[limit]]
name = "dns"
protocol = "udp"
ports = [53]
rate = "200/s"
burst = 300
policy = "patient"
[[limit]]
name = "web"
protocol = "tcp"
ports = [443]
count = "connections"
rate = "50/s"
burst = 100
[[limit]]
name = "quic"
protocol = "udp"
ports = [4433]
rate = "100/s"
burst = 50
action = "observe"
[[limit]]
name = "game"
protocol = "udp"
ports = [27015]
rate = "100/s"
burst = 50
policy = "lenient"
[[limit]]
name = "slow"
rate = "40/s"
burst = 10
only = "throttled"
[ban]
require_verified = false
[[policy]]
name = "patient"
maxretry = 12
findtime = "1m"
bantime = "2h"
[[policy]]
name = "lenient"
maxretry = 1000
"#;

struct Scene {
    host: Namespace,
    daemon: Daemon,
    quiet: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
    log: PathBuf,
    _listening: [UdpCounter; 3],
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let [host, clients] = [(); 2].map(|()| Namespace::new().expect("a namespace"));
        let (eth0, uplink) = veth(&host, "eth0", &clients, "uplink").expect("a cable");
        for (end, address) in [(&eth0, HOST), (&uplink, GATEWAY)] {
            end.add_address(&format!("{address}/24"))
                .expect("an address");
        }
        let route = ["route", "add", "default", "via", &GATEWAY.to_string()];
        let routed = host.command("ip").args(route).status();
        assert!(routed.is_ok_and(|status| status.success()), "ip {route:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("auth.log");
        fs::write(&log, "").expect("a log");
        let spam = folder.path().join("spam.txt");
        fs::write(&spam, "192.0.2.128/25\n233.252.0.0/24\n").expect("a list");
        let config = format!(
            "interfaces = [\"eth0\"]\n[api]\n{}page = true\n{TABLES}\n\
             [[blocklist]]\npath = \"{}\"\n\
             [[source]]\nname = \"sshd\"\nfiles = [\"{}\"]\npreset = \"sshd\"\n",
            listening(folder.path()),
            spam.display(),
            log.display()
        );
        let daemon = Daemon::start(&host, &config);
        let listening = [53, 4433, 27015].map(|port| UdpCounter::start(&host, (HOST, port).into()));
        let quiet = Arc::new(AtomicBool::new(false));
        let senders = SENDERS
            .into_iter()
            .map(|(source, port, turns)| {
                let source: IpAddr = source.parse().expect("an address");
                uplink
                    .add_address(&format!("{source}/32"))
                    .expect("an address");
                let (clients, quiet) = (clients.clone(), Arc::clone(&quiet));
                let target = SocketAddr::from((HOST, port));
                thread::spawn(move || {
                    for rate in turns.iter().cycle() {
                        if quiet.load(Ordering::Relaxed) {
                            return;
                        }
                        let _sent =
                            send_udp(&clients, source, target, f64::from(*rate), u64::from(*rate));
                    }
                })
            })
            .collect();
        Self {
            host,
            daemon,
            quiet,
            senders,
            log,
            _listening: listening,
            _folder: folder,
        }
    }

    /// Somebody tries passwords.
    fn try_passwords(&self, source: &str, times: u32) {
        let now = in_utc(SystemTime::now());
        let mut log = fs::OpenOptions::new()
            .append(true)
            .open(&self.log)
            .expect("the log");
        for number in 0..times {
            writeln!(
                log,
                "{now} host sshd[{}]: Failed password for invalid user admin from {source} port {} ssh2",
                4000 + number,
                50000 + number
            )
            .expect("writing the log");
        }
    }

    fn abuser(&self, arguments: &[&str]) {
        self.daemon.abuser(arguments).success();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.quiet.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            let _panicked = sender.join();
        }
    }
}

/// A time as RFC 3339 has it, in UTC.
fn in_utc(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[test]
fn the_page_can_be_pictured_in_light_and_dark_and_on_a_phone() {
    require_root!();
    let scene = Scene::new();
    let browser = Browser::start(&scene.host);
    browser.resize(1200, 760);
    browser.devtools("Emulation.setScrollbarsHidden", &json!({ "hidden": true }));
    browser.prefer("light");
    browser.open(PAGE);
    browser.fill("#token", &format!("{TOKEN}\n"));
    scene.abuser(&[
        "ban",
        "add",
        "198.51.100.200",
        "--for",
        "1d",
        "--reason",
        "complaint 4711",
    ]);
    scene.abuser(&["allow", "add", "203.0.113.140", "--reason", "monitoring"]);
    scene.abuser(&[
        "throttle",
        "add",
        "203.0.113.30",
        "--limit",
        "slow",
        "--for",
        "30m",
        "--reason",
        "after complaints",
    ]);
    scene.try_passwords("203.0.113.99", 7);
    scene.try_passwords("198.51.100.131", 6);
    for (body, text) in [
        ("bans", "203.0.113.66"),
        ("bans", "198.51.100.23"),
        ("bans", "203.0.113.99"),
        ("bans", "blocklist spam"),
        ("top", "allowed"),
        ("top", "throttled: slow"),
        ("detectors", "sshd"),
    ] {
        browser.wait_for(&format!("{} !== null", row(body, text, "innerText")));
    }
    // Some more of the courses; nothing is told from it.
    if env::var_os(UPDATE).is_some() {
        thread::sleep(Duration::from_secs(60));
    }
    let pictures = [
        ("light", 1200, 760),
        ("dark", 1200, 760),
        ("light", 390, 844),
    ]
    .map(|(scheme, width, height)| {
        browser.prefer(scheme);
        browser.resize(width, height);
        browser.wait_for(&format!("innerWidth === {width}"));
        browser.run("document.activeElement.blur(); scrollTo(0, 0)");
        (scheme, width, browser.picture())
    });
    for (scheme, width, picture) in &pictures {
        assert!(picture.starts_with(b"\x89PNG"), "{scheme} {width}");
        assert!(
            (20_000..400_000).contains(&picture.len()),
            "{scheme} {width}: {} bytes",
            picture.len()
        );
    }
    assert_ne!(pictures[0].2, pictures[1].2);
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/page.png");
    if env::var_os(UPDATE).is_some() {
        fs::create_dir_all(committed.parent().expect("a folder")).expect("a folder");
        fs::write(&committed, &pictures[0].2).expect("writing the picture");
    }
    assert!(committed.exists(), "{UPDATE}=1 makes it");
}
