use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3_600_000;
const START: u64 = 500_000 * HOUR;

/// A key's client, who asks for one path after the other.
struct Client {
    detector: Baseline,
    hour: u64,
}

impl Client {
    fn new(settings: Settings) -> Self {
        Self {
            detector: Baseline::new(settings),
            hour: 0,
        }
    }

    /// An hour with so many requests for so many paths; after how many of them there was a finding.
    fn hour(&mut self, requests: u32, paths: u32) -> Vec<(u32, Finding)> {
        let from = START + self.hour * HOUR;
        self.hour += 1;
        let mut found = Vec::new();
        for nth in 0..requests {
            let path = format!("/path/{}/", letters(nth % paths));
            let at = Time(from + u64::from(nth) * HOUR / u64::from(requests));
            let record = record(1, "key", &path);
            found.extend(
                self.detector
                    .observe(&record, at)
                    .map(|finding| (nth + 1, finding)),
            );
        }
        found
    }

    /// Hours in which nothing is found.
    fn hours(&mut self, hours: u32, requests: u32, paths: u32) {
        for hour in 0..hours {
            assert_eq!(self.hour(requests, paths), [], "hour {hour}");
        }
    }
}

/// A word that is no id.
fn letters(number: u32) -> String {
    number
        .to_string()
        .bytes()
        .map(|digit| char::from(digit - b'0' + b'a'))
        .collect()
}

fn record<'r>(source: u8, key: &'r str, path: &'r str) -> Record<'r> {
    Record {
        source: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, source))),
        key: Some(key.into()),
        path: Some(path.into()),
        ..Record::default()
    }
}

#[test]
fn a_key_that_asks_three_times_as_much_as_ever_is_found_with_the_request_that_exceeds_it() {
    let mut client = Client::new(Settings::default());
    client.hours(24, 200, 5);
    let found = client.hour(1000, 5);
    let (after, finding) = found.first().expect("a finding");
    assert_eq!(*after, 601);
    assert_eq!(finding.reason, "601 requests within 1h, usually 200");
    assert_eq!(finding.subject.as_deref(), Some("key"));
    assert_eq!(finding.sources, ["192.0.2.1/32".parse().expect("a net")]);
    assert_eq!(found.len(), 1, "quiet until as much has come again");
}

#[test]
fn after_a_finding_it_is_quiet_until_as_much_comes_again() {
    let mut client = Client::new(Settings::default());
    client.hours(24, 200, 5);
    let after: Vec<u32> = client
        .hour(2000, 5)
        .into_iter()
        .map(|(after, _)| after)
        .collect();
    assert_eq!(after, [601, 1202]);
}

#[test]
fn a_key_that_asks_for_other_things_than_ever_is_found() {
    let mut client = Client::new(Settings::default());
    client.hours(24, 200, 5);
    let found = client.hour(200, 50);
    let after: Vec<u32> = found.iter().map(|(after, _)| *after).collect();
    assert_eq!(after, [21, 42]);
    assert_eq!(found[0].1.reason, "21 different paths within 1h, usually 5");
}

#[test]
fn ids_are_no_different_paths() {
    let mut detector = Baseline::new(Settings::default());
    for hour in 0..30 {
        for nth in 0..200 {
            let ids = if hour < 25 { 1 } else { 200 };
            let path = format!("/users/{}", nth % ids);
            let at = Time(START + hour * HOUR + nth);
            assert_eq!(detector.observe(&record(1, "key", &path), at), None);
        }
    }
}

#[test]
fn nothing_is_found_while_there_is_no_history() {
    let mut client = Client::new(Settings::default());
    client.hours(12, 10, 1);
    client.hours(12, 10_000, 100);
}

#[test]
fn a_key_that_always_varies_may_vary() {
    let mut client = Client::new(Settings::default());
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..500 {
        // Like a day: from 20 to 400.
        let usual = if client.hour % 24 < 8 { 20.0 } else { 300.0 };
        let requests = usual * (0.7 + 0.6 * random.f32());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred"
        )]
        let found = client.hour(requests as u32, 5);
        assert_eq!(found, [], "hour {}", client.hour);
    }
}

#[test]
fn little_is_no_finding_however_much_more_than_usual_it_is() {
    let mut client = Client::new(Settings::default());
    client.hours(24, 2, 1);
    client.hours(1, 100, 20);
    let mut client = Client::new(Settings::default());
    client.hours(24, 2, 1);
    assert_eq!(client.hour(101, 20).len(), 1);
}

