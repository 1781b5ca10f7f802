//! The programs that abuser exchanges lists with or is measured against: which they are,
//! which Debian package has each, and where they are on this machine.
//!
//! Those whose packages would start a service when they are installed are not installed:
//! `cargo xtask doctor --fix` unpacks them below the target folder, where nothing starts
//! them but a test.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Namespace;

/// How a package comes onto the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The package manager installs it: it is a command and nothing else.
    Installed,
    /// It is unpacked into [`folder`]: it has a service, which is not to run.
    Unpacked,
}

/// A program of somebody else's.
#[derive(Debug)]
pub struct Peer {
    /// Its name as one types it, or its path where it must be that one.
    pub program: &'static str,
    /// The Debian package.
    pub package: &'static str,
    /// What it is needed to do.
    pub purpose: &'static str,
    /// How the package gets here.
    pub way: Way,
}

/// All of them.
pub const PEERS: &[Peer] = &[
    Peer {
        program: "nft",
        package: "nftables",
        purpose: "test lists from and for nftables, and measure abuser against it",
        way: Way::Installed,
    },
    Peer {
        program: "bpftool",
        package: "bpftool",
        purpose: "meddle with the kernel's maps, as somebody else would",
        way: Way::Installed,
    },
    Peer {
        program: "xdp-loader",
        package: "xdp-tools",
        purpose: "test beside other XDP programs",
        way: Way::Installed,
    },
    Peer {
        program: "xdp-filter",
        package: "xdp-tools",
        purpose: "test beside other XDP programs",
        way: Way::Installed,
    },
    Peer {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        purpose: "run tests with other kernels than this machine's",
        way: Way::Installed,
    },
    Peer {
        // Its name has its version.
        program: "vmlinuz-6.1.*-cloud-*",
        package: "linux-image-cloud-amd64",
        purpose: "be the kernel of a guest",
        way: Way::Unpacked,
    },
    Peer {
        program: "vmlinuz-6.12.*-cloud-*",
        package: "linux-image-6.12-cloud-amd64",
        purpose: "be the kernel of a guest",
        way: Way::Unpacked,
    },
    Peer {
        program: "ipset",
        package: "ipset",
        purpose: "test lists from and for ipset",
        way: Way::Installed,
    },
    Peer {
        program: "tcpdump",
        package: "tcpdump",
        purpose: "test the replay of captures",
        way: Way::Installed,
    },
    Peer {
        // What the first line of fail2ban's programs names; another one would not do.
        program: "/usr/bin/python3",
        package: "python3",
        purpose: "run fail2ban",
        way: Way::Installed,
    },
    Peer {
        program: "fail2ban-server",
        package: "fail2ban",
        purpose: "test lists from fail2ban",
        way: Way::Unpacked,
    },
    Peer {
        program: "fail2ban-client",
        package: "fail2ban",
        purpose: "test lists from fail2ban",
        way: Way::Unpacked,
    },
    Peer {
        program: "fail2ban-regex",
        package: "fail2ban",
        purpose: "compare and measure filters",
        way: Way::Unpacked,
    },
    Peer {
        program: "nginx",
        package: "nginx",
        purpose: "write the logs that detectors read",
        way: Way::Unpacked,
    },
    Peer {
        program: "crowdsec",
        package: "crowdsec",
        purpose: "test bans from and for CrowdSec",
        way: Way::Unpacked,
    },
    Peer {
        program: "cscli",
        package: "crowdsec",
        purpose: "test bans from and for CrowdSec",
        way: Way::Unpacked,
    },
    Peer {
        program: "nats-server",
        package: "nats-server",
        purpose: "test a fleet",
        way: Way::Unpacked,
    },
    Peer {
        // It brings a timer, which would rotate this machine's logs.
        program: "logrotate",
        package: "logrotate",
        purpose: "test that logs are followed through its rotation",
        way: Way::Unpacked,
    },
    Peer {
        program: "prometheus",
        package: "prometheus",
        purpose: "scrape metrics, and evaluate what dashboards and alert rules say",
        way: Way::Unpacked,
    },
    Peer {
        program: "promtool",
        package: "prometheus",
        purpose: "check metrics and alert rules",
        way: Way::Unpacked,
    },
    Peer {
        program: "mmdebstrap",
        package: "mmdebstrap",
        purpose: "make a Debian to install the package on",
        way: Way::Installed,
    },
    Peer {
        program: "zsh",
        package: "zsh",
        purpose: "test completions",
        way: Way::Installed,
    },
    Peer {
        program: "fish",
        package: "fish",
        purpose: "test completions",
        way: Way::Installed,
    },
    Peer {
        program: "mandoc",
        package: "mandoc",
        purpose: "test manual pages",
        way: Way::Installed,
    },
    Peer {
        program: "logger",
        package: "bsdutils",
        purpose: "test messages of syslog and of the journal",
        way: Way::Installed,
    },
    Peer {
        program: "chromium",
        package: "chromium",
        purpose: "test the page",
        way: Way::Installed,
    },
    Peer {
        program: "chromedriver",
        package: "chromium-driver",
        purpose: "test the page",
        way: Way::Installed,
    },
    Peer {
        program: "journalctl",
        package: "systemd",
        purpose: "test entries of the journal",
        way: Way::Installed,
    },
    Peer {
        program: "/lib/systemd/systemd-journald",
        package: "systemd",
        purpose: "test entries of the journal",
        way: Way::Installed,
    },
];

