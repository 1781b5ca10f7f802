//! The dashboard, the alert rules and the table in docs/METRICS.md: what they name is what a daemon
//! exports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use testkit::{Namespace, require_root};

use super::{
    Site,
    page::Page,
    prometheus::{Prometheus, rules},
    values::TARGET,
};
use crate::support::parse;

fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// How many alerts there are.
const ALERTS: usize = 17;

/// Those of them that are about others, of whom none is there.
const OTHERS: [&str; 3] = ["crowdsec", "fleet", "notify"];

/// What there are samples of only when one of them has answered.
const ANSWERS: [&str; 4] = [
    "abuser_crowdsec_last_answer_timestamp_seconds",
    "abuser_crowdsec_ignored_decisions",
    "abuser_fleet_latency_seconds",
    "abuser_fleet_refused_total",
];

/// The name of a family as queries have it.
fn full_name(name: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

#[test]
fn the_table_of_metrics_is_what_a_daemon_exports() {
    require_root!();
    let site = Site::new();
    site.live();
    let page = site.page();
    let exported = page.families.iter().map(|(name, family)| {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let line = format!(
            "| `{}` | {} | {} | {} |",
            full_name(name, &family.kind),
            family.kind,
            labels.join(", "),
            family.help.trim_end_matches('.')
        );
        line.replace(" |  |", " | |")
    });
    let exported: BTreeSet<_> = exported.collect();
    let documented = read("docs/METRICS.md");
    let documented = documented
        .lines()
        .filter(|line| line.starts_with("| `abuser_") || line.starts_with("| `process_"));
    let documented: BTreeSet<_> = documented.map(str::to_owned).collect();
    let missing: Vec<_> = exported.difference(&documented).collect();
    let surplus: Vec<_> = documented.difference(&exported).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "docs/METRICS.md lacks {missing:#?}, and has {surplus:#?}, which no daemon exports"
    );
}

/// The expressions of a dashboard's panels and variables, with its variables as Grafana fills them in.
fn dashboard() -> Vec<String> {
    fn walk(value: &Value, expressions: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                expressions.extend(
                    object
                        .get("expr")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                object.values().for_each(|value| walk(value, expressions));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, expressions)),
            _ => {}
        }
    }
    let dashboard = parse(&read("deploy/grafana/abuser.json"));
    let mut expressions = Vec::new();
    walk(&dashboard, &mut expressions);
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    for variable in variables
        .iter()
        .filter(|variable| variable["type"] == "query")
    {
        let query = variable["definition"].as_str().expect("a query");
        let (series, _label) = query
            .strip_prefix("label_values(")
            .and_then(|query| query.split_once(','))
            .unwrap_or_else(|| panic!("{query}"));
        expressions.push(series.to_owned());
    }
    let filled_in = expressions.iter().map(|expression| {
        expression
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$interface", ".*")
    });
    filled_in.collect()
}

/// The expressions of the alert rules.
fn alerts() -> Vec<String> {
    let rules = read("deploy/prometheus/alerts.yml");
    let mut expressions: Vec<String> = Vec::new();
    let mut folded = false;
    for line in rules.lines() {
        if let Some(expression) = line.trim().strip_prefix("expr: ") {
            folded = expression == ">-";
            let expression = if folded { "" } else { expression };
            expressions.push(expression.to_owned());
        } else if folded && line.starts_with("          ") {
            let expression = expressions.last_mut().expect("one that has begun");
            expression.push_str(line.trim());
            expression.push(' ');
        } else {
            folded = false;
        }
    }
    expressions
}

/// The metrics that an expression names.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("abuser_") || word.starts_with("process_"))
}

/// What can be queried of a page.
fn queried(page: &Page) -> BTreeSet<String> {
    let families = page.families.iter().flat_map(|(name, family)| {
        if family.kind == "histogram" {
            ["bucket", "sum", "count"]
                .map(|suffix| format!("{name}_{suffix}"))
                .to_vec()
        } else {
            vec![full_name(name, &family.kind)]
        }
    });
    families.collect()
}

#[test]
fn every_expression_of_the_dashboard_and_the_alerts_names_what_is_exported_and_can_be_evaluated() {
    require_root!();
    let site = Site::new();
    site.live();
    let known = queried(&site.page());
    let prometheus = Prometheus::start(&site.namespace, TARGET);
    // Two scrapes make a rate.
    prometheus.wait_until("count_over_time(abuser_store_up[1m])", |scrapes| {
        scrapes >= Some(2.0)
    });
    let (dashboard, alerts) = (dashboard(), alerts());
    assert!(
        dashboard.len() > 60 && alerts.len() == ALERTS,
        "{dashboard:#?} {alerts:#?}"
    );
    let mut silent = BTreeMap::new();
    for expression in dashboard.iter().chain(&alerts) {
        assert!(!expression.contains('$'), "{expression}");
        for name in names(expression) {
            assert!(known.contains(name), "nobody exports {name}: {expression}");
        }
        let result = prometheus.query(expression);
        if dashboard.contains(expression)
            && result.as_array().is_none_or(Vec::is_empty)
            && !names(expression).any(|name| ANSWERS.contains(&name))
        {
            silent.insert(expression, result);
        }
    }
    // A panel that shows nothing of a daemon that has done all there is would never show anything.
    assert!(silent.is_empty(), "{silent:#?}");
    let is_about_others = |alert: &&String| OTHERS.iter().any(|other| alert.contains(other));
    for alert in alerts.iter().filter(|alert| !is_about_others(alert)) {
        let result = prometheus.query(alert);
        assert_eq!(result, Value::Array(Vec::new()), "all is well, but {alert}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_alert_rules_which_do_what_their_tests_say() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let checked = rules(
        &namespace,
        "check",
        &repository("deploy/prometheus/alerts.yml"),
    );
    assert!(
        checked
            .success()
            .stdout
            .contains(&format!("{ALERTS} rules found"))
    );
    let tested = rules(
        &namespace,
        "test",
        &repository("deploy/prometheus/alerts.test.yml"),
    );
    assert!(tested.success().stdout.contains("SUCCESS"));
    let rules = read("deploy/prometheus/alerts.yml");
    for said in ["- alert: ", "summary: ", "description: ", "severity: "] {
        assert_eq!(rules.matches(said).count(), ALERTS, "{said}");
    }
}
