//! Walkers against readers over labelled traffic: no reader is taken for a walker, and each walker
//! is found soon.
//!
//! With `--nocapture` the numbers are printed.

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    api_traffic::{Client, Ids, Pace, Request, merge},
    record,
};
use abuser_detect::{
    detect::{
        Detector,
        enumeration::{Enumeration, Settings},
    },
    time::Time,
};

/// The seeds that each kind of client is tried with.
const SEEDS: std::ops::Range<u64> = 0..20;
const FROM_MS: u64 = 1_795_655_448_000;

fn client(ids: Ids, abuse: bool) -> Client {
    Client {
        source: Ipv4Addr::new(192, 0, 2, 7),
        key: None,
        prefix: "/api/users/",
        ids,
        pace: Pace::Random(20.0),
        status: 200,
        from_ms: FROM_MS,
        abuse,
    }
}

fn detector() -> Enumeration {
    // Only the order counts here, and the window is wide, which is harder on the readers.
    let within = Duration::from_secs(3600);
    Enumeration::new(Settings {
        distinct: None,
        within,
        ..Settings::default()
    })
}

fn observe(detector: &mut Enumeration, request: &Request) -> bool {
    detector
        .observe(&record(request), Time(request.at_ms))
        .is_some()
}

/// After how many requests each of the walks is found, over all seeds: the most and the mean.
fn found_after(ids: &Ids, bound: usize) -> (usize, usize) {
    let after = SEEDS.map(|seed| {
        let mut detector = detector();
        let mut requests = client(ids.clone(), true).requests(seed).take(bound);
        let found = requests.position(|request| observe(&mut detector, &request));
        found.map_or(usize::MAX, |nth| nth + 1)
    });
    let after: Vec<usize> = after.collect();
    let most = after.iter().copied().max().unwrap_or(0);
    let mean = after.iter().map(|after| (*after).min(bound)).sum::<usize>() / after.len();
    (most, mean)
}

fn check(what: &str, walks: impl IntoIterator<Item = (String, Ids)>, bound: usize) {
    for (which, ids) in walks {
        let (most, mean) = found_after(&ids, bound);
        println!("{what}, {which}: found after {mean} requests, at most {most}");
        assert!(most <= bound, "{what}, {which}: not found within {bound}");
    }
}

fn strides() -> impl Iterator<Item = i64> {
    (1..=16).flat_map(|stride| [stride, -stride])
}

fn walk(first: u64, step: i64, noise: f64) -> Ids {
    Ids::Walk {
        next: first,
        step,
        noise,
        range: 1..1_000_000,
    }
}

#[test]
fn a_walk_at_any_stride_in_either_direction_is_found_within_100_requests() {
    let walks = strides().map(|stride| (format!("stride {stride}"), Ids::walk(500_000, stride)));
    check("plain", walks, 100);
}

#[test]
fn a_walk_with_a_tenth_of_noise_is_found_within_100_requests() {
    let walks = strides().map(|stride| (format!("stride {stride}"), walk(500_000, stride, 0.1)));
    check("a tenth is noise", walks, 100);
    // Noise from just where the walk is.
    let near = |stride| Ids::Walk {
        next: 500_000,
        step: stride,
        noise: 0.1,
        range: 499_000..501_000,
    };
    let walks = strides().map(|stride| (format!("stride {stride}"), near(stride)));
    check("a tenth is noise near by", walks, 100);
}

#[test]
fn steps_of_random_size_and_retries_do_not_hide_a_walk() {
    let walks = [0.0, 0.2].into_iter().flat_map(|repeat| {
        [2, 8, 16].map(|largest| {
            let ids = Ids::Jitter {
                next: 1000,
                largest,
                repeat,
            };
            (format!("steps up to {largest}, repeated {repeat}"), ids)
        })
    });
    check("jitter", walks, 100);
}

#[test]
fn workers_that_walk_side_by_side_are_found_too() {
    for (workers, bound) in [(2, 100), (4, 100), (8, 150), (32, 150)] {
        // Many of them leave holes, which are steps of several strides.
        let largest = if workers == 32 { 3 } else { 16 };
        let strides = strides().filter(|stride| stride.abs() <= largest);
        let walks = strides.map(|step| {
            let taking = Vec::new();
            let ids = Ids::Workers {
                next: 500_000,
                step,
                taking,
                workers,
            };
            (format!("stride {step}"), ids)
        });
        check(&format!("{workers} workers"), walks, bound);
    }
}

