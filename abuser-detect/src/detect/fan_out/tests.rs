use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const START: Time = Time(1_795_655_448_000);

fn record<'r>(source: u16, key: &'r str, path: &'r str) -> Record<'r> {
    let [high, low] = source.to_be_bytes();
    Record {
        source: Some(IpAddr::V4(Ipv4Addr::new(10, 0, high, low))),
        key: Some(key.into()),
        method: Some("GET".into()),
        path: Some(path.into()),
        ..Record::default()
    }
}

fn only(sources: Option<u32>, keys: Option<u32>, identical: Option<u32>) -> FanOut {
    FanOut::new(Settings {
        sources,
        keys,
        identical,
        run: 8,
        ..Settings::default()
    })
}

#[test]
fn a_key_from_many_sources_is_found_with_those_that_used_it() {
    let mut detector = only(Some(20), None, None);
    let found: Vec<Finding> = (0..38)
        .flat_map(|source| [source, source])
        .filter_map(|source| detector.observe(&record(source, "leaked", "/"), START))
        .collect();
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(finding.subject.as_deref(), Some("leaked"));
    assert_eq!((finding.sources.len(), finding.count), (20, 39));
    assert_eq!(finding.reason, "one key from 20 sources within 10m");
    // The nineteen since and one more.
    assert!(
        detector
            .observe(&record(38, "leaked", "/"), START)
            .is_some()
    );
}

#[test]
fn a_source_with_many_keys_is_found() {
    let mut detector = only(None, Some(20), None);
    for nth in 0..19 {
        assert_eq!(
            detector.observe(&record(1, &format!("key {nth}"), "/"), START),
            None
        );
        assert_eq!(
            detector.observe(&record(1, &format!("key {nth}"), "/"), START),
            None
        );
    }
    let finding = detector
        .observe(&record(1, "key 19", "/"), START)
        .expect("twenty keys");
    assert_eq!(finding.sources, ["10.0.0.1/32".parse().expect("a net")]);
    assert_eq!((finding.subject, finding.count), (None, 39));
    assert_eq!(finding.reason, "20 keys from one source within 10m");
}

#[test]
fn few_at_a_time_are_not_found_however_many_they_become() {
    let mut detector = only(Some(20), Some(20), None);
    for nth in 0..1000 {
        let at = START + Duration::from_secs(nth * 60);
        let source = u16::try_from(nth).expect("few");
        assert_eq!(detector.observe(&record(source, "key", "/"), at), None);
        assert_eq!(
            detector.observe(&record(5000, &format!("key {nth}"), "/"), at),
            None
        );
    }
}

#[test]
fn what_is_a_key_is_a_matter_of_settings() {
    let by: Field = "user".parse().expect("a field");
    let mut detector = FanOut::new(Settings {
        by,
        sources: Some(3),
        ..Settings::default()
    });
    let mut observe = |source| {
        let record = Record {
            user: Some("alice".into()),
            key: None,
            ..record(source, "", "/")
        };
        detector.observe(&record, START)
    };
    assert_eq!((observe(1), observe(2)), (None, None));
    assert_eq!(
        observe(3).and_then(|finding| finding.subject).as_deref(),
        Some("alice")
    );
    assert_eq!(detector.observe(&record(4, "key", "/"), START), None);
}

#[test]
fn keys_that_send_the_same_requests_are_found() {
    let mut detector = only(None, None, Some(5));
    let mut found = Vec::new();
    for nth in 0..12 {
        for key in ["a", "b", "c", "d", "e"] {
            let source = u16::from(key.as_bytes()[0]);
            found.extend(detector.observe(
                &record(source, key, &format!("/users/{}", nth * 977)),
                START,
            ));
        }
    }
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(finding.sources.len(), 5);
    assert_eq!(finding.reason, "5 keys with the same 8 requests within 10m");
    assert_eq!(finding.count, 40);
}

