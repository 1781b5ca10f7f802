//! A command on a terminal, and what is seen there.
//!
//! Standard output is a terminal, so that tables have their headers. Standard error is a pipe,
//! or there would be colours and progress bars; what comes there is shown first.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How long anything may take that is done in milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command that runs, and what it has printed.
pub(super) struct Running {
    child: Child,
    streams: Vec<(Arc<Mutex<Heard>>, JoinHandle<()>)>,
}

struct Heard {
    lines: Vec<String>,
    last: Instant,
}

impl Running {
    /// Starts a command whose output is a terminal's.
    pub(super) fn on_a_terminal(mut command: Command) -> Self {
        let (ours, theirs) = terminal();
        command.stdout(theirs).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        // While we hold the other end, ours does not end.
        drop(command);
        let stderr = child.stderr.take().expect("it is a pipe");
        Self {
            child,
            streams: vec![listen(stderr), listen(ours)],
        }
    }

    /// Starts a daemon: both its streams are one pipe, and shown as they come.
    pub(super) fn as_a_daemon(mut command: Command) -> Self {
        let (ours, theirs) = std::io::pipe().expect("a pipe");
        let again = theirs.try_clone().expect("a descriptor");
        command.stdout(theirs).stderr(again);
        let child = spawn(&mut command);
        drop(command);
        Self {
            child,
            streams: vec![listen(ours)],
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not come in time; the command is killed then.
    pub(super) fn finish(mut self, what: &str) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            if Instant::now() > deadline {
                self.signal(Signal::SIGKILL);
                let printed = self.printed().join("\n");
                panic!("{what} had not ended after {PATIENCE:?}; it printed:\n{printed}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.wait().expect("our own child");
        // They end with the last of those who may write.
        let readers = self.streams.iter().map(|(_, reader)| reader);
        for reader in readers {
            while !reader.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
        }
        (status, self.printed())
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// What was printed so far.
    pub(super) fn printed(&self) -> Vec<String> {
        let heard = self.streams.iter().map(|(heard, _)| lock(heard));
        heard.flat_map(|heard| heard.lines.clone()).collect()
    }

    /// Waits until nothing more comes.
    pub(super) fn await_quiet(&mut self, quiet: Duration) {
        let started = Instant::now();
        while !self.has_ended() && started.elapsed() < PATIENCE {
            let last = self.streams.iter().map(|(heard, _)| lock(heard).last);
            let last = last.max().unwrap_or(started).max(started);
            if last.elapsed() >= quiet {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal to the command and what it has started.
    pub(super) fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        let _ended = killpg(group, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
            let _status = self.child.wait();
        }
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

fn listen(stream: impl Read + Send + 'static) -> (Arc<Mutex<Heard>>, JoinHandle<()>) {
    let heard = Arc::new(Mutex::new(Heard {
        lines: Vec::new(),
        last: Instant::now(),
    }));
    let shared = Arc::clone(&heard);
    let reader = thread::spawn(move || {
        // A terminal whose other end is closed is an error, not an end.
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut heard = lock(&shared);
            heard.lines.push(line.trim_end_matches('\r').to_owned());
            heard.last = Instant::now();
        }
    });
    (heard, reader)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both ends of a terminal of a usual size: ours, and the command's.
fn terminal() -> (File, File) {
    // Not `openpty`: what other threads start meanwhile would inherit both ends.
    let ours = File::options().read(true).write(true).open("/dev/ptmx");
    let ours = ours.expect("a terminal");
    let size = libc::winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let how = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let (fd, unlocked) = (ours.as_raw_fd(), 0);
    // SAFETY: the descriptor is that of a terminal's own end, and what is pointed to lives
    // through the calls.
    let theirs = unsafe {
        libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked);
        libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size);
        libc::ioctl(fd, libc::TIOCGPTPEER, how)
    };
    let error = std::io::Error::last_os_error();
    assert!(theirs >= 0, "no terminal: {error}");
    // SAFETY: it was opened just now, for us alone.
    (ours, unsafe { File::from_raw_fd(theirs) })
}
