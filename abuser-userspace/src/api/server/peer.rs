//! Who is at the other end of a connection, and what he may do.

mod groups;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension,
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use nix::unistd::{Gid, Uid, User, geteuid};
use tokio::net::UnixStream;

use super::{answer::Failure, bounds::Share};
use crate::{config::ReadOnly, daemon::engine::Asker};

/// Who may do what over the unix socket.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who may only read.
    read_only: ReadOnly,
    /// The group whose members may do everything.
    group: Option<Gid>,
    /// How to say who may.
    writers: Arc<str>,
}

impl Access {
    /// For a socket of this group, if it has one.
    pub fn new(read_only: ReadOnly, group: Option<(&str, Gid)>) -> Self {
        let writers = match group {
            Some((name, _)) => format!("root and members of the group `{name}`"),
            None => "root".to_owned(),
        };
        Self {
            read_only,
            group: group.map(|(_, gid)| gid),
            writers: writers.into(),
        }
    }

    /// What a user may do who has connected.
    fn rights(&self, uid: Uid, gid: Gid, groups: impl FnOnce() -> Vec<u32>) -> Rights {
        let is_member = || {
            self.group
                .is_some_and(|group| group == gid || groups().contains(&group.as_raw()))
        };
        let may_write = match self.read_only {
            // The mode of the socket has kept everyone else out.
            ReadOnly::None => true,
            ReadOnly::Everyone => uid.is_root() || uid == geteuid() || is_member(),
        };
        if may_write {
            Rights::All
        } else {
            self.only_reading()
        }
    }

    fn only_reading(&self) -> Rights {
        Rights::Read {
            writers: Arc::clone(&self.writers),
        }
    }
}

/// What a peer may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rights {
    /// Everything.
    All,
    /// Ask, and change nothing.
    Read {
        /// Who may do more.
        writers: Arc<str>,
    },
    /// Ask, where nobody may do more.
    Get,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    who: Who,
    rights: Rights,
    share: Share,
}

#[derive(Debug, Clone, Copy)]
enum Who {
    /// A user of this host.
    User(Uid),
    /// Somebody whose name the kernel did not tell, or nobody asks for.
    Unknown,
    /// Whoever knows the token, from there.
    Remote(IpAddr),
}

impl Peer {
    /// Who has connected to the unix socket.
    pub(super) fn local(
        stream: &UnixStream,
        access: &Access,
        writers: &Share,
        readers: &Share,
    ) -> Self {
        let (who, rights) = match stream.peer_cred() {
            Ok(credentials) => {
                let uid = Uid::from_raw(credentials.uid());
                let gid = Gid::from_raw(credentials.gid());
                let groups = || groups::of_peer(stream).unwrap_or_default();
                (Who::User(uid), access.rights(uid, gid, groups))
            }
            Err(error) => {
                tracing::debug!(%error, "the kernel does not say who connected");
                (Who::Unknown, access.only_reading())
            }
        };
        let share = match rights {
            Rights::All => writers,
            Rights::Read { .. } | Rights::Get => readers,
        };
        Self {
            who,
            rights,
            share: share.clone(),
        }
    }

    /// Who has connected over TCP: no request gets far without the token.
    pub(super) fn remote(address: IpAddr, share: &Share) -> Self {
        Self {
            who: Who::Remote(address.to_canonical()),
            rights: Rights::All,
            share: share.clone(),
        }
    }

    /// Who has connected to where metrics are told, without a word who that is.
    pub(super) fn scraper(share: &Share) -> Self {
        Self {
            who: Who::Unknown,
            rights: Rights::Get,
            share: share.clone(),
        }
    }

    /// What it shares with its kind.
    pub(super) fn share(&self) -> &Share {
        &self.share
    }

    /// The user's name, or number if it has none.
    pub(super) async fn name(&self) -> Asker {
        let Who::User(uid) = self.who else {
            return self.number();
        };
        // It may take a name service to tell, and enforcement does not wait for one.
        let user = tokio::task::spawn_blocking(move || User::from_uid(uid).ok().flatten());
        let user = user.await.ok().flatten();
        user.map_or_else(|| self.number(), |user| user.name.into())
    }

    /// Who that is, without asking anybody for the user's name.
    fn number(&self) -> Asker {
        match self.who {
            Who::User(uid) => format!("user {uid}").into(),
            Who::Unknown => "somebody".into(),
            Who::Remote(address) => format!("token from {address}").into(),
        }
    }
}

/// Lets those who may only read do only that, whatever the resource.
pub(super) async fn require_rights(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match &peer.rights {
        Rights::Read { writers } if !request.method().is_safe() => {
            let name = peer.number();
            let error = format!("{name} may only read here; {writers} may change something");
            Failure::new(StatusCode::FORBIDDEN, error).into_response()
        }
        Rights::Get if !request.method().is_safe() => Failure::new(
            StatusCode::FORBIDDEN,
            "only GET here; the daemon's socket takes the rest",
        )
        .into_response(),
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Gid = Gid::from_raw(700);

    fn rights(access: &Access, uid: u32, gid: u32, groups: &[u32]) -> Rights {
        access.rights(Uid::from_raw(uid), Gid::from_raw(gid), || groups.to_vec())
    }

    #[test]
    fn root_and_members_may_do_everything_and_others_read_if_everyone_may() {
        let access = Access::new(ReadOnly::Everyone, Some(("abuser", GROUP)));
        assert_eq!(rights(&access, 0, 0, &[]), Rights::All);
        assert_eq!(rights(&access, 1000, 700, &[]), Rights::All);
        assert_eq!(rights(&access, 1000, 1000, &[4, 700]), Rights::All);
        let writers = "root and members of the group `abuser`".into();
        let read = Rights::Read { writers };
        assert_eq!(rights(&access, 1000, 1000, &[4, 70]), read);
        // Root's group is not root.
        assert_eq!(rights(&access, 1000, 0, &[0]), read);
    }

    #[test]
    fn without_a_group_only_root_may_change_something() {
        let access = Access::new(ReadOnly::Everyone, None);
        assert_eq!(rights(&access, 0, 0, &[]), Rights::All);
        let writers = "root".into();
        assert_eq!(rights(&access, 1000, 0, &[0]), Rights::Read { writers });
    }

    #[test]
    fn whom_the_socket_s_mode_lets_in_may_do_everything_unless_everyone_is() {
        let access = Access::new(ReadOnly::None, None);
        assert_eq!(rights(&access, 1000, 1000, &[]), Rights::All);
    }
}
