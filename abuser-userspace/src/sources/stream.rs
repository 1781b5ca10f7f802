//! Standard input, until it ends.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::{errno::Errno, unistd::read};

use super::{
    MAX_LINE,
    lines::Splitter,
    reader::{Driver, Turn},
};

/// A stream of lines that somebody else opened. It stays as blocking as it was, since others may
/// share it: it is read once whenever there is something.
#[derive(Debug)]
pub(super) struct Stdin {
    /// `None`: it has ended.
    stream: Option<OwnedFd>,
    splitter: Splitter,
    /// Why there is none.
    error: Option<io::Error>,
}

impl Stdin {
    pub(super) fn new() -> Self {
        match io::stdin().as_fd().try_clone_to_owned() {
            Ok(stream) => Self::of(stream),
            Err(error) => Self {
                stream: None,
                splitter: Splitter::new(MAX_LINE),
                error: Some(error),
            },
        }
    }

    pub(super) fn of(stream: OwnedFd) -> Self {
        Self {
            stream: Some(stream),
            splitter: Splitter::new(MAX_LINE),
            error: None,
        }
    }
}

impl Driver for Stdin {
    fn fds<'d>(&'d self, into: &mut Vec<BorrowedFd<'d>>) {
        into.extend(self.stream.as_ref().map(OwnedFd::as_fd));
    }

    fn turn(&mut self, ready: bool, turn: &mut Turn<'_>) {
        let Some(stream) = self.stream.as_ref().filter(|_| ready) else {
            return;
        };
        let name = turn.name;
        let gauge = turn.gauge;
        let (buffer, mut out) = turn.split();
        match read(stream, buffer) {
            Ok(0) => {
                self.splitter.finish(|line| out.plain(line));
                self.stream = None;
                gauge.set_ended();
                tracing::info!(
                    source = name,
                    "standard input has ended; other sources go on"
                );
            }
            Ok(count) => {
                let piece = buffer.get(..count).unwrap_or_default();
                self.splitter.feed(piece, |line| out.plain(line));
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => {
                self.stream = None;
                self.error = Some(errno.into());
            }
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        if let Some(error) = self.error.take() {
            let error = format!("cannot read standard input: {error}; nothing more comes from it");
            turn.gauge.set_error(Some(error));
            turn.gauge.set_ended();
        }
    }
}
