//! What cannot be read is told with its number, and takes nothing else with it.

use super::*;

#[test]
fn a_bad_line_is_told_with_its_number_and_beginning() {
    let text = "192.0.2.1\n\nnonsense # why\n192.0.2.1/24\n192.0.2.9-192.0.2.1\n192.0.2.1-::1\n192.0.2.1-x\n192.0.2.2\n";
    assert_items(
        Format::Plain,
        text,
        &[
            "192.0.2.1/32",
            "3: \"nonsense\" is not an IP address",
            "4: 192.0.2.1/24 has host bits set; write 192.0.2.0/24, or 192.0.2.1",
            "5: the range ends before it begins",
            "6: the range begins in one family and ends in the other",
            "7: \"x\" is not an address",
            "192.0.2.2/32",
        ],
    );
    let Item::Bad(bad) = &items(Format::Plain, text)[1] else {
        panic!();
    };
    assert_eq!(bad.text, "nonsense # why");
}

#[test]
fn ranges_of_everything_are_few_prefixes() {
    assert_items(Format::Plain, "0.0.0.0-255.255.255.255", &["0.0.0.0/0"]);
    assert_items(
        Format::Plain,
        "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &["::/0"],
    );
    let worst = shorts(Format::Plain, "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
    assert_eq!(worst.len(), 254);
    let worst = shorts(Format::Plain, "0.0.0.1-255.255.255.254");
    assert_eq!(worst.len(), 62);
}

#[test]
fn what_is_no_text_costs_its_line() {
    let long = "1".repeat(10 << 20);
    let text = [
        b"192.0.2.1\n\xff\xfe\n192.0.2.2\0\n".as_slice(),
        long.as_bytes(),
        b"\n192.0.2.3",
    ]
    .concat();
    assert_items(
        Format::Plain,
        &text,
        &[
            "192.0.2.1/32",
            "2: the line is not UTF-8",
            "3: the line has a NUL byte",
            "4: the line is longer than 65536 bytes",
            "192.0.2.3/32",
        ],
    );
    let text = [
        b"add x 192.0.2.1\n\xff\nadd x 192.0.2.2 comment \"".as_slice(),
        long.as_bytes(),
    ]
    .concat();
    assert_items(
        Format::Ipset,
        &text,
        &[
            "192.0.2.1/32",
            "2: the line is not UTF-8",
            "3: the line is longer",
        ],
    );
}

#[test]
fn csv_needs_a_header_and_a_source() {
    assert_items(
        Format::Csv,
        "source,expires,duration\n,never,\n192.0.2.1,soon,\n192.0.2.2,,5 parsecs\nx,,\n\"192.0.2.3,\n192.0.2.4\n",
        &[
            "2: it names no source",
            "3: \"soon\" is no time; write one such as 2026-11-24T12:00:00Z",
            "4: \"parsecs\" is not a unit of time",
            "5: \"x\" is not an IP address",
            // A quotation mark that nobody closed.
            "6: \"192.0.2.3,\" is not an IP address",
            "192.0.2.4/32",
        ],
    );
    assert_items(
        Format::Csv,
        "192.0.2.1,x\n192.0.2.2,y\n",
        &["1: the header has none of the columns source, ip, address, prefix, value; nothing"],
    );
}

#[test]
fn json_elements_that_are_none_cost_only_themselves() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let text = format!(
        "[7, {{\"name\": 1}}, \"x\", {{\"source\": \"192.0.2.1\", \"expires\": 7}}, \
         {{\"source\": \"192.0.2.2\", \"expires\": \"x\"}}, {{\"source\": \"192.0.2.3\", \
         \"hits\": 1e999}}, {deep}, {{\"ip\": \"192.0.2.4\", \"duration\": 5}}, null, \
         \"\\ud800\", \"192.0.2.5\"]"
    );
    assert_items(
        Format::Json,
        text,
        &[
            "1: neither a text nor an object with a `source`",
            "2: neither a text nor an object with a `source`",
            "3: \"x\" is not an IP address",
            "4: `expires` is no text",
            "5: \"x\" is no time",
            "6: number out of range",
            "7: recursion limit exceeded",
            "8: `duration` is no text",
            "9: neither a text nor an object with a `source`",
            "10: unexpected end of hex escape",
            "192.0.2.5/32",
        ],
    );
}

#[test]
fn json_that_breaks_counts_up_to_there() {
    for (format, text, expected) in [
        (
            Format::Json,
            "\n\n[\"192.0.2.1\",\n\"192.0.2.2\n",
            "4: the JSON breaks here: control character",
        ),
        (
            Format::Json,
            "[\"192.0.2.1\",",
            "1: the JSON breaks here: EOF while parsing a",
        ),
        (
            Format::Json,
            "[\"192.0.2.1\",\n}",
            "2: the JSON breaks here: ",
        ),
        (
            Format::Json,
            "[\"192.0.2.1\"]\nx",
            "2: the JSON breaks here: expected value",
        ),
        (
            Format::Nft,
            "{\"nftables\":[{\"set\":{\"type\":\"ipv4_addr\",\"elem\":[\"192.0.2.1\",\n",
            "1: the JSON breaks here: EOF",
        ),
        (
            Format::Crowdsec,
            "[{\"value\":\"192.0.2.1\"},\n{\"value\":",
            "2: the JSON breaks here: EOF",
        ),
    ] {
        assert_items(format, text, &["192.0.2.1/32", expected]);
    }
    assert_items(
        Format::Json,
        b"[\"192.0.2.1\",\n\"\xff\"]",
        &["192.0.2.1/32", "2: the JSON breaks here: "],
    );
    for (format, text) in [
        (Format::Nft, "[]"),
        (Format::Nft, "7"),
        (Format::Nft, "{\"nftables\": 7}"),
    ] {
        assert_items(format, text, &["1: the JSON breaks here: invalid type"]);
    }
}

