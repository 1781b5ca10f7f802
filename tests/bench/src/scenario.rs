//! What is measured, in which unit, and what it may cost.

use clap::ValueEnum;

/// One line of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A clean source; one limit that does not match, no bans
    Clean,
    /// A clean source; 100,000 bans and 10,000 allow prefixes
    CleanLoaded,
    /// libxdp's dispatcher with one component: what it costs to be one, beside abuser alone
    Dispatcher,
    /// A banned host
    Banned,
    /// A clean source; 65,536 others are throttled by a limit that would apply to it
    Unthrottled,
    /// A throttled source within its limit
    Throttled,
    /// One source within its limit
    Conforming,
    /// One source within three limits at once
    ConformingThree,
    /// One source over its limit
    Over,
    /// Random sources out of 16 million under one limit, against an LRU hash
    RandomLimit,
    /// Random sources against 1,000,000 banned prefixes, against an LPM trie
    RandomBans,
    /// From an offence to its enforced ban, under the flood of flood-within
    Latency,
    /// What rates from 1/m to 1,000,000/s admit, on one CPU and two, of one source and of 100,000
    Rates,
    /// The daemon's own memory with no bans
    MemoryRest,
    /// `abuser ban import` of 1,000,000 prefixes into store and kernel
    Import,
    /// `abuser ban export` of them
    Export,
    /// The most memory that `abuser ban list --json` of 1,000,000 bans takes
    ListMemory,
    /// A killed daemon with 1,000,000 bans starts again
    Restart,
    /// The daemon's own memory for each of 1,000,000 bans
    MemoryBan,
    /// Bans by single requests over the socket, acknowledged when they are on disk
    ApiBans,
    /// `abuser top` beside a daemon with 10,000 bans: how much of a core it takes
    Top,
    /// An access log through a threshold with a condition
    DetectNginx,
    /// The same, against fail2ban-regex
    DetectNginxRatio,
    /// sshd's log through fail2ban's own filter, against fail2ban-regex
    DetectSshdRatio,
    /// From a line of a log to the ban in the kernel
    DetectLatency,
    /// The same, while 100,000 other lines are written in a second
    DetectLatencyBusy,
    /// What the daemon's own memory grows by for 1,000,000 sources of a threshold
    DetectMemory,
    /// After how many requests a walk through ids is found, by any stride up to 16
    DetectWalk,
    /// How many readers of ids at random are taken for walkers
    DetectReaders,
    /// From a ban on one node of a fleet to the kernels of all
    Fleet,
    /// The same, while the server that leads is killed and comes back
    FleetKilled,
    // The last: nftables' sets of millions are cleared away for seconds after them.
    /// A flood over a veth, a million sources over one limit, against nftables
    Flood,
    /// The same, 16 million sources within it: what the network stack costs besides
    FloodWithin,
}

/// The unit of a scenario's figure, by the name that JSON has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds a packet, net of a bare drop in the same run.
    NsNet,
    /// Packets a second that got a verdict.
    PacketsPerSecond,
    /// The 99th percentile, in milliseconds.
    P99Ms,
    /// Seconds.
    Seconds,
    /// Bans acknowledged in a second.
    BansPerSecond,
    /// Millions of bytes.
    Megabytes,
    /// Bytes for each ban.
    BytesPerBan,
    /// Lines in a second of a CPU.
    LinesPerSecond,
    /// Requests until it was found.
    Requests,
    /// Clients that were found and had done nothing.
    FalseFindings,
    /// Hundredths of a core.
    PercentOfCore,
    /// Hundredths of what should have been.
    ErrorPercent,
}

/// What a scenario must keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    /// The figure is at most this.
    pub(crate) at_most: Option<f64>,
    /// The figure is at least this.
    pub(crate) at_least: Option<f64>,
    /// It is so many times better than the reference.
    pub(crate) ratio: Option<f64>,
}

/// What a scenario measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// In the scenario's unit.
    pub(crate) value: f64,
    /// What the reference took, in the same unit.
    pub(crate) reference: Option<f64>,
    /// What else is worth telling, by the names that JSON has for it. It has no budget.
    pub(crate) also: Vec<(&'static str, f64)>,
    /// What the figure is the worst of.
    pub(crate) table: Option<Table>,
}

