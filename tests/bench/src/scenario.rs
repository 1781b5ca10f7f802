//! What is measured, in which unit, and what it may cost.

use clap::ValueEnum;

/// One line of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A clean source; one limit that does not match, no bans
    Clean,
    /// A clean source; 100,000 bans and 10,000 allow prefixes
    CleanLoaded,
    /// A banned host
    Banned,
    /// One source within its limit
    Conforming,
    /// One source over its limit
    Over,
    /// Random sources out of 16 million under one limit, against an LRU hash
    RandomLimit,
    /// Random sources against 1,000,000 banned prefixes, against an LPM trie
    RandomBans,
    /// From an offence to its enforced ban, under the flood of flood-within
    Latency,
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
}

/// What a scenario must keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    /// The figure is at most this.
    pub(crate) at_most: Option<f64>,
    /// It is so many times better than the reference.
    pub(crate) ratio: Option<f64>,
}

/// What a scenario measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// In the scenario's unit.
    pub(crate) value: f64,
    /// What the reference took, in the same unit.
    pub(crate) reference: Option<f64>,
    /// The median, where the value is a percentile.
    pub(crate) median: Option<f64>,
}

impl Scenario {
    /// Its name on the command line and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::CleanLoaded => "clean-loaded",
            Self::Banned => "banned",
            Self::Conforming => "conforming",
            Self::Over => "over",
            Self::RandomLimit => "random-limit",
            Self::RandomBans => "random-bans",
            Self::Flood => "flood",
            Self::FloodWithin => "flood-within",
            Self::Latency => "latency",
        }
    }

    /// The unit of its figure.
    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Flood | Self::FloodWithin => Unit::PacketsPerSecond,
            Self::Latency => Unit::P99Ms,
            _ => Unit::NsNet,
        }
    }

    /// What it must keep.
    pub(crate) const fn budget(self) -> Budget {
        let (at_most, ratio) = match self {
            Self::Clean => (Some(12.0), None),
            Self::CleanLoaded => (Some(25.0), None),
            Self::Banned => (Some(40.0), None),
            Self::Conforming | Self::Over => (Some(60.0), None),
            Self::RandomLimit => (Some(110.0), Some(4.0)),
            Self::RandomBans => (Some(170.0), Some(6.0)),
            Self::Flood => (None, Some(4.0)),
            // Told for the whole picture: most of it is the stack's.
            Self::FloodWithin => (None, None),
            Self::Latency => (Some(5.0), None),
        };
        Budget { at_most, ratio }
    }

    /// What it is measured beside.
    pub(crate) const fn reference(self) -> Option<&'static str> {
        match self {
            Self::RandomLimit => Some("LRU-hash token bucket"),
            Self::RandomBans => Some("LPM blocklist"),
            Self::Flood | Self::FloodWithin => Some("nftables"),
            _ => None,
        }
    }

    /// How many times better than the reference a measurement is.
    pub(crate) fn ratio(self, measured: &Measured) -> Option<f64> {
        let reference = measured.reference?;
        Some(match self.unit() {
            Unit::PacketsPerSecond => measured.value / reference,
            Unit::NsNet | Unit::P99Ms => reference / measured.value,
        })
    }

    /// Whether a measurement is within the budget.
    pub(crate) fn passes(self, measured: &Measured) -> bool {
        let Budget { at_most, ratio } = self.budget();
        at_most.is_none_or(|at_most| measured.value <= at_most)
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
        }
    }

    /// A figure as people read it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::NsNet => format!("{value:.1} ns"),
            Self::PacketsPerSecond => format!("{:.2} Mpps", value / 1e6),
            Self::P99Ms => format!("{value:.2} ms"),
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
            median: None,
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
            median: None,
        };
        assert_eq!(Scenario::Flood.ratio(&measured), Some(4.0));
        assert!(Scenario::Flood.passes(&measured));
    }
}
