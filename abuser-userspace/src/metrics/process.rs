//! The process itself, under the names that Prometheus's own libraries have for it.

use std::{fmt, fs};

use nix::{
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage},
        time::TimeValLike as _,
    },
    unistd::{SysconfVar, sysconf},
};

use super::{
    Readings,
    page::{Family, Page, timestamp},
};

/// What the kernel says of this process; `None` of what it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Seconds that its threads spent on processors, in the kernel included.
    cpu_seconds: Option<f64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Process {
    /// Asks the kernel.
    pub fn read() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu = usage.map(|usage| usage.user_time() + usage.system_time());
        let memory = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let page_size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_size = page_size.and_then(|size| u64::try_from(size).ok());
        // proc_pid_statm(5): size, then resident, in pages.
        let mut pages = memory
            .split_whitespace()
            .map(|pages| pages.parse::<u64>().ok());
        let mut bytes = || Some(pages.next()?? * page_size?);
        let open = fs::read_dir("/proc/self/fd").ok();
        Self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "microseconds of a century are exact"
            )]
            cpu_seconds: cpu.map(|cpu| cpu.num_microseconds() as f64 / 1e6),
            virtual_bytes: bytes(),
            resident_bytes: bytes(),
            // The one that the folder is read by is not meant.
            open_fds: open.map(|open| (open.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
        }
    }
}

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let Process {
        cpu_seconds,
        virtual_bytes,
        resident_bytes,
        open_fds,
        max_fds,
    } = readings.process;
    if let Some(seconds) = cpu_seconds {
        let help = "Processor time that the daemon has used, user and system.";
        page.counter(Family::seconds("process_cpu", help), seconds)?;
    }
    if let Some(started) = timestamp(&readings.engine.status.started) {
        let help = "When the daemon started, in seconds since 1970.";
        page.gauge(Family::seconds("process_start_time", help), started)?;
    }
    for (family, value) in [
        (
            Family::bytes("process_virtual_memory", "Address space of the daemon."),
            virtual_bytes,
        ),
        (
            Family::bytes(
                "process_resident_memory",
                "Memory of the daemon that is in use.",
            ),
            resident_bytes,
        ),
        (
            Family::new("process_open_fds", "Open file descriptors."),
            open_fds,
        ),
        (
            Family::new(
                "process_max_fds",
                "File descriptors that may be open at once.",
            ),
            max_fds,
        ),
    ] {
        if let Some(value) = value {
            page.gauge(family, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_a_process() {
        let before = Process::read();
        let file = fs::File::open("/proc/self/stat").expect("a file");
        let with_file = Process::read();
        drop(file);
        assert!(before.cpu_seconds.is_some() && before.max_fds.is_some());
        let (resident, all) = (
            before.resident_bytes.unwrap(),
            before.virtual_bytes.unwrap(),
        );
        assert!(resident > 100_000 && resident < all, "{before:?}");
        // Other tests open files meanwhile.
        assert!(
            before.open_fds >= Some(3) && with_file.open_fds >= Some(4),
            "{before:?}"
        );
    }
}
