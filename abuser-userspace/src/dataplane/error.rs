//! What can go wrong between the daemon and the kernel, each with what to do about it.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use super::dispatcher::{Kept, LockError};
use crate::locks::Holder;

/// An error of the data plane.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The process may not load BPF programs.
    #[error(
        "loading an XDP program needs root (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON); \
         run it with sudo; in a container, its seccomp profile must allow bpf(), too"
    )]
    NotPermitted,

    /// The kernel lacks what the program needs.
    #[error(
        "this is Linux {found}; abuser needs Linux {needed} or newer (BPF atomics, XDP links, \
         multi-buffer XDP)"
    )]
    KernelTooOld {
        /// The running kernel's release.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },

    /// The bpf system call is not there.
    #[error(
        "this kernel has no bpf() system call: {source}; it needs CONFIG_BPF_SYSCALL, and a \
         container must not filter it (seccomp)"
    )]
    NoBpf {
        /// What the system call answered.
        source: io::Error,
    },

    /// There is no bpffs to pin maps and links in.
    #[error(
        "no BPF file system at {path}, and mounting one failed: {source}; try `mount -t bpf bpf {path}`"
    )]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be mounted.
        source: io::Error,
    },

    /// The pin folder is not on a bpffs.
    #[error(
        "the pin folder {path} is not on a BPF file system; set [xdp] pin_dir to a folder under \
         /sys/fs/bpf"
    )]
    PinDirNotBpffs {
        /// The folder.
        path: PathBuf,
    },

    /// A folder or pin could not be used.
    #[error("cannot {action} {path}: {source}")]
    Pin {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// Another daemon has the pin folder.
    #[error(
        "another abuser ({holder}) already runs with the pins in {path}; `abuser status` shows it, \
         `abuser detach` stops it"
    )]
    AlreadyRunning {
        /// The other one.
        holder: Holder,
        /// The pin folder.
        path: PathBuf,
    },

    /// The program could not be loaded.
    #[error("the kernel refused the XDP program: {0}")]
    Load(String),

    /// A map could not be used.
    #[error("the map {map}: {message}")]
    Map {
        /// Its name.
        map: String,
        /// What was tried and what the kernel said.
        message: String,
    },

    /// A table has no room.
    #[error("the {table} is full: it holds at most {capacity} entries; remove some first")]
    Full {
        /// Which.
        table: &'static str,
        /// Its size.
        capacity: u32,
    },

    /// No such interface.
    #[error("there is no interface {name:?}; there are: {existing}")]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Those that exist, by name.
        existing: String,
    },

    /// The program could not read the interface's packets.
    #[error(
        "interface {0} carries packets without an Ethernet header (a tunnel?), which abuser cannot \
         read; protect the Ethernet interface that they arrive on"
    )]
    NotEthernet(String),

    /// Netlink could not be asked.
    #[error("cannot ask the kernel about network interfaces (netlink): {0}")]
    Netlink(String),

    /// Someone else's program is on the interface.
    #[error(
        "interface {interface} already has an XDP program, {program:?} (id {id}), which abuser \
         will not replace; remove it first: `ip link set dev {interface} xdp off`, or `abuser detach \
         --pin-dir PATH` if an abuser with another pin folder left it"
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The program's name; empty if the kernel does not tell.
        program: String,
        /// The program's id.
        id: u32,
    },

    /// There is a dispatcher, and the configuration keeps abuser out of it.
    #[error(
        "interface {interface} has a dispatcher of libxdp (id {id}), which abuser does not join \
         because of [xdp] dispatcher = \"never\"; write \"join\" to have it run as one of the programs in it"
    )]
    DispatcherUnwanted {
        /// The interface.
        interface: String,
        /// The dispatcher's program id.
        id: u32,
    },

    /// Whose program is on the interface this process may not see.
    #[error(
        "interface {interface} already has an XDP program (id {id}), and abuser cannot look whether it is a dispatcher \
         that it could join: {why}; that takes CAP_SYS_ADMIN, which a daemon that root starts has at its start only: \
         start it again (docs/COEXISTENCE.md has what the service needs), or remove that program first: `ip link set \
         dev {interface} xdp off`"
    )]
    Unseen {
        /// The interface.
        interface: String,
        /// The program's id.
        id: u32,
        /// What the kernel says.
        why: String,
    },

    /// There is a dispatcher that abuser does not know how to join.
    #[error(
        "interface {interface} has a dispatcher of libxdp (id {id}) that abuser cannot join, and will \
         not replace: {found}; it joins dispatchers of version {known}. Unload the programs in it with the tool that \
         loaded them (`xdp-loader status` shows them)"
    )]
    DispatcherUnknown {
        /// The interface.
        interface: String,
        /// The dispatcher's program id.
        id: u32,
        /// What is there instead of what is known.
        found: String,
        /// The version that is known.
        known: u8,
    },

    /// abuser could not become a component.
    #[error("cannot join the XDP programs on {interface} (libxdp's dispatcher): {message}")]
    Dispatcher {
        /// The interface.
        interface: String,
        /// Why, and what to do.
        message: String,
    },

    /// Somebody else changes dispatchers meanwhile, so abuser could not become a component.
    #[error("cannot join the XDP programs on {interface} (libxdp's dispatcher): {source}")]
    DispatcherLocked {
        /// The interface.
        interface: String,
        /// Who.
        source: LockError,
    },

    /// A component could not be taken out again.
    #[error(
        "cannot take abuser's program out of the dispatcher on interface {interface}: {source}; it goes on \
         filtering there. Try again; if that fails, too, stop the daemon if one runs, and `ip link set dev \
         {interface} {off}` takes off all that is on the interface"
    )]
    DispatcherKept {
        /// The interface.
        interface: String,
        /// What `ip` calls taking off what is there.
        off: &'static str,
        /// Why.
        source: Kept,
    },

    /// The program could not be attached.
    #[error("cannot attach to {interface} in {mode} mode: {message}")]
    Attach {
        /// The interface.
        interface: String,
        /// `driver` or `generic`.
        mode: &'static str,
        /// Why, and what to do.
        message: String,
    },
}

impl DataplaneError {
    /// Whether somebody else was just about to change dispatchers, and it may well be done a moment
    /// later. Nothing has changed.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::DispatcherLocked {
                source: LockError::Busy { .. },
                ..
            } | Self::DispatcherKept {
                source: Kept::Locked(LockError::Busy { .. }),
                ..
            }
        )
    }
}

impl DataplaneError {
    /// An error of the map `name`.
    pub(crate) fn map(name: &str, source: impl Into<MapError>) -> Self {
        Self::Map {
            map: name.to_owned(),
            message: chain(&source.into()),
        }
    }

    /// An error of loading the program.
    pub(crate) fn load(source: EbpfError) -> Self {
        match source {
            EbpfError::ProgramError(error) => error.into(),
            error => Self::Load(chain(&error)),
        }
    }
}

impl From<ProgramError> for DataplaneError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                // The log is thousands of lines; its end says what was refused.
                let log = verifier_log.to_string();
                let lines: Vec<_> = log.lines().rev().take(12).collect();
                let tail: Vec<_> = lines.into_iter().rev().collect();
                Self::Load(format!("{io_error}\n{}", tail.join("\n")))
            }
            error => Self::Load(chain(&error)),
        }
    }
}

/// An error with all its causes in one line; a cause that its parent already quotes is
/// left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
