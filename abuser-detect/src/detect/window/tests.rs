use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// Keeps all times, and looks at each of them each time.
struct Model {
    count: usize,
    within_ms: u64,
    hits: Vec<u64>,
}

impl Model {
    fn new(count: u32, within: Duration) -> Self {
        Self {
            count: count as usize,
            within_ms: u64::try_from(within.as_millis()).expect("a time"),
            hits: Vec::new(),
        }
    }

    fn hit(&mut self, at: u64) -> Option<u32> {
        let newest = self.hits.iter().copied().max().unwrap_or(0);
        if newest > at.saturating_add(self.within_ms) {
            self.hits.clear();
        }
        self.hits.push(at);
        let newest = self.hits.iter().copied().max().unwrap_or(0);
        let within_ms = self.within_ms;
        self.hits.retain(|&hit| newest - hit <= within_ms);
        if self.hits.len() < self.count {
            return None;
        }
        u32::try_from(std::mem::take(&mut self.hits).len()).ok()
    }
}

fn found(count: u32, within_ms: u64, hits: impl IntoIterator<Item = u64>) -> Vec<Option<u32>> {
    let span = Span::new(count, Duration::from_millis(within_ms));
    let mut window = Window::default();
    let hits = hits.into_iter();
    hits.map(|at| window.hit(Time(at), &span)).collect()
}

#[test]
fn the_last_of_so_many_hits_is_found_and_the_count_starts_anew() {
    let hits = [0, 10, 20, 30, 40, 50, 60];
    assert_eq!(
        found(3, 100, hits),
        [None, None, Some(3), None, None, Some(3), None]
    );
}

#[test]
fn a_hit_as_old_as_the_window_counts_and_an_older_one_does_not() {
    assert_eq!(found(2, 100, [0, 100]), [None, Some(2)]);
    assert_eq!(found(2, 100, [0, 101]), [None, None]);
    assert_eq!(found(2, 100, [0, 101, 201]), [None, None, Some(2)]);
}

#[test]
fn the_window_slides_over_what_a_fixed_one_would_cut_in_two() {
    let hits = [0, 90, 95, 105, 110];
    assert_eq!(found(4, 100, hits), [None, None, None, None, Some(4)]);
}

#[test]
fn one_hit_is_enough_for_a_count_of_one_or_none() {
    assert_eq!(found(1, 100, [0, 1]), [Some(1), Some(1)]);
    assert_eq!(found(0, 100, [0, 1]), [Some(1), Some(1)]);
    assert_eq!(found(2, 0, [5, 6, 6]), [None, None, Some(2)]);
}

#[test]
fn a_gap_of_years_is_only_a_gap() {
    let year = 365 * 86_400_000;
    let hits = [0, 1, 50 * year, 50 * year + 1, 50 * year + 2];
    assert_eq!(found(3, 100, hits), [None, None, None, None, Some(3)]);
    let ends = [0, u64::MAX - 1, u64::MAX, u64::MAX];
    assert_eq!(found(3, 100, ends), [None, None, None, Some(3)]);
}

#[test]
fn a_window_of_years_has_a_coarser_grain_and_finds_the_same() {
    let year = 365 * 86_400_000;
    let hits = [0, year, 2 * year, 3 * year];
    assert_eq!(found(4, 4 * year, hits), [None, None, None, Some(4)]);
    assert_eq!(found(4, 2 * year, hits), [None; 4]);
    assert_eq!(found(2, u64::MAX, [0, u64::MAX / 2]), [None, Some(2)]);
}

#[test]
fn hits_that_come_for_months_are_counted_from_a_newer_base() {
    // Never quiet for as long as the window, for longer than 32 bits of milliseconds.
    let hits = (0..200_000).map(|hit| hit * 40_000);
    let found = found(4, 100_000, hits);
    assert!(found.iter().all(Option::is_none));
}

#[test]
fn a_late_line_counts_where_it_belongs() {
    assert_eq!(found(3, 100, [100, 40, 150]), [None, None, None]);
    assert_eq!(found(3, 100, [100, 40, 140]), [None, None, Some(3)]);
    assert_eq!(found(3, 100, [100, 0, 50]), [None, None, Some(3)]);
}

