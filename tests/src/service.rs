//! A server of somebody else's that a test runs in the foreground.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{context, stream};

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How long it may take to leave after SIGTERM before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// A running server.
///
/// Dropping it, also in a panic, ends it. Start it with [`crate::Namespace::command`] and from
/// the test's own thread: then a `kill -9` of the test ends it too.
#[derive(Debug)]
pub struct Service {
    child: Option<Child>,
    log: PathBuf,
}

impl Service {
    /// Starts a server that writes what it says to `log`, and waits until it is `ready`; an
    /// error has the server's own words.
    pub fn start(
        mut command: Command,
        log: &Path,
        mut ready: impl FnMut() -> bool,
    ) -> io::Result<Self> {
        let file = File::create(log)
            .map_err(|error| context(&error, format!("cannot make {}", log.display())))?;
        let shown = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| context(&error, format!("cannot run {shown}")))?;
        let mut service = Self {
            child: Some(child),
            log: log.to_owned(),
        };
        let deadline = Instant::now() + START;
        while !ready() {
            let failed = match service.child.as_mut().map(Child::try_wait).transpose()? {
                Some(Some(status)) => format!("ended with {status}"),
                _ if Instant::now() > deadline => format!("had no answer within {START:?}"),
                _ => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
            };
            return Err(io::Error::other(format!(
                "{shown} {failed}; it said:\n{}",
                service.said()
            )));
        }
        Ok(service)
    }

    /// Asks it to leave (SIGTERM) and waits; kills it if it does not within 5 s.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server was stopped before");
        stream::stop(&mut child, Signal::SIGTERM, STOP).expect("stopping our own child")
    }

    /// Kills it (SIGKILL) and waits.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn kill(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server was stopped before");
        child.kill().expect("killing our own child");
        child.wait().expect("waiting for our own child")
    }

    fn said(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = stream::stop(&mut child, Signal::SIGTERM, STOP);
        }
        if thread::panicking() {
            eprintln!("--- what the server said\n{}---", self.said());
        }
    }
}
