//! What a guest's first process does: sets up what tests need, runs them, and ends. Its end is the kernel's,
//! too, and qemu's.
//!
//! It writes to the second serial line. The first one is the kernel's, whose words would else come
//! in the middle of a test's.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use nix::{
    kmod::{self, ModuleInitFlags},
    mount::MsFlags,
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

use super::INSIDE;
use crate::{Namespace, context};

/// Where the binary under test is.
pub(super) const BINARY: &str = "/abuser";
/// Where the modules are, to be loaded in the order of their names.
pub(super) const MODULES: &str = "/modules";
/// Where the suites are, to be run in the order of their names: folders with [`RUN`] and [`ARGUMENTS`].
pub(super) const SUITES: &str = "/suites";
/// The binary.
pub(super) const RUN: &str = "run";
/// Its arguments, one a line.
pub(super) const ARGUMENTS: &str = "arguments";
/// Said before all else.
pub(super) const READY: &str = "guest: ready";
/// Said when all suites have ended.
pub(super) const DONE: &str = "guest: done";
/// Said before a suite, in front of its name.
pub const BEGINS: &str = "guest: begins ";
/// Said after a suite, in front of how it ended.
pub(super) const ENDED: &str = "guest: ended: ";

const LINE: &str = "/dev/ttyS1";

/// Runs all suites, whatever becomes of each.
pub fn run() -> io::Result<()> {
    set_up()?;
    let mut line = File::options().write(true).open(LINE)?;
    writeln!(line, "{READY}")?;
    for suite in in_order(SUITES)? {
        let name = suite.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split_once('-').map_or(&*name, |(_, name)| name);
        writeln!(line, "{BEGINS}{name}")?;
        let status = run_suite(&suite, &line)?;
        writeln!(line, "{ENDED}{status}")?;
    }
    writeln!(line, "{DONE}")?;
    // What is written is on its way; it is out when the line is drained.
    nix::sys::termios::tcdrain(&line)?;
    Ok(())
}

fn set_up() -> io::Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        let none = None::<&str>;
        nix::mount::mount(Some(kind), target, Some(kind), MsFlags::empty(), none)
            .map_err(|error| context(&error.into(), format!("cannot mount {target}")))?;
    }
    for module in in_order(MODULES)? {
        let flags = if module.extension() == Some(OsStr::new("xz")) {
            ModuleInitFlags::from_bits_retain(4) // MODULE_INIT_COMPRESSED_FILE
        } else {
            ModuleInitFlags::empty()
        };
        kmod::finit_module(&File::open(&module)?, c"", flags)
            .map_err(|error| context(&error.into(), format!("cannot load {}", module.display())))?;
    }
    Namespace::current()?.interface("lo")?.up()
}

fn run_suite(suite: &Path, line: &File) -> io::Result<ExitStatus> {
    let arguments = fs::read_to_string(suite.join(ARGUMENTS))?;
    let child = Command::new(suite.join(RUN))
        .args(arguments.lines())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("ABUSER_BIN", BINARY)
        .env("CI", "1")
        .env("RUST_BACKTRACE", "0")
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(line.try_clone()?)
        .stderr(line.try_clone()?)
        .spawn()?;
    let suite = Pid::from_raw(child.id().cast_signed());
    // Whoever loses its parent becomes a child of the first process.
    loop {
        match waitpid(None, None)? {
            WaitStatus::Exited(pid, code) if pid == suite => {
                return Ok(ExitStatus::from_raw(code << 8));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == suite => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            _ => {}
        }
    }
}

fn in_order(folder: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| context(&error, folder))?;
    let mut paths: Vec<_> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
