//! Whose time counts, who is given what, and what is kept when others take over.

use std::path::Path;

use jiff::tz::TimeZone;

use super::*;
use crate::{
    detect::threshold::{Settings, Threshold},
    filter,
    parse::{self, Kind},
};

/// 2026-01-02 03:04:05 UTC.
const NOW: Time = Time(1_767_323_045_000);

fn parser(pattern: &str) -> Reader {
    let settings = parse::Settings {
        pattern: Some(pattern.to_owned()),
        ..parse::Settings::new(Kind::Regex)
    };
    Reader::Parser(Box::new(parse::Parser::new(settings).expect("a parser")))
}

/// Records of lines such as `2026-01-02T03:04:05Z 192.0.2.7 text`, or without the time.
fn feed() -> Feed {
    Feed {
        reader: Some(parser(
            r"^(?:(?<time>\S+Z) )?(?<source>[0-9.]+) (?<message>.*)$",
        )),
    }
}

/// A filter that finds `failed ADDRESS`, as fail2ban does.
fn fail2ban() -> Filter {
    let files = |path: &Path| {
        let text = "[Definition]\nfailregex = ^\\s*failed <HOST>$\n";
        Ok((path == Path::new("/f/fail.conf")).then(|| text.to_owned()))
    };
    let options = filter::Options {
        zone: TimeZone::UTC,
        ..filter::Options::default()
    };
    Filter::load("fail", &["/f".into()], &options, &files).expect("a filter")
}

fn watch(feeds: &[usize], count: u32) -> Watch {
    Watch {
        feeds: feeds.to_vec(),
        filters: Vec::new(),
        condition: None,
        evidence: true,
        detector: Box::new(Threshold::new(Settings {
            count,
            within: Duration::from_secs(60),
            ..Settings::default()
        })),
    }
}

fn arrived(bytes: &[u8], after_ms: u64) -> Line<'_> {
    Line {
        bytes,
        arrived: Time(NOW.0 + after_ms),
        stated: None,
    }
}

/// Reads a line that arrives now.
fn read(pipeline: &mut Pipeline, feed: usize, text: &str) -> (Outcome, Vec<Found>) {
    let mut found = Vec::new();
    let outcome = pipeline.read(feed, arrived(text.as_bytes(), 0), &mut found);
    assert_eq!(outcome.found, found.len());
    (outcome, found)
}

fn counts(pipeline: &Pipeline, feed: usize) -> FeedCounts {
    pipeline.feed_counts().nth(feed).expect("a feed").clone()
}

fn found(pipeline: &Pipeline) -> Vec<u64> {
    pipeline.watch_counts().map(|counts| counts.found).collect()
}

fn matched(pipeline: &Pipeline) -> Vec<u64> {
    let counts = pipeline.watch_counts();
    counts.map(|counts| counts.matched).collect()
}

#[test]
fn on_the_hosts_clock_a_line_is_of_its_own_time_unless_that_is_to_come() {
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 1)]);
    for (text, expected) in [
        ("2026-01-02T03:04:00Z 192.0.2.7 x", NOW.0 - 5000),
        ("192.0.2.8 x", NOW.0),
        ("2026-01-02T03:04:09Z 192.0.2.9 x", NOW.0),
        ("2026-01-02T03:05:00Z 192.0.2.10 x", NOW.0),
        ("2126-01-02T03:05:00Z 192.0.2.11 x", NOW.0),
    ] {
        let (outcome, found) = read(&mut pipeline, 0, text);
        assert!(outcome.matched && !outcome.stale, "{text}");
        assert_eq!(found[0].finding.at, Time(expected), "{text}");
        assert_eq!(counts(&pipeline, 0).last, Some(Time(expected)));
    }
    // A few seconds are no wrong clock.
    assert_eq!(counts(&pipeline, 0).ahead, 2);
    assert_eq!(counts(&pipeline, 0).stale, 0);
}

