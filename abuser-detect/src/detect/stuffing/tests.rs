use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

fn login(user: &str, status: u16) -> Record<'_> {
    Record {
        source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        path: Some("/login".into()),
        user: (!user.is_empty()).then(|| user.into()),
        status: Some(status),
        ..Record::default()
    }
}

/// The findings of logins: when, of whom (nobody is what a log without users says), with what status.
fn findings(settings: Settings, logins: &[(u64, String, u16)]) -> Vec<Finding> {
    let mut detector = Stuffing::new(settings);
    let logins = logins.iter();
    logins
        .filter_map(|(at, user, status)| detector.observe(&login(user, *status), Time(*at)))
        .collect()
}

/// Failures a second apart, each of another user, or of nobody.
fn failures(count: u64, named: bool) -> Vec<(u64, String, u16)> {
    let user = |number| {
        if named {
            format!("user{number}")
        } else {
            String::new()
        }
    };
    (0..count)
        .map(|number| (number * SECOND, user(number), 401))
        .collect()
}

#[test]
fn many_failures_for_many_users_are_found_and_again_after_as_many() {
    let found = findings(Settings::default(), &failures(60, true));
    let at: Vec<_> = found.iter().map(|found| found.at.0 / SECOND).collect();
    assert_eq!(at, [19, 39, 59]);
    let counts: Vec<_> = found.iter().map(|found| found.count).collect();
    assert_eq!(counts, [20, 40, 60]);
    let first = found.first().expect("a finding");
    assert_eq!(
        first.reason,
        "20 failures in 20 logins for 20 users within 1h"
    );
    assert_eq!(first.sources, ["192.0.2.1/32".parse().expect("a net")]);
    assert_eq!(first.subject, None);
}

#[test]
fn more_users_than_are_told_apart_are_said_to_be_more() {
    let found = findings(Settings::default(), &failures(200, true));
    let last = found.last().expect("a finding");
    assert_eq!(
        last.reason,
        "200 failures in 200 logins for 64 or more users within 1h"
    );
}

#[test]
fn a_success_after_failures_is_a_finding_that_names_who_lost_his_account() {
    let mut logins = failures(12, true);
    logins.extend([
        (13 * SECOND, "bob".to_owned(), 302),
        (14 * SECOND, "eve".to_owned(), 200),
    ]);
    let found = findings(Settings::default(), &logins);
    assert_eq!(
        found.len(),
        1,
        "the next one is found after ten more failures"
    );
    assert_eq!(
        found[0].reason,
        "success as \"bob\" after 12 failures for 12 users within 1h"
    );
    assert_eq!((found[0].at, found[0].count), (Time(13 * SECOND), 12));
}

#[test]
fn a_success_is_found_even_when_the_source_was_found_already() {
    let mut logins = failures(23, true);
    logins.push((24 * SECOND, "bob".to_owned(), 200));
    let found = findings(Settings::default(), &logins);
    assert_eq!(found.len(), 2);
    assert!(
        found[1]
            .reason
            .starts_with("success as \"bob\" after 23 failures")
    );
}

#[test]
fn a_log_without_users_is_judged_by_failures_alone() {
    let mut logins = failures(20, false);
    logins.push((20 * SECOND, String::new(), 200));
    let reasons: Vec<_> = findings(Settings::default(), &logins)
        .into_iter()
        .map(|found| found.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            "20 failures in 20 logins within 1h",
            "success after 20 failures within 1h"
        ]
    );
}

#[test]
fn a_user_who_mistypes_three_times_and_then_succeeds_is_not_found() {
    for user in ["alice", ""] {
        let mut logins: Vec<_> = (0..3)
            .map(|try_| (try_ * 5 * SECOND, user.to_owned(), 401))
            .collect();
        logins.push((20 * SECOND, user.to_owned(), 200));
        assert_eq!(findings(Settings::default(), &logins), []);
    }
}

#[test]
fn a_script_with_an_old_password_fails_all_day_and_is_not_found() {
    let mut logins: Vec<_> = (0..24 * 60)
        .map(|minute| (minute * MINUTE, "backup".to_owned(), 401))
        .collect();
    logins.push((24 * HOUR, "backup".to_owned(), 200));
    assert_eq!(findings(Settings::default(), &logins), []);
}

