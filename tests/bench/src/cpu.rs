//! Which CPU a thread is on, and how it stands against others.

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Keeps this thread on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("keep a thread on CPU {cpu}"))
}

/// Has this thread go before others: what must be sent in time is, whoever else wants the CPU.
pub(crate) fn go_first() -> Result<()> {
    const HIGHEST: libc::c_int = -20;
    // SAFETY: the call takes three numbers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST) };
    Errno::result(result).context("raise the priority of a thread")?;
    Ok(())
}