#[test]
fn on_the_hosts_clock_a_line_that_is_too_old_counts_for_nothing() {
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 1)]);
    let (outcome, found) = read(&mut pipeline, 0, "2026-01-02T02:04:04Z 192.0.2.7 x");
    assert!(outcome.stale && !outcome.matched && found.is_empty());
    assert_eq!(counts(&pipeline, 0).stale, 1);
    assert_eq!(counts(&pipeline, 0).unparsed, 0);
    let (outcome, _) = read(&mut pipeline, 0, "2026-01-02T02:04:05Z 192.0.2.7 x");
    assert!(!outcome.stale && outcome.matched, "an hour is not too old");
}

#[test]
fn what_whoever_hands_a_line_on_states_counts_for_lines_that_do_not_tell() {
    for clock in [Clock::Host, Clock::Log] {
        let mut pipeline = Pipeline::new(clock, vec![feed()], vec![watch(&[0], 1)]);
        let mut found = Vec::new();
        for text in ["192.0.2.7 x", "2026-01-02T03:04:01Z 192.0.2.8 x"] {
            let line = Line {
                stated: Some(Time(NOW.0 - 2000)),
                ..arrived(text.as_bytes(), 0)
            };
            pipeline.read(0, line, &mut found);
        }
        let times = found.iter().map(|found| NOW.0 - found.finding.at.0);
        assert_eq!(times.collect::<Vec<_>>(), [2000, 4000], "{clock:?}");
    }
}

#[test]
fn on_the_logs_clock_nothing_is_too_old_and_a_line_without_a_time_is_of_the_last_one() {
    let mut pipeline = Pipeline::new(Clock::Log, vec![feed()], vec![watch(&[0], 1)]);
    let mut times = Vec::new();
    for text in [
        "192.0.2.1 x",
        "2001-01-02T03:04:05Z 192.0.2.2 x",
        "192.0.2.3 x",
        "2099-01-02T03:04:05Z 192.0.2.4 x",
    ] {
        let (outcome, found) = read(&mut pipeline, 0, text);
        assert!(!outcome.stale, "{text}");
        times.push(found[0].finding.at.0);
    }
    assert_eq!(times[0], NOW.0);
    assert_eq!(times[1], 978_404_645_000);
    assert_eq!(times[2], times[1]);
    assert_eq!(times[3], 4_071_006_245_000);
    let counts = counts(&pipeline, 0);
    assert_eq!((counts.stale, counts.ahead), (0, 0));
}

#[test]
fn each_detector_gets_the_records_of_its_sources_for_which_its_condition_holds() {
    let mut conditional = watch(&[0, 1], 1);
    conditional.condition = Some("message == \"bad\"".parse().expect("a condition"));
    let watches = vec![watch(&[0], 2), conditional];
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed(), feed()], watches);
    assert!(!read(&mut pipeline, 1, "192.0.2.7 good").0.matched);
    assert!(read(&mut pipeline, 1, "192.0.2.7 bad").0.matched);
    assert!(read(&mut pipeline, 0, "192.0.2.7 good").0.matched);
    assert_eq!(matched(&pipeline), [1, 1]);
    let (outcome, both) = read(&mut pipeline, 0, "192.0.2.7 bad");
    assert_eq!(outcome.found, 2);
    let watches: Vec<_> = both.iter().map(|found| found.watch).collect();
    assert_eq!(watches, [0, 1]);
    // A source that is not there has no lines.
    assert_eq!(read(&mut pipeline, 2, "x").0, Outcome::default());
}

