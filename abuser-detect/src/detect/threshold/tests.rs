use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::record::Fields;

const MINUTE: Duration = Duration::from_secs(60);

fn settings(kind: Kind, count: u32) -> Settings {
    Settings {
        kind,
        count,
        within: MINUTE,
        ..Settings::default()
    }
}

fn by(field: &str, count: u32) -> Threshold {
    Threshold::new(Settings {
        track: Track::Field(field.parse().expect("a field")),
        ..settings(Kind::Maxretry, count)
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn from(source: &str) -> Record<'static> {
    Record {
        source: Some(address(source)),
        ..Record::default()
    }
}

fn with_key<'l>(source: &str, key: &'l str) -> Record<'l> {
    Record {
        key: Some(key.into()),
        ..from(source)
    }
}

/// Which of the hits at these seconds, all of one source, are found; with how many.
fn found(kind: Kind, count: u32, seconds: &[u64]) -> Vec<(u64, u32)> {
    let mut detector = Threshold::new(settings(kind, count));
    let record = from("192.0.2.1");
    let hits = seconds.iter().map(|second| second + 1_700_000_000);
    hits.filter_map(|second| {
        let finding = detector.observe(&record, Time(second * 1000))?;
        assert_eq!(finding.at, Time(second * 1000));
        Some((second - 1_700_000_000, finding.count))
    })
    .collect()
}

#[test]
fn maxretry_finds_the_last_of_so_many_and_counts_anew() {
    assert_eq!(
        found(Kind::Maxretry, 3, &[0, 30, 60, 61, 90, 120, 121, 182, 183]),
        [(60, 3), (120, 3)]
    );
}

#[test]
fn limit_finds_the_first_ones_of_each_interval() {
    assert_eq!(
        found(Kind::Limit, 2, &[0, 1, 2, 3, 59, 60, 61, 62]),
        [(0, 1), (1, 2), (60, 1), (61, 2)]
    );
}

#[test]
fn threshold_finds_each_nth_and_an_interval_starts_with_it() {
    // The third is found at 20; from there, 25, 79 and no third before 80.
    assert_eq!(
        found(Kind::Threshold, 3, &[0, 10, 20, 25, 79, 80, 81, 82]),
        [(20, 3), (82, 3)]
    );
    assert_eq!(
        found(Kind::Threshold, 2, &[0, 59, 60, 61, 121, 122]),
        [(59, 2), (61, 2), (122, 2)]
    );
}

#[test]
fn both_finds_one_in_each_interval_that_has_so_many() {
    assert_eq!(
        found(Kind::Both, 3, &[0, 1, 2, 3, 4, 59, 60, 61, 120, 121, 122]),
        [(2, 3), (122, 3)]
    );
    assert_eq!(found(Kind::Both, 1, &[0, 1, 60, 61]), [(0, 1), (60, 1)]);
}

#[test]
fn detection_filter_finds_all_after_the_first_ones_and_goes_on_while_they_come() {
    assert_eq!(
        found(Kind::DetectionFilter, 2, &[0, 1, 2, 3, 60, 61]),
        [(2, 3), (3, 4), (60, 1), (61, 2)],
        "the interval before had more than two"
    );
    assert_eq!(
        found(Kind::DetectionFilter, 2, &[0, 1, 2, 63, 64, 65]),
        [(2, 3), (65, 3)],
        "after more than a minute without any"
    );
    assert_eq!(found(Kind::DetectionFilter, 2, &[0, 1, 60, 61]), []);
}

#[test]
fn sources_are_counted_apart_and_ipv6_networks_as_one() {
    let mut detector = Threshold::new(settings(Kind::Maxretry, 2));
    let mut hit = |source| detector.observe(&from(source), Time(1000));
    assert_eq!(hit("192.0.2.1"), None);
    assert_eq!(hit("192.0.2.2"), None);
    assert_eq!(hit("2001:db8:0:1::1"), None);
    assert_eq!(hit("2001:db8:0:2::1"), None);
    let finding = hit("2001:db8:0:1:ffff::2").expect("the same /64");
    assert_eq!(
        finding.sources,
        ["2001:db8:0:1::/64".parse().expect("a net")]
    );
    let finding = hit("::ffff:192.0.2.1").expect("the same IPv4 address");
    assert_eq!(finding.sources, ["192.0.2.1/32".parse().expect("a net")]);
    assert_eq!(detector.occupancy().tracked, 4);
}

