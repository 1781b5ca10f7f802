use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const START: Time = Time(1_795_655_448_000);

fn settings() -> Settings {
    Settings {
        distinct: None,
        ..Settings::default()
    }
}

fn record<'r>(source: IpAddr, path: &'r str, key: Option<&'r str>) -> Record<'r> {
    Record {
        source: Some(source),
        path: Some(path.into()),
        key: key.map(Into::into),
        ..Record::default()
    }
}

fn source(nth: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, nth))
}

/// What is found when one source takes these, a second apart.
fn found(settings: Settings, paths: impl IntoIterator<Item = String>) -> Vec<Finding> {
    let mut detector = Enumeration::new(settings);
    let at = (0..).map(|second| START + Duration::from_secs(second));
    let observe =
        |(path, at): (String, Time)| detector.observe(&record(source(1), &path, None), at);
    paths.into_iter().zip(at).filter_map(observe).collect()
}

fn users(ids: impl IntoIterator<Item = u64>) -> impl Iterator<Item = String> {
    ids.into_iter().map(|id| format!("/api/users/{id}"))
}

#[test]
fn a_walk_is_found_and_the_finding_says_where() {
    let found = found(settings(), users(1..=64));
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        finding.reason,
        "walked 64 ids of /api/users/{} in order within 10m"
    );
    assert_eq!(finding.sources, ["192.0.2.1/32".parse().expect("a net")]);
    assert_eq!((finding.count, finding.subject.as_deref()), (64, None));
    assert_eq!(finding.at, START + Duration::from_secs(63));
}

#[test]
fn a_walk_in_the_query_is_found_whatever_stands_beside_it() {
    let mut random = Rng::with_seed(1);
    let paths = (1..=64).map(|id| format!("/api//users/?r{}=x&id={id}", random.u32(..)));
    let found = found(settings(), paths);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].reason.contains("of /api/users?id={} in order"),
        "{}",
        found[0].reason
    );
}

#[test]
fn a_reader_of_twenty_pages_and_a_dashboard_of_fifty_ids_are_left_alone() {
    assert_eq!(
        found(
            settings(),
            (1..=20).map(|page| format!("/news?page={page}"))
        ),
        []
    );
    let polls = std::iter::repeat_n(100..150, 100).flatten();
    assert_eq!(found(settings(), users(polls)), []);
}

#[test]
fn after_a_finding_it_is_quiet_until_as_many_ids_were_walked_again() {
    assert_eq!(found(settings(), users(1..=110)).len(), 1);
    assert_eq!(found(settings(), users(1..=160)).len(), 2);
}

#[test]
fn what_is_walked_slower_than_the_window_is_not_found() {
    let slow = Settings {
        within: Duration::from_secs(50),
        ..settings()
    };
    assert_eq!(found(slow, users(1..=1000)), []);
}

#[test]
fn different_ids_are_found_in_whatever_order_and_whatever_they_are() {
    let settings = Settings {
        distinct: Some(50),
        ..settings()
    };
    let mut random = Rng::with_seed(2);
    let uuids: Vec<String> = (0..50)
        .map(|_| {
            format!(
                "/f/{:08x}-0000-4000-8000-{:012x}",
                random.u32(..),
                random.u64(..1 << 48)
            )
        })
        .collect();
    let found_of = |paths: Vec<String>| found(settings.clone(), paths);
    let findings = found_of(uuids.clone());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].reason, "50 distinct ids of /f/{} within 10m");
    assert_eq!(
        found_of(uuids.iter().take(49).cycle().take(500).cloned().collect()),
        []
    );
}

#[test]
fn uuids_in_order_are_no_walk() {
    let paths = (0..500).map(|nth| format!("/f/00000000-0000-7000-8000-{nth:012x}"));
    assert_eq!(found(settings(), paths), []);
}

#[test]
fn a_key_that_walks_from_many_addresses_is_found_by_key() {
    let observe = |track| {
        let mut detector = Enumeration::new(Settings {
            track,
            ..settings()
        });
        let mut found = Vec::new();
        for nth in 0..100 {
            let path = format!("/api/users/{}", 5000 + u32::from(nth));
            let record = record(source(nth % 50), &path, Some("secret"));
            found.extend(detector.observe(&record, START));
        }
        found
    };
    assert_eq!(observe(Track::Source), []);
    let found = observe(Track::Field(Field::Key));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].subject.as_deref(), Some("secret"));
    assert_eq!(found[0].sources.len(), 50);
    let found = observe(Track::Path);
    assert_eq!((found.len(), found[0].sources.len()), (1, 50));
}