#[test]
fn lines_that_are_no_records_are_counted_with_a_sample_now_and_then() {
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 1)]);
    for number in 1..=100 {
        let (outcome, found) = read(&mut pipeline, 0, &format!("line {number}"));
        assert!(outcome.unparsed.is_some() && found.is_empty());
    }
    let seen = counts(&pipeline, 0);
    assert_eq!((seen.lines, seen.unparsed), (100, 100));
    let (sample, _) = seen.unparsed_sample.expect("a sample");
    assert_eq!(sample, "line 64");
    // Of an empty line nobody learns anything.
    for _ in 0..28 {
        read(&mut pipeline, 0, "");
    }
    let seen = counts(&pipeline, 0);
    assert_eq!(seen.unparsed, 128);
    assert_eq!(
        seen.unparsed_sample.map(|(sample, _)| sample),
        Some("line 64".to_owned())
    );
    assert_eq!(seen.last, None);
    // Whatever it is, it is survived, and what is kept of it is short.
    let mut found = Vec::new();
    let huge = [b"\xff\0\n\x1b".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 1)]);
    pipeline.read(0, arrived(&huge, 0), &mut found);
    let (sample, _) = counts(&pipeline, 0).unparsed_sample.expect("a sample");
    assert!(
        sample.len() <= crate::evidence::MAX_TEXT,
        "{}",
        sample.len()
    );
}

#[test]
fn a_filter_of_a_detector_reads_lines_and_remembers_those_of_each_source_apart() {
    let mut filtered = watch(&[0, 1], 2);
    filtered.filters = vec![fail2ban(), fail2ban()];
    // The first source has no parser at all.
    let mut pipeline = Pipeline::new(
        Clock::Host,
        vec![Feed::default(), feed()],
        vec![filtered, watch(&[1], 1)],
    );
    let line = "2026-01-02 03:04:00 failed 192.0.2.7";
    let (outcome, found) = read(&mut pipeline, 0, line);
    assert!(outcome.matched && outcome.unparsed.is_none() && found.is_empty());
    // A failure there and one here are two.
    let (outcome, found) = read(&mut pipeline, 1, line);
    assert_eq!(outcome.unparsed, Some(Unparsed::NoMatch));
    assert!(outcome.matched);
    assert_eq!(found[0].finding.sources, ["192.0.2.7/32".parse().unwrap()]);
    assert_eq!(found[0].finding.at, Time(NOW.0 - 5000));
    let (outcome, _) = read(&mut pipeline, 0, "2026-01-02 03:04:00 hello 192.0.2.7");
    assert!(!outcome.matched && outcome.unparsed.is_none());
    // By an hour's account it is too old.
    let (outcome, _) = read(&mut pipeline, 0, "2026-01-01 03:04:00 failed 192.0.2.8");
    assert!(!outcome.matched);
    assert_eq!(counts(&pipeline, 0).stale, 1);
    assert_eq!(matched(&pipeline), [2, 0]);
}

#[test]
fn a_filter_in_the_place_of_a_parser_makes_records_of_failures_alone() {
    let filtered = Feed {
        reader: Some(Reader::Filter(Box::new(fail2ban()))),
    };
    let mut pipeline = Pipeline::new(Clock::Host, vec![filtered], vec![watch(&[0], 1)]);
    let (outcome, found) = read(&mut pipeline, 0, "2026-01-02 03:04:00 all is well");
    assert_eq!((outcome, found.len()), (Outcome::default(), 0));
    let (outcome, found) = read(&mut pipeline, 0, "2026-01-02 03:04:00 failed 192.0.2.7");
    assert!(outcome.matched);
    assert_eq!(found[0].evidence.len(), 1);
    assert!(found[0].evidence[0].text.contains("failed 192.0.2.7"));
    assert_eq!(counts(&pipeline, 0).unparsed, 0);
    assert_eq!(counts(&pipeline, 0).lines, 2);
}

