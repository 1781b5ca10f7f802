//! What holds for all detectors.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    baseline::{self, Baseline},
    distributed::{self, Distributed},
    enumeration::{self, Enumeration},
    fan_out::{self, FanOut},
    missing_headers::{self, MissingHeaders},
    signup::{self, Signup},
    stuffing::{self, Stuffing},
    threshold::{self, Threshold},
    *,
};
use crate::{
    field::Field,
    record::{Header, Headers},
};

/// Bytes of what a client sends.
const LONG: usize = 16 * 1024;

/// A text as long as a client may make it, with what does harm on a terminal.
fn long(begins: &str) -> String {
    let mut text = format!("{begins}\u{1b}[2J\r\u{202e}");
    while text.len() < LONG {
        text.push_str("ä\u{7f}\u{9b}");
    }
    text
}

/// A record in which all that a client chooses is long.
struct Sent {
    path: String,
    text: String,
}

impl Sent {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: long("who"),
        }
    }

    /// It from the nth source, by the nth key.
    fn by(&self, source: u32, key: u32, status: u16) -> Record<'_> {
        Record {
            source: Some(IpAddr::V4(Ipv4Addr::from(0xc000_0200 + source))),
            method: Some("POST".into()),
            path: Some(self.path.as_str().into()),
            status: Some(status),
            key: Some(format!("{key}{}", self.text).into()),
            user: Some(self.text.as_str().into()),
            headers: Headers {
                user_agent: Header::Sent(self.text.as_str().into()),
                complete: true,
                ..Headers::default()
            },
            raw: &self.text,
            ..Record::default()
        }
    }
}

/// The first reason of a detector that is given these, one a time.
fn reason<'r>(
    mut detector: impl Detector,
    records: impl IntoIterator<Item = (u64, Record<'r>)>,
) -> String {
    let mut records = records.into_iter();
    let finding = records.find_map(|(at_ms, record)| detector.observe(&record, Time(at_ms)));
    finding.expect("a finding").reason
}

/// The same record again and again, five seconds apart.
fn again(sent: &Sent, status: u16) -> impl Iterator<Item = (u64, Record<'_>)> {
    (0..40).map(move |nth| (nth * 5000, sent.by(1, 1, status)))
}

/// That it is short and harmless, and whether it tells that something was cut.
#[track_caller]
fn assert_fits(reason: &str, is_cut: bool) {
    let length = reason.len();
    assert!(length <= MAX_REASON, "{length} bytes: {reason:?}");
    assert!(!reason.contains(char::is_control), "{reason:?}");
    assert_eq!(reason.contains('…'), is_cut, "{reason:?}");
}

#[test]
fn the_reason_of_a_threshold_fits_whatever_it_counts_by() {
    let sent = Sent::new(&long("/"));
    assert_fits(
        &reason(
            Threshold::new(threshold::Settings::default()),
            again(&sent, 401),
        ),
        false,
    );
    let header = || Field::Header("user-agent".into());
    for kind in [
        threshold::Kind::Maxretry,
        threshold::Kind::Limit,
        threshold::Kind::DetectionFilter,
    ] {
        for field in [Field::User, Field::Key, Field::Path, Field::Line, header()] {
            let settings = threshold::Settings {
                kind,
                track: field.into(),
                ..threshold::Settings::default()
            };
            assert_fits(&reason(Threshold::new(settings), again(&sent, 401)), true);
        }
    }
    // A name that the configuration has is no better.
    let record = Record {
        headers: Headers {
            others: vec![(long("x").into(), "1".into())],
            ..Headers::default()
        },
        ..sent.by(1, 1, 401)
    };
    let settings = threshold::Settings {
        track: Field::Header(long("x").into()).into(),
        count: 1,
        ..threshold::Settings::default()
    };
    let reason = reason(Threshold::new(settings), [(0, record)]);
    assert!(reason.len() <= MAX_REASON, "{reason:?}");
}

