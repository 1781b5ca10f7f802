//! A machine with a card, a client at the other end of the cable, and the package.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use testkit::{
    CommandOutput, Interface, Machine, Namespace, abuser_binary, peers, traffic::UdpCounter, veth,
};

use crate::support::parse;

/// What systemd and a busy machine need for what takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine, who is banned there, and who is not.
pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
pub(super) const BANNED: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 66));
pub(super) const FRIEND: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));

/// Where datagrams go.
pub(super) const PORT: u16 = 9999;

/// A machine with a card, and a client at the other end of the cable.
pub(super) struct Site {
    pub(super) host: Namespace,
    pub(super) client: Namespace,
    /// The client's end of the cable.
    pub(super) far: Interface,
    pub(super) machine: Machine,
    pub(super) counter: UdpCounter,
}

impl Site {
    pub(super) fn new() -> Self {
        let [host, client] = [(); 2].map(|()| Namespace::new().expect("a namespace"));
        let (eth0, far) = veth(&host, "eth0", &client, "far0").expect("a cable");
        eth0.add_address(&format!("{HOST}/24")).expect("an address");
        for source in [BANNED, FRIEND] {
            far.add_address(&format!("{source}/24"))
                .expect("an address");
        }
        let counter = UdpCounter::start(&host, SocketAddr::new(HOST, PORT));
        Self {
            machine: Machine::boot(&host),
            host,
            client,
            far,
            counter,
        }
    }

    /// Runs a line of shell inside that must succeed.
    #[track_caller]
    pub(super) fn run(&self, line: &str) -> CommandOutput {
        self.machine.run(line).success()
    }

    /// What systemd says of a property of the service.
    pub(super) fn property(&self, name: &str) -> String {
        let shown = self
            .machine
            .run(&format!("systemctl show --value -p {name} abuser"));
        shown.stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub(super) fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}\n{}",
                self.machine.run("systemctl status --no-pager abuser")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the service works, with another process than this.
    #[track_caller]
    pub(super) fn wait_for_another(&self, pid: &str) {
        self.wait("another daemon", || {
            // At once: between two questions it may end.
            let shown = self
                .machine
                .run("systemctl show -p MainPID,SubState abuser");
            let is = |line: &str| shown.stdout.lines().any(|shown| shown == line);
            is("SubState=running") && !is(&format!("MainPID={pid}"))
        });
    }

    pub(super) fn is_filtered(&self) -> bool {
        let eth0 = self.host.interface("eth0").expect("the card");
        eth0.xdp().expect("its program").is_some()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.machine.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("making it");
        fs::write(path, text).expect("writing a file");
    }

    /// The capabilities that the daemon has, and can ever have.
    pub(super) fn capabilities(&self) -> (u64, u64) {
        let status = self.run(&format!("cat /proc/{}/status", self.property("MainPID")));
        let set = |name: &str| {
            let mut lines = status.stdout.lines();
            let set = lines.find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(set.expect("a set").trim(), 16).expect("a number")
        };
        (set("CapEff:"), set("CapBnd:"))
    }

    /// How many lines were read of each source.
    pub(super) fn lines(&self) -> Vec<(String, u64)> {
        let detectors = parse(&self.run("abuser detectors --json").stdout);
        let sources = detectors["sources"].as_array().expect("a list");
        let lines = sources.iter().map(|source| {
            let name = source["name"].as_str().expect("a name").to_owned();
            (name, source["lines"].as_u64().expect("a number"))
        });
        lines.collect()
    }
}

/// Runs one of Debian's programs outside.
#[track_caller]
fn outside(command: &mut Command) {
    CommandOutput::of(command).success();
}

/// The package; the binary in it must be the one under test.
pub(super) fn package() -> PathBuf {
    let package = peers::package().unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = folder.path().join("unpacked");
    outside(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([&package, &unpacked]),
    );
    let tested = folder.path().join("tested");
    let binary = abuser_binary().unwrap_or_else(|error| panic!("{error}"));
    outside(Command::new("strip").arg("-o").args([&tested, &binary]));
    assert!(
        fs::read(&tested).expect("a binary")
            == fs::read(unpacked.join("usr/bin/abuser")).expect("a binary"),
        "{} has another binary than {binary}; make it anew: cargo xtask dist --package {binary}",
        package.display(),
        binary = binary.display(),
    );
    package
}

/// Copies the package to the machine, and one of a later version.
pub(super) fn bring_package(site: &Site) {
    let package = package();
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(&package, site.machine.path("/root/abuser.deb")).expect("copying the package");
    fs::copy(&package, folder.path().join("next.deb")).expect("copying the package");
    bring_next(site, folder.path());
}

/// The same as a later version.
fn bring_next(site: &Site, folder: &Path) {
    let next = folder.join("next");
    outside(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .args([&folder.join("next.deb"), &next]),
    );
    let control = next.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a control file");
    let lines = text
        .lines()
        .map(|line| match line.strip_prefix("Version: ") {
            Some(version) => format!("Version: {version}+next\n"),
            None => format!("{line}\n"),
        });
    fs::write(&control, lines.collect::<String>()).expect("writing it");
    outside(
        Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "--root-owner-group", "--build"])
            .args([&next, &site.machine.path("/root/next.deb")]),
    );
}
