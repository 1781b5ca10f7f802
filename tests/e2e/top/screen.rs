//! A terminal that a program runs in: a pseudo-terminal, and what an emulator makes of what the
//! program writes to it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{self, Termios},
    },
    unistd::Pid,
};

/// How long anything may take to be seen; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program in a terminal; dropping it ends the program.
pub(crate) struct Screen {
    child: Child,
    keyboard: File,
    /// The program's end, so that its settings can be read and the terminal outlives it.
    terminal: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<vt100::Parser>>,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A number of rows or columns, of which there are some.
fn some(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has a size")
}

impl Screen {
    /// Runs a command in a terminal of this size that has colours and UTF-8, unless the command
    /// says otherwise.
    pub(crate) fn run(mut command: Command, rows: u16, columns: u16) -> Self {
        let OpenptyResult { master, slave } =
            openpty(Some(&size(rows, columns)), None).expect("a pseudo-terminal");
        let before = termios::tcgetattr(&slave).expect("its settings");
        let copy = |fd: &OwnedFd| fd.try_clone().expect("a descriptor");
        let has = |command: &Command, name: &str| command.get_envs().any(|(set, _)| set == name);
        for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8")] {
            if !has(&command, name) {
                command.env(name, value);
            }
        }
        if !has(&command, "NO_COLOR") {
            command.env_remove("NO_COLOR");
        }
        for name in ["SSH_CONNECTION", "SSH_CLIENT"] {
            command.env_remove(name);
        }
        command
            .stdin(copy(&slave))
            .stdout(copy(&slave))
            .stderr(copy(&slave));
        // SAFETY: both calls are async-signal-safe, and touch nothing of the parent's.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("running a command in a terminal");
        let shown = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), 0)));
        let mut written = File::from(copy(&master));
        let emulator = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = written.read(&mut bytes) {
                let mut parser = emulator.lock().expect("nobody panics with it");
                parser.process(&bytes[..count]);
            }
        });
        Self {
            child,
            keyboard: File::from(master),
            terminal: slave,
            before,
            shown,
        }
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.shown.lock().expect("nobody panics with it")
    }

    /// What is seen now, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let parser = self.parser();
        let (_, columns) = parser.screen().size();
        parser.screen().rows(0, columns.get()).collect()
    }

    /// Looks at what is seen now, cell by cell.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.parser().screen())
    }

    /// Waits until what is seen is as it should be.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if is_so(&lines) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}; what is seen:\n{}",
                lines.join("\n")
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until some line has these words.
    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) {
        self.wait(words, |lines| lines.iter().any(|line| line.contains(words)));
    }

    /// Waits until no line has these words.
    #[track_caller]
    pub(crate) fn wait_gone(&self, words: &str) {
        let what = format!("no {words:?}");
        self.wait(&what, |lines| {
            !lines.iter().any(|line| line.contains(words))
        });
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        let pressed = self.keyboard.write_all(keys.as_bytes());
        pressed.expect("pressing keys");
    }

    /// Makes the terminal this large.
    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        self.parser()
            .screen_mut()
            .set_size(some(rows), some(columns));
        let size = size(rows, columns);
        // SAFETY: the descriptor is open, and the size is there for the call.
        let set =
            unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0, "setting the size");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signalling our own child");
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting for our own child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it goes on:\n{}",
                self.lines().join("\n")
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the terminal is as it was before the program took it.
    #[track_caller]
    pub(crate) fn assert_restored(&self) {
        self.wait("the terminal is as it was", |_| {
            let now = termios::tcgetattr(&self.terminal).expect("its settings");
            let is_shown = self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor());
            now == self.before && is_shown
        });
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if thread::panicking() {
            eprintln!("--- what was seen last\n{}\n---", self.lines().join("\n"));
        }
    }
}