#[test]
fn a_walk_among_twice_as_many_other_requests_is_found_within_300() {
    let others = Ids::Uniform(1..1_000_000_000);
    let ids = Ids::Mixed(vec![Ids::walk(500_000, 3), others.clone(), others]);
    check("a third is a walk", [("stride 3".to_owned(), ids)], 300);
}

#[test]
fn two_to_four_walks_at_once_are_found_within_100_requests() {
    for together in 2..=4 {
        let ids = |stride: i64| {
            (0..together)
                .map(|nth| walk(500_000 + nth * 20_000, stride, 0.0))
                .collect::<Vec<_>>()
        };
        let walks = strides().map(|stride| {
            (
                format!("stride {stride}"),
                Ids::Interleaved {
                    ids: ids(stride),
                    nth: 0,
                },
            )
        });
        check(&format!("{together} in turn"), walks, 100);
        let walks = strides().map(|stride| (format!("stride {stride}"), Ids::Mixed(ids(stride))));
        check(&format!("{together} at random"), walks, 100);
    }
}

#[test]
fn a_walk_behind_the_address_of_a_reader_is_found_within_200_requests() {
    for (space, ids) in [
        ("a million", Ids::Uniform(1..1_000_000)),
        ("20,000 around the walk", Ids::Uniform(490_000..510_000)),
        ("popular ids", Ids::ScatteredZipf(1_000_000)),
    ] {
        let walks = strides().map(|stride| {
            let ids = Ids::Mixed(vec![Ids::walk(500_000, stride), ids.clone()]);
            (format!("stride {stride}"), ids)
        });
        check(&format!("half is a reader of {space}"), walks, 200);
    }
}

/// Kinds of honest clients and the number of requests of each.
fn readers() -> Vec<(String, Ids)> {
    let mut readers = Vec::new();
    for space in [50, 100, 200, 500, 1000, 10_000, 1_000_000, 1_000_000_000] {
        readers.push((format!("uniform over {space}"), Ids::Uniform(1..space + 1)));
        readers.push((format!("low ids of {space} popular"), Ids::Zipf(space)));
        readers.push((
            format!("some ids of {space} popular"),
            Ids::ScatteredZipf(space),
        ));
    }
    readers.push((
        "a dashboard of 50".into(),
        Ids::Circle {
            ids: (1..=50).collect(),
            nth: 0,
        },
    ));
    readers
}

#[test]
fn no_reader_is_taken_for_a_walker() {
    let (seeds, requests) = if cfg!(debug_assertions) {
        (100..101, 20_000)
    } else {
        (100..105, 200_000)
    };
    for (which, ids) in readers() {
        for seed in seeds.clone() {
            let mut detector = detector();
            let mut requests = client(ids.clone(), false).requests(seed).take(requests);
            let found = requests.position(|request| observe(&mut detector, &request));
            assert_eq!(found, None, "{which}, seed {seed}");
        }
    }
}

#[test]
fn of_a_hundred_clients_only_the_walkers_are_found() {
    let clients = (0..100_u8).map(|nth| {
        let abuse = nth % 10 == 0;
        let (ids, pace) = match nth % 10 {
            0 => (
                Ids::walk(u64::from(nth) * 1000, 1 + i64::from(nth / 10)),
                Pace::Uniform(200.0, 0.1),
            ),
            nth if nth % 2 == 0 => (Ids::Zipf(100_000), Pace::Random(100.0)),
            _ => (Ids::Uniform(1..2000), Pace::Random(50.0)),
        };
        Client {
            source: Ipv4Addr::new(198, 51, 100, nth),
            ids,
            pace,
            ..client(Ids::Zipf(1), abuse)
        }
    });
    let mut detector = detector();
    let mut found = std::collections::BTreeSet::new();
    for request in merge(clients, FROM_MS + 60_000, 1) {
        if observe(&mut detector, &request) {
            assert!(request.abuse, "{request:?}");
            found.insert(request.source);
        }
    }
    assert_eq!(found.len(), 10);
}
