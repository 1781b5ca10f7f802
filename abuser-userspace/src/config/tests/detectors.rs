//! `[[detector]]`: what is looked for, in what, and what follows.

use std::{fs, time::Duration};

use abuser_detect::{
    detect::{
        baseline, distributed, enumeration, fan_out, missing_headers, signup, stuffing, threshold,
    },
    field::Field,
    source::Masks,
};

use super::{assert_error, good};
use crate::config::{Config, DetectorAction, DetectorConfig, DetectorKind, load};

pub(super) const SOURCE: &str = "[[source]]\nstdin = true\nparser = \"json\"\n";

/// A source, and from line 4 on a `[[detector]]` with `lines` from line 6 on.
pub(super) fn detector(lines: &str) -> String {
    format!("{SOURCE}[[detector]]\nname = \"d\"\n{lines}\n")
}

#[track_caller]
fn kind(lines: &str) -> DetectorKind {
    good(&detector(lines)).detectors[0].kind.clone()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Finds a detector by its name.
#[track_caller]
pub(super) fn named<'c>(config: &'c Config, name: &str) -> &'c DetectorConfig {
    let mut with_name = config.detectors.iter().filter(|one| one.rule.name == name);
    let found = with_name.next().expect("a detector of that name");
    assert!(with_name.next().is_none(), "{name} is there twice");
    found
}

#[test]
fn a_detector_only_tells_by_default_and_reads_all_that_have_a_parser() {
    let config = good(&detector(""));
    let detector = &config.detectors[0];
    assert_eq!(detector.rule.action, DetectorAction::Alert);
    assert_eq!(detector.rule.policy, "default");
    assert_eq!(detector.rule.limit, None);
    assert_eq!(detector.rule.throttle_for, minutes(10));
    assert_eq!(detector.sources, None);
    assert_eq!((&detector.filter, &detector.condition), (&None, &None));
    assert_eq!(
        detector.kind,
        DetectorKind::Threshold(threshold::Settings::default())
    );
}

#[test]
fn what_follows_is_read() {
    let config = good(&format!(
        "{}[[policy]]\nname = \"strict\"\nmaxretry = 2\n\
         [[limit]]\nname = \"slow\"\nrate = \"1/s\"\nonly = \"throttled\"\n",
        detector(
            "sources = [\"stdin\"]\nwhere = 'status == 401'\naction = \"throttle\"\n\
             limit = \"slow\"\nthrottle_for = \"1h\"\npolicy = \"strict\""
        )
    ));
    let detector = &config.detectors[0];
    assert_eq!(detector.sources, Some(vec!["stdin".to_owned()]));
    assert_eq!(detector.condition.as_deref(), Some("status == 401"));
    assert_eq!(detector.rule.action, DetectorAction::Throttle);
    assert_eq!(detector.rule.limit.as_deref(), Some("slow"));
    assert_eq!(detector.rule.throttle_for, minutes(60));
    assert_eq!(detector.rule.policy, "strict");
}

#[test]
fn a_threshold_takes_from_its_policy_what_it_does_not_say() {
    let text = |policy: &str, lines: &str| {
        let detector = detector(&format!("{policy}\n{lines}"));
        good(&format!(
            "{detector}[ban]\nmaxretry = 7\nfindtime = \"2m\"\n\
             [[policy]]\nname = \"strict\"\nmaxretry = 2\n"
        ))
    };
    let counted = |policy, lines| match &text(policy, lines).detectors[0].kind {
        DetectorKind::Threshold(settings) => (settings.count, settings.within),
        other => panic!("{other:?}"),
    };
    assert_eq!(counted("", ""), (7, minutes(2)));
    assert_eq!(counted("policy = \"strict\"", ""), (2, minutes(2)));
    assert_eq!(counted("policy = \"strict\"", "count = 9"), (9, minutes(2)));
    assert_eq!(counted("", "within = \"1h\""), (7, minutes(60)));
    // The others have defaults of their own.
    let DetectorKind::Stuffing(settings) =
        &text("kind = \"stuffing\"", "").detectors[0].kind.clone()
    else {
        panic!("no stuffing");
    };
    assert_eq!(*settings, stuffing::Settings::default());
}

