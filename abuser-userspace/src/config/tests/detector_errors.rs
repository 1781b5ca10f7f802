//! What cannot be a `[[detector]]`, and what is said of it.

use std::fmt::Write as _;

use super::{
    assert_error,
    detectors::{SOURCE, detector},
    good,
};

#[test]
fn a_key_that_the_kind_does_not_take_is_refused_with_the_kinds_that_do() {
    for (lines, place, phrases) in [
        (
            "kind = \"treshold\"",
            "6:8",
            ["is not one of \"threshold\"", "did you mean \"threshold\"?"],
        ),
        (
            "kind = \"threshold\"\nusers = 3",
            "7:9",
            ["\"threshold\" does not take it", "that do are \"stuffing\""],
        ),
        (
            "usrs = 3",
            "6:1",
            ["unknown key `usrs`", "did you mean `users`?"],
        ),
        (
            "kind = \"stuffing\"\ntrack = \"key\"",
            "7:9",
            [
                "does not take it",
                "\"threshold\", \"enumeration\", \"fan-out\", \"baseline\"",
            ],
        ),
    ] {
        assert_error(&detector(lines), place, &phrases);
    }
}

#[test]
fn what_is_to_follow_is_refused_at_the_value_if_it_cannot() {
    for (lines, place, phrases) in [
        (
            "action = \"bann\"",
            "6:10",
            ["is not one of \"alert\"", "did you mean \"ban\"?"],
        ),
        (
            "policy = \"strct\"\n[[policy]]\nname = \"strict\"",
            "6:10",
            [
                "no [[policy]] with the name \"strct\"",
                "did you mean \"strict\"?",
            ],
        ),
        (
            "sources = [\"stdni\"]",
            "6:12",
            [
                "no [[source]] with the name \"stdni\"",
                "did you mean \"stdin\"?",
            ],
        ),
        (
            "sources = []",
            "6:11",
            ["names no source", "leave sources out"],
        ),
        (
            "sources = \"stdin\"",
            "6:11",
            ["a list of the names of sources", "found a string"],
        ),
        (
            "action = \"throttle\"",
            "4:1",
            ["`limit` is missing in [[detector]]", "limit = \"slow\""],
        ),
        (
            "limit = \"slow\"",
            "6:9",
            ["only action = \"throttle\" takes a limit", "remove one"],
        ),
        (
            "throttle_for = \"1m\"",
            "6:16",
            ["it is for action = \"throttle\"", ""],
        ),
        (
            "action = \"throttle\"\nlimit = \"slow\"\n[[limit]]\nname = \"slow\"\nrate = \"1/s\"",
            "7:9",
            [
                "no [[limit]] with only = \"throttled\"",
                "the name \"slow\"",
            ],
        ),
        (
            "action = \"throttle\"\nlimit = \"slw\"\n[[limit]]\nname = \"slow\"\nrate = \"1/s\"\n\
             only = \"throttled\"",
            "7:9",
            ["the name \"slw\"", "did you mean \"slow\"?"],
        ),
    ] {
        assert_error(&detector(lines), place, &phrases);
    }
    assert_error(
        "[[detector]]\ncount = 1",
        "1:1",
        &["`name` is missing in [[detector]]"],
    );
    assert_error("[detector]\nname = \"a\"", "1:1", &["double brackets"]);
}

#[test]
fn a_filter_or_condition_that_cannot_be_is_refused_at_the_value() {
    for (lines, place, phrases) in [
        (
            "kind = \"stuffing\"\nfilter = \"fail2ban:sshd\"",
            "6:8",
            ["goes with kind = \"threshold\"", "not with \"stuffing\""],
        ),
        (
            "filter = \"sshd\"",
            "6:10",
            ["\"sshd\" is not a filter of fail2ban", "\"fail2ban:sshd\""],
        ),
        ("filter = \"fail2ban: \"", "6:10", ["is not a filter", ""]),
        (
            "where = 'status = 401'",
            "6:9",
            ["column 8 of the condition", "=="],
        ),
        (
            "where = 'path ~ \"(\"'",
            "6:9",
            ["column 8 of the condition", ""],
        ),
        ("where = ''", "6:9", ["of the condition", ""]),
        (
            "where = \"status == 'a\\u001b'\"",
            "6:9",
            ["of the condition", "found 'a\\u{1b}'"],
        ),
    ] {
        assert_error(&detector(lines), place, &phrases);
    }
}

