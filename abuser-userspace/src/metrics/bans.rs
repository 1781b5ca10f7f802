//! Bans, and how full the tables are.

use std::fmt;

use super::{
    Readings,
    page::{Family, Page},
};

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let bans = || {
        let bans = readings.engine.bans.iter();
        bans.map(|bans| ([("cause", bans.cause.name())], bans))
    };
    page.gauges(
        Family::new("bans", "Bans in force."),
        bans().map(|(labels, bans)| (labels, bans.in_force as u64)),
    )?;
    page.counters(
        Family::new(
            "bans_made",
            "Bans that were made; a ban that is renewed is no new one.",
        ),
        bans().map(|(labels, bans)| (labels, bans.made)),
    )?;
    let status = &readings.engine.status;
    let capacity = status.capacity;
    let tables = [
        ("bans", status.bans, capacity.bans as usize),
        ("allow", status.allow, capacity.allow as usize),
        ("throttles", status.throttles, capacity.throttles as usize),
        ("limits", status.limits, capacity.limits as usize),
        ("buckets", status.buckets.active, status.buckets.capacity),
        (
            "verified",
            status.verified.sources,
            status.verified.capacity,
        ),
    ];
    page.gauges(
        Family::new("table_entries", "Entries of a table of the XDP program."),
        tables.map(|(table, entries, _)| ([("table", table)], entries as u64)),
    )?;
    page.gauges(
        Family::new("table_capacity", "Entries that the table has room for."),
        tables.map(|(table, _, capacity)| ([("table", table)], capacity as u64)),
    )?;
    page.counter(
        Family::new(
            "bucket_evictions",
            "Buckets that were not full and made room for others.",
        ),
        status.buckets.evictions,
    )
}
