//! The result: a table for people, or one JSON object a line.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::scenario::{Budget, Measured, Scenario};

/// A scenario and what came of it.
#[derive(Debug)]
pub(crate) struct Row {
    scenario: Scenario,
    /// The measurement, or why there is none.
    outcome: Result<Measured, String>,
}

impl Row {
    pub(crate) fn new(scenario: Scenario, outcome: anyhow::Result<Measured>) -> Self {
        Self {
            scenario,
            outcome: outcome.map_err(|error| format!("{error:#}")),
        }
    }

    fn passes(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|measured| self.scenario.passes(measured))
    }

    /// A key that means nothing is `null`, never missing.
    fn json(&self) -> Value {
        let measured = self.outcome.as_ref().ok();
        let Budget {
            at_most,
            at_least,
            ratio,
        } = self.scenario.budget();
        let mut object = json!({
            "scenario": self.scenario.name(),
            self.scenario.unit().key(): measured.map(|measured| round(measured.value)),
            "reference": measured.and_then(|measured| measured.reference).map(round),
            "reference_name": self.scenario.reference(),
            "ratio": measured.and_then(|measured| self.scenario.ratio(measured)).map(round),
            "budget": at_most.or(at_least),
            "budget_ratio": ratio,
            "pass": self.passes(),
            "error": self.outcome.as_ref().err(),
        });
        for (key, value) in measured
            .map(|measured| &measured.also)
            .into_iter()
            .flatten()
        {
            object[*key] = round(*value).into();
        }
        object
    }

    fn cells(&self) -> [String; 6] {
        let unit = self.scenario.unit();
        let Budget {
            at_most,
            at_least,
            ratio,
        } = self.scenario.budget();
        let measured = self.outcome.as_ref().ok();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let reference = measured
            .and_then(|measured| measured.reference)
            .zip(self.scenario.reference())
            .map(|(value, name)| format!("{}: {name}", unit.show(value)));
        let budget = [
            at_most.map(|at_most| unit.show(at_most)),
            at_least.map(|at_least| format!("at least {}", unit.show(at_least))),
            ratio.map(|ratio| format!("{ratio:.0} x")),
        ];
        let budget: Vec<_> = budget.into_iter().flatten().collect();
        [
            self.scenario.name().to_owned(),
            or_dash(measured.map(|measured| unit.show(measured.value))),
            or_dash((!budget.is_empty()).then(|| budget.join(", "))),
            or_dash(
                measured
                    .and_then(|measured| self.scenario.ratio(measured))
                    .map(|ratio| format!("{ratio:.1} x")),
            ),
            or_dash(reference),
            if self.passes() { "ok" } else { "MISSED" }.to_owned(),
        ]
    }
}

/// Three decimals: more would be noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One line, for the progress.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passes() { "ok" } else { "MISSED" };
        match &self.outcome {
            Ok(measured) => {
                write!(f, "{}", self.scenario.unit().show(measured.value))?;
                for (key, value) in &measured.also {
                    write!(f, ", {key} {}", round(*value))?;
                }
                if let Some(ratio) = self.scenario.ratio(measured) {
                    write!(f, ", {ratio:.1} x the reference")?;
                }
                write!(f, "  {verdict}")
            }
            Err(error) => write!(f, "not measured: {error}"),
        }
    }
}

/// The rows so far, and how they are printed.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) const fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// Takes a row; in JSON it is printed at once.
    pub(crate) fn add(&mut self, row: Row) -> anyhow::Result<()> {
        if self.json {
            let measured = row.outcome.as_ref().ok();
            let table = measured.and_then(|measured| measured.table.as_ref());
            let mut lines: Vec<_> = table.map(|table| table.lines.clone()).unwrap_or_default();
            lines.push(row.json());
            for line in lines {
                writeln!(io::stdout(), "{line}").context("write to stdout")?;
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table unless JSON was asked for; whether every budget was kept.
    pub(crate) fn finish(&self) -> anyhow::Result<bool> {
        if !self.json {
            io::stdout()
                .write_all(self.table().as_bytes())
                .context("write to stdout")?;
        }
        Ok(self.rows.iter().all(Row::passes))
    }

    fn table(&self) -> String {
        let head = ["scenario", "measured", "budget", "ratio", "reference", ""];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let lengths = lines.iter().map(|line| line[column].chars().count());
            lengths.max().unwrap_or_default()
        });
        let mut table = String::new();
        for line in &lines {
            let cells: Vec<_> = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            table.push_str(cells.join("  ").trim_end());
            table.push('\n');
        }
        for row in &self.rows {
            let _infallible = match &row.outcome {
                Err(error) => {
                    writeln!(table, "{}: not measured: {error}", row.scenario.name())
                }
                Ok(Measured {
                    table: Some(more), ..
                }) => write!(table, "\n{}", more.text),
                Ok(_) => Ok(()),
            };
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_row_has_every_key() {
        let measured = Measured {
            value: 100.0,
            reference: Some(450.0),
            also: vec![("p50_ms", 1.2345)],
            ..Measured::default()
        };
        assert_eq!(
            Row::new(Scenario::RandomLimit, Ok(measured)).json(),
            json!({
                "scenario": "random-limit",
                "ns_net": 100.0,
                "reference": 450.0,
                "reference_name": "LRU-hash token bucket",
                "ratio": 4.5,
                "budget": 110.0,
                "budget_ratio": 4.0,
                "pass": true,
                "error": null,
                "p50_ms": 1.235,
            })
        );
    }

    #[test]
    fn what_could_not_be_measured_says_why_and_misses_its_budget() {
        let row = Row::new(Scenario::Clean, Err(anyhow::anyhow!("no kernel")));
        let json = row.json();
        assert_eq!(json["ns_net"], Value::Null);
        assert_eq!(json["pass"], false);
        assert_eq!(json["error"], "no kernel");
    }
}