#[test]
fn a_finding_says_whom_when_how_many_and_why() {
    let mut detector = Threshold::new(settings(Kind::Maxretry, 2));
    detector.observe(&from("192.0.2.1"), Time(1000));
    let finding = detector.observe(&from("192.0.2.1"), Time(2000));
    let expected = Finding {
        sources: vec!["192.0.2.1/32".parse().expect("a net")],
        subject: None,
        at: Time(2000),
        count: 2,
        reason: "2 matches within 1m".to_owned(),
    };
    assert_eq!(finding, Some(expected));
}

#[test]
fn the_reasons_of_the_kinds_differ() {
    let reason = |kind, hits| {
        let mut detector = Threshold::new(settings(kind, 2));
        let mut findings = (0..hits).filter_map(|hit| {
            let finding = detector.observe(&from("192.0.2.1"), Time(hit));
            finding.map(|finding| finding.reason)
        });
        findings.next_back().expect("a finding")
    };
    assert_eq!(reason(Kind::Limit, 1), "match 1 of the first 2 within 1m");
    assert_eq!(reason(Kind::Threshold, 2), "2 matches within 1m");
    assert_eq!(reason(Kind::Both, 2), "2 matches within 1m");
    let filtered = "3 matches within 1m, where 2 are allowed";
    assert_eq!(reason(Kind::DetectionFilter, 3), filtered);
    assert_eq!(reason(Kind::Maxretry, 2), "2 matches within 1m");
}

#[test]
fn a_record_without_what_is_counted_by_is_of_no_consequence() {
    let mut detector = Threshold::new(settings(Kind::Limit, 1));
    assert_eq!(detector.observe(&Record::default(), Time(1)), None);
    let mut detector = by("user", 1);
    assert_eq!(detector.observe(&from("192.0.2.1"), Time(1)), None);
    let nobody = Record {
        user: Some("".into()),
        ..from("192.0.2.1")
    };
    assert_eq!(detector.observe(&nobody, Time(1)), None);
    assert_eq!(detector.occupancy().tracked, 0);
}

#[test]
fn a_key_is_counted_over_all_sources_and_its_finding_names_them() {
    let mut detector = by("key", 4);
    let mut hit =
        |source, key, second: u64| detector.observe(&with_key(source, key), Time(second * 1000));
    assert_eq!(hit("192.0.2.9", "leaked", 0), None);
    assert_eq!(hit("192.0.2.1", "leaked", 61), None);
    assert_eq!(hit("192.0.2.2", "leaked", 62), None);
    assert_eq!(hit("192.0.2.1", "other", 63), None);
    assert_eq!(hit("192.0.2.1", "leaked", 64), None);
    let finding = hit("192.0.2.3", "leaked", 65).expect("four within a minute");
    let sources: Vec<_> = finding.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["192.0.2.2/32", "192.0.2.1/32", "192.0.2.3/32"]);
    assert_eq!(finding.subject.as_deref(), Some("leaked"));
    assert_eq!(
        finding.reason,
        "4 matches of key \"leaked\" from 3 sources within 1m"
    );
    for second in 66..69 {
        assert_eq!(hit("192.0.2.4", "leaked", second), None);
    }
    let again = hit("192.0.2.4", "leaked", 69).expect("four more");
    assert_eq!(again.sources.len(), 1, "who was found is not found again");
}

#[test]
fn of_many_sources_of_a_key_the_newest_are_named() {
    let mut detector = by("key", 200);
    let mut findings = (0..200_u8).filter_map(|host| {
        let source = IpAddr::from(Ipv4Addr::new(192, 0, 2, host));
        let record = Record {
            source: Some(source),
            key: Some("leaked".into()),
            ..Record::default()
        };
        detector.observe(&record, Time(host.into()))
    });
    let finding = findings.next().expect("200 hits");
    assert_eq!(finding.sources.len(), SOURCES);
    assert_eq!(
        finding.sources.first().map(ToString::to_string).as_deref(),
        Some("192.0.2.136/32")
    );
    assert_eq!(
        finding.sources.last().map(ToString::to_string).as_deref(),
        Some("192.0.2.199/32")
    );
}

