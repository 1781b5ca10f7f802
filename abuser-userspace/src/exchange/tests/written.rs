//! What the writer makes of bans, for those who load it.

use serde_json::Value;

use super::*;
use crate::exchange::{Record, Writer, Written};

pub(super) fn record<'a>(source: &str, left: Option<u64>, reason: Option<&'a str>) -> Record<'a> {
    Record {
        source: source.parse().unwrap(),
        created: Some(now() - Duration::from_secs(60)),
        expires: left.map(|left| now() + Duration::from_secs(left)),
        reason,
        cause: "manual",
        by: Some("root"),
        hits: 7,
    }
}

pub(super) fn written(format: Format, records: &[Record<'_>]) -> (String, Written) {
    let mut output = Vec::new();
    let mut writer = Writer::new(format, &mut output, now()).unwrap();
    for record in records {
        writer.record(record).unwrap();
    }
    let written = writer.finish().unwrap();
    (String::from_utf8(output).unwrap(), written)
}

fn sample() -> Vec<Record<'static>> {
    vec![
        record(
            "192.0.2.1/32",
            Some(600),
            Some("ssh,\n\"probes\" # all \\ day\u{1b}[31m"),
        ),
        record("192.0.2.9/32", Some(0), Some("over: 0 would be for good")),
        record("198.51.100.0/24", None, None),
        record("2001:db8::/32", Some(3600), Some("é")),
    ]
}

#[track_caller]
fn assert_written(format: Format, expected: &str) {
    let (text, written) = written(format, &sample());
    assert_eq!(text, expected);
    let expected = Written {
        records: 3,
        over: 1,
        ..Written::default()
    };
    assert_eq!(written, expected);
    assert_eq!(Format::detect(text.as_bytes()), format);
}

#[test]
fn plain_has_a_source_a_line() {
    assert_written(
        Format::Plain,
        "192.0.2.1 # ssh, \"probes\" # all \\ day [31m\n198.51.100.0/24\n2001:db8::/32 # é\n",
    );
}

#[test]
fn csv_has_a_header() {
    assert_written(
        Format::Csv,
        "source,created,expires,reason,cause,by,hits\n\
         192.0.2.1,2025-12-31T23:59:00.000Z,2026-01-01T00:10:00.000Z,\"ssh, \"\"probes\"\" # all \\ day [31m\",manual,root,7\n\
         198.51.100.0/24,2025-12-31T23:59:00.000Z,never,,manual,root,7\n\
         2001:db8::/32,2025-12-31T23:59:00.000Z,2026-01-01T01:00:00.000Z,é,manual,root,7\n",
    );
}

#[test]
fn json_is_what_the_list_command_prints() {
    assert_written(
        Format::Json,
        r#"[
{"source":"192.0.2.1/32","created":"2025-12-31T23:59:00.000Z","expires":"2026-01-01T00:10:00.000Z","cause":"manual","reason":"ssh,\n\"probes\" # all \\ day\u001b[31m","by":"root","hits":7},
{"source":"198.51.100.0/24","created":"2025-12-31T23:59:00.000Z","expires":null,"cause":"manual","reason":null,"by":"root","hits":7},
{"source":"2001:db8::/32","created":"2025-12-31T23:59:00.000Z","expires":"2026-01-01T01:00:00.000Z","cause":"manual","reason":"é","by":"root","hits":7}
]
"#,
    );
}

#[test]
fn ipset_creates_both_sets_before_it_adds() {
    assert_written(
        Format::Ipset,
        "create abuser4 hash:net family inet maxelem 4294967295 timeout 0 comment\n\
         create abuser6 hash:net family inet6 maxelem 4294967295 timeout 0 comment\n\
         add abuser4 192.0.2.1 timeout 600 comment \"ssh, 'probes' # all \\ day [31m\"\n\
         add abuser4 198.51.100.0/24 timeout 0\n\
         add abuser6 2001:db8::/32 timeout 3600 comment \"é\"\n",
    );
}