#[test]
fn every_key_of_a_threshold_is_read() {
    for (word, kind_of) in [
        ("maxretry", threshold::Kind::Maxretry),
        ("limit", threshold::Kind::Limit),
        ("threshold", threshold::Kind::Threshold),
        ("both", threshold::Kind::Both),
        ("detection_filter", threshold::Kind::DetectionFilter),
    ] {
        let read = kind(&format!(
            "kind = \"threshold\"\ntype = \"{word}\"\ncount = 9\nwithin = \"1m\"\ntrack = \"key\"\n\
             ipv4_prefix = 24\nipv6_prefix = 48"
        ));
        assert_eq!(
            read,
            DetectorKind::Threshold(threshold::Settings {
                kind: kind_of,
                count: 9,
                within: minutes(1),
                track: threshold::Track::Field(Field::Key),
                masks: Masks { ipv4: 24, ipv6: 48 },
                ..threshold::Settings::default()
            })
        );
    }
    let DetectorKind::Threshold(settings) = kind("track = \"source\"") else {
        panic!("no threshold");
    };
    assert_eq!(settings.track, threshold::Track::Source);
}

#[test]
fn every_key_of_the_other_kinds_is_read() {
    assert_eq!(
        kind(
            "kind = \"stuffing\"\ncount = 9\nwithin = \"1m\"\nratio = 0.5\nusers = 3\n\
             statuses = [401, 422]\nsuccess_after = 4\nipv4_prefix = 24"
        ),
        DetectorKind::Stuffing(stuffing::Settings {
            statuses: vec![401, 422],
            count: 9,
            ratio: 0.5,
            users: 3,
            success_after: 4,
            within: minutes(1),
            masks: Masks {
                ipv4: 24,
                ..Masks::default()
            },
            ..stuffing::Settings::default()
        })
    );
    assert_eq!(
        kind(
            "kind = \"enumeration\"\ncount = 90\nwithin = \"1m\"\nmax_stride = 8\ndistinct = 7\n\
             track = \"path\""
        ),
        DetectorKind::Enumeration(enumeration::Settings {
            count: 90,
            within: minutes(1),
            max_stride: 8,
            distinct: Some(7),
            track: enumeration::Track::Path,
            ..enumeration::Settings::default()
        })
    );
    assert_eq!(
        kind("kind = \"missing-headers\"\ncount = 9\nwithin = \"1m\"\nheaders = [\"Origin\"]"),
        DetectorKind::MissingHeaders(missing_headers::Settings {
            headers: vec!["origin".to_owned()],
            count: 9,
            within: minutes(1),
            ..missing_headers::Settings::default()
        })
    );
    assert_eq!(
        kind(
            "kind = \"signup\"\ncount = 9\nwithin = \"1m\"\npaths = [\"/new\"]\n\
             methods = [\"PUT\"]\nstatuses = [201]"
        ),
        DetectorKind::Signup(signup::Settings {
            paths: vec!["/new".to_owned()],
            methods: vec!["PUT".to_owned()],
            statuses: vec![201],
            count: 9,
            within: minutes(1),
            ..signup::Settings::default()
        })
    );
    assert_eq!(
        kind(
            "kind = \"fan-out\"\nwithin = \"1m\"\nclients = 9\nkeys = 0\nidentical = 5\n\
             track = \"user\""
        ),
        DetectorKind::FanOut(fan_out::Settings {
            sources: Some(9),
            keys: None,
            identical: Some(5),
            within: minutes(1),
            by: Field::User,
            ..fan_out::Settings::default()
        })
    );
    assert_eq!(
        kind(
            "kind = \"distributed\"\nwithin = \"1m\"\nclients = 9\nspread = 0.3\nrequests = 5\n\
             failures = 1"
        ),
        DetectorKind::Distributed(distributed::Settings {
            sources: 9,
            within: minutes(1),
            spread: 0.3,
            requests: 5,
            failures: 1.0,
            ..distributed::Settings::default()
        })
    );
    assert_eq!(
        kind(
            "kind = \"baseline\"\ncount = 9\ntrack = \"source\"\nperiod = \"1m\"\nhistory = 5\n\
             factor = 2.5\ndeviations = 3\ntemplates = 8"
        ),
        DetectorKind::Baseline(baseline::Settings {
            track: baseline::Track::Source,
            period: minutes(1),
            history: 5,
            factor: 2.5,
            deviations: 3.0,
            count: 9,
            templates: 8,
            ..baseline::Settings::default()
        })
    );
}

