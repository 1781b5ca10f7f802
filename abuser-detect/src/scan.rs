//! Counting the records of a log by a field: what `awk | sort | uniq -c | sort -rn` does.
//!
//! Memory is that of the distinct values of the field: some 100 bytes each. Where only the last hour of a log
//! counts and its end is not known before it is reached, each value also has a number for each
//! moment of its own last hour: 16 bytes for each second that has one or many of its records.

use std::{net::IpAddr, time::Duration};

use foldhash::HashMap;

use crate::{
    condition::Condition,
    field::{Field, Value},
    record::Record,
    time::Time,
};

/// What is counted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which records; all if `None`.
    pub condition: Option<Condition>,
    /// By what.
    pub by: Field,
    /// When.
    pub window: Window,
}

/// Which part of a log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All of it.
    All,
    /// Records of that moment and later.
    Since(Time),
    /// Those of so much time before the newest record of all, the condition notwithstanding.
    Last(Duration),
}

/// Counts records.
#[derive(Debug)]
pub struct Scan {
    settings: Settings,
    addresses: HashMap<IpAddr, Tally>,
    texts: HashMap<Box<str>, Tally>,
    newest: Option<Time>,
    totals: Totals,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Those for which the condition held, but without what is counted by.
    pub without_field: u64,
    /// Those of a log of which a part counts, but without a time.
    pub without_time: u64,
}

/// How often a value was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value, as text.
    pub value: String,
    /// How many records have it.
    pub count: u64,
    /// When the first of them happened; `None` if none has a time.
    pub first: Option<Time>,
    /// When the last of them happened.
    pub last: Option<Time>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Each value: the most frequent first, and of those that are as frequent as each other the first
    /// in the order of the alphabet.
    pub rows: Vec<Row>,
    /// Records that were counted, which is the sum of all rows.
    pub matched: u64,
    /// When the first and the last of them happened.
    pub span: Option<(Time, Time)>,
    /// What was looked at.
    pub totals: Totals,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    span: Option<(Time, Time)>,
    /// For [`Window::Last`]: how many records each moment has.
    moments: Vec<(Time, u64)>,
    /// How many moments there were when the old ones were last forgotten.
    kept: usize,
}

impl Tally {
    fn add(&mut self, time: Option<Time>) {
        self.count += 1;
        if let Some(time) = time {
            self.span = Some(joined(self.span, (time, time)));
        }
    }

    /// Adds to a moment, and forgets those before `start` now and then.
    fn add_moment(&mut self, time: Time, start: Time) {
        match self.moments.last_mut() {
            Some((last, count)) if *last == time => *count += 1,
            _ => {
                if self.moments.len() > self.kept * 2 + 16 {
                    self.moments.retain(|(moment, _)| *moment >= start);
                    self.kept = self.moments.len();
                }
                self.moments.push((time, 1));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        if let Some(span) = other.span {
            self.span = Some(joined(self.span, span));
        }
        self.moments.extend(other.moments);
    }

    /// Counts the moments that are in the window, now that its start is known.
    fn settle(&mut self, start: Time) {
        for (time, count) in std::mem::take(&mut self.moments) {
            if time >= start {
                self.count += count;
                self.span = Some(joined(self.span, (time, time)));
            }
        }
    }
}

fn joined(span: Option<(Time, Time)>, (first, last): (Time, Time)) -> (Time, Time) {
    span.map_or((first, last), |(a, b)| (a.min(first), b.max(last)))
}

impl Scan {
    /// Counts nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            addresses: HashMap::default(),
            texts: HashMap::default(),
            newest: None,
            totals: Totals::default(),
        }
    }

    /// Counts a record, if it is one that is to be counted.
    pub fn add(&mut self, record: &Record<'_>) {
        self.totals.records += 1;
        if record.time > self.newest {
            self.newest = record.time;
        }
        let condition = self.settings.condition.as_ref();
        if condition.is_some_and(|condition| !condition.holds(record)) {
            return;
        }
        let start = match self.settings.window {
            Window::All => None,
            Window::Since(start) => Some(start),
            Window::Last(within) => self.newest.map(|newest| newest - within),
        };
        if self.settings.window != Window::All {
            let Some(time) = record.time else {
                self.totals.without_time += 1;
                return;
            };
            if start.is_some_and(|start| time < start) {
                return;
            }
        }
        let Some(value) = self.settings.by.of(record) else {
            self.totals.without_field += 1;
            return;
        };
        let window = self.settings.window;
        let note = |tally: &mut Tally| match (window, record.time, start) {
            (Window::Last(_), Some(time), Some(start)) => tally.add_moment(time, start),
            _ => tally.add(record.time),
        };
        if let Value::Address(address) = value {
            note(self.addresses.entry(address).or_default());
            return;
        }
        value.with_text(|text| {
            if let Some(tally) = self.texts.get_mut(text) {
                note(tally);
            } else {
                note(self.texts.entry(text.into()).or_default());
            }
        });
    }

    /// Adds what another one has counted, of another part of the same logs.
    pub fn merge(&mut self, other: Self) {
        let Self {
            settings: _,
            addresses,
            texts,
            newest,
            totals,
        } = other;
        self.newest = self.newest.max(newest);
        self.totals.records += totals.records;
        self.totals.without_field += totals.without_field;
        self.totals.without_time += totals.without_time;
        for (address, count) in addresses {
            self.addresses.entry(address).or_default().merge(count);
        }
        for (text, count) in texts {
            self.texts.entry(text).or_default().merge(count);
        }
    }