#[test]
fn a_walk_over_many_addresses_is_found_by_path_among_as_many_readers() {
    let mut detector = Enumeration::new(Settings {
        track: Track::Path,
        ..settings()
    });
    let mut random = Rng::with_seed(3);
    let (mut walkers, mut readers) = (0, 0);
    for nth in 0..400_u64 {
        let (id, from) = if random.bool() {
            (nth, random.u8(..100))
        } else {
            (random.u64(..100_000), random.u8(100..))
        };
        let path = format!("/api/users/{id}");
        let Some(finding) = detector.observe(&record(source(from), &path, None), START) else {
            continue;
        };
        for net in finding.sources {
            let IpAddr::V4(address) = net.addr() else {
                panic!("{net}")
            };
            if address.octets()[3] < 100 {
                walkers += 1;
            } else {
                readers += 1;
            }
        }
    }
    assert!(
        walkers >= 50 && readers <= walkers / 20,
        "{walkers} walkers, {readers} readers"
    );
}

#[test]
fn records_without_a_source_path_or_key_are_of_no_consequence() {
    let mut detector = Enumeration::new(Settings {
        track: Track::Field(Field::Key),
        ..Settings::default()
    });
    let nothing = Record {
        path: Some("/1".into()),
        ..Record::default()
    };
    assert_eq!(detector.observe(&nothing, START), None);
    assert_eq!(
        detector.observe(&record(source(1), "/1", None), START),
        None
    );
    assert_eq!(detector.occupancy().tracked, 0);
}

#[test]
fn whoever_was_quiet_for_longest_is_forgotten() {
    let mut detector = Enumeration::new(Settings {
        capacity: 1,
        ..settings()
    });
    for id in 0..1000_u64 {
        let path = format!("/api/users/{id}");
        assert_eq!(
            detector.observe(&record(source(1), &path, None), START),
            None
        );
        assert_eq!(
            detector.observe(&record(source(2), &path, None), START),
            None
        );
    }
    assert_eq!(
        detector.occupancy(),
        Occupancy {
            tracked: 1,
            capacity: 1,
            evicted: 1999
        }
    );
}

#[test]
fn one_place_takes_no_more_memory_than_is_said() {
    for (track, most) in [(Track::Source, 2100), (Track::Path, 4200 + 16 * 1024)] {
        let settings = Settings {
            track,
            count: u32::MAX,
            distinct: Some(u32::MAX),
            ..settings()
        };
        let mut detector = Enumeration::new(settings);
        for id in 0..10_000_u32 {
            // Everybody walks, from another address each time.
            let address = match detector.settings.track {
                Track::Source => source(1),
                _ => IpAddr::V4(id.into()),
            };
            detector.observe(&record(address, &format!("/{id}"), None), START);
            assert!(
                detector.heap_bytes() <= most,
                "{} bytes",
                detector.heap_bytes()
            );
        }
    }
    assert!(
        size_of::<Taken>() + size_of::<u64>() + 16 <= 200,
        "{}",
        size_of::<Taken>()
    );
}

#[test]
fn many_who_take_many_ids_take_no_more_memory_than_is_said() {
    let settings = Settings {
        capacity: 100,
        distinct: Some(u32::MAX),
        ..settings()
    };
    let mut detector = Enumeration::new(settings);
    for id in 0..20_000_u32 {
        let address = IpAddr::V4((id % 100).into());
        detector.observe(&record(address, &format!("/{id}"), None), START);
        assert!(detector.heap_bytes() <= 100 * HEAP_BYTES);
    }
    assert!(detector.occupancy().evicted > 0);
}

proptest! {
    #[test]
    fn any_records_are_taken_and_memory_is_bounded(
        records in prop::collection::vec((0_u8..4, r"(/|[0-9]{1,20}|\?a=|&|x){0,8}", any::<u64>(), 0..3_usize), 0..100),
        count in 0_u32..5, max_stride in any::<u64>(), distinct in prop::option::of(0_u32..5), capacity in 0_usize..4,
        track in prop::sample::select(vec![Track::Source, Track::Field(Field::Key), Track::Path]),
    ) {
        let within = Duration::from_millis(u64::from(count));
        let mut detector = Enumeration::new(Settings { count, within, max_stride, distinct, track, capacity, ..settings() });
        for (from, path, at, key) in records {
            let key = ["a", "b"].get(key).copied();
            detector.observe(&record(source(from), &path, key), Time(at));
            prop_assert!(detector.occupancy().tracked <= capacity.max(1));
        }
    }
}