#[test]
fn a_key_is_found_even_where_the_log_has_no_sources() {
    let mut detector = by("key", 1);
    let record = Record {
        key: Some("leaked".into()),
        ..Record::default()
    };
    let finding = detector.observe(&record, Time(1)).expect("a finding");
    assert_eq!(
        (finding.sources.len(), finding.subject.as_deref()),
        (0, Some("leaked"))
    );
}

#[test]
fn a_key_of_any_length_costs_the_same_and_is_repeated_in_part() {
    let mut detector = by("key", 2);
    let (one, other) = ("ä".repeat(100_000) + "1", "ä".repeat(100_000) + "2");
    assert_eq!(
        detector.observe(&with_key("192.0.2.1", &one), Time(1)),
        None
    );
    assert_eq!(
        detector.observe(&with_key("192.0.2.1", &other), Time(1)),
        None
    );
    let finding = detector
        .observe(&with_key("192.0.2.1", &one), Time(1))
        .expect("a finding");
    assert_eq!(finding.subject, Some("ä".repeat(128)));
    assert!(finding.reason.len() < 200);
}

#[test]
fn groups_and_json_fields_can_be_counted_by() {
    let mut detector = by("field.tenant", 1);
    let record = Record {
        fields: Fields::Groups(vec![("tenant".into(), "acme".into())]),
        ..from("192.0.2.1")
    };
    let finding = detector.observe(&record, Time(1)).expect("a finding");
    assert_eq!(finding.subject.as_deref(), Some("acme"));

    let mut detector = by("client.id", 1);
    let subject = |detector: &mut Threshold, document| {
        let record = Record {
            fields: Fields::Json(document),
            ..from("192.0.2.1")
        };
        detector
            .observe(&record, Time(1))
            .and_then(|finding| finding.subject)
    };
    let document = |id| serde_json::json!({ "client": { "id": id } });
    assert_eq!(
        subject(&mut detector, document(serde_json::json!("a"))).as_deref(),
        Some("a")
    );
    assert_eq!(
        subject(&mut detector, document(serde_json::json!(7))).as_deref(),
        Some("7")
    );
    assert_eq!(
        subject(&mut detector, document(serde_json::json!(null))),
        None
    );
    assert_eq!(subject(&mut detector, serde_json::json!([])), None);
}

#[test]
fn with_room_for_one_each_other_source_starts_anew() {
    let mut detector = Threshold::new(Settings {
        capacity: 1,
        ..settings(Kind::Maxretry, 2)
    });
    let mut hit = |source| detector.observe(&from(source), Time(1)).is_some();
    assert!(!hit("192.0.2.1") && !hit("192.0.2.2") && !hit("192.0.2.1") && hit("192.0.2.1"));
    let expected = Occupancy {
        tracked: 1,
        capacity: 1,
        evicted: 2,
    };
    assert_eq!(detector.occupancy(), expected);
}

#[test]
fn a_busy_source_is_remembered_while_others_come_and_go() {
    let mut detector = Threshold::new(Settings {
        capacity: 10,
        ..settings(Kind::Maxretry, 100)
    });
    let mut found = Vec::new();
    for hit in 0..100_u8 {
        for other in 0..9 {
            let other = IpAddr::from(Ipv4Addr::new(10, hit, 0, other));
            let record = Record {
                source: Some(other),
                ..Record::default()
            };
            assert_eq!(detector.observe(&record, Time(hit.into())), None);
        }
        found.extend(detector.observe(&from("192.0.2.1"), Time(hit.into())));
    }
    assert_eq!(found.len(), 1);
    assert_eq!(detector.occupancy().evicted, 9 * 99);
}

