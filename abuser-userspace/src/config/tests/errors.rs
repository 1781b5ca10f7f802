//! Where errors are reported, and in which words.

use super::{assert_error, good, limit};

#[test]
fn unknown_keys_are_refused_where_they_stand_with_the_nearest_known_one() {
    assert_error(
        &limit("prots = [80]"),
        "4:1",
        &["unknown key `prots` in [[limit]]; did you mean `ports`?"],
    );
    for (text, place, phrase) in [
        (
            "interface = [\"eth0\"]",
            "1:1",
            "at the top level; did you mean `interfaces`?",
        ),
        (
            "\n[xpd]",
            "2:2",
            "unknown key `xpd` at the top level; did you mean `xdp`?",
        ),
        (
            "[ban]\n  MaxRetry = 3",
            "2:3",
            "in [ban]; did you mean `maxretry`?",
        ),
        (
            "[ban]\nzzz = 3",
            "2:1",
            "known are: maxretry, findtime, bantime,",
        ),
        (
            "[api]\nsockets = 1",
            "2:1",
            "in [api]; did you mean `socket`?",
        ),
        (
            "[allow]\nnames = []",
            "2:1",
            "in [allow]; known are: addresses, automatic",
        ),
        (
            "[xdp]\nmode = \"auto\"\nsocket = 1",
            "3:1",
            "it belongs in [api]",
        ),
        (
            "[ban]\ninterfaces = []",
            "2:1",
            "move it above the first [table]",
        ),
        ("\"a\\u001b[31m\" = 1", "1:1", "`a\\u{1b}[31m`"),
        // The first in the file, not in the alphabet.
        ("[ban]\nzz = 1\naa = 1", "2:1", "`zz`"),
    ] {
        assert_error(text, place, &["unknown key", phrase]);
    }
}

#[test]
fn missing_keys_are_reported_at_the_table_that_lacks_them() {
    assert_error(
        "\n[[limit]]\nrate = \"1/s\"",
        "2:1",
        &["`name` is missing in [[limit]]", "add for"],
    );
    let text = format!("{}[[limit]]\nname = \"b\"", limit(""));
    assert_error(
        &text,
        "5:1",
        &["`rate` is missing in [[limit]]", "rate = \"5000/s\""],
    );
}

#[test]
fn values_of_the_wrong_type_are_reported_at_the_value() {
    for (text, place, phrase) in [
        (
            "interfaces = \"eth0\"",
            "1:14",
            "expected a list of names, for example [\"eth0\"], found a string",
        ),
        ("interfaces = [\"eth0\", 1]", "1:23", "found an integer"),
        (
            "xdp = 1",
            "1:7",
            "expected a table: [xdp], found an integer",
        ),
        (
            "[limit]\nname = \"a\"",
            "1:1",
            "double brackets: [[limit]], found a table",
        ),
        (
            "limit = [1]",
            "1:10",
            "double brackets: [[limit]], found an integer",
        ),
        (
            "[[ban]]\nmaxretry = 1",
            "1:1",
            "expected a table: [ban], found a list",
        ),
        (
            "[ban]\nincrement = \"yes\"",
            "2:13",
            "expected true or false, without quotes",
        ),
        ("[ban]\nfactor = \"2\"", "2:10", "expected a number above 0"),
        (
            "[ban]\nbantime = 1.5",
            "2:11",
            "expected a time such as \"10m\"",
        ),
        ("[ban]\nfindtime = 2020-01-01", "2:12", "found a date"),
        ("[allow]\naddresses = {}", "2:13", "found a table"),
    ] {
        assert_error(text, place, &[phrase]);
    }
    assert_error(&limit("protocol = true"), "4:12", &["found true or false"]);
    assert_error(
        &limit("ports = 80"),
        "4:9",
        &["a list of ports and ranges", "found an integer"],
    );
    assert_error(
        &limit("ports = [1.5]"),
        "4:10",
        &["found a number with a point"],
    );
    assert_error(
        "[[limit]]\nname = \"a\"\nrate = 60",
        "3:8",
        &["\"60/m\"", "found an integer"],
    );
}

