//! The socket that messages come to: open to root and a group.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::UdpSocket,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt},
        stat::{Mode, fchmod},
    },
    unistd::{Group, chown},
};

use super::super::{Listen, SyslogConfig};
use crate::config::Api;

/// The room for datagrams that wait, in bytes: for a burst, not for a flood.
const ROOM: usize = 4 << 20;

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Somebody listens there.
    #[error("another program listens at {0}; stop that one, or listen elsewhere")]
    Taken(PathBuf),
    /// Something that is not a socket is there.
    #[error("{0} exists and is not a socket; move it away, or listen elsewhere")]
    NotASocket(PathBuf),
    /// There is no such group.
    #[error(
        "there is no group {0:?} to open {1} to; make it with `groupadd --system {0}`, or name another"
    )]
    NoGroup(String, PathBuf),
    /// The system refused.
    #[error("cannot {action} {listen}: {source}")]
    Io {
        action: &'static str,
        listen: Listen,
        source: io::Error,
    },
}

/// The socket; its path goes with it.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    /// Its path, if it has one, and what is there.
    made: Option<(PathBuf, Option<(u64, u64)>)>,
}

impl Socket {
    pub(super) fn listen(config: &SyslogConfig) -> Result<Self, SocketError> {
        let listen = &config.listen;
        let refused = |action| {
            move |source: io::Error| SocketError::Io {
                action,
                listen: listen.clone(),
                source,
            }
        };
        let socket = match listen {
            Listen::Udp(address) => {
                let socket = UdpSocket::bind(address).map_err(refused("listen at"))?;
                Self {
                    socket: socket.into(),
                    made: None,
                }
            }
            Listen::Unix(path) => {
                let group = group(config, path)?;
                clear_stale(path)?;
                make_folder(path).map_err(refused("make the folder of"))?;
                let socket = bound(path).map_err(refused("listen at"))?;
                let socket = Self {
                    socket,
                    made: Some((path.clone(), inode(path))),
                };
                if let Some(group) = group {
                    chown(path, None, Some(group.gid))
                        .map_err(|errno| refused("set the group of")(errno.into()))?;
                }
                fs::set_permissions(path, Permissions::from_mode(0o660))
                    .map_err(refused("set the permissions of"))?;
                socket
            }
        };
        // Without privilege it is as much as the system grants.
        let _forced = setsockopt(&socket.socket, sockopt::RcvBufForce, &ROOM)
            .or_else(|_| setsockopt(&socket.socket, sockopt::RcvBuf, &ROOM));
        setsockopt(&socket.socket, sockopt::RxqOvfl, &1)
            .map_err(|errno| refused("count what is dropped at")(errno.into()))?;
        Ok(socket)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether its path leads elsewhere by now.
    pub(super) fn is_gone(&self) -> bool {
        self.made
            .as_ref()
            .is_some_and(|(path, made)| inode(path) != *made)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some((path, made)) = &self.made
            && made.is_some()
            && inode(path) == *made
        {
            let _gone = fs::remove_file(path);
        }
    }
}

/// The group that may write there; one that is named must be there.
fn group(config: &SyslogConfig, path: &Path) -> Result<Option<Group>, SocketError> {
    let name = config.group.as_deref();
    let found = Group::from_name(name.unwrap_or(Api::DEFAULT_GROUP));
    match (found.ok().flatten(), name) {
        (None, Some(name)) => Err(SocketError::NoGroup(name.to_owned(), path.to_owned())),
        (group, _) => Ok(group),
    }
}

/// Removes a socket that nobody listens at.
fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    match connected {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // It listens, or is a socket of another kind that does.
        _ => return Err(SocketError::Taken(path.to_owned())),
    }
    fs::remove_file(path).map_err(|source| SocketError::Io {
        action: "replace the socket that a dead program left at",
        listen: Listen::Unix(path.to_owned()),
        source,
    })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.exists() => {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)
        }
        _ => Ok(()),
    }
}

/// A socket that nobody but root may write to yet.
fn bound(path: &Path) -> Result<OwnedFd, io::Error> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = (|| -> Result<OwnedFd, Errno> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        // What is bound has the mode of the socket (unix_bind in net/unix/af_unix.c).
        fchmod(&socket, Mode::from_bits_truncate(0o600))?;
        bind(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            &UnixAddr::new(path)?,
        )?;
        Ok(socket)
    })();
    Ok(made?)
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