#[test]
fn ipset_gets_no_more_than_it_takes() {
    let long = "x".repeat(254) + "éé";
    let (text, written) = written(
        Format::Ipset,
        &[
            record("192.0.2.1/32", Some(2_147_484), Some(&long)),
            record("0.0.0.0/0", None, None),
            record("::/0", Some(5), None),
        ],
    );
    let lines: Vec<_> = text.lines().skip(2).collect();
    let cut = "x".repeat(254);
    assert_eq!(
        lines,
        [
            format!("add abuser4 192.0.2.1 timeout 2147483 comment \"{cut}\"").as_str(),
            "add abuser4 0.0.0.0/1 timeout 0",
            "add abuser4 128.0.0.0/1 timeout 0",
            "add abuser6 ::/1 timeout 5",
            "add abuser6 8000::/1 timeout 5",
        ]
    );
    assert_eq!((written.records, written.shortened), (3, 1));
}

#[test]
fn a_part_of_a_second_is_one() {
    let short = Record {
        expires: Some(now() + Duration::from_millis(1)),
        ..record("192.0.2.1/32", None, None)
    };
    for format in [Format::Ipset, Format::Nft, Format::Crowdsec] {
        let (text, _) = written(format, std::slice::from_ref(&short));
        assert_eq!(items(format, &text), [entry("192.0.2.1/32", secs(1), None)]);
    }
}

#[test]
fn crowdsec_gets_decisions() {
    assert_written(
        Format::Crowdsec,
        r#"[
{"duration":"600s","reason":"ssh,\n\"probes\" # all \\ day\u001b[31m","scope":"Ip","type":"ban","value":"192.0.2.1"},
{"duration":"6311520000s","scope":"Range","type":"ban","value":"198.51.100.0/24"},
{"duration":"3600s","reason":"é","scope":"Range","type":"ban","value":"2001:db8::/32"}
]
"#,
    );
}

#[test]
fn what_crowdsec_is_told_to_ban_for_good_is_for_good_when_time_has_passed() {
    let (text, _) = written(Format::Crowdsec, &[record("192.0.2.1/32", None, None)]);
    // Fifty years less.
    let later = text.replace("6311520000s", "1314900h0m0.5s");
    assert_ne!(later, text);
    let expected = entry("192.0.2.1/32", Expiry::Never, None);
    assert_eq!(items(Format::Crowdsec, &later), [expected]);
}

#[test]
fn nft_gets_commands() {
    assert_written(
        Format::Nft,
        r#"{"nftables": [
{"add": {"table": {"family": "inet", "name": "abuser"}}},
{"add": {"set": {"family": "inet", "table": "abuser", "name": "abuser4", "type": "ipv4_addr", "flags": ["interval", "timeout"]}}},
{"add": {"set": {"family": "inet", "table": "abuser", "name": "abuser6", "type": "ipv6_addr", "flags": ["interval", "timeout"]}}},
{"flush": {"set": {"family": "inet", "table": "abuser", "name": "abuser4"}}},
{"flush": {"set": {"family": "inet", "table": "abuser", "name": "abuser6"}}},
{"add": {"element": {"family": "inet", "table": "abuser", "name": "abuser4", "elem": [
{"elem":{"comment":"ssh, 'probes' # all \\ day [31m","timeout":600,"val":"192.0.2.1"}},
{"elem":{"val":{"prefix":{"addr":"198.51.100.0","len":24}}}}
]}}},
{"add": {"element": {"family": "inet", "table": "abuser", "name": "abuser6", "elem": [
{"elem":{"comment":"é","timeout":3600,"val":{"prefix":{"addr":"2001:db8::","len":32}}}}
]}}}
]}
"#,
    );
}