#[test]
fn whoever_comes_back_after_a_gap_goes_on_as_before() {
    for gap in [1, 14, 64, 24 * 365 * 10] {
        let mut client = Client::new(Settings::default());
        client.hours(48, 200, 5);
        client.hour += gap;
        assert_eq!(client.hour(250, 5), [], "after {gap} hours");
        assert_eq!(client.hour(1000, 5).len(), 1, "after {gap} hours");
    }
}

#[test]
fn more_cannot_be_taught_quickly() {
    let mut client = Client::new(Settings::default());
    client.hours(48, 200, 5);
    // Always as much as is just no finding.
    let key = client.detector.state.hash_one("key");
    let mut hours = 0;
    let mut bound = 0;
    while bound < 2000 {
        assert_eq!(client.hour(bound.max(200), 5), [], "a bound of {bound}");
        let history = client.detector.histories.peek(&key).expect("a history");
        bound = history.usual_requests.bound;
        hours += 1;
    }
    assert!(
        (55..75).contains(&hours),
        "{hours} hours until ten times as much is no finding"
    );
    // And whoever just does as much as he likes is found for days.
    let mut client = Client::new(Settings::default());
    client.hours(48, 200, 5);
    let found = (0..100)
        .take_while(|_| !client.hour(3000, 5).is_empty())
        .count();
    assert!((75..90).contains(&found), "found for {found} hours");
}

#[test]
fn times_that_go_back_count_in_the_period_and_other_logs_begin_anew() {
    let mut client = Client::new(Settings::default());
    client.hours(24, 200, 5);
    client.hour(500, 5);
    client.hour -= 2;
    let found = client.hour(500, 5);
    assert_eq!(found.first().map(|(after, _)| *after), Some(101));
    client.hour = 60;
    client.hours(1, 1, 1);
    client.hour = 1;
    client.hours(20, 5000, 5);
}

#[test]
fn the_finding_of_a_key_has_the_sources_of_the_period() {
    let mut detector = Baseline::new(Settings {
        history: 1,
        ..Settings::default()
    });
    detector.observe(&record(9, "key", "/"), Time(START));
    let found = (0..101_u8)
        .find_map(|nth| detector.observe(&record(nth % 3, "key", "/"), Time(START + HOUR)));
    assert_eq!(found.expect("a finding").sources.len(), 3);
}

#[test]
fn a_history_takes_no_more_memory_than_is_said() {
    let mut detector = Baseline::new(Settings::default());
    for nth in 0..10_000_u32 {
        let path = format!("/{}", letters(nth));
        let address = IpAddr::V4(nth.into());
        let record = Record {
            source: Some(address),
            ..record(1, "key", &path)
        };
        detector.observe(&record, Time(START));
        assert!(detector.heap_bytes() <= 1600, "{}", detector.heap_bytes());
    }
    assert!(
        size_of::<History>() + size_of::<u64>() + 16 <= 170,
        "{}",
        size_of::<History>()
    );
}

#[test]
fn records_without_what_is_tracked_are_of_no_consequence() {
    let mut detector = Baseline::new(Settings::default());
    let no_key = Record {
        key: None,
        ..record(1, "", "/")
    };
    assert_eq!(detector.observe(&no_key, Time(START)), None);
    assert_eq!(detector.occupancy().tracked, 0);
    let mut by_source = Baseline::new(Settings {
        track: Track::Source,
        capacity: 1,
        ..Settings::default()
    });
    by_source.observe(&no_key, Time(START));
    by_source.observe(&record(2, "", "/"), Time(START));
    assert_eq!(
        by_source.occupancy(),
        Occupancy {
            tracked: 1,
            capacity: 1,
            evicted: 1
        }
    );
}

proptest! {
    #[test]
    fn any_records_are_taken_and_memory_is_bounded(
        records in prop::collection::vec((0_u8..6, 0_usize..4, "[/a]{0,4}", any::<u64>(), 0..1000_u64), 0..300),
        history in any::<u16>(), factor in any::<f64>(), deviations in any::<f64>(),
        count in 0_u32..3, templates in 0_u32..3, period in 0_u64..2000, capacity in 0_usize..4, near in any::<bool>(),
    ) {
        let period = Duration::from_millis(period);
        let settings = Settings { history: history % 20, factor, deviations, count, templates, period, capacity, ..Settings::default() };
        let mut detector = Baseline::new(settings);
        for (source, key, path, far, step) in records {
            let key = ["", "a", "b", "c"][key];
            let at = if near { START + step } else { far };
            if let Some(finding) = detector.observe(&record(source, key, &path), Time(at)) {
                prop_assert!(!finding.sources.is_empty());
            }
            prop_assert!(detector.occupancy().tracked <= capacity.max(1));
        }
    }
}
