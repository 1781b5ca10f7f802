//! A child that goes on talking, read line by line: `abuser events`.

use std::{
    io::{self, BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The lines of a running command's standard output, as they come.
///
/// Dropping it interrupts the command (SIGINT, then SIGKILL after two seconds).
#[derive(Debug)]
pub struct LineStream {
    child: Child,
    lines: Receiver<String>,
}

impl LineStream {
    /// Starts `command`; its standard error goes where the caller's goes.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no pipe"))?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line, or `None` if none comes in time or the command has ended.
    pub fn next_line(&self, timeout: Duration) -> Option<String> {
        self.lines.recv_timeout(timeout).ok()
    }

    /// The lines that have come and were not read yet.
    pub fn pending(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The first line that `wanted` accepts; those before it are passed over.
    ///
    /// # Panics
    /// With the lines seen, if none comes in time or the command ends first.
    #[track_caller]
    pub fn wait_for(&self, timeout: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + timeout;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no such line within {timeout:?}; seen: {seen:#?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the command ended without such a line; seen: {seen:#?}")
                }
            }
        }
    }

    /// Interrupts the command and waits for its end.
    pub fn interrupt(&mut self) -> io::Result<ExitStatus> {
        stop(&mut self.child, Signal::SIGINT, Duration::from_secs(2))
    }

    /// Waits for the command to end by itself; `None` if it has not in time.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        wait_timeout(&mut self.child, timeout)
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        let _ended = self.interrupt();
    }
}

/// Sends `signal`, and SIGKILL if the child is still there after `patience`.
pub(crate) fn stop(
    child: &mut Child,
    signal: Signal,
    patience: Duration,
) -> io::Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    send(child, signal)?;
    if let Some(status) = wait_timeout(child, patience)? {
        return Ok(status);
    }
    child.kill()?;
    child.wait()
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn send(child: &Child, signal: Signal) -> io::Result<()> {
    kill(Pid::from_raw(child.id().cast_signed()), signal)?;
    Ok(())
}

fn wait_timeout(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