/// Several measurements.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// As Markdown.
    pub(crate) text: String,
    /// An object for each.
    pub(crate) lines: Vec<serde_json::Value>,
}

impl Scenario {
    /// Its name on the command line and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::CleanLoaded => "clean-loaded",
            Self::Dispatcher => "dispatcher",
            Self::Banned => "banned",
            Self::Unthrottled => "unthrottled",
            Self::Throttled => "throttled",
            Self::Conforming => "conforming",
            Self::ConformingThree => "conforming-three",
            Self::Over => "over",
            Self::RandomLimit => "random-limit",
            Self::RandomBans => "random-bans",
            Self::Flood => "flood",
            Self::FloodWithin => "flood-within",
            Self::Latency => "latency",
            Self::Rates => "rates",
            Self::MemoryRest => "memory-rest",
            Self::Import => "import",
            Self::Export => "export",
            Self::ListMemory => "list-memory",
            Self::Restart => "restart",
            Self::MemoryBan => "memory-ban",
            Self::ApiBans => "api-bans",
            Self::Top => "top",
            Self::DetectNginx => "detect-nginx",
            Self::DetectNginxRatio => "detect-nginx-ratio",
            Self::DetectSshdRatio => "detect-sshd-ratio",
            Self::DetectLatency => "detect-latency",
            Self::DetectLatencyBusy => "detect-latency-busy",
            Self::DetectMemory => "detect-memory",
            Self::DetectWalk => "detect-walk",
            Self::DetectReaders => "detect-readers",
            Self::Fleet => "fleet",
            Self::FleetKilled => "fleet-killed",
        }
    }

    /// Whether it is one of those that are named `detect` together.
    pub(crate) const fn is_of_detection(self) -> bool {
        matches!(
            self,
            Self::DetectNginx
                | Self::DetectNginxRatio
                | Self::DetectSshdRatio
                | Self::DetectLatency
                | Self::DetectLatencyBusy
                | Self::DetectMemory
                | Self::DetectWalk
                | Self::DetectReaders
        )
    }

    /// The unit of its figure.
    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Flood | Self::FloodWithin => Unit::PacketsPerSecond,
            Self::Latency
            | Self::DetectLatency
            | Self::DetectLatencyBusy
            | Self::Fleet
            | Self::FleetKilled => Unit::P99Ms,
            Self::Import | Self::Export | Self::Restart => Unit::Seconds,
            Self::ApiBans => Unit::BansPerSecond,
            Self::Top => Unit::PercentOfCore,
            Self::Rates => Unit::ErrorPercent,
            Self::MemoryRest | Self::ListMemory | Self::DetectMemory => Unit::Megabytes,
            Self::MemoryBan => Unit::BytesPerBan,
            Self::DetectNginx | Self::DetectNginxRatio | Self::DetectSshdRatio => {
                Unit::LinesPerSecond
            }
            Self::DetectWalk => Unit::Requests,
            Self::DetectReaders => Unit::FalseFindings,
            _ => Unit::NsNet,
        }
    }

    /// What it must keep.
    pub(crate) const fn budget(self) -> Budget {
        let (at_most, ratio) = match self {
            Self::Clean => (Some(12.0), None),
            Self::CleanLoaded | Self::Unthrottled => (Some(25.0), None),
            Self::Throttled => (Some(120.0), None),
            Self::Banned | Self::MemoryRest => (Some(40.0), None),
            Self::Conforming | Self::Over => (Some(60.0), None),
            Self::RandomLimit => (Some(110.0), Some(4.0)),
            Self::RandomBans => (Some(170.0), Some(6.0)),
            Self::Flood => (None, Some(4.0)),
            // The one is told for the whole picture, for most of it is the stack's; the others have
            // a floor.
            Self::FloodWithin | Self::ApiBans | Self::DetectNginx => (None, None),
            Self::Latency | Self::Restart => (Some(5.0), None),
            Self::Import => (Some(8.0), None),
            Self::Export => (Some(2.0), None),
            Self::ListMemory => (Some(16.0), None),
            Self::MemoryBan => (Some(300.0), None),
            Self::DetectNginxRatio => (None, Some(50.0)),
            Self::DetectSshdRatio => (None, Some(20.0)),
            Self::Dispatcher | Self::DetectLatency | Self::DetectLatencyBusy => (Some(20.0), None),
            Self::ConformingThree | Self::DetectMemory => (Some(200.0), None),
            Self::DetectWalk => (Some(100.0), None),
            Self::DetectReaders => (Some(0.0), None),
            Self::Rates | Self::Top => (Some(1.0), None),
            Self::Fleet | Self::FleetKilled => (Some(250.0), None),
        };
        let at_least = match self {
            Self::ApiBans => Some(10_000.0),
            Self::DetectNginx => Some(1_000_000.0),
            _ => None,
        };
        Budget {
            at_most,
            at_least,
            ratio,
        }
    }

    /// What it is measured beside.
    pub(crate) const fn reference(self) -> Option<&'static str> {
        match self {
            Self::RandomLimit => Some("LRU-hash token bucket"),
            Self::RandomBans => Some("LPM blocklist"),
            Self::Flood | Self::FloodWithin => Some("nftables"),
            Self::DetectNginxRatio | Self::DetectSshdRatio => Some("fail2ban-regex"),
            _ => None,
        }
    }

    /// How many times better than the reference a measurement is.
    pub(crate) fn ratio(self, measured: &Measured) -> Option<f64> {
        let reference = measured.reference?;
        Some(match self.unit() {
            Unit::PacketsPerSecond | Unit::BansPerSecond | Unit::LinesPerSecond => {
                measured.value / reference
            }
            _ => reference / measured.value,
        })
    }

    /// Whether a measurement is within the budget.
    pub(crate) fn passes(self, measured: &Measured) -> bool {
        let Budget {
            at_most,
            at_least,
            ratio,
        } = self.budget();
        at_most.is_none_or(|at_most| measured.value <= at_most)
            && at_least.is_none_or(|at_least| measured.value >= at_least)
            && ratio.is_none_or(|least| self.ratio(measured).is_some_and(|ratio| ratio >= least))
    }
}