/// The command that gets whatever is missing.
pub const REMEDY: &str = "cargo xtask doctor --fix";

impl Peer {
    /// Where it is: on `PATH`, where only root's `PATH` leads, or unpacked.
    ///
    /// A name with a `*` in it is that of a kernel, of which the newest is found.
    pub fn find(&self) -> Option<PathBuf> {
        if self.program.contains('*') {
            return newest(self.program);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let unpacked = folder();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .chain(["usr/bin", "usr/sbin"].map(|place| unpacked.join(place)))
            // A path stays what it is.
            .map(|place| place.join(self.program))
            .find(|file| file.is_file())
    }
}

/// The newest kernel whose name is like this, in `boot` below [`folder`] or of this machine.
fn newest(pattern: &str) -> Option<PathBuf> {
    let roots = [folder(), PathBuf::from("/")];
    roots
        .iter()
        .filter_map(|root| fs::read_dir(root.join("boot")).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .filter(|entry| is_like(&entry.file_name().to_string_lossy(), pattern))
        .map(|entry| entry.path())
        .max_by_key(|path| numbers(&path.to_string_lossy()))
}

/// Whether a name is a pattern's, in which a `*` stands for anything.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| is_like(&rest[at..], after))
        }),
    }
}

/// The numbers in a name: 6.1.0-9 comes before 6.1.0-53.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Where one of [`PEERS`] is.
pub fn find(program: &str) -> Option<PathBuf> {
    PEERS.iter().find(|peer| peer.program == program)?.find()
}

/// Where packages are unpacked: `peers` in the target folder.
pub fn folder() -> PathBuf {
    target().join("peers")
}

/// Cargo's target folder, of which the running program is.
pub(crate) fn target() -> PathBuf {
    let running = env::current_exe().unwrap_or_default();
    running
        .ancestors()
        // Cargo marks its target folder so, wherever that is.
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .map_or_else(
            || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).to_owned(),
            Path::to_owned,
        )
}

/// The Debian package that `cargo xtask dist` has made.
pub fn package() -> io::Result<PathBuf> {
    let folder = target().join("dist");
    let missing = || {
        let why = format!(
            "there is no package in {}; make it with `cargo xtask dist --package BINARY`",
            folder.display()
        );
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    let entries = fs::read_dir(&folder).map_err(|_| missing())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(missing)
}

/// Where one of [`PEERS`] is; an error says how to get it.
///
/// # Panics
/// If the program is none of them.
pub fn path(program: &str) -> io::Result<PathBuf> {
    let peer = PEERS
        .iter()
        .find(|peer| peer.program == program)
        .unwrap_or_else(|| panic!("{program} is not in the table of peers"));
    peer.find().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "there is no {program}, of Debian's package {}, which is needed to {}: run \
                 `{REMEDY}` as root",
                peer.package, peer.purpose
            ),
        )
    })
}

/// A command that runs one of [`PEERS`] in a namespace; an error says how to get it.
///
/// # Panics
/// If the program is none of them.
pub fn command(namespace: &Namespace, program: &str) -> io::Result<Command> {
    let file = path(program)?;
    let unpacked = folder();
    let mut command = namespace.command(&file);
    if file.starts_with(&unpacked) {
        // What it depends on may be unpacked as well.
        command
            .env("PYTHONPATH", unpacked.join("usr/lib/python3/dist-packages"))
            .env(
                "LD_LIBRARY_PATH",
                env::join_paths(libraries(&unpacked)).unwrap_or_default(),
            );
    }
    Ok(command)
}

/// The folders with shared libraries: Debian has one for each architecture.
fn libraries(unpacked: &Path) -> Vec<PathBuf> {
    ["usr/lib", "lib"]
        .iter()
        .filter_map(|place| fs::read_dir(unpacked.join(place)).ok())
        .flat_map(|entries| entries.filter_map(Result::ok))
        .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_told_by_its_name_and_the_newest_by_its_numbers() {
        let old = "vmlinuz-6.1.0-9-cloud-amd64";
        let new = "vmlinuz-6.1.0-53-cloud-amd64";
        let newer = "vmlinuz-6.12.117+deb12-cloud-amd64";
        assert!(is_like(old, "vmlinuz-6.1.*-cloud-*"));
        assert!(is_like(newer, "vmlinuz-6.12.*-cloud-*"));
        assert!(!is_like(newer, "vmlinuz-6.1.*-cloud-*"));
        assert!(!is_like("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.*-cloud-*"));
        assert!(numbers(old) < numbers(new));
    }
}