#[test]
fn answers_that_say_nothing_of_the_password_do_not_count() {
    let logins: Vec<_> = (0..200)
        .map(|number| {
            (
                number * SECOND,
                format!("user{number}"),
                [429, 500, 404][usize::try_from(number).expect("few") % 3],
            )
        })
        .collect();
    assert_eq!(findings(Settings::default(), &logins), []);
    let mut detector = Stuffing::new(Settings::default());
    for record in [
        Record::default(),
        Record {
            status: None,
            ..login("bob", 0)
        },
    ] {
        assert_eq!(detector.observe(&record, Time(1)), None);
    }
    assert_eq!(detector.occupancy().tracked, 0);
}

#[test]
fn a_form_that_fails_with_200_and_succeeds_with_302_can_be_told() {
    let settings = Settings {
        statuses: vec![200],
        ..Settings::default()
    };
    let mut logins: Vec<_> = failures(15, true);
    for login in &mut logins {
        login.2 = 200;
    }
    logins.push((15 * SECOND, "bob".to_owned(), 302));
    let found = findings(settings, &logins);
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .reason
            .starts_with("success as \"bob\" after 15 failures")
    );
}

#[test]
fn failures_that_are_too_long_ago_do_not_count() {
    let mut logins = failures(19, true);
    logins.push((HOUR + 30 * SECOND, "late".to_owned(), 401));
    logins.push((2 * HOUR, "bob".to_owned(), 200));
    logins.push((50 * 365 * 24 * HOUR, "bob".to_owned(), 401));
    assert_eq!(findings(Settings::default(), &logins), []);
}

#[test]
fn memory_for_one_source_is_bounded_whatever_it_does() {
    let mut detector = Stuffing::new(Settings {
        users: u32::MAX,
        ..Settings::default()
    });
    for number in 0..20_000_u64 {
        let user = format!("user{number}");
        detector.observe(
            &login(&user, if number % 2 == 0 { 401 } else { 200 }),
            Time(number * 100),
        );
    }
    assert!(
        detector.sources.heap_bytes() < 512 * 32 + 4096,
        "{}",
        detector.sources.heap_bytes()
    );
}

#[test]
fn with_room_for_one_source_the_other_is_forgotten() {
    let mut detector = Stuffing::new(Settings {
        capacity: 1,
        count: 2,
        users: 0,
        ..Settings::default()
    });
    let other = Record {
        source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        ..login("bob", 401)
    };
    for second in 0..10 {
        assert_eq!(
            detector.observe(&login("bob", 401), Time(second * SECOND)),
            None
        );
        assert_eq!(detector.observe(&other, Time(second * SECOND)), None);
    }
    assert_eq!(detector.occupancy().evicted, 19);
}

/// An office behind one address: everybody comes in the morning between eight and nine and again after lunch, one of five
/// mistypes his password, up to three times, and one of a hundred gives up.
fn office(people: u64, days: u64, named: bool, rng: &mut Rng) -> Vec<(u64, String, u16)> {
    let mut logins = Vec::new();
    for day in 0..days {
        for person in 0..people {
            for hour in [8, 13] {
                let mut at = (day * 24 + hour) * HOUR + rng.u64(..HOUR);
                let user = if named {
                    format!("person{person}")
                } else {
                    String::new()
                };
                let mistakes = if rng.u8(..5) == 0 { rng.u8(1..=3) } else { 0 };
                for _ in 0..mistakes {
                    logins.push((at, user.clone(), 401));
                    at += rng.u64(3 * SECOND..20 * SECOND);
                }
                if rng.u8(..100) > 0 {
                    logins.push((at, user, 200));
                }
            }
        }
    }
    logins.sort_by_key(|login| login.0);
    logins
}

/// Tries other people's passwords, of which one in fifty still works.
fn stuffer(tries: u64, gap: u64, rng: &mut Rng) -> Vec<(u64, String, u16)> {
    (0..tries)
        .map(|number| {
            let status = if rng.u8(..50) == 0 { 200 } else { 401 };
            let at = number * gap + rng.u64(..gap / 2);
            (at, format!("leaked{}", rng.u32(..4_000_000)), status)
        })
        .collect()
}