impl Unit {
    /// The key in JSON.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::NsNet => "ns_net",
            Self::PacketsPerSecond => "packets_per_second",
            Self::P99Ms => "p99_ms",
            Self::Seconds => "seconds",
            Self::BansPerSecond => "bans_per_second",
            Self::Megabytes => "megabytes",
            Self::BytesPerBan => "bytes_per_ban",
            Self::LinesPerSecond => "lines_per_second",
            Self::Requests => "requests",
            Self::FalseFindings => "false_findings",
            Self::PercentOfCore => "percent_of_core",
            Self::ErrorPercent => "error_percent",
        }
    }

    /// A figure as people read it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::NsNet => format!("{value:.1} ns"),
            Self::PacketsPerSecond => format!("{:.2} Mpps", value / 1e6),
            Self::P99Ms => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::BansPerSecond => format!("{value:.0} bans/s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::BytesPerBan => format!("{value:.0} B"),
            Self::LinesPerSecond => format!("{value:.0} lines/s"),
            Self::Requests => format!("{value:.0} requests"),
            Self::FalseFindings => format!("{value:.0} false"),
            Self::PercentOfCore => format!("{value:.2}% of a core"),
            Self::ErrorPercent => format!("{value:.2}% off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), scenario.name());
        }
    }

    #[test]
    fn a_cost_must_keep_both_the_figure_and_the_ratio() {
        let measured = |value, reference| Measured {
            value,
            reference: Some(reference),
            ..Measured::default()
        };
        assert!(Scenario::RandomLimit.passes(&measured(100.0, 400.0)));
        assert!(!Scenario::RandomLimit.passes(&measured(100.0, 399.0)));
        assert!(!Scenario::RandomLimit.passes(&measured(111.0, 999.0)));
    }

    #[test]
    fn more_packets_a_second_are_better() {
        let measured = Measured {
            value: 4e6,
            reference: Some(1e6),
            ..Measured::default()
        };
        assert_eq!(Scenario::Flood.ratio(&measured), Some(4.0));
        assert!(Scenario::Flood.passes(&measured));
    }

    #[test]
    fn bans_a_second_are_to_be_many_and_seconds_few() {
        let measured = |value| Measured {
            value,
            ..Measured::default()
        };
        assert!(Scenario::ApiBans.passes(&measured(10_000.0)));
        assert!(!Scenario::ApiBans.passes(&measured(9_999.0)));
        assert!(Scenario::Import.passes(&measured(8.0)));
        assert!(!Scenario::Import.passes(&measured(8.1)));
    }
}
