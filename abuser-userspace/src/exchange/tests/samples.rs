//! Real lists of every format.

use std::io::{BufReader, Cursor};

use super::*;

const PLAIN: &str = "\u{feff}; Spamhaus DROP List 2026/01/01\r\n\
    # by hand\r\n\
    \r\n\
    192.0.2.1\r\n\
    198.51.100.0/24 ; SBL256894\r\n\
    203.0.113.4-203.0.113.6\t# scans # all day\r\n\
    \x20 2001:db8::/32\r\n\
    ::ffff:192.0.2.9 #\r\n\
    192.0.2.77";

const CSV: &str = "\u{feff}Source,created,Expires,reason,cause,by,hits\r\n\
    # as abuser writes it\r\n\
    192.0.2.1,2025-12-31T00:00:00.000Z,2026-11-24T12:00:00.123Z,\"ssh, and \"\"more\"\"\",manual,root,7\r\n\
    192.0.2.0/24,,never,,limit,,0\r\n\
    2001:db8::1,,,x\r\n";

const CSV_DURATIONS: &str =
    "duration,scope,value\n24h,ip,192.0.2.1\n-1,ip,192.0.2.2\n,ip,192.0.2.3\n0,ip,192.0.2.4\n";

const JSON: &str = r#"[
  {
    "id": 1,
    "source": "192.0.2.1/32",
    "created": "2025-12-31T00:00:00.000Z",
    "expires": "2026-11-24T12:00:00.000Z",
    "remaining_seconds": 600,
    "cause": "manual",
    "limit": null,
    "reason": "port scan",
    "by": "root",
    "hits": 7
  },
  {"id": 2, "source": "2001:db8::/64", "expires": null, "reason": null},
  "198.51.100.7", {"ip": "198.51.100.8"}, {"ip": "198.51.100.9", "duration": "1h"}
]
"#;

const NDJSON: &str = r#"{"source":"192.0.2.1/32","expires":null,"reason":"a"}
{"source":"192.0.2.2/32","expires":"2026-11-24T12:00:00Z"}

{
  "source": "192.0.2.3/32"
}
"#;

const IPSET: &str = r#"create good hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0xa7e4c733
add good 192.0.2.1
create abuser4 hash:net family inet hashsize 1024 maxelem 65536 timeout 300 counters comment bucketsize 12 initval 0xa7e4c734
add abuser4 198.51.100.0/24 timeout 0 packets 0 bytes 0 comment "x y"
add abuser4 192.0.2.2 timeout 3599 packets 1 bytes 64 comment "C:\new\ # add "x" 192.0.2.9"
add abuser4 192.0.2.3
create abuser6 hash:net family inet6 hashsize 1024 maxelem 1048576 timeout 0
add abuser6 2001:db8::/32 timeout 29
create wide hash:ip family inet hashsize 1024 maxelem 65536 netmask 24
add wide 203.0.113.0
"#;

