//! A datagram socket that programs log to, as to a syslog daemon's.

use std::{
    fs, io,
    net::{SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
};

use abuser_detect::time::Time;
use syslog_loose::{Message, ProcId, Variant};

/// Who may write to the socket: everybody on this host, as to `/dev/log`.
const MODE: u32 = 0o666;
/// The largest datagram that is read.
const MAX_DATAGRAM: usize = 64 * 1024;

/// A socket that is listened on.
#[derive(Debug)]
pub(super) enum Syslog {
    Unix(UnixDatagram, PathBuf),
    Udp(UdpSocket),
}

impl Syslog {
    /// Listens on a unix datagram socket.
    ///
    /// # Errors
    /// If something else is there, or somebody listens on it.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix(socket, path.to_owned()))
    }

    /// Listens on UDP.
    ///
    /// # Errors
    /// If somebody listens there.
    pub(super) fn udp(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(socket))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket, _) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }

    /// Reads messages until there are none or `most` are read; whether there may be more.
    pub(super) fn turn(
        &self,
        most: usize,
        now: Time,
        take: &mut dyn FnMut(&[u8], Option<Time>),
    ) -> io::Result<bool> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        for _ in 0..most {
            let received = match self {
                Self::Unix(socket, _) => socket.recv(&mut buffer),
                Self::Udp(socket) => socket.recv(&mut buffer),
            };
            let length = match received {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let (line, stated) = line(&String::from_utf8_lossy(datagram), now);
            take(line.as_bytes(), stated);
        }
        Ok(true)
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _gone = fs::remove_file(path);
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |why: &str| io::Error::new(io::ErrorKind::AddrInUse, why.to_owned());
    if !metadata.file_type().is_socket() {
        return Err(taken("there is something else than a socket"));
    }
    let probe = UnixDatagram::unbound()?;
    match probe.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(taken("another program listens there")),
    }
}

/// A message (RFC 3164 or 5424) as a line of a log file, and when it was written, if it says so.
///
/// Its date is left out: whoever reads the line is told it.
fn line(datagram: &str, now: Time) -> (String, Option<Time>) {
    let datagram = datagram.trim_end_matches(['\n', '\0']);
    let year = year_of(now);
    let message = syslog_loose::parse_message_with_year(datagram, |_| year, Variant::Either);
    let stated = message.timestamp.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
    // What names no program was no message in either form.
    if message.appname.is_none() && message.timestamp.is_none() {
        return (datagram.to_owned(), None);
    }
    (text(&message), stated.map(Time))
}

fn text(message: &Message<&str>) -> String {
    let mut text = String::new();
    if let Some(host) = message.hostname {
        text.push_str(host);
        text.push(' ');
    }
    if let Some(program) = message.appname {
        text.push_str(program);
        match &message.procid {
            Some(ProcId::PID(pid)) => text.push_str(&format!("[{pid}]")),
            Some(ProcId::Name(name)) => text.push_str(&format!("[{name}]")),
            None => {}
        }
        text.push_str(": ");
    }
    text.push_str(message.msg);
    text
}

/// The year of a moment, in UTC.
fn year_of(now: Time) -> i32 {
    let now = i64::try_from(now.0).unwrap_or_default();
    jiff::Timestamp::from_millisecond(now).map_or(1970, |now| {
        i32::from(now.to_zoned(jiff::tz::TimeZone::UTC).year())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_either_form_are_the_lines_that_a_file_would_have() {
        // 2024-03-05T10:00:00Z
        let now = Time(1_709_632_800_000);
        for (datagram, expected, stated) in [
            (
                "<38>Mar  5 09:59:58 host sshd[17]: Failed password for x from 192.0.2.7 port 1 ssh2\n",
                "host sshd[17]: Failed password for x from 192.0.2.7 port 1 ssh2",
                true,
            ),
            (
                "<34>1 2024-03-05T09:59:58.123Z host app 99 ID47 - denied 192.0.2.7",
                "host app[99]: denied 192.0.2.7",
                true,
            ),
            // As logger(1) writes to a local socket: without a host.
            ("<13>Mar  5 09:59:58 me: denied 192.0.2.7", "me: denied 192.0.2.7", true),
            ("denied 192.0.2.7", "denied 192.0.2.7", false),
            ("", "", false),
        ] {
            let (line, time) = line(datagram, now);
            assert_eq!(line, expected);
            assert_eq!(time.is_some(), stated, "{datagram}");
        }
        let (_, time) = line("<34>1 2024-03-05T09:59:58.123Z host app 99 - - x", now);
        assert_eq!(time, Some(Time(1_709_632_798_123)));
    }
}
