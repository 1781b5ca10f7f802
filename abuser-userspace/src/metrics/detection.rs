//! Logs and detectors.

use std::fmt;

use super::{
    Readings,
    page::{Family, Page, timestamp},
};
use crate::api::types::{DetectorStatus, SourceStatus};

pub(super) fn write(page: &mut Page<'_>, readings: &Readings) -> fmt::Result {
    let detection = &readings.detection;
    page.gauge(
        Family::new(
            "detection_up",
            "1 unless the thread that reads logs has failed.",
        ),
        i64::from(detection.error.is_none()),
    )?;
    sources(page, &detection.sources)?;
    detectors(page, &detection.detectors)
}

fn sources(page: &mut Page<'_>, sources: &[SourceStatus]) -> fmt::Result {
    let each = |count: fn(&SourceStatus) -> u64| {
        sources
            .iter()
            .map(move |source| ([("source", source.name.as_str())], count(source)))
    };
    page.counters(
        Family::new("source_lines", "Lines that were read of a log."),
        each(|source| source.lines),
    )?;
    page.counters(
        Family::bytes("source_read", "Bytes that were read of a log."),
        each(|source| source.bytes),
    )?;
    page.gauges(
        Family::bytes(
            "source_lag",
            "Bytes that are written to a log's files and not read yet.",
        ),
        each(|source| source.lag_bytes),
    )?;
    page.gauges(
        Family::seconds(
            "source_last_read_timestamp",
            "When the last line of a log was read, in seconds since 1970.",
        ),
        sources.iter().filter_map(|source| {
            let at = timestamp(source.read.as_deref()?)?;
            Some(([("source", source.name.as_str())], at))
        }),
    )?;
    page.gauges(
        Family::new(
            "source_up",
            "1 unless a log cannot be read, or not all of it.",
        ),
        each(|source| u64::from(source.error.is_none())),
    )?;
    page.gauges(
        Family::new("source_files", "Files that are followed."),
        each(|source| source.files),
    )?;
    let skipped = sources.iter().flat_map(|source| {
        [
            ("lost", source.lost),
            ("cut", source.cut),
            ("unparsed", source.unparsed),
            ("stale", source.stale),
            ("ahead", source.ahead),
        ]
        .map(|(problem, count)| {
            let labels = [("source", source.name.as_str()), ("problem", problem)];
            (labels, count)
        })
    });
    page.counters(
        Family::new(
            "source_problem_lines",
            "Lines of a log that were lost, cut, of no known form, too old to count, or from the future.",
        ),
        skipped,
    )
}

fn detectors(page: &mut Page<'_>, detectors: &[DetectorStatus]) -> fmt::Result {
    let each = |count: fn(&DetectorStatus) -> u64| {
        detectors
            .iter()
            .map(move |detector| ([("detector", detector.name.as_str())], count(detector)))
    };
    page.counters(
        Family::new(
            "detector_matches",
            "Records that a detector's condition held for.",
        ),
        each(|detector| detector.matched),
    )?;
    page.counters(
        Family::new("detector_findings", "What a detector found."),
        each(|detector| detector.found),
    )?;
    page.gauges(
        Family::new(
            "detector_tracked",
            "Sources, or whatever else it counts by, that a detector remembers.",
        ),
        each(|detector| detector.tracked),
    )?;
    page.gauges(
        Family::new("detector_capacity", "How many of them it has room for."),
        each(|detector| detector.capacity),
    )?;
    page.counters(
        Family::new(
            "detector_evictions",
            "How many of them it forgot because there was no room.",
        ),
        each(|detector| detector.evicted),
    )
}
