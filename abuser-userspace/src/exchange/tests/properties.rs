//! What is written reads again; and nothing makes a reader panic.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::{collection::vec, option, prelude::*};

use super::{
    written::{record, written},
    *,
};
use crate::exchange::Record;

fn source() -> impl Strategy<Value = IpNet> {
    // Few bits that differ, so that many lie within each other.
    let v4 = (0_u32..64, 24_u8..=32).prop_map(|(bits, length)| {
        IpNet::V4(Ipv4Net::new_assert((0xc000_0200 + bits * 4).into(), length).trunc())
    });
    let v6 = (any::<u128>(), 1_u8..=128)
        .prop_map(|(bits, length)| IpNet::V6(Ipv6Net::new_assert(bits.into(), length).trunc()))
        // Those are read as IPv4, as they travel.
        .prop_filter(
            "mapped",
            |source| !matches!(source, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some()),
        );
    prop_oneof![v4, v6]
}

fn reason() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![
        "[a-z\"'#;,\\\\\r\n\t {}\\[\\]:-]{0,20}",
        "\\PC{0,40}",
        any::<String>(),
        "é{100,200}",
    ])
}

/// Bans by their source: how long, and why.
fn bans() -> impl Strategy<Value = BTreeMap<IpNet, (Option<u64>, Option<String>)>> {
    let left = option::of(1_u64..2_000_000_000);
    vec((source(), (left, reason())), 0..20).prop_map(|bans| bans.into_iter().collect())
}

/// `reason` as a format of lines has it, without quotation marks if it has none.
fn line(reason: Option<&str>, longest: usize, quotes: bool) -> Option<String> {
    let mut line: String = reason?
        .chars()
        .map(|c| match c {
            '"' if !quotes => '\'',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    line = line.trim().to_owned();
    while line.len() > longest {
        line.pop();
    }
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn trimmed(reason: Option<&str>) -> Option<String> {
    let reason = reason?.trim();
    (!reason.is_empty()).then(|| reason.to_owned())
}

proptest! {
    #[test]
    fn what_is_written_reads_again(bans in bans()) {
        let sources: Vec<String> = bans.keys().map(ToString::to_string).collect();
        let records: Vec<Record<'_>> = bans
            .values()
            .zip(&sources)
            .map(|((left, reason), source)| record(source, *left, reason.as_deref()))
            .collect();
        let expected = |format: Format| -> Vec<Item> {
            records
                .iter()
                .map(|record| {
                    let left = record.expires.map(|end| end.duration_since(now()).unwrap());
                    let expires = match (format, left) {
                        (Format::Plain, _) => Expiry::Unsaid,
                        (_, None) => Expiry::Never,
                        (Format::Csv | Format::Json, Some(left)) => Expiry::At(now() + left),
                        (Format::Ipset, Some(left)) => {
                            Expiry::In(left.min(Duration::from_secs(2_147_483)))
                        }
                        (_, Some(left)) => Expiry::In(left),
                    };
                    let reason = match format {
                        Format::Plain | Format::Csv => line(record.reason, 1000, true),
                        Format::Ipset => line(record.reason, 255, false),
                        _ => trimmed(record.reason),
                    };
                    entry(&record.source.to_string(), expires, reason.as_deref())
                })
                .collect()
        };
        for format in [Format::Plain, Format::Csv, Format::Json, Format::Ipset, Format::Crowdsec] {
            let (text, _) = written(format, &records);
            prop_assert_eq!(items(format, &text), expected(format), "{}", text);
            let lists_anybody = !records.is_empty();
            if lists_anybody {
                prop_assert_eq!(Format::detect(text.as_bytes()), format, "{}", text);
            }
        }
    }

    /// The set holds an address as long as the ban that holds it longest, and is told it once.
    #[test]
    fn nft_holds_what_the_bans_hold(bans in bans(), probe in source()) {
        let sources: Vec<String> = bans.keys().map(ToString::to_string).collect();
        let records: Vec<Record<'_>> = bans
            .values()
            .zip(&sources)
            .map(|((left, reason), source)| record(source, *left, reason.as_deref()))
            .collect();
        let (text, _) = written(Format::Nft, &records);
        prop_assert_eq!(Format::detect(text.as_bytes()), Format::Nft);
        let read: Vec<(IpNet, u64, Option<String>)> = items(Format::Nft, &text)
            .into_iter()
            .map(|item| match item {
                Item::Entry(Entry { source, expires: Expiry::Never, reason, .. }) => (source, u64::MAX, reason),
                Item::Entry(Entry { source, expires: Expiry::In(left), reason, .. }) => (source, left.as_secs(), reason),
                other => panic!("{other:?}"),
            })
            .collect();
        for pair in read.windows(2) {
            prop_assert!(
                !pair[0].0.contains(&pair[1].0) && !pair[1].0.contains(&pair[0].0) && pair[0].0 < pair[1].0,
                "{:?}", pair
            );
        }
        let ends = sources.iter().map(|source| source.parse::<IpNet>().unwrap());
        let probes = ends.flat_map(|source| [source.network(), source.broadcast()]);
        for address in probes.chain([probe.addr()]) {
            let longest = bans
                .iter()
                .filter(|(source, _)| source.contains(&address))
                .map(|(_, (left, _))| left.unwrap_or(u64::MAX))
                .max();
            let found: Vec<_> = read.iter().filter(|(source, ..)| source.contains(&address)).collect();
            prop_assert_eq!(found.first().map(|found| found.1), longest, "{}", address);
            prop_assert!(found.len() <= 1);
            if let Some((_, left, reason)) = found.first() {
                let is_of_a_ban = bans.iter().any(|(source, (of, why))| {
                    source.contains(&address)
                        && of.unwrap_or(u64::MAX) == *left
                        && line(why.as_deref(), 128, false) == *reason
                });
                prop_assert!(is_of_a_ban, "{}", address);
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        bytes in prop_oneof![vec(any::<u8>(), 0..300), "\\PC{0,200}".prop_map(String::into_bytes)],
    ) {
        let format = Format::detect(&bytes);
        prop_assert_ne!(format, Format::Fail2ban);
        for (_, format) in Format::ALL {
            if format != Format::Fail2ban {
                items(format, &bytes);
            }
        }
    }

    /// Pieces of every format, in any order: further in than arbitrary bytes come.
    #[test]
    fn no_pieces_make_a_reader_panic(pieces in vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\n", "\r\n", " ", "\\", "\0", "\u{feff}", "null", "-", ".", "/",
        "\"nftables\":[", "\"set\":{", "\"elem\":[", "\"type\":", "\"ipv4_addr\"", "\"timeout\":", "\"expires\":",
        "\"val\":", "\"prefix\":{", "\"range\":[", "\"decisions\":[", "\"new\":", "\"value\":", "\"scope\":", "\"ip\"",
        "\"duration\":", "\"1h\"", "\"-9.9s\"", "1e999", "99999999999999999999", "\"source\":", "\"2026-02-30T00:00:00Z\"",
        "create a ", "hash:ip ", "add a ", "timeout ", "comment ", "netmask ", "nomatch", "source,expires\n", "192.0.2.1",
        "\"192.0.2.1\"", "0.0.0.0", "255.255.255.255", "::", "ffff::", "/24", "#", ";", "18446744073709551615", "never",
    ]), 0..40)) {
        let text = pieces.concat();
        for (_, format) in Format::ALL {
            if format != Format::Fail2ban {
                items(format, &text);
            }
        }
    }
}
