//! `journalctl` as a process, which does not outlive the thread that reads.

#![expect(unsafe_code, reason = "what a child does between fork and exec")]

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{self, ChildStderr, ChildStdout, Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use super::{super::JournalConfig, Place};
use crate::sandbox::children;

/// What is kept of what it complains of, in bytes.
const MAX_SAID: usize = 1000;

/// What an entry's line is made of. Without this it would print all of it, core dumps too.
const FIELDS: &str = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_COMM,_HOSTNAME,\
                      _SOURCE_REALTIME_TIMESTAMP,_SOURCE_MONOTONIC_TIMESTAMP";

/// The process.
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
}

/// What reading from it brought.
#[derive(Debug)]
pub(super) enum Output {
    /// So many bytes.
    Some(usize),
    Nothing,
    /// It has ended: how, and what it said.
    Ended(String),
}

impl Child {
    pub(super) fn start(config: &JournalConfig, place: &Place) -> io::Result<Self> {
        let mut command = Command::new("journalctl");
        command
            .args([
                "--output=json",
                "--all",
                "--follow",
                "--no-tail",
                "--no-pager",
            ])
            .arg(format!("--output-fields={FIELDS}"));
        match place {
            Place::Start => {}
            Place::Since(micros) => {
                command.arg(format!("--since=@{}", micros / 1_000_000));
            }
            Place::After(cursor) => {
                command.arg(format!("--after-cursor={cursor}"));
            }
        }
        if let Some(folder) = &config.directory {
            command.arg("--directory").arg(folder);
        }
        command
            .arg("--")
            .args(&config.matches)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let die_too_and_only_read = || {
            children::become_reader()?;
            Ok(set_pdeathsig(Signal::SIGKILL)?)
        };
        // SAFETY: between fork and exec this makes some system calls and allocates nothing.
        unsafe { command.pre_exec(die_too_and_only_read) };
        let mut process = command.spawn()?;
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return Err(io::Error::other("its output is nowhere"));
        };
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            process,
            stdout,
            stderr: Some(stderr),
            said: Vec::new(),
        })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let stderr = self.stderr.as_ref().map(AsFd::as_fd);
        std::iter::once(self.stdout.as_fd()).chain(stderr)
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Output {
        self.listen();
        match self.stdout.read(buffer) {
            Ok(0) => Output::Ended(self.end()),
            Ok(count) => Output::Some(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Output::Nothing,
                _ => Output::Ended(error.to_string()),
            },
        }
    }

    /// What it said last on its standard error.
    pub(super) fn said(&self) -> String {
        let said = String::from_utf8_lossy(&self.said);
        said.lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .unwrap_or_default()
            .to_owned()
    }

    fn listen(&mut self) {
        let mut buffer = [0; 512];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(count) => {
                    self.said
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    let excess = self.said.len().saturating_sub(MAX_SAID);
                    self.said.drain(..excess);
                }
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::WouldBlock => {}
                        io::ErrorKind::Interrupted => continue,
                        _ => self.stderr = None,
                    }
                    return;
                }
            }
        }
    }

    /// How it ended.
    fn end(&mut self) -> String {
        // Its output has ended, so it has, or is not worth keeping.
        let ended = self.process.try_wait();
        let _gone = self.process.kill();
        let status = match ended {
            Ok(Some(status)) => Ok(status),
            _ => self.process.wait(),
        };
        self.listen();
        match (status, self.said()) {
            (Ok(status), said) if said.is_empty() => status.to_string(),
            (_, said) if !said.is_empty() => said,
            (Ok(status), _) => status.to_string(),
            (Err(error), _) => error.to_string(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}