#[test]
fn no_office_is_ever_found() {
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        for people in [3, 10, 50, 300, 1000] {
            for named in [true, false] {
                let logins = office(people, 5, named, &mut rng);
                assert_eq!(
                    findings(Settings::default(), &logins),
                    [],
                    "{people} people, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn a_stuffer_is_found_within_a_few_more_tries_than_are_counted() {
    for seed in 0..50 {
        let logins = stuffer(100, SECOND / 10, &mut Rng::with_seed(seed));
        let found = findings(Settings::default(), &logins);
        let first = found.first().expect("a finding");
        let tries = logins.iter().filter(|login| login.0 <= first.at.0).count();
        assert!(tries <= 25, "{tries} tries, seed {seed}");
    }
}

#[test]
fn each_account_that_a_stuffer_gets_after_enough_failures_is_a_finding() {
    let (mut taken, mut alarms) = (0, 0);
    for seed in 0..20 {
        let logins = stuffer(1000, SECOND, &mut Rng::with_seed(seed));
        taken += logins.iter().filter(|login| login.2 == 200).count();
        let found = findings(Settings::default(), &logins);
        alarms += found
            .iter()
            .filter(|found| found.reason.starts_with("success as"))
            .count();
    }
    // Those at the start and those shortly after another are not.
    assert!(
        alarms * 10 >= taken * 7,
        "{alarms} alarms for {taken} accounts"
    );
}

#[test]
fn a_slow_stuffer_is_found_within_a_window_that_is_long_enough() {
    for seed in 0..20 {
        let logins = stuffer(60, 30 * MINUTE, &mut Rng::with_seed(seed));
        assert_eq!(findings(Settings::default(), &logins), [], "two an hour");
        let day = Settings {
            within: Duration::from_secs(86_400),
            ..Settings::default()
        };
        assert!(!findings(day, &logins).is_empty(), "seed {seed}");
        let faster = stuffer(60, 2 * MINUTE, &mut Rng::with_seed(seed));
        assert!(
            !findings(Settings::default(), &faster).is_empty(),
            "seed {seed}"
        );
    }
}

#[test]
fn a_stuffer_among_people_is_found_and_none_of_them() {
    for seed in 0..10 {
        let rng = &mut Rng::with_seed(seed);
        let mut logins = Vec::new();
        for (host, stream) in [
            office(50, 1, true, rng),
            stuffer(500, 5 * SECOND, rng),
            office(5, 1, true, rng),
        ]
        .into_iter()
        .enumerate()
        {
            let start = if host == 1 { 8 * HOUR } else { 0 };
            logins.extend(
                stream
                    .into_iter()
                    .map(|(at, user, status)| (at + start, host, user, status)),
            );
        }
        logins.sort_by_key(|login| login.0);
        let mut detector = Stuffing::new(Settings::default());
        let mut sources = Vec::new();
        for (at, host, user, status) in &logins {
            let host = u8::try_from(*host).expect("one of three");
            let record = Record {
                source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host))),
                ..login(user, *status)
            };
            sources.extend(
                detector
                    .observe(&record, Time(*at))
                    .into_iter()
                    .flat_map(|found| found.sources),
            );
        }
        sources.dedup();
        assert_eq!(sources, ["192.0.2.1/32".parse().expect("a net")]);
    }
}

proptest! {
    /// Whatever is found, all logins together must bear out.
    #[test]
    fn nobody_is_found_who_stayed_below_the_settings(
        count in 2..10_u32,
        users in 0..6_u32,
        ratio in 0.0..1.0_f64,
        logins in prop::collection::vec((0..4000_u64, 0..12_u8, any::<bool>()), 1..300),
    ) {
        let settings = Settings {
            count,
            users,
            ratio,
            success_after: count.div_ceil(2),
            within: Duration::from_secs(60),
            ..Settings::default()
        };
        let mut detector = Stuffing::new(settings.clone());
        let mut past: Vec<(u64, u8, bool)> = Vec::new();
        let mut at = 1_000_000;
        for (gap, user, failed) in logins {
            at += gap;
            let name = format!("user{user}");
            let found = detector.observe(&login(&name, if failed { 401 } else { 200 }), Time(at));
            past.push((at, user, failed));
            let Some(found) = found else { continue };
            let recent = past.iter().filter(|login| at - login.0 <= 60_000);
            let failures: Vec<_> = recent.filter(|login| login.2).collect();
            let least = if failed { count } else { settings.success_after };
            prop_assert!(failures.len() >= least as usize);
            prop_assert!(failures.len() >= found.count as usize);
            let mut different: Vec<_> = failures.iter().map(|login| login.1).collect();
            different.sort_unstable();
            different.dedup();
            prop_assert!(different.len() >= users as usize);
        }
    }
}
