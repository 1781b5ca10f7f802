//! What metrics say, beside what `abuser status` says.

#![expect(clippy::float_cmp, reason = "they are whole numbers, which are exact")]

use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use abuser_common::{
    layout::{Ban, maps},
    prefix::PrefixKey,
};
use serde_json::Value;
use testkit::require_root;

use super::{ABUSER, DENIED, LISTED, Site, page::Page, prometheus::Prometheus};
use crate::support::{pinned, wait_until};

/// How Prometheus finds the daemon.
pub(super) const TARGET: &str = "    static_configs:\n      - targets: [\"127.0.0.1:9842\"]\n";

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn what_prometheus_scrapes_is_what_status_limits_and_detectors_say() {
    require_root!();
    let site = Site::new();
    site.live();
    let prometheus = Prometheus::start(&site.namespace, TARGET);
    let status = site.daemon.json(&["status"]);
    for (cause, count) in [
        ("manual", 2.0),
        ("limit", 1.0),
        ("detector", 1.0),
        ("blocklist", 1.0),
        ("rollup", 0.0),
    ] {
        prometheus.wait_for(&format!("abuser_bans{{cause=\"{cause}\"}}"), count);
        prometheus.wait_for(
            &format!("abuser_bans_made_total{{cause=\"{cause}\"}}"),
            count,
        );
    }
    prometheus.wait_for("sum(abuser_bans)", number(&status["bans"]));
    // Scrapes are packets on this interface, too; of these there are no more.
    for (reason, outcome) in [
        ("limit", "dropped_limit"),
        ("ban", "dropped_ban"),
        ("observed", "observed"),
    ] {
        let count = &status["outcomes"][outcome];
        assert!(number(&count["packets"]) > 0.0, "{status}");
        let labels = format!("{{interface=\"lo\",reason=\"{reason}\"}}");
        prometheus.wait_for(
            &format!("abuser_packets_total{labels}"),
            number(&count["packets"]),
        );
        prometheus.wait_for(
            &format!("abuser_packet_bytes_total{labels}"),
            number(&count["bytes"]),
        );
    }
    for limit in site.daemon.json(&["limits"]).as_array().expect("a list") {
        for verdict in ["passed", "dropped", "observed", "allowed"] {
            let name = limit["name"].as_str().expect("a name");
            let labels = format!("{{limit=\"{name}\",verdict=\"{verdict}\"}}");
            let packets = format!("abuser_limit_packets_total{labels}");
            prometheus.wait_for(&packets, number(&limit[verdict]));
            let bytes = format!("abuser_limit_packet_bytes_total{labels}");
            prometheus.wait_for(&bytes, number(&limit["bytes"][verdict]));
        }
    }
    for table in ["bans", "allow", "throttles", "limits"] {
        let entries = format!("abuser_table_entries{{table=\"{table}\"}}");
        prometheus.wait_for(&entries, number(&status[table]));
        let capacity = format!("abuser_table_capacity{{table=\"{table}\"}}");
        prometheus.wait_for(&capacity, number(&status["capacity"][table]));
    }
    for result in ["sent", "suppressed", "lost"] {
        let series = format!("abuser_events_total{{result=\"{result}\"}}");
        prometheus.wait_for(&series, number(&status["events"][result]));
    }
    let detection = site.daemon.json(&["detectors"]);
    let (source, detector) = (&detection["sources"][0], &detection["detectors"][0]);
    for (series, expected) in [
        ("abuser_source_lines_total", &source["lines"]),
        ("abuser_source_read_bytes_total", &source["bytes"]),
        ("abuser_source_lag_bytes", &source["lag_bytes"]),
        (
            "abuser_source_problem_lines_total{problem=\"unparsed\"}",
            &source["unparsed"],
        ),
        ("abuser_detector_matches_total", &detector["matched"]),
        ("abuser_detector_findings_total", &detector["found"]),
    ] {
        prometheus.wait_for(series, number(expected));
    }
    assert_eq!(number(&source["lines"]), 6.0, "{source}");
    prometheus.wait_for("abuser_blocklist_entries{blocklist=\"spam\"}", 1.0);
    prometheus.wait_for("abuser_interface_attached{interface=\"lo\"}", 1.0);
    prometheus.wait_for("count(abuser_build_info)", 1.0);
    // The scrape and what a minute ago was a second ago at most.
    for (series, most) in [
        ("time() - abuser_source_last_read_timestamp_seconds", 60.0),
        ("time() - abuser_blocklist_read_timestamp_seconds", 60.0),
        ("time() - process_start_time_seconds{job=\"abuser\"}", 60.0),
    ] {
        let age = prometheus.value(series).expect(series);
        assert!((-1.0..most).contains(&age), "{series} is {age}");
    }
    // A ban that is lifted was made all the same.
    let lifted = ["ban", "remove", "2001:db8::/48"];
    site.daemon.abuser(&lifted).success();
    prometheus.wait_for("abuser_bans{cause=\"manual\"}", 1.0);
    prometheus.wait_for("abuser_bans_made_total{cause=\"manual\"}", 2.0);
}

