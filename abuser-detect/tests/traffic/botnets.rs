//! Members of a botnet against people and applications.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use abuser_detect::{
    detect::{
        Detector,
        distributed::{Distributed, Settings},
    },
    time::Time,
};
use ipnet::IpNet;

use crate::{
    api_traffic::{Client, Ids, Pace, merge},
    record,
};

const FROM_MS: u64 = 1_795_655_448_000;

/// So many clients in that network, which begin within the first ten seconds.
fn clients(net: u8, number: u16, pace: Pace, status: u16) -> impl Iterator<Item = Client> {
    (0..number).map(move |nth| {
        let [high, low] = nth.to_be_bytes();
        Client {
            source: Ipv4Addr::new(10, net, high, low),
            key: None,
            prefix: "/api/users/",
            ids: Ids::Uniform(1..1_000_000),
            pace,
            status,
            from_ms: FROM_MS + u64::from(nth) * 7919 % 10_000,
            abuse: net == BOTS,
        }
    })
}

const BOTS: u8 = 66;

/// Whom the detector finds, of the bots and of the others, where the log has that resolution.
fn found(
    settings: &Settings,
    clients: impl IntoIterator<Item = Client>,
    minutes: u64,
    resolution_ms: u64,
) -> (usize, usize) {
    let mut detector = Distributed::new(settings.clone());
    let mut sources = BTreeSet::new();
    for request in merge(clients, FROM_MS + minutes * 60_000, 1) {
        let at = Time(request.at_ms / resolution_ms * resolution_ms);
        if let Some(finding) = detector.observe(&record(&request), at) {
            for source in finding.sources {
                let new = sources.insert(source);
                assert!(
                    new || minutes > 10,
                    "{source} is found twice within ten minutes"
                );
            }
        }
    }
    let bots: IpNet = "10.66.0.0/16".parse().expect("a net");
    let bots = sources
        .iter()
        .filter(|source| bots.contains(*source))
        .count();
    (bots, sources.len() - bots)
}

fn minutes(minutes: u64) -> u64 {
    if cfg!(debug_assertions) {
        minutes
    } else {
        minutes * 10
    }
}

#[test]
fn a_botnet_at_a_steady_beat_is_found_whatever_its_period_and_the_resolution() {
    for resolution_ms in [1, 1000] {
        for period_s in [3.2, 5.0, 7.3, 30.0] {
            let bots = clients(BOTS, 100, Pace::Uniform(period_s * 1000.0, 0.1), 401);
            let (bots, others) = found(&Settings::default(), bots, 10, resolution_ms);
            println!("every {period_s}s at {resolution_ms} ms: {bots} of 100");
            assert!(
                bots >= 80,
                "every {period_s}s at {resolution_ms} ms: {bots} of 100"
            );
            assert_eq!(others, 0);
        }
    }
}

#[test]
fn the_bots_are_found_among_people_who_fail_too_and_an_application() {
    let bots = clients(BOTS, 100, Pace::Uniform(10_000.0, 0.1), 401);
    let people = clients(1, 1000, Pace::Random(10_000.0), 401);
    let application = clients(2, 1000, Pace::Uniform(30_000.0, 0.02), 200);
    let everybody = bots.chain(people).chain(application);
    let (bots, others) = found(&Settings::default(), everybody, 10, 1000);
    println!("{bots} of 100 bots, {others} others");
    // They are found by twenties: fewer than that are left.
    assert!(bots >= 80 && others == 0, "{bots} bots, {others} others");
}

#[test]
fn people_are_not_found_however_many_they_are_and_however_often_they_fail() {
    let settings = Settings {
        failures: 0.0,
        ..Settings::default()
    };
    for resolution_ms in [1, 1000] {
        for mean_ms in [200.0, 1000.0, 2000.0, 3000.0, 4000.0, 10_000.0] {
            let people = clients(1, 500, Pace::Random(mean_ms), 401);
            let found = found(&settings, people, minutes(2), resolution_ms);
            assert_eq!(found, (0, 0), "every {mean_ms} ms, at {resolution_ms} ms");
        }
    }
}

#[test]
fn an_application_that_polls_is_found_only_if_failures_do_not_count() {
    let application = || clients(1, 200, Pace::Uniform(30_000.0, 0.02), 200);
    assert_eq!(found(&Settings::default(), application(), 10, 1000), (0, 0));
    let settings = Settings {
        failures: 0.0,
        ..Settings::default()
    };
    assert!(found(&settings, application(), 10, 1000).1 >= 180);
}

#[test]
fn a_few_are_no_botnet_and_neither_are_many_at_different_beats() {
    let few = clients(BOTS, 19, Pace::Uniform(5000.0, 0.05), 401);
    assert_eq!(found(&Settings::default(), few, 10, 1000), (0, 0));
    let different = (0..60_u8).flat_map(|nth| {
        let period = 1000.0 * 1.12_f64.powi(i32::from(nth));
        clients(nth, 3, Pace::Uniform(period, 0.01), 401)
    });
    assert_eq!(found(&Settings::default(), different, 60, 1), (0, 0));
}

#[test]
fn a_shorter_time_forgets_members_that_have_gone() {
    // One after the other, never at the same time.
    let bots = clients(BOTS, 40, Pace::Uniform(2000.0, 0.01), 401)
        .zip(0..)
        .map(|(bot, nth)| Client {
            from_ms: FROM_MS + nth * 20_000,
            ..bot
        });
    let settings = Settings {
        within: Duration::from_secs(20),
        ..Settings::default()
    };
    let mut detector = Distributed::new(settings);
    for bot in bots {
        for request in bot.requests(1).take(10) {
            assert_eq!(
                detector.observe(&record(&request), Time(request.at_ms)),
                None
            );
        }
    }
}