#[test]
fn a_number_time_or_list_that_makes_no_sense_is_refused_at_the_value() {
    for (lines, place, phrases) in [
        (
            "count = 0",
            "6:9",
            ["0 is out of range", "from 1 to 1000000"],
        ),
        ("within = 0", "6:10", ["is too short", "\"1s\""]),
        (
            "within = -1",
            "6:10",
            ["cannot be without end", "such as \"10m\""],
        ),
        (
            "ipv4_prefix = 33",
            "6:15",
            ["33 is out of range", "from 1 to 32"],
        ),
        ("track = \"\"", "6:9", ["`track` in [[detector]]", ""]),
        (
            "kind = \"stuffing\"\nratio = 1.5",
            "7:9",
            ["1.5 is out of range", "from 0 to 1"],
        ),
        (
            "kind = \"stuffing\"\nratio = nan",
            "7:9",
            ["out of range", "from 0 to 1"],
        ),
        (
            "kind = \"signup\"\nstatuses = [99]",
            "7:13",
            ["99 is out of range", "from 100 to 999"],
        ),
        (
            "kind = \"baseline\"\nfactor = 0.5",
            "7:10",
            ["0.5 is out of range", "a number from 1 on"],
        ),
        (
            "kind = \"enumeration\"\ncount = 9",
            "7:9",
            ["9 is out of range", "from 10 to"],
        ),
        (
            "kind = \"distributed\"\nrequests = 10",
            "7:12",
            ["10 is out of range", "from 4 to 9"],
        ),
        (
            "action = \"throttle\"\nlimit = 1",
            "7:9",
            ["a name in quotes", ""],
        ),
    ] {
        assert_error(&detector(lines), place, &phrases);
    }
}

#[test]
fn a_detector_that_has_nothing_to_read_is_refused() {
    assert_error(
        "[[detector]]\nname = \"d\"",
        "2:8",
        &["\"d\" has nothing to read: there is no [[source]]"],
    );
    let without = "[[source]]\nstdin = true\n[[detector]]\nname = \"d\"\n";
    assert_error(without, "4:8", &["there is no [[source]] with a parser"]);
    assert_error(
        &format!("{without}sources = [\"stdin\"]"),
        "5:12",
        &["\"stdin\" has no parser", "parser = \"nginx-combined\""],
    );
}

#[test]
fn more_detectors_than_there_can_be_are_refused_at_the_first_too_many() {
    let detectors = |count: usize| {
        let mut text = SOURCE.to_owned();
        for number in 0..count {
            let _infallible = writeln!(text, "[[detector]]\nname = \"d{number}\"");
        }
        text
    };
    assert_eq!(good(&detectors(256)).detectors.len(), 256);
    assert_error(&detectors(258), "516:1", &["one more than the 256"]);
    let kind = "kind = \"missing-headers\"";
    let headers = |count| detector(&format!("{kind}\nheaders = [{}]", "\"a\",".repeat(count)));
    good(&headers(256));
    assert_error(&headers(258), "7:1036", &["one more than the 256"]);
}

/// A limit for who is throttled.
const SLOW: &str = "[[limit]]\nname = \"slow\"\nrate = \"1/s\"\nonly = \"throttled\"\n";

/// A detector that bans and one that throttles, with `lines` from line 8 on.
fn acting(lines: &str) -> [String; 2] {
    let throttle = "action = \"throttle\"\nlimit = \"slow\"";
    // A comment is a line, too.
    ["action = \"ban\"\n#", throttle].map(|action| detector(&format!("{action}\n{lines}\n{SLOW}")))
}

#[test]
fn a_prefix_too_wide_to_be_banned_or_throttled_is_refused_with_the_widest_that_is_not() {
    for (lines, place, phrases) in [
        (
            "ipv4_prefix = 15",
            "8:15",
            ["a /15 is too wide", "write 16 to 32"],
        ),
        (
            "ipv6_prefix = 31",
            "8:15",
            ["a /31 is too wide", "write 32 to 128"],
        ),
        (
            "kind = \"stuffing\"\nipv4_prefix = 8",
            "9:15",
            ["a /8 is too wide", "action = \"alert\""],
        ),
    ] {
        for text in acting(lines) {
            assert_error(&text, place, &phrases);
        }
        good(&detector(lines));
    }
    for text in acting("ipv4_prefix = 16\nipv6_prefix = 32") {
        good(&text);
    }
}