/// `nft -j list ruleset`, less some of its chains.
const NFT: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}, {"table": {"family": "inet", "name": "filter", "handle": 1}}, {"set": {"family": "inet", "name": "banned4", "table": "filter", "type": "ipv4_addr", "handle": 2, "flags": ["interval", "timeout"], "timeout": 3600, "elem": [{"elem": {"val": "192.0.2.1", "timeout": 7200, "expires": 7199, "comment": "ssh \\\\ probes"}}, {"elem": {"val": {"prefix": {"addr": "198.51.100.0", "len": 24}}, "expires": 3599}}, {"elem": {"val": {"range": ["203.0.113.4", "203.0.113.6"]}, "timeout": 30, "expires": 29}}, {"elem": {"val": "203.0.113.77", "expires": 0, "comment": "x"}}]}}, {"set": {"family": "inet", "name": "plain4", "table": "filter", "type": "ipv4_addr", "handle": 3, "elem": ["192.0.2.7", "192.0.2.8"]}}, {"set": {"family": "inet", "name": "b6", "table": "filter", "type": "ipv6_addr", "handle": 4, "flags": ["interval"], "elem": [{"prefix": {"addr": "2001:db8::", "len": 32}}, "2001:db9::1"]}}, {"set": {"family": "inet", "name": "ports", "table": "filter", "type": "inet_service", "handle": 5, "elem": [22, 80]}}, {"set": {"family": "inet", "name": "cc", "table": "filter", "type": ["ipv4_addr", "inet_service"], "handle": 6, "elem": [{"concat": ["192.0.2.1", 22]}]}}, {"set": {"family": "inet", "name": "c2", "table": "filter", "type": "ipv4_addr", "handle": 8, "flags": ["timeout"], "elem": [{"elem": {"val": "192.0.2.99", "timeout": 86400, "counter": {"packets": 0, "bytes": 0}}}], "stmt": [{"counter": null}]}}, {"map": {"family": "inet", "name": "m", "table": "filter", "type": "ipv4_addr", "handle": 9, "map": "verdict", "elem": [["192.0.2.1", {"drop": null}]]}}, {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}, {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 10, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@banned4"}}, {"drop": null}]}}]}
"#;

const CROWDSEC: &str = r#"[
 {
  "capacity": 0,
  "created_at": "2026-01-01T00:00:00Z",
  "decisions": [
   {
    "duration": "3h59m49.123456s",
    "id": 1,
    "origin": "cscli",
    "scenario": "manual 'ban' from 'host'",
    "scope": "Ip",
    "simulated": false,
    "type": "ban",
    "value": "192.0.2.1"
   },
   {"duration": "-1m0.5s", "scenario": "crowdsecurity/ssh-bf", "scope": "ip", "type": "ban", "value": "192.0.2.2"},
   {"duration": "876600h0m0s", "scenario": "crowdsecurity/ssh-bf", "scope": "range", "type": "ban", "value": "198.51.100.0/24"},
   {"duration": "4h", "scenario": "a", "scope": "Ip", "type": "captcha", "value": "192.0.2.3"},
   {"duration": "4h", "scenario": "a", "scope": "Country", "type": "ban", "value": "FR"},
   {"duration": "4h", "scenario": "a", "scope": "Ip", "simulated": true, "type": "ban", "value": "192.0.2.4"}
  ],
  "events": null,
  "id": 2,
  "scenario": "manual 'ban' from 'host'",
  "source": {"scope": "Ip", "value": "192.0.2.1"}
 },
 {"decisions": null, "scenario": "x"}
]"#;

const CROWDSEC_API: &str = r#"{"deleted":[{"duration":"-2h","scope":"Ip","type":"ban","value":"192.0.2.8"}],"new":[{"duration":"1h","id":9,"origin":"CAPI","scenario":"ssh:bruteforce","scope":"Ip","type":"ban","uuid":"x","value":"2001:db8::1"}]}"#;

const CROWDSEC_IMPORT: &str = r#"[{"duration" : "4h", "scope" : "ip", "type" : "ban", "value" : "192.0.2.4", "reason": "mine"}, {"value": "192.0.2.5"}]"#;

#[test]
fn every_sample_is_known_for_what_it_is() {
    for (text, format) in [
        (PLAIN, Format::Plain),
        ("", Format::Plain),
        ("192.0.2.1, and more", Format::Plain),
        (CSV, Format::Csv),
        (CSV_DURATIONS, Format::Csv),
        ("ip\n192.0.2.1\n", Format::Csv),
        ("\"country\",\"IP\"\n", Format::Csv),
        (JSON, Format::Json),
        (NDJSON, Format::Json),
        ("[]", Format::Json),
        ("\r\n[\"192.0.2.1\"]", Format::Json),
        (
            r#"[{"source": "192.0.2.1", "reason": "\"nftables\""}]"#,
            Format::Json,
        ),
        (IPSET, Format::Ipset),
        ("# Generated by hand\nadd x 192.0.2.1", Format::Ipset),
        (NFT, Format::Nft),
        (CROWDSEC, Format::Crowdsec),
        (CROWDSEC_API, Format::Crowdsec),
        (r#"{"deleted":null,"new":null}"#, Format::Crowdsec),
        (CROWDSEC_IMPORT, Format::Crowdsec),
        ("null\n", Format::Crowdsec),
    ] {
        assert_eq!(Format::detect(text.as_bytes()), format, "{text}");
        // Also by its beginning, wherever that ends.
        let beginning = text.as_bytes().get(..400).unwrap_or(text.as_bytes());
        assert_eq!(Format::detect(beginning), format, "{text}");
    }
    assert_eq!(Format::detect(b"SQLite format 3\0\x10\0"), Format::Fail2ban);
}

#[test]
fn formats_have_names() {
    for (name, format) in Format::ALL {
        assert_eq!(name.parse(), Ok(format));
        assert_eq!(format.to_string(), name);
    }
    let error = "xml".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.contains("\"xml\" is no format; write plain, csv"),
        "{error}"
    );
}

