use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const START: Time = Time(1_795_655_448_000);

fn record(source: u16, path: &str, status: u16) -> Record<'_> {
    let [high, low] = source.to_be_bytes();
    Record {
        source: Some(IpAddr::V4(Ipv4Addr::new(10, 0, high, low))),
        path: Some(path.into()),
        status: Some(status),
        ..Record::default()
    }
}

/// What is found when so many sources ask every five seconds, a round after the other.
fn rounds(
    detector: &mut Distributed,
    sources: std::ops::Range<u16>,
    rounds: std::ops::Range<u64>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for round in rounds {
        for source in sources.clone() {
            let at = START + Duration::from_millis(round * 5000 + u64::from(source));
            found.extend(detector.observe(&record(source, "/api/login", 401), at));
        }
    }
    found
}

#[test]
fn as_soon_as_enough_sources_are_steady_they_are_found_together() {
    let mut detector = Distributed::new(Settings::default());
    assert_eq!(rounds(&mut detector, 0..20, 0..7), []);
    let found = rounds(&mut detector, 0..20, 7..8);
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(finding.sources.len(), 20);
    assert_eq!(
        (finding.count, finding.at),
        (160, START + Duration::from_millis(35_019))
    );
    assert_eq!(
        finding.reason,
        "20 sources ask for /api/login every 5.0s each"
    );
}

#[test]
fn after_a_finding_it_is_quiet_until_as_many_others_do_the_same() {
    let mut detector = Distributed::new(Settings::default());
    assert_eq!(rounds(&mut detector, 0..20, 0..100).len(), 1);
    assert_eq!(rounds(&mut detector, 100..119, 100..110), []);
    let found = rounds(&mut detector, 119..120, 101..111);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].sources.len(), 20);
}

#[test]
fn whoever_is_found_is_found_again_only_when_the_time_is_over() {
    let mut detector = Distributed::new(Settings::default());
    let found = rounds(&mut detector, 0..20, 0..300);
    let times: Vec<Duration> = found
        .iter()
        .map(|finding| finding.at.since(START))
        .collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(
        times
            .windows(2)
            .all(|pair| pair[1] > pair[0] + Duration::from_secs(600)),
        "{times:?}"
    );
}

#[test]
fn different_templates_are_different_things_but_ids_are_not() {
    let mut detector = Distributed::new(Settings::default());
    let mut observe = |path: &dyn Fn(u16, u64) -> String| {
        (0..10_u64).any(|round| {
            (0..20_u16).any(|source| {
                let at = START + Duration::from_secs(round * 5);
                detector
                    .observe(&record(source, &path(source, round), 401), at)
                    .is_some()
            })
        })
    };
    assert!(!observe(&|source, _| format!(
        "/{}/x",
        ["a", "b"][usize::from(source % 2)]
    )));
    assert!(observe(&|source, round| format!(
        "/api/users/{}",
        u64::from(source) + round
    )));
}

#[test]
fn a_group_holds_no_more_than_it_may() {
    let settings = Settings {
        sources: 5000,
        ..Settings::default()
    };
    let mut detector = Distributed::new(settings);
    assert_eq!(rounds(&mut detector, 0..3000, 0..10), []);
    assert!(
        detector
            .groups
            .iter()
            .all(|(_, group)| group.members.len() <= MEMBERS)
    );
    let most = Settings {
        sources: 1,
        ..Settings::default()
    };
    assert!(rounds(&mut Distributed::new(most), 0..3, 0..8).len() == 3);
}

#[test]
fn a_source_takes_as_much_memory_as_is_said() {
    assert!(
        size_of::<Beat>() + size_of::<(u64, Source)>() + 16 <= 150,
        "{}",
        size_of::<Beat>()
    );
}

proptest! {
    #[test]
    fn any_records_are_taken_and_memory_is_bounded(
        records in prop::collection::vec((0_u16..6, 0_u64..4, any::<u16>(), any::<bool>()), 0..300),
        wild in prop::collection::vec(any::<u64>(), 0..20),
        sources in 0_u32..4, spread in -1.0..10.0_f64, requests in any::<u8>(), failures in -1.0..2.0_f64,
        within in 0_u64..100_000, capacity in 0_usize..8,
    ) {
        let within = Duration::from_millis(within);
        let settings = Settings { sources, within, spread, requests, failures, capacity, ..Settings::default() };
        let mut detector = Distributed::new(settings);
        let mut at = START;
        for (nth, (source, step, status, back)) in records.into_iter().enumerate() {
            at = if back { at - Duration::from_secs(step) } else { at + Duration::from_secs(step * 2) };
            let time = wild.get(nth / 2).filter(|_| nth % 13 == 0).map_or(at, |wild| Time(*wild));
            if let Some(finding) = detector.observe(&record(source, "/x", status), time) {
                prop_assert!(!finding.sources.is_empty());
            }
            prop_assert!(detector.occupancy().tracked <= capacity.max(1));
            for (_, group) in detector.groups.iter() {
                let unfound = group.members.values().filter(|member| member.found.is_none()).count();
                prop_assert_eq!(group.unfound as usize, unfound);
            }
        }
    }
}