#[test]
fn each_kind_takes_its_defaults_and_can_be_built() {
    for name in [
        "threshold",
        "stuffing",
        "enumeration",
        "missing-headers",
        "signup",
        "fan-out",
        "distributed",
        "baseline",
    ] {
        let kind = kind(&format!("kind = \"{name}\""));
        assert_eq!(kind.name(), name);
        assert_eq!(kind.build().occupancy().tracked, 0);
    }
    assert_eq!(
        kind("kind = \"baseline\""),
        DetectorKind::Baseline(baseline::Settings::default())
    );
    assert_eq!(
        kind("kind = \"fan-out\""),
        DetectorKind::FanOut(fan_out::Settings::default())
    );
}

#[test]
fn a_filter_reads_sources_without_a_parser() {
    let text = "[[source]]\nstdin = true\n[[detector]]\nname = \"d\"\n\
                filter = \"fail2ban: sshd[mode=ddos]\"\n";
    let config = good(text);
    let filter = config.detectors[0].filter.as_deref();
    assert_eq!(filter, Some("sshd[mode=ddos]"));
    good(&text.replace("filter", "sources = [\"stdin\"]\nfilter"));
}

const PRESETS: &str = "[[source]]\nname = \"a\"\nfiles = [\"/a\"]\npreset = \"nginx\"\n\
     [[source]]\nname = \"b\"\nfiles = [\"/b\"]\npreset = \"apache\"\n\
     [[source]]\nname = \"c\"\nfiles = [\"/c\"]\nparser = \"json\"\n";
const INSTEAD: &str = "[[detector]]\nname = \"web-stuffing\"\ncount = 3\n";

#[test]
fn sources_of_presets_share_their_detectors() {
    let config = good(PRESETS);
    for detector in &config.detectors {
        let sources = ["a", "b"].map(str::to_owned);
        assert_eq!(detector.sources.as_deref(), Some(&sources[..]));
    }
    assert_eq!(named(&config, "web-stuffing").kind.name(), "stuffing");
    assert_eq!(named(&config, "web-stuffing").rule.action.name(), "ban");
}

#[test]
fn a_detector_takes_the_place_of_a_presets_in_either_order_and_across_files() {
    let source = |number: usize| {
        let mut tables = PRESETS.split_inclusive("[[source]]\n").skip(1);
        let table = tables.nth(number).expect("a source");
        format!("[[source]]\n{}", table.trim_end_matches("[[source]]\n"))
    };
    let orders: [&[String]; 5] = [
        &[format!("{PRESETS}{INSTEAD}")],
        &[format!("{INSTEAD}{PRESETS}")],
        &[INSTEAD.to_owned(), PRESETS.to_owned()],
        &[PRESETS.to_owned(), INSTEAD.to_owned()],
        &[
            source(0),
            INSTEAD.to_owned(),
            format!("{}{}", source(1), source(2)),
        ],
    ];
    for files in orders {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        for (number, text) in files.iter().enumerate() {
            let name = match number {
                0 => "a.toml".to_owned(),
                number => format!("conf.d/{number}.toml"),
            };
            fs::write(folder.path().join(name), text).unwrap();
        }
        let config = load(&folder.path().join("a.toml")).unwrap();
        let instead = named(&config, "web-stuffing");
        assert_eq!(instead.kind.name(), "threshold");
        // It reads what that did, and not what has nothing to do with the preset.
        let sources = ["a", "b"].map(str::to_owned);
        assert_eq!(instead.sources.as_deref(), Some(&sources[..]), "{files:?}");
    }
}

#[test]
fn a_detector_in_the_place_of_a_presets_reads_what_it_says() {
    let instead = format!("{INSTEAD}sources = [\"c\"]\n");
    let config = good(&format!("{PRESETS}{instead}"));
    let sources = &named(&config, "web-stuffing").sources;
    assert_eq!(sources, &Some(vec!["c".to_owned()]));
    assert_error(
        &format!("{INSTEAD}{INSTEAD}{PRESETS}"),
        "5:8",
        &["\"web-stuffing\" is taken by a.toml:2; choose another"],
    );
}
