//! The unix socket: made so that only root and a group may talk to it, unless everyone may read; and
//! made again when somebody has removed it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::serve::Listener;

use nix::{
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{Mode, umask},
    },
    unistd::{Group, chown},
};
use tokio::{
    net::UnixListener,
    time::{Interval, MissedTickBehavior},
};

use crate::{
    api::server::Access,
    config::{self, ReadOnly},
};

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone listens there.
    #[error(
        "another abuser (process {pid}) already listens at {path}; `abuser status` shows it, \
         `abuser detach` stops it"
    )]
    AlreadyRunning {
        /// The other's process id.
        pid: i32,
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{path} exists and is not a socket; move it away, or set [api] socket to another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// No socket can have such a path.
    #[error(
        "{path} is longer than the 107 bytes a socket's path can have; set [api] socket to a \
         shorter one"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The group that was asked for is not there.
    #[error(
        "there is no group {name:?} to open the socket {path} to; make it with `groupadd --system \
         {name}`, or set [api] group to another"
    )]
    NoGroup {
        /// Its name.
        name: String,
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}; [api] socket sets another path")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SocketError {
    /// Whether the configuration is to be changed before it can be made.
    pub(super) fn is_refusal(&self) -> bool {
        // A group may come later at boot, where a directory in the network tells of groups.
        matches!(self, Self::TooLong { .. })
    }
}

/// How often it is looked whether the socket is still there.
const LOOK: Duration = Duration::from_secs(2);

/// How long no connection is taken after one could not be.
const REST: Duration = Duration::from_secs(1);
/// How often it is said that none can be.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Which file a socket is.
type Inode = Option<(u64, u64)>;

/// The socket that is listened at. Who takes connections makes it again if somebody removes it, as
/// those do who clean up: the daemon could not be asked for anything any more.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    api: config::Api,
    inode: Arc<Mutex<Inode>>,
    tick: Interval,
    is_told: bool,
    /// When it was said last that connections cannot be taken.
    refused: Option<Instant>,
}

impl Socket {
    fn new(listener: UnixListener, api: &config::Api) -> Self {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            listener,
            api: api.clone(),
            inode: Arc::new(Mutex::new(inode(&api.socket))),
            tick,
            is_told: false,
            refused: None,
        }
    }

    /// Says that a connection cannot be taken, which goes on for a while and is said now and then.
    fn tell_refused(&mut self, error: &io::Error) {
        if self.refused.is_some_and(|last| last.elapsed() < SAY_AGAIN) {
            return;
        }
        self.refused = Some(Instant::now());
        tracing::error!(
            "cannot take connections to the API: {error}. Bans and limits go on, and who connects waits. A limit \
             of open files is raised by LimitNOFILE= of the unit, or `ulimit -n`"
        );
    }

    /// Makes it again if it is not there; what took its place stays.
    fn look(&mut self) {
        let path = &self.api.socket;
        let found = fs::symlink_metadata(path);
        if !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return;
        }
        match bind(&self.api) {
            Ok((listener, _)) => {
                tracing::warn!(path = %path.display(), "somebody has removed the socket; made it again");
                let mut known = self.inode.lock().unwrap_or_else(PoisonError::into_inner);
                *known = inode(path);
                self.listener = listener;
                self.is_told = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!(
                        "somebody has removed the socket, and it is tried again: {error}"
                    );
                }
            }
        }
    }
}

impl Listener for Socket {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                connection = self.listener.accept() => match connection {
                    Ok(connection) => return connection,
                    // Whoever it was has hung up.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        self.tell_refused(&error);
                        // The next one would fail as well, and at once.
                        tokio::time::sleep(REST).await;
                    }
                },
                _ = self.tick.tick() => self.look(),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Removes the socket when the daemon is done, and nothing that took its place.
pub(super) struct Guard {
    path: PathBuf,
    inode: Arc<Mutex<Inode>>,
}

impl Guard {
    /// For this socket, and what is made in its place.
    pub(super) fn new(socket: &Socket) -> Self {
        Self {
            path: socket.api.socket.clone(),
            inode: Arc::clone(&socket.inode),
        }
    }
}