#[test]
fn a_clock_that_is_set_back_starts_the_count_anew() {
    assert_eq!(
        found(3, 100, [1000, 1001, 500, 501, 502]),
        [None, None, None, None, Some(3)]
    );
}

#[test]
fn a_window_that_is_quiet_again_gives_its_memory_back() {
    let span = Span::new(1000, Duration::from_secs(1));
    let mut window = Window::default();
    for hit in 0..900 {
        window.hit(Time(hit), &span);
    }
    assert!(window.heap_bytes() > 900 * 8);
    window.hit(Time(5000), &span);
    assert_eq!(window.heap_bytes(), 0);
}

#[test]
fn more_hits_at_one_time_than_fit_in_a_byte_are_all_counted() {
    let mut expected = vec![None; 999];
    expected.push(Some(1000));
    assert_eq!(found(1000, 10, std::iter::repeat_n(7, 1000)), expected);
}

#[test]
fn a_grain_never_makes_a_window_longer() {
    let within = Duration::from_secs(10);
    let span = Span {
        count: 2,
        ..Span::new(EXACT + 1, within)
    };
    assert_eq!(span.grain_ms, 10);
    let apart = |ms| {
        let mut window = Window::default();
        window.hit(Time(1000), &span);
        window.hit(Time(1000 + ms), &span).is_some()
    };
    let certain = u64::try_from(span.certain().as_millis()).expect("a time");
    assert!((0..=certain).all(apart));
    assert!(!(10_001..10_050).any(apart));
    assert!(certain >= 9970, "{certain}");
}

#[test]
fn memory_is_bounded_however_many_hits_there_are() {
    for (count, within) in [(EXACT, 1 << 40), (u32::MAX, 1 << 40), (u32::MAX, 2000)] {
        let span = Span::new(count, Duration::from_millis(within));
        let mut window = Window::default();
        for hit in 0..1_000_000 {
            window.hit(Time(hit), &span);
            assert!(window.heap_bytes() < 20_000);
        }
    }
}

fn hits(gaps: Range<i64>) -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![
        20 => gaps,
        2 => Just(0_i64),
        1 => -300..300_i64,
        1 => prop_oneof![Just(1_i64 << 32), Just(-(1_i64 << 32)), Just(1_i64 << 40)],
    ];
    prop::collection::vec(gap, 1..400).prop_map(|gaps| {
        let mut at = 1_i64 << 42;
        let times = gaps.into_iter().map(|gap| {
            at += gap;
            u64::try_from(at.max(0)).expect("it is not negative")
        });
        times.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_window_finds_what_all_times_together_tell(
        count in 1..40_u32,
        within in prop_oneof![0..2000_u64, Just((1 << 30) - 1), Just(1 << 30)],
        hits in hits(0..60),
    ) {
        let mut model = Model::new(count, Duration::from_millis(within));
        let expected: Vec<_> = hits.iter().map(|&at| model.hit(at)).collect();
        prop_assert_eq!(found(count, within, hits), expected);
    }

    /// As if the counts were too large to be exact.
    #[test]
    fn a_coarse_window_finds_nobody_below_the_count_and_everybody_above_it_in_a_little_less_time(
        count in 1..40_u32,
        within in 2000..100_000_u64,
        hits in hits(0..300),
    ) {
        let span = Span {
            count,
            ..Span::new(EXACT + 1, Duration::from_millis(within))
        };
        prop_assert!(span.certain() >= Duration::from_millis(within * 99 / 100));
        let mut window = Window::default();
        // All hits since it was found.
        let mut recent: Vec<u64> = Vec::new();
        let mut newest = 0;
        for at in hits {
            newest = newest.max(at);
            if newest > at + within {
                // The clock was set back; how much of the grain is left is no matter.
                recent.clear();
                window = Window::default();
                newest = at;
            }
            recent.push(at);
            let hits_within = |length: u64| {
                recent.iter().filter(|&&hit| newest - hit <= length).count()
            };
            let certain = u64::try_from(span.certain().as_millis()).expect("a time");
            let found = window.hit(Time(at), &span);
            if hits_within(certain) >= count as usize {
                prop_assert!(found.is_some());
            }
            if let Some(found) = found {
                prop_assert!(hits_within(within) >= found as usize);
                recent.clear();
            }
        }
    }
}