#[test]
fn the_reason_of_stuffing_fits_whatever_the_user_is_called() {
    let sent = Sent::new("/login");
    let detector = || {
        Stuffing::new(stuffing::Settings {
            users: 1,
            ..stuffing::Settings::default()
        })
    };
    assert_fits(&reason(detector(), again(&sent, 401)), false);
    let failures = again(&sent, 401).take(12);
    let success = std::iter::once((60_000, sent.by(1, 1, 200)));
    assert_fits(&reason(detector(), failures.chain(success)), true);
}

#[test]
fn the_reason_of_an_enumeration_fits_however_long_the_path_is() {
    for before in [long("/"), "/%1b".repeat(LONG / 4), "/a".repeat(LONG / 2)] {
        for after in ["", "?long=1"] {
            let sent: Vec<_> = (0..60_u32)
                .map(|id| Sent::new(&format!("/{id}{before}{after}")))
                .collect();
            for track in [enumeration::Track::Source, Field::User.into()] {
                let settings = enumeration::Settings {
                    count: 10,
                    track,
                    ..enumeration::Settings::default()
                };
                let records = || sent.iter().map(|sent| (0, sent.by(1, 1, 200)));
                assert_fits(&reason(Enumeration::new(settings.clone()), records()), true);
                let settings = enumeration::Settings {
                    count: 1000,
                    distinct: Some(10),
                    ..settings
                };
                assert_fits(&reason(Enumeration::new(settings), records()), true);
            }
        }
    }
    // So it does if a parameter's name is long.
    let name = "a".repeat(LONG / 2);
    let sent: Vec<_> = (0..100)
        .map(|id| Sent::new(&format!("/x?{name}={id}")))
        .collect();
    let records = sent.iter().map(|sent| (0, sent.by(1, 1, 200)));
    assert_fits(
        &reason(Enumeration::new(enumeration::Settings::default()), records),
        true,
    );
}

#[test]
fn the_reason_of_a_distributed_attack_fits_however_long_the_path_is() {
    let sent = Sent::new(&long("/"));
    let records = (0..400_u32).map(|nth| {
        let at_ms = u64::from(nth / 20) * 5000;
        (at_ms, sent.by(nth % 20, 1, 401))
    });
    let reason = reason(Distributed::new(distributed::Settings::default()), records);
    assert_fits(&reason, true);
}

#[test]
fn the_reason_of_missing_headers_fits_however_many_there_are() {
    let sent = Sent::new("/");
    let settings = missing_headers::Settings {
        headers: (0..256).map(|nth| format!("x-expected-{nth}")).collect(),
        ..missing_headers::Settings::default()
    };
    assert_fits(
        &reason(MissingHeaders::new(settings), again(&sent, 200)),
        true,
    );
}

#[test]
fn the_reason_of_sign_ups_fits_however_long_the_path_is() {
    let sent = Sent::new(&long("/signup/"));
    let settings = signup::Settings {
        paths: vec!["/signup/*".to_owned()],
        ..signup::Settings::default()
    };
    assert_fits(&reason(Signup::new(settings), again(&sent, 200)), true);
}

#[test]
fn the_reasons_of_a_fan_out_fit_however_long_keys_are() {
    let sent = Sent::new("/users/17");
    let detector = || {
        FanOut::new(fan_out::Settings {
            identical: Some(2),
            ..fan_out::Settings::default()
        })
    };
    let many_sources = (0..40).map(|nth| (0, sent.by(nth, 1, 200)));
    assert_fits(&reason(detector(), many_sources), false);
    let many_keys = (0..40).map(|nth| (0, sent.by(1, nth, 200)));
    assert_fits(&reason(detector(), many_keys), false);
}

#[test]
fn the_reason_of_a_baseline_fits_however_long_keys_are() {
    let sent = Sent::new("/users/17");
    let hour = 3_600_000;
    let usual = (0..30).map(|nth| (nth * hour, sent.by(1, 1, 200)));
    let more = (0..1000).map(|nth| (30 * hour + nth, sent.by(1, 1, 200)));
    let settings = baseline::Settings {
        period: Duration::from_millis(hour),
        ..baseline::Settings::default()
    };
    assert_fits(&reason(Baseline::new(settings), usual.chain(more)), false);
}
