//! What keeps the daemon right: the store, the reconciler, block lists.

use std::{env, fmt};

use super::{
    Readings,
    page::{Family, Page, timestamp},
};
use crate::api::types::BlocklistStatus;

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let status = &readings.engine.status;
    page.gauge(
        Family::new(
            "store_up",
            "1 if what changes is on disk; 0 if it is only in memory.",
        ),
        i64::from(status.store.error.is_none()),
    )?;
    page.counter(
        Family::new(
            "store_damaged",
            "Databases that were found damaged, moved aside, and begun anew.",
        ),
        status.store.damaged.len() as u64,
    )?;
    page.gauge(
        Family::new(
            "pins_up",
            "1 if all is pinned that a crash is to leave on; 0 if the filter ends with the daemon.",
        ),
        i64::from(status.pins.error.is_none()),
    )?;
    let reconciler = status.reconciler;
    page.counter(
        Family::new(
            "reconcile_passes",
            "Comparisons of the kernel's maps and the store with what should be in them.",
        ),
        reconciler.passes,
    )?;
    page.counters(
        Family::new(
            "reconcile_repairs",
            "Entries, rows and pins that were not as they should be, and put right.",
        ),
        [
            ([("where", "kernel")], reconciler.kernel_repairs),
            ([("where", "store")], reconciler.store_repairs),
            ([("where", "pins")], status.pins.repairs),
        ],
    )?;
    blocklists(page, &status.blocklists)?;
    page.info(
        Family::new("build", "The daemon's version, and what it was built for."),
        &[
            ("version", status.version.as_str()),
            ("arch", env::consts::ARCH),
        ],
    )
}

fn blocklists(page: &mut Page<'_>, lists: &[BlocklistStatus]) -> fmt::Result {
    fn name(list: &BlocklistStatus) -> [(&'static str, &str); 1] {
        [("blocklist", list.name.as_str())]
    }
    let each = || lists.iter().map(|list| (name(list), list));
    page.gauges(
        Family::new("blocklist_entries", "Sources that a block list names."),
        each().filter_map(|(labels, list)| Some((labels, list.entries? as u64))),
    )?;
    page.gauges(
        Family::new(
            "blocklist_bad_lines",
            "Lines of a block list that were left out.",
        ),
        each().map(|(labels, list)| (labels, list.bad)),
    )?;
    page.gauges(
        Family::seconds(
            "blocklist_read_timestamp",
            "When a block list was read last, in seconds since 1970.",
        ),
        each().filter_map(|(labels, list)| Some((labels, timestamp(list.read.as_deref()?)?))),
    )?;
    page.gauges(
        Family::new("blocklist_up", "1 if what a block list says is in force."),
        each().map(|(labels, list)| (labels, u64::from(list.error.is_none()))),
    )
}
