//! A host that looks like a reader's: `eth0`, a gateway, files where a distribution has them, an
//! SSH session, and clients somewhere on the Internet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use testkit::{
    Interface, Mounts, Namespace, abuser_binary,
    mounts::{bind, mount_empty},
    peers, veth,
};

use super::traffic::Traffic;

/// The host's address.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Its gateway, behind which all clients are.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The account of a fleet, as the reader has put it there.
const NATS_ACCOUNTS: &str = include_str!("../../../deploy/nats/abuser.conf");
/// Where the reader sits.
const SSH_CONNECTION: &str = "198.51.100.20 50022 192.0.2.10 22";

/// Where commands run; what is written there is as much a part of the stage as `/etc`.
const HOME: &str = "/run/home";
const SOCKET: &str = "/run/abuser/abuser.sock";

pub(super) struct Stage {
    host: Namespace,
    clients: Namespace,
    clients_end: Interface,
    mounts: Mounts,
    sources: BTreeSet<Ipv4Addr>,
    listeners: BTreeMap<u16, TcpListener>,
    open: Vec<TcpStream>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let [host, clients] = [(); 2].map(|()| Namespace::new().expect("a namespace"));
        for namespace in [&host, &clients] {
            for interface in ["all", "default"] {
                // Its solicitations come at any time, and would be counted.
                let name = format!("net/ipv6/conf/{interface}/disable_ipv6");
                let _absent = namespace.set_sysctl(&name, "1");
            }
        }
        let (eth0, clients_end) = veth(&host, "eth0", &clients, "uplink").expect("a cable");
        for (end, address) in [(&eth0, HOST), (&clients_end, GATEWAY)] {
            end.add_address(&format!("{address}/24"))
                .expect("an address");
        }
        // Address resolution would be counted, too.
        eth0.set_neighbour(IpAddr::V4(GATEWAY), clients_end.mac())
            .and_then(|()| clients_end.set_neighbour(IpAddr::V4(HOST), eth0.mac()))
            .expect("a neighbour");
        let route = ["route", "add", "default", "via", &GATEWAY.to_string()];
        let routed = host.command("ip").args(route).status();
        assert!(routed.is_ok_and(|status| status.success()), "ip {route:?}");
        let binary = abuser_binary().unwrap_or_else(|error| panic!("{error}"));
        Self {
            host,
            clients,
            clients_end,
            mounts: Mounts::new(|| furnish(&binary)).unwrap_or_else(|error| panic!("{error}")),
            sources: BTreeSet::new(),
            listeners: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// A shell's line as the reader types it, not started yet.
    pub(super) fn shell(&self, line: &str) -> Command {
        let mut command = self.host.command("/bin/sh");
        self.mounts.enter(&mut command, HOME);
        command
            .args(["-c", line])
            .env_clear()
            .env("HOME", HOME)
            .env("PATH", format!("{HOME}/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("SSH_CONNECTION", SSH_CONNECTION)
            .env("TERM", "xterm");
        command
    }

    /// Writes a file, and the folders that it is in.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = at_home(path);
        self.mounts.run(|| {
            fs::create_dir_all(path.parent().expect("a file is in a folder"))
                .and_then(|()| fs::write(&path, text))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        });
    }

    /// Makes a database.
    pub(super) fn write_database(&self, path: &str, sql: &str) {
        self.write(path, "");
        let path = at_home(path);
        self.mounts.run(|| {
            rusqlite::Connection::open(&path)
                .and_then(|database| database.execute_batch(sql))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        });
    }

    /// Has a client send something, and waits until it has.
    pub(super) fn send(&mut self, traffic: &Traffic) {
        if self.sources.insert(traffic.source) {
            self.clients_end
                .add_address(&format!("{}/32", traffic.source))
                .expect("an address");
        }
        if traffic.is_tcp() {
            self.listeners.entry(traffic.port).or_insert_with(|| {
                let listen = || TcpListener::bind((HOST, traffic.port));
                self.host.run(listen).expect("nobody listens there")
            });
        }
        self.open.extend(self.clients.run(|| traffic.send_to(HOST)));
    }

    /// Waits until somebody is connected to the daemon's socket, and has said what is wanted.
    pub(super) fn await_listener(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_connected = || {
            // `/proc/net` is the process's.
            let sockets = fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
            sockets.lines().any(|line| {
                let state = line.split_whitespace().nth(5);
                line.ends_with(SOCKET) && state == Some("03")
            })
        };
        while !self.host.run(is_connected) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(300));
    }
}

fn at_home(path: &str) -> PathBuf {
    Path::new(HOME).join(path)
}

/// Makes what is a host's own: seen by nobody else, and gone with the stage.
fn furnish(binary: &Path) -> std::io::Result<()> {
    // What follows may hide the folder that it is in.
    let binary = fs::File::open(binary)?;
    for folder in ["/etc", "/run", "/var/lib", "/var/log"] {
        mount_empty("tmpfs", folder)?;
    }
    mount_empty("bpf", "/sys/fs/bpf")?;
    fs::write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write("/etc/group", "root:x:0:\n")?;
    fs::write("/etc/resolv.conf", "nameserver 192.0.2.53\n")?;

    let bin = Path::new(HOME).join("bin");
    fs::create_dir_all(&bin)?;
    let nats = Path::new("/etc/nats");
    fs::create_dir_all(nats)?;
    fs::write(nats.join("abuser.conf"), NATS_ACCOUNTS)?;
    if let Some(server) = peers::find("nats-server") {
        symlink(server, bin.join("nats-server"))?;
    }
    let sudo = bin.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n")?;
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755))?;
    let abuser = bin.join("abuser");
    fs::write(&abuser, "")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&binary);
    bind(Path::new(&format!("/proc/thread-self/fd/{fd}")), &abuser)
}
