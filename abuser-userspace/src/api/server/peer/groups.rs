//! The groups of whoever connected, as the kernel knows them: no name service is asked, which
//! may be slow, and none of its answers can differ from what the socket's mode would have said.

#![expect(unsafe_code, reason = "no library asks for a peer's groups")]

use std::{io, os::fd::AsRawFd};

/// The most groups a process can have (`NGROUPS_MAX` of the kernel).
const MOST: usize = 65_536;

/// The supplementary groups that the peer had when it connected.
pub(super) fn of_peer(socket: &impl AsRawFd) -> io::Result<Vec<libc::gid_t>> {
    // Few have more, and the kernel says how many there are if they do.
    let mut groups = vec![0; 64];
    loop {
        let bytes = std::mem::size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(bytes).unwrap_or(0);
        // SAFETY: `groups` has room for `length` bytes, of a type that any bytes are valid for,
        // and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_s_groups_are_those_of_its_process() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let mut found = of_peer(&socket).unwrap();
        let mut own: Vec<_> = nix::unistd::getgroups().unwrap();
        found.sort_unstable();
        own.sort_unstable_by_key(|group| group.as_raw());
        let own: Vec<_> = own.into_iter().map(nix::unistd::Gid::as_raw).collect();
        assert_eq!(found, own);
    }

    #[test]
    fn what_is_no_unix_socket_has_no_groups() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(of_peer(&socket).is_err());
    }
}
