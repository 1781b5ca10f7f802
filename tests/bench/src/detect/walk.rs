//! Walkers and readers of an API, from lines of an access log to findings.
//!
//! Everybody is in one log, each with an address of their own, in the order of their times, which
//! a log has in seconds. The walkers go up and down by every stride there is to be found; the readers take
//! ids at random, all alike or the popular ones more often.

use std::{collections::HashMap, net::Ipv4Addr};

use abuser_detect::{
    pipeline::{Clock, Line},
    time::Time,
};
use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use testkit::api_traffic::{Client, Ids, Pace, merge};

use super::reading;
use crate::scenario::Measured;

const FROM_MS: u64 = 1_795_655_448_000;
/// How long everybody goes on.
const TIME_MS: u64 = 60_000;
/// The widest stride.
const MAX_STRIDE: i64 = 16;
/// Walkers of each stride and direction, and readers of each kind.
const OF_EACH: u32 = 20;
/// The share of requests by which every other walker asks for something else.
const NOISE: f64 = 0.1;
/// Where networks of clients begin.
const WALKERS: u32 = 0x0a42_0000;
const READERS: u32 = 0x0a01_0000;

/// What is looked for, with the settings of the preset.
const WALKS: &str = r#"
[[source]]
name = "api"
files = ["/var/log/nginx/access.log"]
parser = "nginx-combined"

[[detector]]
name = "walks"
kind = "enumeration"
action = "alert"
"#;

/// `detect-walk`: after how many requests the last of the walkers was found.
pub(crate) fn walkers() -> Result<Measured> {
    let outcome = watch()?;
    let walkers = u32::try_from(outcome.found_after.len()).context("count walkers")?;
    ensure!(
        outcome.missed == 0,
        "of {walkers} walkers {} were not found",
        outcome.missed
    );
    let most = outcome
        .found_after
        .iter()
        .max()
        .copied()
        .unwrap_or_default();
    let sum: u32 = outcome.found_after.iter().sum();
    Ok(Measured {
        value: f64::from(most),
        also: vec![
            ("mean_requests", f64::from(sum) / f64::from(walkers)),
            ("walkers", f64::from(walkers)),
        ],
        ..Measured::default()
    })
}

/// `detect-readers`: how many readers were taken for walkers.
pub(crate) fn readers() -> Result<Measured> {
    let outcome = watch()?;
    Ok(Measured {
        value: f64::from(outcome.falsely),
        also: vec![
            ("readers", f64::from(outcome.readers)),
            ("requests", f64::from(outcome.read)),
        ],
        ..Measured::default()
    })
}

/// What was found in the log.
struct Outcome {
    /// For each walker that was found, after how many of its requests.
    found_after: Vec<u32>,
    /// Walkers that were not.
    missed: usize,
    /// Readers that were.
    falsely: u32,
    /// Readers.
    readers: u32,
    /// Their requests.
    read: u32,
}

fn watch() -> Result<Outcome> {
    let (walkers, readers) = (walking(), reading());
    let (walker_count, reader_count) = (walkers.len(), readers.len());
    let requests = merge(walkers.into_iter().chain(readers), FROM_MS + TIME_MS, 5);
    let mut pipeline = reading::detection(WALKS, Clock::Log)?.pipeline;
    let mut sent: HashMap<Ipv4Addr, u32> = HashMap::new();
    let mut first: HashMap<IpNet, (u32, bool)> = HashMap::new();
    let (mut found, mut read) = (Vec::new(), 0);
    for request in &requests {
        let sent = sent.entry(request.source).or_default();
        *sent += 1;
        read += u32::from(!request.abuse);
        let text = request.nginx_combined();
        let line = Line {
            bytes: text.as_bytes(),
            arrived: Time(request.at_ms),
            stated: None,
        };
        pipeline.read(0, line, &mut found);
        for found in found.drain(..) {
            for source in found.finding.sources {
                first.entry(source).or_insert((*sent, request.abuse));
            }
        }
    }
    let of = |abuse: bool| first.values().filter(move |(_, by)| *by == abuse);
    let found_after: Vec<_> = of(true).map(|(after, _)| *after).collect();
    Ok(Outcome {
        missed: walker_count - found_after.len(),
        falsely: u32::try_from(of(false).count()).context("count findings")?,
        found_after,
        readers: u32::try_from(reader_count).context("count readers")?,
        read,
    })
}

fn walking() -> Vec<Client> {
    let strides = (1..=MAX_STRIDE).flat_map(|stride| [stride, -stride]);
    let walks = strides.flat_map(|stride| (0..OF_EACH).map(move |_| stride));
    walks
        .zip(0..)
        .map(|(stride, nth)| {
            let ids = Ids::Walk {
                next: 500_000 + u64::from(nth) * 7919,
                step: stride,
                noise: if nth % 2 == 0 { 0.0 } else { NOISE },
                range: 1..1_000_000,
            };
            client(WALKERS + nth, ids, 200.0, true)
        })
        .collect()
}

fn reading() -> Vec<Client> {
    let kinds = [
        Ids::Uniform(1..1_000_000),
        Ids::Uniform(1..1000),
        Ids::Zipf(100_000),
        Ids::ScatteredZipf(100_000),
    ];
    let kinds = kinds
        .iter()
        .flat_map(|ids| (0..OF_EACH).map(move |_| ids.clone()));
    kinds
        .zip(0..)
        .map(|(ids, nth)| client(READERS + nth, ids, 20.0, false))
        .collect()
}

fn client(source: u32, ids: Ids, mean_ms: f64, abuse: bool) -> Client {
    Client {
        source: Ipv4Addr::from(source),
        key: None,
        prefix: "/api/users/",
        ids,
        pace: Pace::Random(mean_ms),
        status: 200,
        from_ms: FROM_MS,
        abuse,
    }
}