#[test]
fn keys_that_start_the_same_application_or_poll_or_go_their_own_ways_are_not() {
    let mut detector = only(None, None, Some(5));
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            for path in [
                "/me",
                "/config",
                "/news",
                "/news/latest",
                "/messages?page=1",
                "/products/1",
            ] {
                assert_eq!(detector.observe(&record(1, key, path), START), None);
            }
            // Ten products are popular.
            for _ in 0..4 {
                let product = random.u64(..10);
                assert_eq!(
                    detector.observe(&record(1, key, &format!("/products/{product}")), START),
                    None
                );
            }
        }
    }
}

#[test]
fn keys_that_poll_the_same_thing_are_not() {
    let mut detector = only(None, None, Some(5));
    for _ in 0..50 {
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(detector.observe(&record(1, key, "/jobs/17"), START), None);
        }
    }
}

#[test]
fn the_order_and_the_method_of_requests_matter() {
    let mut detector = only(None, None, Some(2));
    for nth in 0..8 {
        assert_eq!(
            detector.observe(&record(1, "a", &format!("/{nth}")), START),
            None
        );
        assert_eq!(
            detector.observe(&record(1, "b", &format!("/{}", 7 - nth)), START),
            None
        );
        let path = format!("/{nth}");
        let post = Record {
            method: Some("POST".into()),
            ..record(1, "c", &path)
        };
        assert_eq!(detector.observe(&post, START), None);
    }
    let last =
        (0..8).filter_map(|nth| detector.observe(&record(1, "d", &format!("/{nth}")), START));
    assert_eq!(last.count(), 1);
}

#[test]
fn records_without_a_key_or_source_are_of_no_consequence() {
    let mut detector = only(Some(2), Some(2), Some(2));
    let no_source = Record {
        source: None,
        ..record(1, "a", "/1")
    };
    assert_eq!(detector.observe(&no_source, START), None);
    let no_key = Record {
        key: None,
        ..record(1, "a", "/1")
    };
    assert_eq!(detector.observe(&no_key, START), None);
    assert_eq!(detector.occupancy().tracked, 0);
}

#[test]
fn a_key_takes_no_more_memory_than_is_said() {
    let mut detector = only(Some(u32::MAX), None, None);
    for source in 0..10_000 {
        detector.observe(&record(source, "key", "/"), START);
        assert!(detector.heap_bytes() <= 1600, "{}", detector.heap_bytes());
    }
    assert!(
        size_of::<Fan>() + size_of::<Source>() + 16 <= 130,
        "{}",
        size_of::<Fan>()
    );
}

#[test]
fn memory_is_bounded_over_all() {
    let settings = Settings {
        identical: Some(1000),
        capacity: 50,
        sources: Some(1000),
        keys: Some(1000),
        ..Settings::default()
    };
    let mut detector = FanOut::new(settings);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let path = format!("/{}", random.u32(..));
        detector.observe(
            &record(random.u16(..60), &format!("key {}", random.u8(..60)), &path),
            START,
        );
        assert!(detector.heap_bytes() <= 4 * 50 * HEAP_BYTES);
        assert!(detector.occupancy().tracked <= 200);
    }
}

proptest! {
    #[test]
    fn any_records_are_taken_and_memory_is_bounded(
        records in prop::collection::vec((0_u16..6, 0_usize..4, "[/0-3]{0,4}", any::<u64>()), 0..300),
        sources in prop::option::of(0_u32..4), keys in prop::option::of(0_u32..4), identical in prop::option::of(0_u32..4),
        run in any::<u8>(), within in any::<u64>(), capacity in 0_usize..4,
    ) {
        let within = Duration::from_millis(within);
        let settings = Settings { sources, keys, identical, run, within, capacity, ..Settings::default() };
        let mut detector = FanOut::new(settings);
        for (source, key, path, at) in records {
            let key = ["", "a", "b", "c"][key];
            if let Some(finding) = detector.observe(&record(source, key, &path), Time(at)) {
                prop_assert!(!finding.sources.is_empty());
            }
            prop_assert!(detector.occupancy().tracked <= 4 * capacity.max(1));
        }
    }
}
