//! The picture of the view that README shows: a host under attack from several sides.
//!
//! ```text
//! ABUSER_UPDATE_PICTURE=1 cargo test -p abuser-tests --test e2e top::picture
//! ```
//!
//! draws it anew; otherwise it is drawn and compared in what does not differ each time.

use std::{
    env,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use testkit::{Daemon, Namespace, require_root, traffic::send_udp, veth};

use super::{
    screen::Screen,
    svg::{headings, picture},
};

const UPDATE: &str = "ABUSER_UPDATE_PICTURE";

const CONFIG: &str = r#"
interfaces = ["eth0"]
[allow]
addresses = ["192.0.2.50"]
[[limit]]
name = "dns"
protocol = "udp"
ports = [53]
rate = "200/s"
burst = 400
policy = "dns"
[[limit]]
name = "ntp"
protocol = "udp"
ports = [123]
rate = "60/s"
burst = 120
[[limit]]
name = "flood"
rate = "100k/s"
burst = 200000
[[limit]]
name = "slow"
rate = "5/s"
burst = 10
only = "throttled"
[[policy]]
name = "dns"
maxretry = 3
require_verified = false
bantime = "1h"
"#;

/// Who sends what: the source, the port, and packets a second in the quiet and in the loud half of
/// a while.
const CLIENTS: [(&str, u16, u32, u32); 11] = [
    ("203.0.113.66", 53, 900, 2400),
    ("203.0.113.71", 53, 150, 190),
    ("198.51.100.23", 123, 140, 320),
    ("198.51.100.99", 123, 70, 90),
    ("198.51.100.200", 80, 30, 80),
    ("192.0.2.50", 123, 90, 120),
    ("192.0.2.77", 123, 45, 58),
    ("203.0.113.12", 80, 20, 60),
    ("203.0.113.99", 443, 20, 30),
    ("198.51.100.140", 443, 30, 50),
    ("192.0.2.101", 443, 400, 1300),
];

const HOST: &str = "192.0.2.10";

/// The host, and who is behind its cable.
struct Scene {
    clients: Namespace,
    _host: Namespace,
    daemon: Daemon,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let [host, clients] = [(); 2].map(|()| Namespace::new().expect("a namespace"));
        for namespace in [&host, &clients] {
            for interface in ["all", "default"] {
                let name = format!("net/ipv6/conf/{interface}/disable_ipv6");
                let _absent = namespace.set_sysctl(&name, "1");
            }
        }
        let (eth0, uplink) = veth(&host, "eth0", &clients, "uplink").expect("a cable");
        eth0.add_address(&format!("{HOST}/24")).expect("an address");
        uplink.add_address("192.0.2.1/24").expect("an address");
        for (source, ..) in CLIENTS {
            uplink
                .add_address(&format!("{source}/32"))
                .expect("an address");
        }
        let host_address: IpAddr = HOST.parse().expect("an address");
        uplink
            .set_neighbour(host_address, eth0.mac())
            .expect("a neighbour");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        fs::write(&log, "").expect("a log");
        let list = folder.path().join("spam.txt");
        fs::write(&list, "198.51.100.200\n100.64.0.0/16\n").expect("a list");
        let mut config = CONFIG.to_owned();
        write!(
            config,
            "[[blocklist]]\npath = \"{}\"\n[[source]]\nname = \"shop\"\nfiles = [\"{}\"]\n\
             parser = \"nginx-combined\"\n[[detector]]\nname = \"login\"\nwhere = 'path == \"/login\" and \
             status == 401'\ncount = 10\nwithin = \"10m\"\naction = \"ban\"\n[[detector]]\n\
             name = \"probes\"\nwhere = 'status == 404'\ncount = 5\nwithin = \"10m\"\n\
             action = \"throttle\"\nlimit = \"slow\"\n",
            list.display(),
            log.display()
        )
        .expect("a String takes it");
        let daemon = Daemon::start(&host, &config);
        daemon
            .abuser(&[
                "ban",
                "add",
                "203.0.113.12",
                "--for",
                "1d",
                "--reason",
                "port scanner",
            ])
            .success();
        Self {
            clients,
            _host: host,
            daemon,
            log,
            _folder: folder,
        }
    }

    /// Has somebody ask for something so many times.
    fn requests(&self, source: &str, path: &str, status: u16, count: usize) {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let months = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let month: usize = now[5..7].parse().expect("a month");
        let time = format!(
            "{}/{}/{}:{} +0000",
            &now[8..10],
            months[month - 1],
            &now[..4],
            &now[11..19]
        );
        let line = format!(
            "{source} - - [{time}] \"POST {path} HTTP/1.1\" {status} 150 \"-\" \"curl/8\"\n"
        );
        let mut log = OpenOptions::new()
            .append(true)
            .open(&self.log)
            .expect("the log");
        log.write_all(line.repeat(count).as_bytes())
            .expect("writing it");
    }

    /// Has all clients send for so long.
    fn traffic(&self, time: Duration) {
        let target: SocketAddr = format!("{HOST}:0").parse().expect("an address");
        let steps = u32::try_from(time.as_millis() / 500).expect("some minutes");
        thread::scope(|scope| {
            for (number, (source, port, quiet, loud)) in (0_u32..).zip(CLIENTS) {
                let target = SocketAddr::new(target.ip(), port);
                scope.spawn(move || {
                    for step in 0..steps {
                        let is_loud = (step + number * 3) / 6 % 2 == 1;
                        let rate = if is_loud { loud } else { quiet };
                        // Not too even.
                        let rate = rate + rate * (step * 7 % 5) / 12;
                        let source = source.parse().expect("an address");
                        let count = u64::from(rate / 2).max(1);
                        send_udp(&self.clients, source, target, f64::from(rate), count)
                            .expect("sending");
                    }
                });
            }
        });
    }
}

