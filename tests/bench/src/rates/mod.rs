//! Offered against admitted: whether a rate is what it says, from one packet a minute to a million a
//! second, on one CPU and on two, for one source and for 100,000.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`told`] | by a clock that is told, so that minutes take no minutes |
//! | [`live`] | by the real daemon on real interfaces, for rates that show in seconds |
//!
//! A source that always offers more than it may is admitted its burst, one more, and what the rate
//! grants in the time. That is compared with what the program let through.

pub mod live;
pub mod told;

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::scenario::{Measured, Table};

/// A rate as the configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many packets,
    pub count: u64,
    /// in a second or a minute.
    pub unit: &'static str,
}

impl Rate {
    /// All that the table has.
    pub const ALL: [Self; 9] = [
        Self::of(1, "m"),
        Self::of(60, "m"),
        Self::of(1, "s"),
        Self::of(10, "s"),
        Self::of(100, "s"),
        Self::of(1_000, "s"),
        Self::of(10_000, "s"),
        Self::of(100_000, "s"),
        Self::of(1_000_000, "s"),
    ];

    const fn of(count: u64, unit: &'static str) -> Self {
        Self { count, unit }
    }

    /// From one packet to the next, in nanoseconds.
    pub(crate) fn period_ns(self) -> u64 {
        let unit_ns = if self.unit == "m" {
            60_000_000_000
        } else {
            1_000_000_000
        };
        unit_ns / self.count
    }

    pub(crate) fn name(self) -> String {
        format!("{}/{}", self.count, self.unit)
    }
}

/// How it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Frames that tell the time, through the program in the kernel's test harness.
    Told,
    /// Live frames over virtual cables into the real daemon's interfaces.
    Live,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The limit's rate, for each source.
    pub rate: Rate,
    /// Sources.
    pub sources: u32,
    /// CPUs that they arrive on at once.
    pub cpus: usize,
    /// How it was measured.
    pub method: Method,
    /// Packets that came.
    pub offered: u64,
    /// Packets that were let through.
    pub admitted: u64,
    /// How many should have been.
    pub expected: f64,
}

impl Cell {
    /// How far what was admitted is from what should have been, in hundredths; more is positive.
    #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
    pub fn error_percent(&self) -> f64 {
        (self.admitted as f64 - self.expected) / self.expected * 100.0
    }

    fn json(&self) -> Value {
        json!({
            "rate": self.rate.name(),
            "sources": self.sources,
            "cpus": self.cpus,
            "method": match self.method {
                Method::Told => "told",
                Method::Live => "live",
            },
            "offered": self.offered,
            "admitted": self.admitted,
            "expected": (self.expected * 10.0).round() / 10.0,
            "error_percent": (self.error_percent() * 1000.0).round() / 1000.0,
        })
    }
}

/// Sources of the rows that have many.
const MANY: u32 = 100_000;

/// `rates`: the worst error of all, and the table.
pub(crate) fn measure() -> Result<Measured> {
    let mut cells = Vec::new();
    eprintln!();
    for sources in [1, MANY] {
        for cpus in [1, 2] {
            let more = told::measure(sources, cpus, &Rate::ALL)?;
            for cell in &more {
                eprintln!("  {}", cell.json());
            }
            cells.extend(more);
        }
    }
    for cpus in [1, 2] {
        let mut cables = live::Cables::lay(cpus, &live::RATES)?;
        for rate in live::RATES {
            let cell = cables.measure(rate, live::TIME)?;
            eprintln!("  {}", cell.json());
            cells.push(cell);
        }
    }
    let errors = cells.iter().map(|cell| cell.error_percent().abs());
    Ok(Measured {
        value: errors.fold(0.0, f64::max),
        table: Some(Table {
            text: table(&cells),
            lines: cells.iter().map(Cell::json).collect(),
        }),
        ..Measured::default()
    })
}

/// The cells as Markdown: a row for each rate.
fn table(cells: &[Cell]) -> String {
    let mut columns: Vec<(Method, u32, usize)> = Vec::new();
    for cell in cells {
        let column = (cell.method, cell.sources, cell.cpus);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let mut table = String::from("| rate |");
    for (method, sources, cpus) in &columns {
        let method = match method {
            Method::Told => "told",
            Method::Live => "live",
        };
        let sources = if *sources == 1 {
            "1 source".to_owned()
        } else {
            format!("{sources} sources")
        };
        let cpus = if *cpus == 1 {
            "1 CPU".to_owned()
        } else {
            format!("{cpus} CPUs")
        };
        let _infallible = write!(table, " {method}: {sources}, {cpus} |");
    }
    table.push_str("\n|");
    table.push_str(&" --- |".repeat(columns.len() + 1));
    table.push('\n');
    for rate in Rate::ALL {
        let _infallible = write!(table, "| {} |", rate.name());
        for column in &columns {
            let cell = cells.iter().find(|cell| {
                cell.rate == rate && (cell.method, cell.sources, cell.cpus) == *column
            });
            let _infallible = match cell {
                Some(cell) => write!(
                    table,
                    " {} offered, {} admitted, {:+.2}% |",
                    cell.offered,
                    cell.admitted,
                    // No minus before zero.
                    (cell.error_percent() * 100.0).round() / 100.0 + 0.0
                ),
                None => write!(table, " |"),
            };
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(admitted: u64) -> Cell {
        Cell {
            rate: Rate::ALL[0],
            sources: 1,
            cpus: 2,
            method: Method::Told,
            offered: 500,
            admitted,
            expected: 200.0,
        }
    }

    #[test]
    fn an_error_has_its_sign() {
        assert_eq!(cell(202).error_percent().to_string(), "1");
        assert_eq!(cell(199).error_percent().to_string(), "-0.5");
    }

    #[test]
    fn a_table_has_a_row_for_each_rate() {
        let table = table(&[cell(202)]);
        assert!(
            table.contains("| 1/m | 500 offered, 202 admitted, +1.00% |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 2 + Rate::ALL.len());
    }
}