#[test]
fn a_policy_without_effect_is_refused() {
    let policy = "[[policy]]\nname = \"strict\"";
    for (lines, place) in [
        ("kind = \"signup\"\npolicy = \"strict\"", "7:10"),
        ("count = 3\nwithin = \"1m\"\npolicy = \"strict\"", "8:10"),
        (
            "action = \"throttle\"\nlimit = \"slow\"\nkind = \"signup\"\npolicy = \"strict\"",
            "9:10",
        ),
    ] {
        let action = if lines.contains("throttle") {
            "\"throttle\" bans nobody"
        } else {
            "\"alert\" bans nobody"
        };
        let text = detector(&format!("{lines}\n{policy}\n{SLOW}"));
        assert_error(
            &text,
            place,
            &[action, "remove it, or write action = \"ban\""],
        );
    }
    // A threshold takes its count, its time or both from it.
    for lines in ["", "count = 3", "within = \"1m\""] {
        good(&detector(&format!(
            "policy = \"strict\"\n{lines}\n{policy}"
        )));
    }
}

#[test]
fn nobody_is_banned_or_throttled_by_a_value_that_others_can_send() {
    let user = ["fails to log in as somebody else", "leave track out"];
    let shared = ["all who have the same", "such as \"source\" or \"key\""];
    for (lines, place, phrases) in [
        ("track = \"user\"", "8:9", user),
        ("kind = \"enumeration\"\ntrack = \"user\"", "9:9", user),
        ("kind = \"fan-out\"\ntrack = \"user\"", "9:9", user),
        ("kind = \"baseline\"\ntrack = \"user\"", "9:9", user),
        ("filter = \"fail2ban:sshd\"\ntrack = \"user\"", "9:9", user),
        ("track = \"path\"", "8:9", shared),
        ("track = \"user_agent\"", "8:9", shared),
        ("track = \"header.user-agent\"", "8:9", shared),
        ("track = \"header.accept-language\"", "8:9", shared),
        ("kind = \"fan-out\"\ntrack = \"status\"", "9:9", shared),
        (
            "kind = \"enumeration\"\ntrack = \"path\"",
            "9:9",
            ["would pay for them", "write distinct = 0"],
        ),
        (
            "kind = \"enumeration\"\ntrack = \"path\"\ndistinct = 7",
            "10:12",
            ["would pay for them", "write distinct = 0"],
        ),
    ] {
        for text in acting(lines) {
            assert_error(&text, place, &phrases);
        }
        good(&detector(lines));
    }
    for lines in [
        "track = \"source\"",
        "track = \"key\"",
        "track = \"field.session\"",
        "track = \"header.x-api-key\"",
        "kind = \"baseline\"\ntrack = \"source\"",
        "kind = \"enumeration\"\ntrack = \"path\"\ndistinct = 0",
    ] {
        for text in acting(lines) {
            good(&text);
        }
    }
}

#[test]
fn what_would_never_find_anybody_is_refused() {
    for (lines, place, phrases) in [
        (
            "filter = \"fail2ban:sshd\"\ntrack = \"key\"",
            "7:9",
            ["tells no key", "\"field.NAME\""],
        ),
        (
            "filter = \"fail2ban:sshd\"\ntrack = \"header.host\"",
            "7:9",
            ["tells no header.host", "\"source\""],
        ),
        (
            "kind = \"fan-out\"\ntrack = \"source\"",
            "7:9",
            ["a source has one address", "such as \"key\""],
        ),
        (
            "kind = \"fan-out\"\nclients = 0\nkeys = 0",
            "7:11",
            ["it looks for nothing", "one of the three"],
        ),
        (
            "kind = \"fan-out\"\nkeys = 1",
            "7:8",
            ["1 would find everybody", "or 0"],
        ),
        (
            "kind = \"missing-headers\"\nheaders = []",
            "7:11",
            ["it names no header", "leave headers out"],
        ),
        (
            "kind = \"stuffing\"\nstatuses = []",
            "7:12",
            ["it names no status", "leave statuses out"],
        ),
        (
            "kind = \"stuffing\"\nusers = 513",
            "7:9",
            ["513 is out of range", "from 1 to 512"],
        ),
        (
            "kind = \"distributed\"\nclients = 1025",
            "7:11",
            ["1025 is out of range", "from 2 to 1024"],
        ),
    ] {
        assert_error(&detector(lines), place, &phrases);
    }
    for lines in [
        "filter = \"fail2ban:sshd\"\ntrack = \"user\"",
        "filter = \"fail2ban:sshd\"\ntrack = \"field.F-ID\"",
        "kind = \"fan-out\"\nclients = 0\nkeys = 0\nidentical = 2",
        "kind = \"stuffing\"\nusers = 512",
        "kind = \"distributed\"\nclients = 1024",
    ] {
        good(&detector(lines));
    }
}