#[test]
fn sources_that_hold_too_much_together_are_forgotten_before_there_are_too_many() {
    let mut detector = Threshold::new(Settings {
        capacity: 100_000,
        ..settings(Kind::Maxretry, 1000)
    });
    for source in 0..20_000_u32 {
        let record = Record {
            source: Some(IpAddr::from(Ipv4Addr::from(source << 8))),
            ..Record::default()
        };
        for hit in 0..150 {
            detector.observe(&record, Time(1000 + hit));
        }
    }
    let Occupancy {
        tracked, evicted, ..
    } = detector.occupancy();
    assert!(
        tracked > 4000 && evicted > 0,
        "{tracked} tracked, {evicted} evicted"
    );
    let Memory::Windows(table) = &detector.memory else {
        panic!("by source");
    };
    assert!(table.heap_bytes() <= 100_000 * HEAP_PER_KEY);
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let kinds = [
        Kind::Maxretry,
        Kind::Limit,
        Kind::Threshold,
        Kind::Both,
        Kind::DetectionFilter,
    ];
    for kind in kinds {
        let mut detector = Threshold::new(Settings {
            within: Duration::MAX,
            capacity: usize::MAX,
            ..settings(kind, u32::MAX)
        });
        for at in [0, u64::MAX, u64::MAX, 0, 1, u64::MAX / 2, u64::MAX - 1, 0] {
            let finding = detector.observe(&from("192.0.2.1"), Time(at));
            assert_eq!(finding.is_some(), kind == Kind::Limit);
        }
    }
    let mut full = Interval::default();
    full.hit(Time(1), Kind::Both, 1, 1000);
    full.exhaust();
    assert_eq!(
        full.hit(Time(2), Kind::DetectionFilter, 1, 1000),
        Some(u32::MAX)
    );
}

/// Snort's rules told once more, by who remembers each hit of the interval and of the one before.
#[derive(Default)]
struct Snort {
    intervals: Vec<Vec<u64>>,
    start: u64,
}

impl Snort {
    fn hit(&mut self, kind: Kind, count: usize, within: u64, at: u64) -> Option<u32> {
        let over = at >= self.start + within || at + within <= self.start;
        if self.intervals.is_empty() || over {
            self.intervals.push(Vec::new());
            self.start = at;
        }
        let (last, before) = self.intervals.split_last_mut()?;
        last.push(at);
        let followed = before.last().filter(|before| {
            let newest = before.iter().max().copied().unwrap_or(0);
            let first = last.first().copied().unwrap_or(0);
            newest.abs_diff(first) <= within
        });
        let before = followed.map_or(0, Vec::len);
        let hits = last.len();
        let found = match kind {
            Kind::Limit => hits <= count,
            Kind::Threshold | Kind::Both => hits == count,
            Kind::DetectionFilter => hits > count || before > count,
            Kind::Maxretry => unreachable!("not Snort's"),
        };
        if found && kind == Kind::Threshold {
            self.start = at;
            last.clear();
        }
        found.then(|| u32::try_from(hits).expect("few"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn intervals_find_what_all_hits_together_tell(
        kind in prop::sample::select(vec![
            Kind::Limit, Kind::Threshold, Kind::Both, Kind::DetectionFilter,
        ]),
        count in 1..12_u32,
        gaps in prop::collection::vec(prop_oneof![
            20 => 0..30_000_i64,
            2 => Just(60_000_i64),
            2 => Just(0_i64),
            2 => -70_000..70_000_i64,
            1 => Just(1_i64 << 40),
            1 => Just(-(1_i64 << 33)),
        ], 1..200),
    ) {
        let mut detector = Threshold::new(settings(kind, count));
        let mut snort = Snort::default();
        let mut at = 1_i64 << 42;
        for gap in gaps {
            at += gap;
            let at = u64::try_from(at).expect("after 1970");
            let expected = snort.hit(kind, count as usize, 60_000, at);
            let finding = detector.observe(&from("192.0.2.1"), Time(at));
            prop_assert_eq!(finding.map(|finding| finding.count), expected);
        }
    }

    #[test]
    fn what_one_source_does_changes_nothing_for_another(
        hits in prop::collection::vec((0..5_u8, 0..20_000_u64), 1..200),
        kind in prop::sample::select(vec![
            Kind::Maxretry, Kind::Limit, Kind::Threshold, Kind::Both, Kind::DetectionFilter,
        ]),
    ) {
        let mut all = Threshold::new(settings(kind, 4));
        let mut alone: Vec<_> = (0..5).map(|_| Threshold::new(settings(kind, 4))).collect();
        let mut at = 0;
        for (host, gap) in hits {
            at += gap;
            let record = Record {
                source: Some(IpAddr::from(Ipv4Addr::new(192, 0, 2, host))),
                ..Record::default()
            };
            let expected = alone[usize::from(host)].observe(&record, Time(at));
            prop_assert_eq!(all.observe(&record, Time(at)), expected);
        }
    }
}