#[test]
fn plain_lists_have_a_source_a_line_and_reasons() {
    let unsaid = Expiry::Unsaid;
    assert_eq!(
        items(Format::Plain, PLAIN),
        [
            entry("192.0.2.1/32", unsaid, None),
            entry("198.51.100.0/24", unsaid, Some("SBL256894")),
            entry("203.0.113.4/31", unsaid, Some("scans # all day")),
            entry("203.0.113.6/32", unsaid, Some("scans # all day")),
            entry("2001:db8::/32", unsaid, None),
            entry("192.0.2.9/32", unsaid, None),
            entry("192.0.2.77/32", unsaid, None),
        ]
    );
}

#[test]
fn csv_tells_an_end_or_how_long() {
    assert_eq!(
        items(Format::Csv, CSV),
        [
            entry(
                "192.0.2.1/32",
                at("2026-11-24T12:00:00.123Z"),
                Some("ssh, and \"more\"")
            ),
            entry("192.0.2.0/24", Expiry::Never, None),
            entry("2001:db8::1/128", Expiry::Unsaid, Some("x")),
        ]
    );
    assert_eq!(
        items(Format::Csv, CSV_DURATIONS),
        [
            entry("192.0.2.1/32", secs(86_400), None),
            entry("192.0.2.2/32", Expiry::Never, None),
            entry("192.0.2.3/32", Expiry::Unsaid, None),
            Item::Expired,
        ]
    );
}

#[test]
fn json_is_an_array_or_an_object_a_line() {
    assert_eq!(
        items(Format::Json, JSON),
        [
            entry(
                "192.0.2.1/32",
                at("2026-11-24T12:00:00Z"),
                Some("port scan")
            ),
            entry("2001:db8::/64", Expiry::Never, None),
            entry("198.51.100.7/32", Expiry::Unsaid, None),
            entry("198.51.100.8/32", Expiry::Unsaid, None),
            entry("198.51.100.9/32", secs(3600), None),
        ]
    );
    assert_eq!(
        items(Format::Json, NDJSON),
        [
            entry("192.0.2.1/32", Expiry::Never, Some("a")),
            entry("192.0.2.2/32", at("2026-11-24T12:00:00Z"), None),
            entry("192.0.2.3/32", Expiry::Unsaid, None),
        ]
    );
    assert_items(
        Format::Json,
        "\"192.0.2.1\"\n\"192.0.2.2\"\n",
        &["192.0.2.1/32", "192.0.2.2/32"],
    );
    assert_items(
        Format::Json,
        "[\"192.0.2.1\"]\n[]\n[\"192.0.2.2\"]",
        &["192.0.2.1/32", "192.0.2.2/32"],
    );
    for nothing in ["", " \n", "null", "[]", "\u{feff}[]\r\n"] {
        assert_items(Format::Json, nothing, &[]);
    }
}

#[test]
fn ipset_elements_hold_as_their_set_says() {
    assert_eq!(
        items(Format::Ipset, IPSET),
        [
            entry("192.0.2.1/32", Expiry::Never, None),
            entry("198.51.100.0/24", Expiry::Never, Some("x y")),
            // As ipset saves it: a comment ends with the last quotation mark, and `\` is no escape.
            entry(
                "192.0.2.2/32",
                secs(3599),
                Some("C:\\new\\ # add \"x\" 192.0.2.9")
            ),
            entry("192.0.2.3/32", secs(300), None),
            entry("2001:db8::/32", secs(29), None),
            entry("203.0.113.0/24", Expiry::Never, None),
        ]
    );
    assert_items(
        Format::Ipset,
        "add nobody-knows 192.0.2.1 comment word\n",
        &["192.0.2.1/32"],
    );
}

