//! What a record costs each detector, and what they hold in memory when full.
//!
//! `cargo test --release -p abuser-detect --test traffic cost -- --ignored --nocapture`

use std::net::Ipv4Addr;

use abuser_detect::{
    detect::{
        Detector,
        baseline::{self, Baseline},
        distributed::{self, Distributed},
        enumeration::{self, Enumeration},
        fan_out::{self, FanOut},
        template::Templates,
    },
    time::Time,
};

use crate::{
    api_traffic::{Client, Ids, Pace, Request, merge},
    record,
};

/// A site with so many clients, a tenth of them walkers.
fn site(clients: u32, seconds: u64) -> Vec<Request> {
    let clients = (0..clients).map(|nth| Client {
        source: Ipv4Addr::from(0x0a00_0000 + nth),
        key: Some(format!("key-{}", nth % 5000)),
        prefix: "/api/users/",
        ids: match nth % 10 {
            0 => Ids::walk(u64::from(nth) * 100, 1),
            1..5 => Ids::Zipf(100_000),
            _ => Ids::Uniform(1..1_000_000_000),
        },
        pace: if nth % 3 == 0 {
            Pace::Uniform(5000.0, 0.1)
        } else {
            Pace::Random(5000.0)
        },
        status: if nth % 2 == 0 { 200 } else { 401 },
        from_ms: 1_795_655_448_000,
        abuse: nth % 10 == 0,
    });
    merge(clients, 1_795_655_448_000 + seconds * 1000, 1)
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("resident pages") * 4096
}

/// Nanoseconds that this thread has run: others share the processor.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let ran = stat.split(' ').next().and_then(|ran| ran.parse().ok());
    ran.expect("the time a thread ran")
}

#[test]
#[ignore = "a measurement"]
fn what_a_record_costs() {
    let requests = site(20_000, 300);
    let records: Vec<_> = requests
        .iter()
        .map(|request| (record(request), Time(request.at_ms)))
        .collect();
    println!("{} records of 20,000 clients", records.len());

    let mut templates = Templates::default();
    let begun = cpu_ns();
    let ids: usize = records
        .iter()
        .filter_map(|(record, _)| Some(templates.read(record.path.as_deref()?).ids.len()))
        .sum();
    println!(
        "template: {:.0} ns ({ids} ids)",
        (cpu_ns() - begun) / f64::from(u32::try_from(records.len()).expect("a million"))
    );

    let identical = fan_out::Settings {
        identical: Some(5),
        ..fan_out::Settings::default()
    };
    let detectors: [(&str, Box<dyn Detector>); 5] = [
        (
            "enumeration",
            Box::new(Enumeration::new(enumeration::Settings::default())),
        ),
        (
            "fan-out",
            Box::new(FanOut::new(fan_out::Settings::default())),
        ),
        ("fan-out, identical", Box::new(FanOut::new(identical))),
        (
            "distributed",
            Box::new(Distributed::new(distributed::Settings::default())),
        ),
        (
            "baseline",
            Box::new(Baseline::new(baseline::Settings::default())),
        ),
    ];
    // None is dropped before the last is measured: memory would be used again.
    let mut kept = Vec::new();
    for (name, mut detector) in detectors {
        let before = resident_bytes();
        let begun = cpu_ns();
        let found = records
            .iter()
            .filter(|(record, at)| detector.observe(record, *at).is_some())
            .count();
        let ns = (cpu_ns() - begun) / f64::from(u32::try_from(records.len()).expect("a million"));
        let tracked = detector.occupancy().tracked;
        let bytes = resident_bytes().saturating_sub(before);
        println!(
            "{name}: {ns:.0} ns, {found} findings, {tracked} tracked, {} bytes each",
            bytes / tracked.max(1)
        );
        kept.push(detector);
    }
}