    /// What was counted.
    pub fn finish(self) -> Counted {
        let Self {
            settings,
            addresses,
            texts,
            newest,
            totals,
        } = self;
        let addresses = addresses
            .into_iter()
            .map(|(address, count)| (address.to_string(), count));
        let texts = texts
            .into_iter()
            .map(|(text, count)| (text.into_string(), count));
        let start = match (settings.window, newest) {
            (Window::Last(within), Some(newest)) => newest - within,
            _ => Time(0),
        };
        let mut counted = Counted {
            totals,
            ..Counted::default()
        };
        for (value, mut count) in addresses.chain(texts) {
            count.settle(start);
            if count.count == 0 {
                continue;
            }
            counted.matched += count.count;
            if let Some(span) = count.span {
                counted.span = Some(joined(counted.span, span));
            }
            counted.rows.push(Row {
                value,
                count: count.count,
                first: count.span.map(|(first, _)| first),
                last: count.span.map(|(_, last)| last),
            });
        }
        let rows = &mut counted.rows;
        rows.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        counted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(second: u64, source: u8, status: u16) -> Record<'static> {
        Record {
            time: Some(Time(second * 1000)),
            source: Some([192, 0, 2, source].into()),
            status: Some(status),
            ..Record::default()
        }
    }

    fn settings(condition: &str, by: &str, window: Window) -> Settings {
        Settings {
            condition: Some(condition.parse().expect("a condition")),
            by: by.parse().expect("a field"),
            window,
        }
    }

    fn counts(scan: Scan) -> Vec<(String, u64)> {
        let rows = scan.finish().rows.into_iter();
        rows.map(|row| (row.value, row.count)).collect()
    }

    #[test]
    fn the_most_frequent_come_first_with_when_they_were_there() {
        let mut scan = Scan::new(settings("status == 401", "source", Window::All));
        for (second, source, status) in [
            (5, 1, 401),
            (9, 2, 401),
            (7, 2, 401),
            (8, 3, 200),
            (6, 0, 401),
        ] {
            scan.add(&record(second, source, status));
        }
        scan.add(&Record {
            status: Some(401),
            ..Record::default()
        });
        let Counted {
            rows,
            matched,
            span,
            totals,
        } = scan.finish();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.value.as_str(), row.count, row.first, row.last))
            .collect();
        let at = |second: u64| Some(Time(second * 1000));
        assert_eq!(
            rows,
            [
                ("192.0.2.2", 2, at(7), at(9)),
                ("192.0.2.0", 1, at(6), at(6)),
                ("192.0.2.1", 1, at(5), at(5)),
            ]
        );
        assert_eq!(matched, 4);
        assert_eq!(span, Some((Time(5000), Time(9000))));
        assert_eq!(
            totals,
            Totals {
                records: 6,
                without_field: 1,
                without_time: 0
            }
        );
    }

    #[test]
    fn any_field_can_be_counted_by() {
        let mut scan = Scan::new(settings("has(status)", "status", Window::All));
        for status in [200, 401, 401] {
            scan.add(&record(1, 1, status));
        }
        assert_eq!(counts(scan), [("401".to_owned(), 2), ("200".to_owned(), 1)]);
    }

    #[test]
    fn the_end_of_the_log_is_its_newest_record_whether_the_condition_holds_for_it_or_not() {
        let mut scan = Scan::new(settings(
            "status == 401",
            "source",
            Window::Last(Duration::from_secs(10)),
        ));
        for (second, status) in [
            (1, 401),
            (9, 401),
            (10, 401),
            (12, 401),
            (11, 401),
            (20, 200),
        ] {
            scan.add(&record(second, 1, status));
        }
        scan.add(&Record {
            time: None,
            ..record(0, 1, 401)
        });
        let counted = scan.finish();
        assert_eq!(counted.matched, 3);
        assert_eq!(
            counted.rows.first().and_then(|row| row.first),
            Some(Time(10_000))
        );
        assert_eq!(counted.totals.without_time, 1);
    }

    #[test]
    fn moments_that_are_over_are_forgotten() {
        let mut scan = Scan::new(settings(
            "status == 401",
            "source",
            Window::Last(Duration::from_secs(60)),
        ));
        for second in 0..100_000 {
            scan.add(&record(second, 1, 401));
            scan.add(&record(second, 1, 401));
        }
        let moments: usize = scan
            .addresses
            .values()
            .map(|count| count.moments.len())
            .sum();
        assert!(moments < 200, "{moments}");
        assert_eq!(scan.finish().matched, 61 * 2);
    }

    proptest! {
        #[test]
        fn parts_that_are_counted_apart_add_up_to_the_whole(
            records in proptest::collection::vec((0..100_u64, 0..4_u8, proptest::bool::ANY, 0..3_usize), 0..80),
            window in prop_oneof![
                Just(Window::All),
                (0..100_u64).prop_map(|second| Window::Since(Time(second * 1000))),
                (0..100_u64).prop_map(|seconds| Window::Last(Duration::from_secs(seconds))),
            ],
        ) {
            let settings = settings("status == 401", "source", window);
            let mut parts = [(); 3].map(|()| Scan::new(settings.clone()));
            let newest = records.iter().map(|(second, ..)| *second).max().unwrap_or(0);
            let mut expected = BTreeMap::<String, u64>::new();
            for (second, source, is_401, part) in records {
                let status = if is_401 { 401 } else { 200 };
                parts[part].add(&record(second, source, status));
                let is_in_time = match window {
                    Window::All => true,
                    Window::Since(start) => second * 1000 >= start.0,
                    Window::Last(within) => second + within.as_secs() >= newest,
                };
                if is_401 && is_in_time {
                    *expected.entry(format!("192.0.2.{source}")).or_default() += 1;
                }
            }
            let [mut whole, second, third] = parts;
            whole.merge(second);
            whole.merge(third);
            let found: BTreeMap<_, _> = counts(whole).into_iter().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