#[test]
fn values_that_make_no_sense_are_reported_at_the_value() {
    for (text, place, phrase) in [
        (
            "interfaces = [\"\"]",
            "1:15",
            "cannot be the name of an interface",
        ),
        ("interfaces = [\"a/b\"]", "1:15", "without /"),
        (
            "interfaces = [\"0123456789abcdef\"]",
            "1:15",
            "1 to 15 bytes",
        ),
        (
            "[xdp]\nmode = \"genric\"",
            "2:8",
            "did you mean \"generic\"?",
        ),
        (
            "[xdp]\nmode = \"offload\"",
            "2:8",
            "is not one of \"auto\", \"driver\", \"generic\"",
        ),
        (
            "[xdp]\npin_dir = \"bpf\"",
            "2:11",
            "is not an absolute path",
        ),
        ("[api]\nsocket = \"\"", "2:10", "is not an absolute path"),
        (
            "[allow]\naddresses = [\"10.0.0.1/8\"]",
            "2:14",
            "write 10.0.0.0/8, or 10.0.0.1",
        ),
        (
            "[allow]\naddresses = [\"10.0.0\"]",
            "2:14",
            "is not an IP address",
        ),
        (
            "[allow]\naddresses = [\"-a.b\"]",
            "2:14",
            "neither an IP address nor a DNS name",
        ),
        (
            "[allow]\naddresses = [\"\"]",
            "2:14",
            "neither an IP address nor a DNS name",
        ),
        ("[ban]\nmaxretry = 0", "2:12", "an integer from 1 to 1000"),
        (
            "[ban]\nfindtime = \"10 M\"",
            "2:12",
            "write m for minutes, mo for months",
        ),
        (
            "[ban]\nfindtime = \"permanent\"",
            "2:12",
            "cannot be without end",
        ),
        ("[ban]\nfindtime = 0", "2:12", "is too short"),
        ("[ban]\nbantime = 0", "2:11", "is too short"),
        ("[ban]\nbantime = -5", "2:11", "is not a time"),
        (
            "[ban]\nbantime = \"200y\"",
            "2:11",
            "is not between 0 and 100 years",
        ),
        ("[ban]\nfactor = 0", "2:10", "write a number above 0"),
        ("[ban]\nfactor = nan", "2:10", "write a number above 0"),
        (
            "[ban]\nmultipliers = [1, -2]",
            "2:19",
            "write a number above 0",
        ),
        (
            "[ban]\nmultipliers = \"1 x\"",
            "2:15",
            "\"x\" is not a number",
        ),
        ("[ban]\nmaxtime = -1", "2:11", "leave maxtime out"),
    ] {
        assert_error(text, place, &[phrase]);
    }
}

#[test]
fn values_of_a_limit_that_make_no_sense_are_reported_at_the_value() {
    for (lines, place, phrase) in [
        ("protocol = \"tpc\"", "4:12", "did you mean \"tcp\"?"),
        (
            "protocol = 256",
            "4:12",
            "256 is out of range; expected an integer from 0 to 255",
        ),
        ("ports = []", "4:9", "leave ports out for all ports"),
        ("ports = [0]", "4:10", "an integer from 1 to 65535"),
        ("ports = [80, \"8100-8000\"]", "4:14", "write \"8000-8100\""),
        ("ports = [\"a-b\"]", "4:10", "is not a range of ports"),
        ("ports = [\"1-65536\"]", "4:10", "is not a range of ports"),
        ("count = \"packet\"", "4:9", "did you mean \"packets\"?"),
        ("burst = -1", "4:9", "-1 is out of range"),
        (
            "burst = 999999999999999999999999999999999999999999",
            "4:9",
            "out of range",
        ),
        (
            "action = \"ban\"",
            "4:10",
            "is not one of \"drop\", \"observe\"",
        ),
        ("ipv4_prefix = 33", "4:15", "an integer from 1 to 32"),
        ("ipv6_prefix = 0", "4:15", "an integer from 1 to 128"),
        (
            "only = \"throtled\"",
            "4:8",
            "is not one of \"throttled\"; did you mean \"throttled\"?",
        ),
        ("only = true", "4:8", "found true or false"),
    ] {
        assert_error(&limit(lines), place, &[phrase, "in [[limit]]"]);
    }
    for (name, phrase) in [
        ("", "cannot name"),
        ("a b", "cannot name"),
        ("ü", "A-Z a-z 0-9"),
    ] {
        let text = format!("[[limit]]\nname = \"{name}\"\nrate = \"1/s\"");
        assert_error(&text, "2:8", &[phrase]);
    }
    assert_error(
        "[[limit]]\nname = \"a\"\nrate = \"60/x\"",
        "3:8",
        &["write /s, /m, /h or /d"],
    );
}

