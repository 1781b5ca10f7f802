//! Giving something up in all threads.
//!
//! Capabilities, Landlock and `no_new_privs` are a thread's own, and a daemon that has started has
//! many. So each is sent a signal, and gives them up in its handler, which is what glibc does for
//! `setuid` and Go for its system calls. Threads that are made meanwhile have what their maker has,
//! so it is done when a look finds none that was not asked.

#![expect(
    unsafe_code,
    reason = "what the kernel takes from one thread at a time is taken from each by a signal"
)]

use std::{
    collections::HashSet,
    fs, io, mem,
    os::fd::RawFd,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;

/// How long a thread may take; one that waits for a disk hears nothing until it has written.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shed {
    /// The capabilities that are kept.
    kept: u64,
    /// Whether programs that are run cannot have more, either.
    for_good: bool,
    /// The rules of Landlock.
    ruleset: Option<RawFd>,
}

impl Shed {
    /// Keeps these capabilities; programs that root runs have all of its own.
    pub(super) fn own(kept: u64) -> Self {
        Self {
            kept,
            for_good: false,
            ruleset: None,
        }
    }

    /// Keeps these, and nothing that is run has more.
    pub(super) fn for_good(kept: u64, ruleset: Option<RawFd>) -> Self {
        Self {
            kept,
            for_good: true,
            ruleset,
        }
    }
}

/// What the handler is to do: a [`Shed`].
static KEPT: AtomicU64 = AtomicU64::new(0);
static FOR_GOOD: AtomicBool = AtomicBool::new(false);
static RULESET: AtomicI32 = AtomicI32::new(-1);
/// How many threads have done so.
static DONE: AtomicU64 = AtomicU64::new(0);
/// The last error that one met.
static FAILED: AtomicI32 = AtomicI32::new(0);

/// Gives it up in all threads. An error may have left some with what they had.
pub(super) fn shed(what: &Shed) -> io::Result<()> {
    KEPT.store(what.kept, Ordering::SeqCst);
    FOR_GOOD.store(what.for_good, Ordering::SeqCst);
    RULESET.store(what.ruleset.unwrap_or(-1), Ordering::SeqCst);
    FAILED.store(0, Ordering::SeqCst);
    let signal = libc::SIGRTMIN() + 3;
    let before = handle(signal)?;
    in_each(signal)?;
    // Unless a thread was not reached: its signal may come yet, and would end the process.
    restore(signal, &before)?;
    match FAILED.load(Ordering::SeqCst) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn in_each(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: it takes no argument and touches no memory.
    let own = unsafe { libc::gettid() };
    in_this();
    let mut asked = HashSet::from([own]);
    loop {
        let mut found = false;
        for entry in fs::read_dir("/proc/self/task")? {
            let name = entry?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if asked.insert(thread) {
                ask(thread, signal)?;
                found = true;
            }
        }
        if !found {
            return Ok(());
        }
    }
}

/// Has a thread do it, and waits until it has, or is gone.
fn ask(thread: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    let done = DONE.load(Ordering::SeqCst);
    if !send(thread, signal)? {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    while DONE.load(Ordering::SeqCst) == done {
        thread::sleep(Duration::from_micros(50));
        if !send(thread, 0)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("thread {thread} did not answer within {PATIENCE:?}"),
            ));
        }
    }
    Ok(())
}

/// Sends a thread a signal; false if it is gone.
fn send(thread: libc::pid_t, signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: the call takes numbers and touches no memory; the signal has a handler, or is none.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    match Errno::result(sent) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Installs the handler, and returns what was there.
fn handle(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all bytes zero are an action: the default one, with no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = on_signal;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both actions outlive the call, and the handler does what handlers may do only.
    let set = unsafe { libc::sigaction(signal, &raw const action, &raw mut before) };
    Errno::result(set)?;
    Ok(before)
}

fn restore(signal: libc::c_int, before: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the action is what the kernel has returned, and outlives the call.
    let set = unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    Errno::result(set)?;
    Ok(())
}

extern "C" fn on_signal(_signal: libc::c_int) {
    let interrupted = Errno::last_raw();
    in_this();
    Errno::set_raw(interrupted);
    DONE.fetch_add(1, Ordering::SeqCst);
}

/// Gives it up in this thread. A signal handler: system calls on numbers and this stack, and nothing else.
fn in_this() {
    let kept = KEPT.load(Ordering::SeqCst);
    if FOR_GOOD.load(Ordering::SeqCst) {
        note(no_new_privileges());
        let ruleset = RULESET.load(Ordering::SeqCst);
        if ruleset >= 0 {
            // SAFETY: the call takes a descriptor, which is open until all threads are done, and a flag.
            let restricted = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
            note(Errno::result(restricted).map(drop));
        }
        for capability in (0..64).filter(|capability| kept & (1 << capability) == 0) {
            // Who has not CAP_SETPCAP has nothing in his own sets either, from which this keeps programs; and
            // the kernel does not know all 64.
            // SAFETY: the call takes numbers and touches no memory.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
    note(keep_capabilities(kept));
}

fn note(done: nix::Result<()>) {
    if let Err(errno) = done {
        FAILED.store(errno as i32, Ordering::SeqCst);
    }
}

/// Nothing that this thread runs has more than it has. May be called in a signal handler, and between fork and exec.
pub(super) fn no_new_privileges() -> nix::Result<()> {
    // SAFETY: the call takes numbers and touches no memory.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// `__user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `__user_cap_data_struct`: half of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64.
const VERSION: u32 = 0x2008_0522;

/// Of this thread's capabilities keeps these at most; none is inherited by what it runs. May be called in a signal handler,
/// and between fork and exec.
pub(super) fn keep_capabilities(kept: u64) -> nix::Result<()> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut halves = [Half::default(); 2];
    // SAFETY: the header and both halves are as the kernel has them, and outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    Errno::result(got)?;
    for (half, kept) in halves.iter_mut().zip([kept & 0xffff_ffff, kept >> 32]) {
        let kept = u32::try_from(kept).unwrap_or(0);
        half.permitted &= kept;
        half.effective &= kept;
        half.inheritable = 0;
    }
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    // With that the ambient set is empty: it holds what is permitted and inheritable.
    Errno::result(set).map(drop)
}