#[test]
fn a_broken_object_of_one_a_line_costs_its_line() {
    let cut = format!("{{\"source\": \"{}", "x\n".repeat(100_000));
    let text = format!(
        "{{\"source\": \"192.0.2.1\"}}\n{{\"source\": \"192.0.\n{{\"source\": \"192.0.2.2\"}}\n\
         {cut}\n{{\"source\": \"192.0.2.3\"}} {{\"source\": \"192.0.2.4\"}}"
    );
    assert_items(
        Format::Json,
        text,
        &[
            "192.0.2.1/32",
            "2: control character",
            "192.0.2.2/32",
            "4: the record is longer than 65536 bytes",
            "192.0.2.3/32",
            "192.0.2.4/32",
        ],
    );
    assert_items(
        Format::Json,
        "\n\n{\"source\": \"x\"}\n",
        &["3: \"x\" is not an IP address"],
    );
}

#[test]
fn ipset_lines_that_are_none_cost_only_themselves() {
    let text = "# \"\ncreate ports bitmap:port range 1-9\nadd ports 1\nadd ports 2\ncreate x hash:net timeout x\n\
        add x 192.0.2.1\ncreate y hash:ip bitmask 255.0.255.0\nadd y 192.0.2.1\n\
        create z hash:ip netmask x\nadd z 192.0.2.1\n\
        create a hash:net\nadd a 192.0.2.0/24 nomatch\nadd a 192.0.2.1 timeout\nadd a 192.0.2.1 timeout 99999999999999999999\n\
        add a 192.0.2.1 comment \"x\nswap a b\nadd a\nadd a 192.0.2.1 timeout 18446744073709551615\nflush a\nCOMMIT\n";
    assert_items(
        Format::Ipset,
        text,
        &[
            "2: sets of type bitmap:port cannot be carried over, only hash:ip and hash:net; its elements are left out",
            "5: the timeout is not a number of seconds; the elements of the set are left out",
            "7: a set with a bitmask cannot be carried over; its elements are left out",
            "9: \"x\" is no netmask; the elements of the set are left out",
            "12: abuser has no exceptions within a ban: put the prefix on the allow list instead",
            "13: the timeout is not a number of seconds",
            "14: the timeout is not a number of seconds",
            "15: the quotation mark is not closed",
            "16: neither `create` nor `add` of an ipset",
            "17: neither `create` nor `add` of an ipset",
            "192.0.2.1/32",
        ],
    );
}

#[test]
fn nft_elements_that_are_none_cost_only_themselves() {
    let text = r#"{"nftables": [{"set": {"elem": ["192.0.2.1", 22, {"concat": ["192.0.2.1", 22]},
        {"prefix": {"addr": "192.0.2.0", "len": 99}}, {"range": ["192.0.2.9", "192.0.2.1"]}, {"range": []},
        {"elem": {"val": "192.0.2.2", "expires": -1}}, {"elem": {}}, {"elem": {"val": "192.0.2.3", "timeout": 1e999}},
        {"elem": {"val": "192.0.2.4", "timeout": 0}}], "name": "late", "type": "ether_addr"}},
        {"add": {"element": {"name": "x", "elem": "192.0.2.5"}}}, {"create": {"element": {"elem": {"prefix": {"addr": "::", "len": 8}}}}},
        {"add": {"element": {"elem": true}}}, {"delete": {"element": {"elem": ["192.0.2.6"]}}},
        {"set": {"elem": null}}]}"#;
    assert_items(
        Format::Nft,
        text,
        &[
            "192.0.2.1/32",
            "2: neither an address, a prefix nor a range of addresses",
            "3: neither an address, a prefix nor a range of addresses",
            "4: \"99\" is not a prefix length",
            "5: the range ends before it begins",
            "6: neither an address",
            "7: `expires` is not a number of seconds",
            "8: neither an address",
            "9: number out of range",
            "192.0.2.4/32",
            "11: sets of type \"ether_addr\" cannot be carried over",
            "192.0.2.5/32",
            "::/8",
            "13: neither an address",
        ],
    );
}

#[test]
fn crowdsec_decisions_that_are_none_cost_only_themselves() {
    let text = r#"[7, "x", true, -1, 0.5, {}, {"value": 7}, {"value": "x"}, {"value": "192.0.2.1", "scope": []},
        {"value": "192.0.2.1", "duration": null}, {"decisions": 5}, {"decisions": [[{"value": "192.0.2.2"}]]}]"#;
    assert_items(
        Format::Crowdsec,
        text,
        &[
            "1: neither an alert nor a decision",
            "2: neither an alert nor a decision",
            "3: neither an alert nor a decision",
            "4: neither an alert nor a decision",
            "5: neither an alert nor a decision",
            "6: neither an alert nor a decision: it has no `value`",
            "7: `value`: invalid type: integer `7`, expected a string",
            "8: \"x\" is not an IP address",
            "9: `scope`: invalid type: sequence",
            "192.0.2.1/32",
            "11: neither an alert nor a decision",
            "192.0.2.2/32",
        ],
    );
}