#[test]
fn nft_elements_hold_for_what_is_left_of_them() {
    let found = items(Format::Nft, NFT);
    let (entries, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|item| matches!(item, Item::Entry(_)));
    assert_eq!(
        entries,
        [
            entry("192.0.2.1/32", secs(7199), Some("ssh \\\\ probes")),
            entry("198.51.100.0/24", secs(3599), None),
            entry("203.0.113.4/31", secs(29), None),
            entry("203.0.113.6/32", secs(29), None),
            entry("192.0.2.7/32", Expiry::Never, None),
            entry("192.0.2.8/32", Expiry::Never, None),
            entry("2001:db8::/32", Expiry::Never, None),
            entry("2001:db9::1/128", Expiry::Never, None),
            entry("192.0.2.99/32", secs(86_400), None),
        ]
    );
    let others: Vec<_> = others.iter().map(short).collect();
    assert_eq!(
        others,
        [
            "expired",
            "9: sets of type \"inet_service\" cannot be carried over, only ipv4_addr and \
             ipv6_addr; its elements are left out",
            "9: sets of type [\"ipv4_addr\", \"inet_service\"] cannot be carried over, only \
             ipv4_addr and ipv6_addr; its elements are left out",
            "10: maps cannot be carried over, only sets; its elements are left out",
        ]
    );
}

#[test]
fn crowdsec_lists_alerts_decisions_or_changes() {
    let found = items(Format::Crowdsec, CROWDSEC);
    let left = Expiry::In(Duration::from_micros(14_389_123_456));
    assert_eq!(
        found[0],
        entry("192.0.2.1/32", left, Some("manual 'ban' from 'host'"))
    );
    assert_eq!(found[1], Item::Expired);
    assert_eq!(
        found[2],
        entry(
            "198.51.100.0/24",
            Expiry::Never,
            Some("crowdsecurity/ssh-bf")
        )
    );
    let others: Vec<_> = found[3..].iter().map(short).collect();
    assert_eq!(
        others,
        [
            "4: decisions of type \"captcha\" cannot be carried over, only ban",
            "5: decisions about a scope such as \"Country\" cannot be carried over, only about Ip \
             and Range",
            "6: the decision is simulated: it bans nobody",
        ]
    );
    assert_eq!(
        items(Format::Crowdsec, CROWDSEC_API),
        [entry("2001:db8::1/128", secs(3600), Some("ssh:bruteforce"))]
    );
    assert_eq!(
        items(Format::Crowdsec, CROWDSEC_IMPORT),
        [
            entry("192.0.2.4/32", secs(14_400), Some("mine")),
            entry("192.0.2.5/32", Expiry::Unsaid, None),
        ]
    );
    for nothing in ["null", "[]", r#"{"deleted":null,"new":null}"#, ""] {
        assert_items(Format::Crowdsec, nothing, &[]);
    }
}

#[test]
fn crowdsec_durations_are_gos() {
    for (duration, nanoseconds) in [
        ("1.5h", 5_400_000_000_000),
        ("1h30m.5s", 5_400_500_000_000),
        ("+1m0s", 60_000_000_000),
        ("2d", 172_800_000_000_000),
        ("1.0000000009s", 1_000_000_000),
        ("100\u{b5}s1us1\u{3bc}s1ms1ns", 1_102_001),
    ] {
        let text = format!(r#"[{{"scope":"Ip","value":"192.0.2.1","duration":"{duration}"}}]"#);
        let expected = Expiry::In(Duration::from_nanos(nanoseconds));
        assert_eq!(
            items(Format::Crowdsec, text),
            [entry("192.0.2.1/32", expected, None)],
            "{duration}"
        );
    }
    for duration in [
        "",
        "-",
        "h",
        ".s",
        "1",
        "1h1",
        "1y",
        "-5",
        "999999999999999999999999999999999999h",
    ] {
        let text = format!(r#"[{{"scope":"Ip","value":"192.0.2.1","duration":"{duration}"}}]"#);
        assert_items(Format::Crowdsec, text, &["1: \""]);
    }
}

#[test]
fn what_is_large_is_handed_on_before_its_end() {
    // An error of reading in the middle: what came before was told already.
    for (format, text, expected) in [
        (Format::Plain, PLAIN, 7),
        (Format::Json, "[\"192.0.2.1\", \"192.0.2.2\",", 2),
        (Format::Nft, &NFT[..2000], 13),
        (Format::Crowdsec, CROWDSEC_IMPORT, 2),
    ] {
        let mut found = 0;
        let broken = tests_io::Broken(Cursor::new(text));
        let error = read(format, &mut BufReader::new(broken), &mut |_| found += 1).unwrap_err();
        assert_eq!(error.to_string(), "the disk is on fire", "{format}");
        assert!(found >= expected - 1, "{format}: {found}");
    }
}

mod tests_io {
    use std::io::{self, Cursor, Read};

    /// Fails where the text ends.
    pub(super) struct Broken(pub(super) Cursor<&'static str>);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the disk is on fire")),
                read => Ok(read),
            }
        }
    }
}