/// The elements as `VALUE LEFT`.
fn nft_elements(records: &[Record<'_>]) -> (Vec<String>, Written) {
    let (text, written) = written(Format::Nft, records);
    let document: Value = serde_json::from_str(&text).unwrap();
    let elements = document["nftables"].as_array().unwrap().iter();
    let elements = elements.filter_map(|command| command["add"]["element"]["elem"].as_array());
    let elements = elements.flatten().map(|element| {
        let (value, left) = (&element["elem"]["val"], &element["elem"]["timeout"]);
        let value = match (value, &value["prefix"], &value["range"]) {
            (Value::String(address), _, _) => address.clone(),
            (_, Value::Null, range) => format!(
                "{}-{}",
                range[0].as_str().unwrap(),
                range[1].as_str().unwrap()
            ),
            (_, prefix, _) => format!("{}/{}", prefix["addr"].as_str().unwrap(), prefix["len"]),
        };
        left.as_u64()
            .map_or_else(|| value.clone(), |left| format!("{value} {left}"))
    });
    (elements.collect(), written)
}

#[test]
fn nft_elements_never_overlap() {
    let (elements, written) = nft_elements(&[
        record("192.0.2.0/24", Some(60), None),
        record("192.0.2.0/32", Some(600), None),
        record("192.0.2.1/32", Some(60), None),
        record("192.0.2.8/29", Some(600), None),
        record("192.0.2.10/32", None, None),
        record("192.0.2.11/32", Some(600), None),
        record("192.0.2.255/32", None, None),
        record("192.0.3.0/32", None, None),
        record("ffff::/16", Some(60), None),
        record("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", None, None),
    ]);
    assert_eq!(
        elements,
        [
            "192.0.2.0 600",
            "192.0.2.1-192.0.2.7 60",
            "192.0.2.8-192.0.2.9 600",
            "192.0.2.10",
            "192.0.2.11-192.0.2.15 600",
            "192.0.2.16-192.0.2.254 60",
            "192.0.2.255",
            "192.0.3.0",
            "ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 60",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ]
    );
    assert_eq!((written.records, written.covered), (8, 2));
    let (elements, _) = nft_elements(&[
        record("0.0.0.0/0", Some(60), None),
        record("0.0.0.0/1", Some(61), None),
        record("128.0.0.0/1", Some(62), None),
        record("::/0", None, None),
    ]);
    assert_eq!(elements, ["0.0.0.0/1 61", "128.0.0.0/1 62", "::/0"]);
}

#[test]
fn nft_needs_the_order_of_the_sources() {
    let mut writer = Writer::new(Format::Nft, Vec::new(), now()).unwrap();
    writer.record(&record("192.0.2.0/24", None, None)).unwrap();
    let error = writer
        .record(&record("192.0.0.0/16", None, None))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "nft's list is written in the order of the sources, but 192.0.0.0/16 came after \
         192.0.2.0/24"
    );
}

#[test]
fn fail2ban_is_not_written_and_says_what_to_do() {
    let error = Writer::new(Format::Fail2ban, Vec::new(), now())
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(error.contains("--format plain"), "{error}");
    assert!(error.contains("fail2ban-client set JAIL banip"), "{error}");
}

#[test]
fn lists_of_nobody_are_lists() {
    for (name, format) in Format::ALL {
        if format == Format::Fail2ban {
            continue;
        }
        let (text, written) = written(format, &[record("192.0.2.1/32", Some(0), None)]);
        assert_eq!((written.records, written.over), (0, 1), "{name}");
        assert_eq!(items(format, &text), [], "{text}");
        if text.starts_with(['[', '{']) {
            serde_json::from_str::<Value>(&text).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let begun = Writer::new(Format::Ipset, Full, now());
    assert_eq!(begun.err().unwrap().kind(), std::io::ErrorKind::StorageFull);
    let mut plain = Writer::new(Format::Plain, Full, now()).unwrap();
    let error = plain
        .record(&record("192.0.2.1/32", None, None))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn times_that_no_calendar_has_are_written_as_ones_that_it_has() {
    let far = Record {
        created: Some(UNIX_EPOCH - Duration::from_secs(9_999_999_999)),
        expires: Some(now() + Duration::from_secs(1 << 40)),
        ..record("192.0.2.1/32", None, None)
    };
    for (name, format) in Format::ALL {
        if format != Format::Fail2ban {
            let (text, written) = written(format, std::slice::from_ref(&far));
            assert_eq!(written.records, 1, "{name}");
            assert_eq!(shorts(format, &text), ["192.0.2.1/32"], "{text}");
        }
    }
}
