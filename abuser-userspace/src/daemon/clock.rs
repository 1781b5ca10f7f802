//! Wall-clock times as the API writes them: RFC 3339, UTC, milliseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abuser_common::gcra::KernelTime;

use crate::dataplane::{kernel_now, wall_clock};

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