#[test]
fn the_picture_that_is_shown_can_be_made_and_has_what_the_view_has() {
    require_root!();
    let update = env::var_os(UPDATE).is_some();
    let scene = Scene::new();
    let screen = Screen::run(
        scene.daemon.command(&["top", "--interval", "500ms"]),
        34,
        120,
    );
    screen.wait_for("eth0 (");
    let long = Duration::from_secs(if update { 40 } else { 4 });
    thread::scope(|scope| {
        scope.spawn(|| scene.traffic(long));
        // While it goes on, so that the view sees the one after the other.
        thread::sleep(long / 4);
        for (source, path, status, count) in [
            ("192.0.2.101", "/", 200, 480),
            ("203.0.113.99", "/login", 401, 24),
            ("198.51.100.140", "/wp-login.php", 404, 9),
        ] {
            scene.requests(source, path, status, count);
            thread::sleep(Duration::from_millis(700));
        }
    });
    screen.wait("bans of all causes", |lines| {
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        let causes = ["limit dns", "detector login", "blocklist spam", "manual"];
        causes.into_iter().all(has) && has(" throttle: ")
    });
    let svg = screen.look(|screen| picture(screen, "abuser top"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/top.svg");
    if update {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, &svg).expect("writing the picture");
    }
    let checked_in = fs::read_to_string(&path).expect("docs/pictures/top.svg");
    let found = headings(&svg);
    let all = found.join(" ");
    for heading in [
        "abuser [1 Sources] SOURCE",
        "USED LIMIT",
        "LEFT HITS",
        "DETECTOR, LOG",
    ] {
        assert!(all.contains(heading), "no {heading}: {found:?}");
    }
    assert_eq!(
        headings(&checked_in),
        found,
        "the view has other headings than docs/pictures/top.svg; draw it anew: {UPDATE}=1 cargo \
         test -p abuser-tests --test e2e top::picture"
    );
}
