//! Requests without headers that real clients send: `User-Agent`, `Origin`, `X-Requested-With`.
//!
//! A script that was written in a hurry gives itself away by what it does not send. One such request
//! means little, so it takes `count` of them within a time that slides. After that the count starts anew: who goes on
//! is found again after as many.
//!
//! A header that the log does not have says nothing, and never counts.

use std::time::Duration;

use super::{
    Detector, Finding, Occupancy,
    table::WeighedTable,
    window::{Span, Window},
    words,
};
use crate::{
    record::{Header, Record},
    source::{Masks, Source},
    time::Time,
};

/// Bytes on the heap for each source there is room for.
const HEAP_PER_SOURCE: usize = 96;

/// Which headers are expected, and how often they may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names of headers, in lower case. A request that lacks any of them counts; one that has it with
    /// an empty value lacks it.
    pub headers: Vec<String>,
    /// How many such requests it takes; 0 is 1.
    pub count: u32,
    /// Within which time.
    pub within: Duration,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Sources that are remembered.
    pub capacity: usize,
}

impl Default for Settings {
    /// Ten requests without `User-Agent` within ten minutes. Room for a million sources.
    fn default() -> Self {
        Self {
            headers: vec!["user-agent".to_owned()],
            count: 10,
            within: Duration::from_secs(600),
            masks: Masks::default(),
            capacity: 1_000_000,
        }
    }
}

/// Finds who does not send what real clients send.
pub struct MissingHeaders {
    settings: Settings,
    span: Span,
    sources: WeighedTable<Source, Window>,
}

impl MissingHeaders {
    /// A detector that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            span: Span::new(settings.count, settings.within),
            sources: WeighedTable::with_heap_per_key(settings.capacity, HEAP_PER_SOURCE),
            settings,
        }
    }

    /// What it looks for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The expected headers that a request is known to lack.
    fn missing<'s>(&'s self, record: &'s Record<'_>) -> impl Iterator<Item = &'s str> {
        let names = self.settings.headers.iter().map(String::as_str);
        names.filter(|name| match record.headers.get(name) {
            Header::Unknown => false,
            Header::Absent => true,
            Header::Sent(value) => value.trim().is_empty(),
        })
    }
}

impl Detector for MissingHeaders {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let source = Source::new(record.source?, self.settings.masks);
        self.missing(record).next()?;
        let span = &self.span;
        let count = self
            .sources
            .update(source, Window::default, |window| window.hit(at, span))?;
        let missing: Vec<&str> = self.missing(record).collect();
        let reason = format!(
            "{} without expected headers within {}, the last one without {}",
            words::many(count, "request"),
            words::duration(self.settings.within),
            words::shown(&missing.join(" and ")),
        );
        Some(Finding {
            sources: vec![source.net(self.settings.masks)],
            subject: None,
            at,
            count,
            reason,
        })
    }

    fn occupancy(&self) -> Occupancy {
        self.sources.occupancy()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::record::Headers;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn detector(headers: &[&str], count: u32) -> MissingHeaders {
        MissingHeaders::new(Settings {
            headers: headers.iter().map(ToString::to_string).collect(),
            count,
            within: Duration::from_secs(60),
            ..Settings::default()
        })
    }

    fn request(headers: Headers<'static>) -> Record<'static> {
        Record {
            source: Some(SOURCE),
            headers,
            ..Record::default()
        }
    }

    fn agent(user_agent: Header<'static>) -> Record<'static> {
        request(Headers {
            user_agent,
            ..Headers::default()
        })
    }

    fn all(others: &[(&'static str, &'static str)]) -> Record<'static> {
        let others = others.iter();
        request(Headers {
            others: others
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            complete: true,
            ..Headers::default()
        })
    }

    #[test]
    fn who_often_sends_no_user_agent_is_found_and_again_after_as_many() {
        let mut detector = detector(&["user-agent"], 3);
        let found: Vec<_> = (0..7)
            .map(|second| detector.observe(&agent(Header::Absent), Time(second * 1000)))
            .collect();
        let counts: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().map(|found| found.count))
            .collect();
        assert_eq!(counts, [None, None, Some(3), None, None, Some(3), None]);
        let finding = found.into_iter().flatten().next().expect("a finding");
        assert_eq!(finding.sources, ["192.0.2.1/32".parse().expect("a net")]);
        assert_eq!(
            finding.reason,
            "3 requests without expected headers within 1m, the last one without user-agent"
        );
    }

    #[test]
    fn what_the_log_does_not_tell_never_counts() {
        let mut detector = detector(&["user-agent", "origin"], 1);
        assert_eq!(detector.observe(&agent(Header::Unknown), Time(1)), None);
        let curl = agent(Header::Sent("curl/8.5".into()));
        assert_eq!(
            detector.observe(&curl, Time(1)),
            None,
            "of Origin nothing is known"
        );
        assert_eq!(detector.occupancy().tracked, 0);
    }

    #[test]
    fn an_empty_header_is_a_missing_one() {
        let mut detector = detector(&["user-agent"], 1);
        for empty in ["", " "] {
            assert!(
                detector
                    .observe(&agent(Header::Sent(empty.into())), Time(1))
                    .is_some()
            );
        }
    }

    #[test]
    fn one_missing_header_is_enough_and_those_that_are_missing_are_named() {
        let mut detector = detector(&["user-agent", "origin", "x-requested-with"], 1);
        let complete = [
            ("user-agent", "Mozilla/5.0"),
            ("origin", "https://example.com"),
            ("x-requested-with", "XMLHttpRequest"),
        ];
        assert_eq!(detector.observe(&all(&complete), Time(1)), None);
        let finding = detector
            .observe(&all(&complete[..1]), Time(1))
            .expect("a finding");
        assert_eq!(
            finding.reason,
            "1 request without expected headers within 1m, the last one without origin and x-requested-with"
        );
    }

    #[test]
    fn complete_requests_between_and_a_pause_are_no_offence() {
        let mut detector = detector(&["user-agent"], 3);
        for second in [0, 20, 61, 81, 122, 142] {
            assert_eq!(
                detector.observe(&agent(Header::Absent), Time(second * 1000)),
                None
            );
            let browser = agent(Header::Sent("Mozilla/5.0".into()));
            for _ in 0..10 {
                assert_eq!(detector.observe(&browser, Time(second * 1000)), None);
            }
        }
    }

    #[test]
    fn a_request_without_a_source_is_of_no_consequence() {
        let mut detector = detector(&["user-agent"], 1);
        let record = Record {
            source: None,
            ..agent(Header::Absent)
        };
        assert_eq!(detector.observe(&record, Time(1)), None);
    }
}
