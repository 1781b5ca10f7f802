//! `GET /metrics`: what the daemon knows, in the words of Prometheus.
//!
//! Nothing is counted here. The program, the engine, the store and the thread that reads logs count
//! already; a scrape asks them ([`Readings`]) and writes down what they say. Only what nobody else
//! has a use for is measured for it: how long things take ([`Latencies`]).
//!
//! No label ever holds an address: there are as many series as the configuration has limits,
//! interfaces, sources, detectors, block lists and notifiers, however many sources of packets there are.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `page` | how a family of samples is written |
//! | [`latency`] | how long things take |
//! | `traffic` | packets, limits, interfaces, events |
//! | `bans` | bans, and how full tables are |
//! | `detection` | logs and detectors |
//! | `others` | `CrowdSec`, the fleet, who is notified |
//! | `upkeep` | the store, the reconciler, block lists |
//! | `process` | the process itself, under the names that Prometheus has for that |
//!
//! To add a metric, write it in the module that it belongs to. To add a part, give what it tells a field
//! in [`Readings`], write a module with a function like theirs, and name that in `PARTS`. Then
//! describe it in `docs/METRICS.md`: a test compares the table there with a daemon's page, and says
//! what the line is to be.

mod bans;
mod detection;
pub mod latency;
mod others;
mod page;
mod process;
mod traffic;
mod upkeep;

use std::{collections::BTreeMap, fmt, sync::Arc};

use abuser_common::layout::BanCause;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

use self::page::Page;
pub use self::{latency::Latencies, process::Process};
use crate::api::types::{Detection, LimitStatus, Status, TrafficCount};

/// What begins the name of every metric but those of [`Process`].
const PREFIX: &str = "abuser";

/// The parts of the page.
const PARTS: [fn(&mut Page<'_>, &Readings) -> fmt::Result; 5] = [
    traffic::write,
    bans::write,
    detection::write,
    others::write,
    upkeep::write,
];

/// What the engine tells.
#[derive(Debug)]
pub struct EngineReadings {
    /// The daemon at a glance.
    pub status: Status,
    /// The limits.
    pub limits: Vec<LimitStatus>,
    /// Bans by what they are for.
    pub bans: Vec<CountedBans>,
    /// Packets that no interface's counters have, by what became of them.
    pub elsewhere: BTreeMap<String, TrafficCount>,
    /// Bytes of events that the program has written and nobody has read yet.
    pub unread_bytes: u64,
}

/// The bans that have one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedBans {
    /// What they are for.
    pub cause: BanCause,
    /// Those in force, with those that ended within the last half second.
    pub in_force: usize,
    /// Those that were made since the daemon started.
    pub made: u64,
}

/// All that is told at a scrape.
#[derive(Debug)]
pub struct Readings {
    /// By the engine.
    pub engine: EngineReadings,
    /// By the thread that reads logs.
    pub detection: Detection,
    /// By the kernel of this process.
    pub process: Process,
}

/// What a page is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Text,
}

impl Format {
    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }

    /// What a reader would rather have who sends this `Accept`: the text format if it names that and
    /// wants it more than `OpenMetrics` (RFC 9110, 12.5.1).
    pub fn accepted(accept: &str) -> Self {
        let weight = |media: &str| {
            let mut best = None;
            for range in accept.split(',') {
                let mut parts = range.split(';').map(str::trim);
                if !parts
                    .next()
                    .is_some_and(|range| range.eq_ignore_ascii_case(media))
                {
                    continue;
                }
                let weight = parts
                    .filter_map(|part| part.split_once('='))
                    .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
                    .map_or(Some(1.0), |(_, weight)| weight.trim().parse::<f64>().ok());
                let weight = weight.unwrap_or(0.0);
                best = Some(best.map_or(weight, |best: f64| best.max(weight)));
            }
            best
        };
        let text = weight("text/plain").unwrap_or(0.0);
        let open = weight("application/openmetrics-text").unwrap_or(0.0);
        if text > open {
            Self::Text
        } else {
            Self::OpenMetrics
        }
    }
}

/// Writes the page.
///
/// # Errors
/// None that a text has.
pub fn write(
    readings: Readings,
    latencies: &Latencies,
    format: Format,
) -> Result<String, fmt::Error> {
    let readings = Arc::new(readings);
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix(PREFIX);
    own.register_collector(Box::new(Told(Arc::clone(&readings))));
    latencies.register(own);
    registry.register_collector(Box::new(OfProcess(readings)));
    let mut page = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut page, &registry)?,
        Format::Text => prometheus_text::encode(&mut page, &registry)?,
    }
    Ok(page)
}

/// What was told, as families.
#[derive(Debug)]
struct Told(Arc<Readings>);

impl Collector for Told {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        PARTS.iter().try_for_each(|part| part(&mut page, &self.0))
    }
}

/// The families that have no prefix.
#[derive(Debug)]
struct OfProcess(Arc<Readings>);

impl Collector for OfProcess {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        process::write(&mut Page::new(encoder), &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_format_that_it_asks_for_and_open_metrics_if_it_does_not_care() {
        use Format::{OpenMetrics, Text};
        for (accept, expected) in [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            ("text/html, */*;q=0.8", OpenMetrics),
            ("text/plain", Text),
            ("Text/Plain; version=0.0.4", Text),
            ("application/openmetrics-text", OpenMetrics),
            ("text/plain, application/openmetrics-text", OpenMetrics),
            ("text/plain;q=0.6,application/openmetrics-text;q=0.5", Text),
            ("text/plain;q=x", OpenMetrics),
            // As Prometheus 2.42 says it.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