#[test]
fn where_a_line_is_cut_is_not_taken_for_its_end() {
    let filtered = Feed {
        reader: Some(Reader::Filter(Box::new(fail2ban()))),
    };
    let parsed = Feed {
        reader: Some(parser("failed (?<source>[0-9.]+)$")),
    };
    let feeds = vec![filtered, parsed];
    let mut pipeline = Pipeline::new(Clock::Host, feeds, vec![watch(&[0, 1], 1)]);
    let end = "failed 192.0.2.7";
    for feed in [0, 1] {
        let whole = format!("{}{end}", " ".repeat(line::MAX - end.len()));
        assert!(read(&mut pipeline, feed, &whole).0.matched);
        for more in ["9", " and more", &"x".repeat(1 << 20)] {
            let (outcome, _) = read(&mut pipeline, feed, &format!("{whole}{more}"));
            assert!(!outcome.matched, "feed {feed}, {} more", more.len());
        }
    }
}

#[test]
fn what_is_found_comes_with_the_lines_of_who_was_found() {
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 3)]);
    for text in ["192.0.2.7 one", "192.0.2.8 other", "192.0.2.7 two"] {
        assert!(read(&mut pipeline, 0, text).1.is_empty());
    }
    let (_, found) = read(&mut pipeline, 0, "192.0.2.7 three");
    let texts = found[0].evidence.iter().map(|line| line.text.as_str());
    let expected = ["192.0.2.7 one", "192.0.2.7 two", "192.0.2.7 three"];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
    assert_eq!(found[0].evidence[0].at, NOW);
    assert_eq!(found[0].finding.count, 3);
}

#[test]
fn where_nobody_asks_for_lines_none_are_kept() {
    let silent = Watch {
        evidence: false,
        ..watch(&[0], 1)
    };
    let mut pipeline = Pipeline::new(Clock::Host, vec![feed()], vec![silent]);
    let (_, found) = read(&mut pipeline, 0, "192.0.2.7 one");
    assert_eq!(found[0].finding.count, 1);
    assert!(found[0].evidence.is_empty());
}

#[test]
fn another_pipeline_takes_over_what_is_as_it_was_and_nothing_else() {
    let both = || vec![feed(), feed()];
    let mut old = Pipeline::new(
        Clock::Host,
        both(),
        vec![watch(&[0], 3), watch(&[0], 3), watch(&[1], 1)],
    );
    for _ in 0..2 {
        read(&mut old, 0, "192.0.2.7 x");
    }
    read(&mut old, 1, "no record");
    read(&mut old, 1, "192.0.2.7 x");
    assert_eq!(found(&old), [0, 0, 1]);

    // The sources have changed places, the first detector is kept as the second one, and the
    // others are new.
    let watches = vec![watch(&[1], 3), watch(&[1], 3), watch(&[0], 1)];
    let mut new = Pipeline::new(Clock::Host, both(), watches);
    new.adopt(old, &[Some(1), Some(0)], &[None, Some(0), None]);
    assert_eq!(counts(&new, 0).lines, 2);
    assert_eq!(counts(&new, 0).unparsed, 1);
    assert_eq!(counts(&new, 1).lines, 2);
    assert_eq!(matched(&new), [0, 2, 0]);
    assert_eq!(found(&new), [0, 0, 0]);
    let (_, found_now) = read(&mut new, 1, "192.0.2.7 third");
    assert_eq!(found_now.len(), 1, "{found_now:?}");
    assert_eq!(found_now[0].watch, 1);
    assert_eq!(found_now[0].evidence.len(), 3);
    // What reads the other source reads it under its new number.
    assert_eq!(read(&mut new, 0, "192.0.2.9 x").1[0].watch, 2);
}

#[test]
fn a_source_that_has_changed_begins_anew() {
    let mut old = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 2)]);
    read(&mut old, 0, "192.0.2.7 x");
    let mut new = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 2)]);
    new.adopt(old, &[None], &[None]);
    assert_eq!(counts(&new, 0), FeedCounts::default());
    assert!(read(&mut new, 0, "192.0.2.7 x").1.is_empty());
    // Numbers of what was not there are none.
    let mut newer = Pipeline::new(Clock::Host, vec![feed()], vec![watch(&[0], 2)]);
    newer.adopt(new, &[Some(7)], &[Some(7)]);
    assert_eq!(matched(&newer), [0]);
}