#[test]
fn no_label_holds_an_address() {
    require_root!();
    let site = Site::new();
    site.live();
    let page = site.page();
    assert!(page.samples.len() > 100);
    let addresses = [ABUSER.to_string(), DENIED.to_owned(), LISTED.to_owned()];
    for sample in &page.samples {
        for value in sample.labels.values() {
            let word = value.split('/').next().unwrap_or_default();
            assert!(word.parse::<IpAddr>().is_err(), "{sample:?}");
            for address in &addresses {
                assert!(!value.contains(address), "{sample:?}");
            }
        }
    }
    // The number of series does not grow with what comes.
    site.daemon
        .abuser(&["ban", "add", "192.0.2.1", "192.0.2.2", "192.0.2.3"])
        .success();
    let before = series(&page);
    assert_eq!(series(&site.page()), before);
}

/// The series but those of requests, of which the first of a kind makes one.
fn series(page: &Page) -> usize {
    let of_requests = |name: &str| name.starts_with("abuser_api_request");
    page.samples
        .iter()
        .filter(|sample| !of_requests(&sample.name))
        .count()
}

#[test]
fn bans_transactions_and_requests_are_timed() {
    require_root!();
    let site = Site::new();
    let before = site.page();
    for trigger in ["packet", "line"] {
        let labels = [("trigger", trigger)];
        assert_eq!(before.value("abuser_ban_delay_seconds_count", &labels), 0.0);
    }
    site.live();
    let after = site.page();
    for trigger in ["packet", "line"] {
        let labels = [("trigger", trigger)];
        assert_eq!(after.value("abuser_ban_delay_seconds_count", &labels), 1.0);
        let sum = after.value("abuser_ban_delay_seconds_sum", &labels);
        assert!((0.0..5.0).contains(&sum), "{trigger}: {sum}");
    }
    let packet = [("trigger", "packet")];
    assert!(after.value("abuser_ban_delay_seconds_sum", &packet) > 0.0);
    assert!(after.value("abuser_store_transaction_duration_seconds_count", &[]) >= 3.0);
    let count = |route: &str, method: &str, code: &str| {
        let labels = [("route", route), ("method", method), ("code", code)];
        site.page()
            .find("abuser_api_request_duration_seconds_count", &labels)
    };
    assert_eq!(count("/v1/bans", "POST", "200"), Some(1.0));
    assert_eq!(count("/v1/explain/{address}", "GET", "200"), None);
    site.daemon.abuser(&["explain", "203.0.113.7"]).success();
    site.daemon.abuser(&["explain", "203.0.113.8"]).success();
    assert_eq!(count("/v1/explain/{address}", "GET", "200"), Some(2.0));
    site.ask("BREW", "/v1/coffee", "");
    assert_eq!(count("none", "other", "403"), Some(1.0));
}

#[test]
fn what_is_wrong_shows() {
    require_root!();
    let site = Site::new();
    site.live();
    let page = site.page();
    for (name, labels) in [
        ("abuser_blocklist_up", &[("blocklist", "spam")][..]),
        ("abuser_source_up", &[("source", "app")]),
        ("abuser_store_up", &[]),
        ("abuser_detection_up", &[]),
        (
            "abuser_interface_attached",
            &[("interface", "lo"), ("mode", "generic")],
        ),
    ] {
        assert_eq!(page.value(name, labels), 1.0, "{name}");
    }
    // A block list that is none any more.
    fs::remove_file(site.folder.path().join("spam.txt")).expect("the block list");
    wait_until("the block list is in error", || {
        site.page()
            .value("abuser_blocklist_up", &[("blocklist", "spam")])
            == 0.0
    });
    // A ban that somebody took out of the kernel's map.
    let mut bans = pinned::<Ban>(&site.daemon, maps::BANS);
    let banned = PrefixKey::new([203, 0, 113, 7].into(), 32).expect("a prefix");
    bans.remove(&banned).expect("a ban");
    let repairs = [("where", "kernel")];
    let deadline = Instant::now() + Duration::from_secs(90);
    while site
        .page()
        .value("abuser_reconcile_repairs_total", &repairs)
        < 1.0
    {
        assert!(Instant::now() < deadline, "not put right within 90 s");
        thread::sleep(Duration::from_millis(200));
    }
}
