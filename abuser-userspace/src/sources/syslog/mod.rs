//! Syslog messages, one a datagram, over a unix socket or UDP on this host.
//!
//! A datagram over UDP that finds no room is dropped, and the kernel says how many were. One for
//! a unix socket is not: whoever sends it waits, or is told.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `message` | from a message to a line |
//! | `socket` | making the socket |

mod message;
mod socket;

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

pub use self::message::Message;
pub(super) use self::message::{push_message, push_origin};
use self::socket::Socket;
use super::{
    BUDGET, MAX_LINE, SyslogConfig,
    lines::cut,
    reader::{Driver, Turn},
    watches::Watches,
};

/// How long to wait before listening is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// A source of datagrams.
#[derive(Debug)]
pub(super) struct Syslog {
    config: SyslogConfig,
    socket: Option<Socket>,
    /// When listening is tried next.
    start_at: Instant,
    /// Datagrams that the kernel has dropped at this socket.
    dropped: u32,
    /// Whether there may be more at the socket.
    is_pending: bool,
    host: String,
    line: Vec<u8>,
}

impl Syslog {
    pub(super) fn new(config: &SyslogConfig) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self {
            config: config.clone(),
            socket: None,
            start_at: Instant::now(),
            dropped: 0,
            is_pending: false,
            host: host.to_string_lossy().into_owned(),
            line: Vec::new(),
        }
    }

    fn start(&mut self, turn: &mut Turn<'_>) {
        match Socket::listen(&self.config) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.dropped = 0;
                turn.gauge.set_error(None);
            }
            Err(error) => {
                self.start_at = turn.now + PAUSE;
                turn.gauge
                    .set_error(Some(format!("{error}; it is tried again")));
            }
        }
    }

    /// Takes one datagram. Its length, if there was one.
    fn receive(&mut self, turn: &mut Turn<'_>) -> Result<usize, Errno> {
        let Some(socket) = &self.socket else {
            return Err(Errno::EAGAIN);
        };
        let (buffer, mut out) = turn.split();
        let mut control = nix::cmsg_space!(u32);
        let (length, is_whole, dropped) = {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<()>(
                socket.as_fd().as_raw_fd(),
                &mut parts,
                Some(&mut control),
                flags,
            )?;
            let dropped = received.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::RxqOvfl(count) => Some(count),
                _ => None,
            });
            (
                received.bytes,
                !received.flags.contains(MsgFlags::MSG_TRUNC),
                dropped,
            )
        };
        if let Some(dropped) = dropped {
            out.lost(u64::from(dropped.wrapping_sub(self.dropped)));
            self.dropped = dropped;
        }
        let message = Message::read(buffer.get(..length).unwrap_or_default());
        self.line.clear();
        message.line(&self.host, &mut self.line);
        let mut piece = cut(&self.line, MAX_LINE);
        piece.skipped += usize::from(!is_whole);
        out.told(piece, message.stated, message.program.as_deref());
        Ok(length)
    }
}

impl Driver for Syslog {
    fn fds<'d>(&'d self, into: &mut Vec<BorrowedFd<'d>>) {
        into.extend(self.socket.as_ref().map(Socket::as_fd));
    }

    fn is_pending(&self) -> bool {
        self.is_pending
    }

    fn due(&self) -> Option<Instant> {
        self.socket.is_none().then_some(self.start_at)
    }

    fn turn(&mut self, ready: bool, turn: &mut Turn<'_>) {
        if self.socket.is_none() && turn.now >= self.start_at {
            self.start(turn);
        }
        if !ready && !self.is_pending {
            return;
        }
        let mut budget = BUDGET;
        self.is_pending = true;
        while budget > 0 {
            match self.receive(turn) {
                // An empty one costs something, too.
                Ok(length) => budget = budget.saturating_sub(length.max(64)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.is_pending = false;
                    return;
                }
                Err(errno) => {
                    let error = format!(
                        "cannot receive at {}: {errno}; it is made anew",
                        self.config.listen
                    );
                    turn.gauge.set_error(Some(error));
                    self.socket = None;
                    self.is_pending = false;
                    self.start_at = turn.now + PAUSE;
                    return;
                }
            }
        }
    }

    /// A socket whose path was removed hears nothing more, and is made anew.
    fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.socket.as_ref().is_some_and(Socket::is_gone) {
            self.socket = None;
            self.start_at = turn.now;
        }
    }

    fn stop(&mut self, _watches: &mut Watches, _run: u64) {
        self.socket = None;
    }
}