#[test]
fn values_that_do_not_go_together_are_reported_at_one_of_them() {
    assert_error(
        &limit("count = \"connections\"\nprotocol = \"udp\""),
        "4:9",
        &["only TCP has connections"],
    );
    assert_error(
        &limit("ports = [1]\nprotocol = \"icmp\""),
        "4:9",
        &["only TCP and UDP have ports"],
    );
    assert_error(
        &limit("protocol = 47\nports = [1]"),
        "5:9",
        &["only TCP and UDP have ports"],
    );
    assert_error(
        "[ban]\nmaxtime = \"5m\"\nincrement = true",
        "2:11",
        &["shorter than `bantime` (600 s)", "raise maxtime"],
    );
    good("[ban]\nmaxtime = \"5m\"");
    let text = format!("{}{}", limit(""), limit(""));
    assert_error(
        &text,
        "6:8",
        &["\"web\" is taken by a.toml:2; choose another"],
    );
}

#[test]
fn a_rate_or_burst_that_cannot_be_kept_is_refused_with_the_range_that_works() {
    let fast = "[[limit]]\nname = \"a\"\nrate = \"7G/s\"";
    assert_error(
        fast,
        "3:8",
        &["7000000000/s cannot be kept", "from 1/s to 1000000000/s"],
    );
    let fast = "[[limit]]\nname = \"a\"\nrate = \"18446744073709551615/s\"\ncount = \"bytes\"";
    assert_error(fast, "3:8", &["from 1/s to 100000000000/s"]);
    let slow = "[[limit]]\nname = \"a\"\nrate = \"1/d\"\ncount = \"bytes\"";
    assert_error(slow, "3:8", &["1/d cannot be kept", "from 1000/d to"]);
    let long = "[[limit]]\nname = \"a\"\nrate = \"1/d\"\nburst = 100000";
    assert_error(
        long,
        "4:9",
        &["takes too long to refill to be counted exactly; write at most 103"],
    );
    good("[[limit]]\nname = \"a\"\nrate = \"1/d\"\nburst = 103");
}

#[test]
fn more_limits_than_there_can_be_are_refused_at_the_first_too_many() {
    let limits = |count: usize| -> String {
        let limits = (0..count).map(|n| format!("[[limit]]\nname = \"l{n}\"\nrate = \"1/s\"\n"));
        limits.collect::<Vec<_>>().concat()
    };
    assert_eq!(good(&limits(64)).limits.len(), 64);
    assert_error(&limits(66), "193:1", &["one more than the 64 there can be"]);
}

#[test]
fn text_that_is_not_toml_is_reported_where_it_stops_being_so() {
    for (text, place) in [
        ("[[limit]]\nname = \"a\"\nrate = 60/m", "3:8"),
        ("interfaces = [\"eth0\"", "1:21"),
        ("[ban]\nmaxretry = 1\nmaxretry = 2", "3:1"),
        ("[ban]\n[ban]", "2:2"),
        ("a = \"\u{e9}\" x", "1:9"),
    ] {
        assert_error(text, place, &["not TOML: "]);
    }
}

#[test]
fn a_duplicate_key_is_to_be_removed_and_a_bare_text_to_be_quoted() {
    let twice = "[ban]\nmaxretry = 1\nmaxretry = 2";
    assert_error(twice, "3:1", &["duplicate key; remove one of the two"]);
    assert_error("[xdp]\nmode = auto", "2:8", &["need quotes"]);
}

#[test]
fn columns_count_characters_and_lines_end_with_crlf_too() {
    assert_error("interfaces = [\"\u{e9}\u{1f600}\", 1]", "1:21", &[]);
    assert_error("\r\n\r\n[ban]\r\nmaxretry = 0\r\n", "4:12", &[]);
}

