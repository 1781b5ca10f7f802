//! Wall-clock times as the API writes them (RFC 3339, UTC, milliseconds), and how the clocks stand to each
//! other.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::gcra::KernelTime;
use nix::time::{ClockId, clock_gettime};

use crate::{
    dataplane::{kernel_now, wall_clock},
    store::ClockRow,
};

/// The time now.
pub fn now() -> String {
    format(SystemTime::now())
}

/// A wall-clock time; one that no calendar has is the latest that one has.
pub fn format(time: SystemTime) -> String {
    /// The last second of the year 9999.
    const LATEST: Duration = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.min(UNIX_EPOCH + LATEST)).to_string()
}

/// A kernel time on the wall clock; `None` for 0, which stands for never.
pub fn format_kernel(time_ns: u64) -> Option<String> {
    (time_ns != 0).then(|| format(wall_clock(KernelTime(time_ns))))
}

/// The kernel time `after` from now; never 0.
pub fn kernel_deadline(after: Duration) -> u64 {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    kernel_now().0.saturating_add(after).max(1)
}

/// How the clocks stand to each other; `None` where that cannot be told, which a look a moment later
/// may change.
pub fn standing() -> Option<ClockRow> {
    /// What may pass while the clocks are read.
    const AT_ONCE: Duration = Duration::from_millis(50);
    let read = |clock| clock_gettime(clock).map(Duration::from).ok();
    let running = read(ClockId::CLOCK_MONOTONIC)?;
    let since_boot = read(ClockId::CLOCK_BOOTTIME)?;
    let wall = read(ClockId::CLOCK_REALTIME)?;
    if read(ClockId::CLOCK_MONOTONIC)?.saturating_sub(running) > AT_ONCE {
        return None;
    }
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Some(ClockRow {
        boot: (*BOOT)?,
        slept_ms: millis(since_boot.saturating_sub(running)),
        ahead_ms: millis(wall).saturating_sub(millis(since_boot)),
    })
}

/// A number that this boot has and no other one.
static BOOT: LazyLock<Option<i64>> = LazyLock::new(|| {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits = id.chars().filter(char::is_ascii_hexdigit).take(16);
    let number = u64::from_str_radix(&digits.collect::<String>(), 16);
    Some(number.ok()?.cast_signed())
});
