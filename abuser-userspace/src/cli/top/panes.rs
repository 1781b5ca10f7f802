//! From what is known to the tables of the panes.

use super::{
    grid::{Cell, Column, Grid, Order, Row, Sorting, Tone, left, right},
    model::Model,
    text,
};
use crate::{
    api::types::{
        BanInfo, DetectorStatus, EventKind, EventRecord, LimitLevel, LimitStatus, SourceStatus,
        TopSource,
    },
    cli::output::plain,
};

/// What can be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Pane {
    /// Who is busiest.
    #[default]
    Sources,
    /// Who is banned.
    Bans,
    /// Each limit.
    Limits,
    /// Detectors, and the logs that they read.
    Detectors,
    /// What happened.
    Events,
}

impl Pane {
    pub(super) const ALL: [Self; 5] = [
        Self::Sources,
        Self::Bans,
        Self::Limits,
        Self::Detectors,
        Self::Events,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sources => "Sources",
            Self::Bans => "Bans",
            Self::Limits => "Limits",
            Self::Detectors => "Detectors",
            Self::Events => "Events",
        }
    }

    pub(super) const fn number(self) -> usize {
        self as usize
    }

    /// Its columns.
    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Sources => &SOURCES,
            Self::Bans => &BANS,
            Self::Limits => &LIMITS,
            Self::Detectors => &DETECTORS,
            Self::Events => &EVENTS,
        }
    }

    /// How it is sorted at first.
    pub(super) const fn sorting(self) -> Sorting {
        let column = match self {
            // There may be many, most of which find nothing.
            Self::Detectors => Some(FOUND),
            _ => None,
        };
        Sorting {
            column,
            reversed: false,
        }
    }

    /// Its table.
    pub(super) fn grid(self, model: &Model) -> Grid {
        let rows = match (&model.snapshot, self) {
            (_, Self::Events) => model.events.iter().rev().map(event).collect(),
            (None, _) => Vec::new(),
            (Some(now), Self::Sources) => now.top.sources.iter().map(busy).collect(),
            (Some(now), Self::Bans) => now.bans.iter().map(ban).collect(),
            (Some(now), Self::Limits) => {
                let limits = now.limits.iter();
                limits.map(|limit| limit_row(limit, model)).collect()
            }
            (Some(now), Self::Detectors) => {
                let detectors = now.detection.detectors.iter();
                let logs = now.detection.sources.iter();
                detectors
                    .map(|one| detector(one, model))
                    .chain(logs.map(|one| log(one, model)))
                    .collect()
            }
        };
        Grid {
            columns: self.columns(),
            rows,
        }
    }
}

const SOURCES: [Column; 7] = [
    left("SOURCE", 23),
    left("STATE", 13),
    right("NOW/s", 7),
    right("1 MIN", 7),
    right("USED", 4),
    left("LIMIT", 10),
    left("NOTE", 0),
];

/// What holds for a source now, in a word, and how it is to be seen.
fn state(told: &TopSource) -> (String, Tone) {
    // Who was over it a moment ago may have a token again by now.
    let is_over = |level: &&LimitLevel| level.left == 0 || told.rate > 0.0;
    if told.allow {
        return ("allowed".to_owned(), Tone::Good);
    }
    if let Some(ban) = &told.ban {
        let left = ban.remaining_seconds.map_or_else(
            || "banned".to_owned(),
            |seconds| format!("ban {}", text::left(Some(seconds))),
        );
        return (left, Tone::Bad);
    }
    match told.level.as_ref().filter(is_over) {
        Some(level) if level.action == "observe" => ("observed".to_owned(), Tone::Warn),
        Some(_) => ("over limit".to_owned(), Tone::Warn),
        None if !told.throttled.is_empty() => ("throttled".to_owned(), Tone::Warn),
        None => ("passes".to_owned(), Tone::Plain),
    }
}

/// What of a limit is used, in percent.
fn used(level: &LimitLevel) -> u64 {
    let used = level.capacity.saturating_sub(level.left);
    let percent = u128::from(used) * 100 / u128::from(level.capacity.max(1));
    u64::try_from(percent).unwrap_or(100)
}

fn busy(told: &TopSource) -> Row {
    let (word, tone) = state(told);
    let used = told.level.as_ref().map(used);
    let limit = told.level.as_ref().map(|level| plain(&level.limit));
    let mut more = Vec::new();
    if !told.throttled.is_empty() {
        more.push(format!("throttled by {}", told.throttled.join(", ")));
    }
    if told.verified == Some(false) {
        more.push("unverified".to_owned());
    }
    if let Some(ban) = &told.ban {
        more.push(ban.cause.clone());
    }
    Row {
        key: told.source.to_string(),
        cells: vec![
            Cell::source(told.source),
            Cell::text(word),
            Cell::rate(told.rate),
            Cell::count(told.recent),
            used.map_or_else(
                || Cell::number("", -1.0),
                |used| {
                    let order = f64::from(u32::try_from(used).unwrap_or(100));
                    Cell::number(format!("{used}%"), order)
                },
            ),
            Cell::text(limit.unwrap_or_default()),
            Cell::text(plain(&more.join(", "))),
        ],
        tone,
    }
}

const BANS: [Column; 5] = [
    left("SOURCE", 23),
    right("LEFT", 10),
    right("HITS", 7),
    left("CAUSE", 16),
    left("REASON", 0),
];