#[test]
fn who_may_talk_to_the_daemon_is_checked_too() {
    for (lines, place, phrase) in [
        ("grup = \"wheel\"", "2:1", "did you mean `group`?"),
        ("group = \"\"", "2:9", "cannot be the name of a group"),
        ("group = \"a:b\"", "2:9", "`getent group`"),
        ("group = 1", "2:9", "the name of a group, in quotes"),
        ("read_only = true", "2:13", "one of \"none\", \"everyone\""),
        (
            "read_only = \"everyon\"",
            "2:13",
            "did you mean \"everyone\"?",
        ),
        ("listen = 9090", "2:10", "an address and a port"),
        (
            "listen = \":9090\"",
            "2:10",
            "write for example \"127.0.0.1:9090\"",
        ),
        (
            "listen = \"localhost:9090\"",
            "2:10",
            "is not an address with a port",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "2:10",
            "is not an address with a port",
        ),
        ("token_file = \"token\"", "2:14", "is not an absolute path"),
        (
            "listen = \"127.0.0.1:9090\"",
            "2:10",
            "without `token_file`",
        ),
        ("page = \"yes\"", "2:8", "true or false"),
        ("page = true", "2:8", "`page` in [api] without `listen`"),
        (
            "page = true\ntoken_file = \"/t\"",
            "2:8",
            "add listen = \"127.0.0.1:9090\"",
        ),
        (
            "page = true\nlisten = \"127.0.0.1:9090\"",
            "3:10",
            "without `token_file`",
        ),
    ] {
        assert_error(&format!("[api]\n{lines}"), place, &[phrase]);
    }
}

#[test]
fn policies_and_the_store_are_checked_too() {
    for (text, place, phrase) in [
        (
            limit("policy = \"stric\"") + "\n[[policy]]\nname = \"strict\"",
            "4:10",
            "no [[policy]] with the name \"stric\"; did you mean \"strict\"?",
        ),
        (
            "[[policy]]\nmaxretry = 2".to_owned(),
            "1:1",
            "`name` is missing in [[policy]]",
        ),
        (
            "[[policy]]\nname = \"default\"".to_owned(),
            "2:8",
            "is what [ban] says",
        ),
        (
            "[[policy]]\nname = \"a\"\n[[policy]]\nname = \"a\"".to_owned(),
            "4:8",
            "\"a\" is taken by",
        ),
        (
            "[[policy]]\nname = \"a\"\nmaxtime = \"1m\"\nincrement = true".to_owned(),
            "3:11",
            "`maxtime` in [[policy]] (60 s) is shorter",
        ),
        (
            "[ban]\nrollup = { hosts = 1 }".to_owned(),
            "2:20",
            "an integer from 2 to 65536",
        ),
        (
            "[ban]\nrollup = { ipv4_prefix = 24 }".to_owned(),
            "2:10",
            "`hosts` is missing in rollup",
        ),
        (
            "[ban]\nrollup = { hosts = 2, ipv4_prefix = 8 }".to_owned(),
            "2:37",
            "an integer from 16 to 31",
        ),
        (
            "[ban]\nrollup = { hosts = 2, ipv6_prefix = 31 }".to_owned(),
            "2:37",
            "an integer from 32 to 127",
        ),
        (
            "[ban]\ndecay = -1".to_owned(),
            "2:9",
            "cannot be without end; leave decay out",
        ),
        (
            "[store]\npath = \"abuser.db\"".to_owned(),
            "2:8",
            "is not an absolute path",
        ),
        (
            "[store]\nhistory = \"permanent\"".to_owned(),
            "2:11",
            "cannot be without end; write a long time",
        ),
    ] {
        assert_error(&text, place, &[phrase]);
    }
}

#[test]
fn metrics_are_told_on_loopback_and_not_where_the_api_listens() {
    let both = |metrics: &str| {
        format!(
            "[api]\nlisten = \"127.0.0.1:9090\"\ntoken_file = \"/t\"\n[metrics]\nlisten = {metrics}"
        )
    };
    for (listen, phrases) in [
        ("9842", &["an address and a port"][..]),
        ("\"9842\"", &["is not an address with a port"]),
        ("\"0.0.0.0:9842\"", &["no loopback address", "[api] listen"]),
        ("\"[::]:9842\"", &["no loopback address"]),
        ("\"192.0.2.1:9842\"", &["no loopback address"]),
        ("\"127.0.0.1:9090\"", &["is that of [api], too"]),
    ] {
        assert_error(&both(listen), "5:10", phrases);
    }
    for listen in [
        "127.0.0.1:9842",
        "127.9.9.9:1",
        "[::1]:9090",
        "[::ffff:127.0.0.1]:9842",
    ] {
        let text = both(&format!("\"{listen}\""));
        let metrics = good(&text).metrics;
        assert_eq!(metrics.listen, listen.parse().ok());
    }
    assert_eq!(good("").metrics.listen, None);
    assert_error("[metrics]\nlistens = 1", "2:1", &["did you mean `listen`?"]);
}