fn inode(path: &Path) -> Inode {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for Guard {
    fn drop(&mut self) {
        let known = *self.inode.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() || inode(&self.path) != known {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Listens at the socket, and says who may do what over it; a socket that a dead daemon left is
/// replaced.
pub(super) fn listen(api: &config::Api) -> Result<(Socket, Access), SocketError> {
    let (listener, access) = bind(api)?;
    Ok((Socket::new(listener, api), access))
}

fn bind(api: &config::Api) -> Result<(UnixListener, Access), SocketError> {
    let path = api.socket.as_path();
    let error = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError::Io {
            action,
            path,
            source,
        }
    };
    if crate::api::is_too_long(path) {
        return Err(SocketError::TooLong {
            path: path.to_owned(),
        });
    }
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(error("make the folder", folder))?;
    }
    let group = group(api)?;
    clear_stale(path)?;
    // Nobody gets in before it is clear who may.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(error("listen at", path))?;
    let open = || {
        if let Some(group) = &group {
            chown(path, None, Some(group.gid))
                .map_err(|errno| error("set the group of", path)(errno.into()))?;
        }
        let mode = match api.read_only {
            ReadOnly::None => 0o660,
            ReadOnly::Everyone => 0o666,
        };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(error("set the permissions of", path))
    };
    if let Err(error) = open() {
        // Left there, it would be taken for one that somebody listens at.
        let _gone = fs::remove_file(path);
        return Err(error);
    }
    let group = group.as_ref();
    let group = group.map(|group| (group.name.as_str(), group.gid));
    Ok((listener, Access::new(api.read_only, group)))
}

/// The group that may talk to the daemon; one that is named must be there.
fn group(api: &config::Api) -> Result<Option<Group>, SocketError> {
    let name = api.group.as_deref();
    let found = Group::from_name(name.unwrap_or(config::Api::DEFAULT_GROUP));
    match (found.ok().flatten(), name) {
        (None, Some(name)) => Err(SocketError::NoGroup {
            name: name.to_owned(),
            path: api.socket.clone(),
        }),
        (group, _) => Ok(group),
    }
}

fn clear_stale(path: &Path) -> Result<(), SocketError> {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket {
            path: path.to_owned(),
        });
    }
    if let Ok(stream) = UnixStream::connect(path) {
        let pid = getsockopt(&stream, PeerCredentials).map_or(0, |peer| peer.pid());
        return Err(SocketError::AlreadyRunning {
            pid,
            path: path.to_owned(),
        });
    }
    fs::remove_file(path).map_err(|source| SocketError::Io {
        action: "replace the socket of a dead daemon at",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(path: &Path) -> Result<Socket, SocketError> {
        let api = config::Api {
            socket: path.to_owned(),
            ..config::Api::default()
        };
        super::listen(&api).map(|(listener, _)| listener)
    }

    #[tokio::test]
    async fn everyone_may_open_a_socket_that_everyone_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let api = config::Api {
            socket: folder.path().join("abuser.sock"),
            read_only: ReadOnly::Everyone,
            ..config::Api::default()
        };
        let _listener = super::listen(&api).unwrap();
        let mode = fs::metadata(&api.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }

    #[tokio::test]
    async fn a_group_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let api = config::Api {
            socket: folder.path().join("abuser.sock"),
            group: Some("no-such-group".to_owned()),
            ..config::Api::default()
        };
        let error = super::listen(&api).unwrap_err();
        assert!(matches!(error, SocketError::NoGroup { .. }), "{error}");
        assert!(!api.socket.exists());
    }

    #[tokio::test]
    async fn a_dead_daemon_s_socket_is_replaced_and_a_live_one_s_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/abuser.sock");
        let first = listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = listen(&path).unwrap_err();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(
            matches!(error, SocketError::AlreadyRunning { pid: found, .. } if found == pid),
            "{error}"
        );
        drop(first);
        listen(&path).unwrap();
    }

    #[tokio::test]
    async fn what_took_the_socket_s_place_is_not_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abuser.sock");
        let listener = listen(&path).unwrap();
        let guard = Guard::new(&listener);
        // Kept in place while the file is made, so that its inode is not used again.
        fs::rename(&path, folder.path().join("moved")).unwrap();
        fs::write(&path, "data").unwrap();
        drop(guard);
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        let path = folder.path().join("other.sock");
        let listener = listen(&path).unwrap();
        drop(Guard::new(&listener));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_removes_is_made_again_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/abuser.sock");
        let mut socket = listen(&path).unwrap();
        let guard = Guard::new(&socket);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let connected = async {
            loop {
                match tokio::net::UnixStream::connect(&path).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let (_accepted, _stream) = tokio::join!(socket.accept(), connected);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(guard);
        assert!(!path.exists());
        // What took its place stays.
        fs::write(&path, "data").unwrap();
        socket.look();
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn a_file_in_the_socket_s_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