fn ban(ban: &BanInfo) -> Row {
    let subject = ban.limit.as_ref().or(ban.detector.as_ref());
    let cause = match subject.or(ban.blocklist.as_ref()) {
        Some(subject) => format!("{} {subject}", ban.cause),
        None => ban.cause.clone(),
    };
    let reason = match (&ban.reason, &ban.by) {
        (Some(reason), Some(by)) => format!("{reason} ({by})"),
        (Some(reason), None) => reason.clone(),
        (None, Some(by)) => format!("by {by}"),
        (None, None) => String::new(),
    };
    #[expect(clippy::cast_precision_loss, reason = "only for sorting")]
    let end = ban
        .remaining_seconds
        .map_or(f64::INFINITY, |seconds| seconds as f64);
    Row {
        key: ban.source.to_string(),
        cells: vec![
            Cell::source(ban.source),
            Cell::by(text::left(ban.remaining_seconds), Order::Least(end)),
            Cell::count(ban.hits),
            Cell::text(plain(&cause)),
            Cell::text(plain(&reason)),
        ],
        tone: Tone::Plain,
    }
}

const LIMITS: [Column; 8] = [
    left("LIMIT", 14),
    right("DROP/s", 7),
    right("PASS/s", 7),
    right("DROPPED", 7),
    left("RATE", 15),
    left("ACTION", 9),
    right("SOURCES", 7),
    right("LET BY", 6),
];

fn limit_row(limit: &LimitStatus, model: &Model) -> Row {
    let [passed, dropped, observed] = model.limits.get(&limit.name).copied().unwrap_or_default();
    let is_busy = dropped + observed > 0.0;
    let count = match limit.count.as_str() {
        "connections" => "conn",
        "packets" => "pkt",
        other => other,
    };
    Row {
        key: limit.name.clone(),
        cells: vec![
            Cell::text(plain(&limit.name)),
            Cell::rate(dropped),
            Cell::rate(passed),
            Cell::count(limit.dropped),
            Cell::text(format!("{} {count}", limit.rate)),
            Cell::text(match &limit.only {
                Some(only) => only.clone(),
                None => limit.action.clone(),
            }),
            Cell::count(u64::try_from(limit.sources).unwrap_or(u64::MAX)),
            Cell::count(limit.observed.saturating_add(limit.allowed)),
        ],
        tone: if is_busy { Tone::Warn } else { Tone::Plain },
    }
}

/// The column of what detectors found.
const FOUND: usize = 3;

const DETECTORS: [Column; 6] = [
    left("DETECTOR, LOG", 18),
    right("LINES/s", 7),
    right("LINES", 7),
    right("FOUND", 7),
    left("WHAT", 20),
    left("NOTE", 0),
];

fn detector(detector: &DetectorStatus, model: &Model) -> Row {
    let rate = model.detectors.get(&detector.name).copied();
    let mut more = detector.sources.join(", ");
    if detector.evicted > 0 {
        more = format!("{more}; FULL: {} forgotten", text::count(detector.evicted));
    }
    Row {
        key: format!("detector {}", detector.name),
        cells: vec![
            Cell::text(plain(&detector.name)),
            Cell::rate(rate.unwrap_or_default()),
            Cell::count(detector.matched),
            Cell::count(detector.found),
            Cell::text(format!("{}, {}", detector.kind, detector.action)),
            Cell::text(plain(&more)),
        ],
        tone: if detector.found > 0 {
            Tone::Warn
        } else {
            Tone::Plain
        },
    }
}

fn log(log: &SourceStatus, model: &Model) -> Row {
    let rate = model.logs.get(&log.name).copied();
    let mut more = Vec::new();
    if let Some(error) = &log.error {
        more.push(format!("NOT READ: {error}"));
    }
    for (count, what) in [
        (log.lost, "lost"),
        (log.unparsed, "unparsed"),
        (log.stale, "too old"),
        (log.lag_bytes, "B behind"),
    ] {
        if count > 0 {
            more.push(format!("{} {what}", text::count(count)));
        }
    }
    let is_bad = log.error.is_some() || log.lost > 0;
    Row {
        key: format!("log {}", log.name),
        cells: vec![
            Cell::text(plain(&log.name)),
            Cell::rate(rate.unwrap_or_default()),
            Cell::count(log.lines),
            // What is found in logs is seen only while they are read, so they come first.
            Cell::number("", f64::INFINITY),
            Cell::text(format!(
                "log, {}",
                log.parser.as_deref().unwrap_or("filters")
            )),
            Cell::text(plain(&more.join(", "))),
        ],
        tone: if is_bad { Tone::Bad } else { Tone::Plain },
    }
}

const EVENTS: [Column; 4] = [
    left("UTC", 8),
    left("EVENT", 7),
    left("SOURCE", 18),
    left("WHAT", 0),
];

fn event(event: &EventRecord) -> Row {
    let mut what: Vec<&str> = Vec::new();
    what.extend(event.detector.as_deref());
    what.extend(event.action.as_deref());
    what.extend(event.reason.as_deref());
    let source = event.source.as_deref().unwrap_or_default();
    let short = source.parse().map(|parsed| text::source(&parsed));
    Row {
        key: format!("{} {} {source}", event.time, event.kind.name()),
        cells: vec![
            Cell::text(text::time_of_day(&event.time)),
            Cell::text(event.kind.name()),
            Cell::text(short.unwrap_or_else(|_| plain(source).into_owned())),
            Cell::text(plain(&what.join(": "))),
        ],
        tone: match event.kind {
            EventKind::Ban => Tone::Bad,
            EventKind::Detect | EventKind::Missed => Tone::Warn,
            _ => Tone::Plain,
        },
    }
}
