//! Running qemu: it is killed when this process dies, and when nothing is heard of the guest for too long.

use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

use super::{
    Guest,
    inside::{DONE, READY},
};
use crate::{context, peers};

/// For how long a guest may say nothing while it boots: it takes ten seconds on a machine that is idle.
const SILENT_BOOT: Duration = Duration::from_secs(120);
/// For how long it may say nothing later: no test takes a third of that on a machine that is idle.
const SILENT_TEST: Duration = Duration::from_secs(300);

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It ran everything; whether the tests passed is another matter.
    Ran,
    /// The kernel died, or the first process.
    Died,
    /// It said nothing for so long, and was killed.
    Silent(Duration),
}

/// What is left of a guest.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// Whether a suite ended otherwise than well.
    pub failed: bool,
    /// The last line that it began and did not end: the test that was running.
    pub unfinished: String,
    /// What the kernel said, and qemu.
    pub console: String,
}

impl Ended {
    /// Whether all ran and nothing failed.
    pub fn passed(&self) -> bool {
        self.how == How::Ran && !self.failed
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            how,
            failed: _,
            unfinished,
            console,
        } = self;
        match how {
            How::Ran => write!(f, "the guest ran to its end")?,
            How::Died => write!(f, "the guest died")?,
            How::Silent(time) => write!(f, "the guest said nothing for {} s", time.as_secs())?,
        }
        if !unfinished.is_empty() {
            write!(f, " during: {}", unfinished.trim_end_matches(['.', ' ']))?;
        }
        write!(f, "\nits console:\n{}", console.trim_end())
    }
}

/// Boots a guest, hands over each line that it says, and waits for its end.
///
/// # Errors
/// If it cannot be started: no qemu, no kernel, no room for its file system.
pub fn boot(guest: &Guest<'_>, on_line: &mut dyn FnMut(&str)) -> io::Result<Ended> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("initramfs");
    let console = folder.path().join("console");
    guest.pack(&image)?;
    let mut qemu = start(guest, &image, &console)?;
    let heard = listen(&mut qemu, on_line);
    // It may have ended by itself.
    let _ended = qemu.kill();
    let _reaped = qemu.wait();
    let Heard {
        how,
        failed,
        unfinished,
    } = heard?;
    let said = fs::read(&console).unwrap_or_default();
    let mut console = String::from_utf8_lossy(&said).replace('\r', "");
    if let Some(mut errors) = qemu.stderr.take() {
        // A few words at most, which the pipe holds.
        let _rest = errors.read_to_string(&mut console);
    }
    Ok(Ended {
        how,
        failed,
        unfinished,
        console,
    })
}

fn start(guest: &Guest<'_>, image: &Path, console: &Path) -> io::Result<Child> {
    let qemu = peers::path("qemu-system-x86_64")?;
    let mut command = Command::new(&qemu);
    command
        // Without what has the kernel copy octet by octet, which qemu emulates one by one.
        .args(["-cpu", "max,-erms,-fsrm", "-smp", "2"])
        .args(["-accel", "tcg,thread=multi"])
        .args(["-m", "1536", "-nic", "none", "-no-reboot"])
        .args(["-display", "none", "-monitor", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(guest.kernel.image()?)
        .arg("-initrd")
        .arg(image)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let parent = std::process::id();
    let die_with_parent = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid().as_raw().cast_unsigned() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only two system calls are made, and errors are built without allocating.
    unsafe { command.pre_exec(die_with_parent) };
    command
        .spawn()
        .map_err(|error| context(&error, format!("cannot start {}", qemu.display())))
}

#[derive(Debug, PartialEq, Eq)]
struct Heard {
    how: How,
    failed: bool,
    unfinished: String,
}

/// Hears the guest out.
fn listen(qemu: &mut Child, on_line: &mut dyn FnMut(&str)) -> io::Result<Heard> {
    let mut output = qemu
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("qemu has no output"))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    Ok(hear_out(&receiver, SILENT_BOOT, SILENT_TEST, on_line))
}

fn hear_out(
    receiver: &Receiver<Vec<u8>>,
    silent_boot: Duration,
    silent_test: Duration,
    on_line: &mut dyn FnMut(&str),
) -> Heard {
    let mut hearing = Hearing::default();
    let how = loop {
        let patience = if hearing.ready {
            silent_test
        } else {
            silent_boot
        };
        match receiver.recv_timeout(patience) {
            Ok(bytes) => hearing.hear(&bytes, on_line),
            Err(RecvTimeoutError::Timeout) => break How::Silent(patience),
            Err(RecvTimeoutError::Disconnected) if hearing.done => break How::Ran,
            Err(RecvTimeoutError::Disconnected) => break How::Died,
        }
    };
    Heard {
        how,
        failed: hearing.failed,
        unfinished: String::from_utf8_lossy(&hearing.line).into_owned(),
    }
}

#[derive(Default)]
struct Hearing {
    line: Vec<u8>,
    ready: bool,
    done: bool,
    failed: bool,
}

impl Hearing {
    fn hear(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line), on_line);
                }
                byte => self.line.push(byte),
            }
        }
    }

    fn take(&mut self, line: &str, on_line: &mut dyn FnMut(&str)) {
        match line {
            READY => self.ready = true,
            DONE => self.done = true,
            _ => {}
        }
        if let Some(status) = line.strip_prefix(super::inside::ENDED) {
            self.failed |= status != "exit status: 0";
        }
        on_line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    /// What is heard of a guest that says this in these parts, and then ends.
    fn heard(parts: &[&str]) -> (Heard, Vec<String>) {
        let (sender, receiver) = mpsc::channel();
        for part in parts {
            sender.send(part.as_bytes().to_vec()).unwrap();
        }
        drop(sender);
        let mut lines = Vec::new();
        let heard = hear_out(&receiver, LONG, LONG, &mut |line| {
            lines.push(line.to_owned());
        });
        (heard, lines)
    }

    #[test]
    fn a_guest_that_ran_is_told_from_one_that_died_or_whose_tests_failed() {
        let passed = "guest: ready\r\nguest: begins a\r\nguest: ended: exit status: 0\r\n";
        let (all, lines) = heard(&[passed, "guest: do", "ne\r\n"]);
        assert_eq!((all.how, all.failed), (How::Ran, false));
        assert_eq!(lines[1], "guest: begins a");

        let failed = passed.replace("status: 0", "status: 101") + "guest: done\n";
        let (some, _) = heard(&[&failed]);
        assert_eq!((some.how, some.failed), (How::Ran, true));

        let (dead, _) = heard(&["guest: ready\ntest bans::a ... "]);
        assert_eq!(dead.how, How::Died);
        assert_eq!(dead.unfinished, "test bans::a ... ");
    }

    #[test]
    fn a_guest_that_says_nothing_is_given_up() {
        let (sender, receiver) = mpsc::channel();
        let booting = hear_out(&receiver, SHORT, LONG, &mut |_| {});
        assert_eq!(booting.how, How::Silent(SHORT));
        sender.send(b"guest: ready\ntest a ... ".to_vec()).unwrap();
        let testing = hear_out(&receiver, LONG, SHORT, &mut |_| {});
        assert_eq!(testing.how, How::Silent(SHORT));
        let told = Ended {
            how: testing.how,
            failed: false,
            unfinished: testing.unfinished,
            console: "BUG: soft lockup\n".to_owned(),
        };
        let told = told.to_string();
        assert!(told.contains("during: test a\n"), "{told}");
        assert!(told.ends_with("BUG: soft lockup"), "{told}");
    }
}
