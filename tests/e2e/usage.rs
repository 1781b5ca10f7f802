//! Wrong arguments cost nothing but a line; help and version are for everyone.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

use crate::support::{Complains as _, abuser, command, finish};

#[test]
fn an_address_that_is_none_is_refused_with_what_to_write() {
    for address in [
        "203.0.113",
        "203.0.113.256",
        "example.com",
        "",
        "1.2.3.4.5",
        "::g",
    ] {
        abuser(&["ban", "add", address]).complains(
            2,
            &[&format!("{address:?} is not an IP address"), "192.0.2.7"],
        );
        abuser(&["allow", "add", address]).complains(2, &["is not an IP address"]);
        abuser(&["ban", "show", address]).complains(2, &["is not an IP address"]);
        abuser(&["events", "--source", address]).complains(2, &["is not an IP address"]);
    }
}

#[test]
fn a_prefix_with_host_bits_is_refused_with_both_things_it_may_mean() {
    abuser(&["ban", "add", "203.0.113.7/24"]).complains(
        2,
        &[
            "host bits",
            "203.0.113.0/24",
            "203.0.113.7 for the one host",
        ],
    );
    abuser(&["allow", "remove", "2001:db8::1/32"]).complains(2, &["host bits", "2001:db8::/32"]);
}

#[test]
fn a_prefix_longer_than_its_address_is_refused_with_the_longest() {
    abuser(&["ban", "add", "203.0.113.7/33"]).complains(2, &["\"33\"", "from 0 to 32"]);
    abuser(&["ban", "add", "2001:db8::1/129"]).complains(2, &["\"129\"", "from 0 to 128"]);
    abuser(&["ban", "add", "203.0.113.0/"]).complains(2, &["not a prefix length"]);
    abuser(&["ban", "show", "203.0.113.0/24"]).complains(2, &["is a prefix; name one address"]);
}

#[test]
fn a_time_that_is_none_is_refused_with_examples() {
    for (time, phrase) in [
        ("--for=10x", "\"x\" is not a unit of time"),
        ("--for=-5", "\"-5\" is not a time"),
        ("--for=-5m", "\"-5m\" is not a time"),
        ("--for=", "\"\" is not a time"),
        ("--for=soon", "is not a time"),
        ("--for=5M", "minutes or months"),
        ("--for=1000y", "not between 0 and 100 years"),
        (
            "--for=99999999999999999999999999999999999999999s",
            "not between 0 and 100 years",
        ),
    ] {
        abuser(&["ban", "add", time, "203.0.113.7"]).complains(2, &[phrase, "write"]);
    }
}

#[test]
fn a_value_with_a_hyphen_in_front_is_a_value() {
    for arguments in [
        &["ban", "add", "203.0.113.7", "--for", "-5m"][..],
        &[
            "throttle",
            "add",
            "203.0.113.7",
            "--limit",
            "x",
            "--for",
            "-5m",
        ],
        &["ban", "import", "--for", "-5m"],
    ] {
        abuser(arguments).complains(2, &["\"-5m\" is not a time", "write"]);
    }
    abuser(&["events", "-n", "-1"]).complains(2, &["\"-1\" is no number"]);
    abuser(&["top", "--interval", "-1s"]).complains(2, &["from 100ms to 1h"]);
    abuser(&["scan", "a.log", "--top", "-1"]).complains(2, &["\"-1\" is no number"]);
}

#[test]
fn who_writes_what_fail2ban_calls_it_is_told_what_it_is_called_here() {
    for (arguments, meant) in [
        (&["bans"][..], "'abuser ban list'"),
        (&["unban", "203.0.113.7"], "'abuser ban remove 203.0.113.7'"),
        (&["ban", "203.0.113.7"], "'abuser ban add 203.0.113.7'"),
        (
            &["allow", "192.0.2.0/24"],
            "'abuser allow add 192.0.2.0/24'",
        ),
    ] {
        let said = abuser(arguments).exits(2);
        let tip = format!("tip: write {meant}\n");
        assert!(said.stderr.contains(&tip), "{said}");
    }
}

#[test]
fn the_socket_is_shown_where_it_does_anything_and_accepted_everywhere() {
    let missing = abuser(&["ban", "add"]).exits(2);
    assert!(
        missing
            .stderr
            .contains("Usage: abuser ban add <ADDR|PREFIX>..."),
        "{missing}"
    );
    for command in [
        &["check"][..],
        &["import", "fail2ban"],
        &["scan"],
        &["test"],
        &["replay"],
        &["completions"],
        &["man"],
    ] {
        let said = abuser(&[command, &["--help"]].concat()).success();
        assert!(!said.stdout.contains("--socket"), "{said}");
    }
    for arguments in [
        &["completions", "bash", "--socket", "x"][..],
        &["--socket", "x", "completions", "bash"],
    ] {
        abuser(arguments).success();
    }
}

#[test]
fn a_ban_of_no_time_is_refused_before_anyone_is_asked() {
    for time in ["0", "0s", "1m-60s", "999ms"] {
        abuser(&["ban", "add", "--for", time, "203.0.113.7"])
            .complains(2, &["a ban lasts at least a second"]);
    }
}

#[test]
fn a_list_with_one_wrong_address_names_it() {
    abuser(&["ban", "add", "203.0.113.7", "203.0.113.800", "203.0.113.9"])
        .complains(2, &["\"203.0.113.800\" is not an IP address"]);
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    for arguments in [
        &["ban", "add", "--permanent", "--for", "1h", "203.0.113.7"][..],
        &["ban", "remove", "--all", "203.0.113.7"],
        &["ban", "remove"],
        &["ban", "add"],
        &["allow", "add"],
        &["throttle", "add", "203.0.113.7"],
        &["throttle", "add", "--limit", "slow"],
        &[
            "throttle",
            "add",
            "203.0.113.7",
            "--limit",
            "slow",
            "--for",
            "0s",
        ],
        &["throttle", "remove"],
        &["run", "--json"],
        &["run", "--mode", "native"],
        &["run", "--log-level", "loud"],
        &["events", "-n", "0"],
        &["events", "-n", "-1"],
        &["events", "-n", "99999999999999999999"],
        &["events", "--kind", "dropped"],
    ] {
        abuser(arguments).complains(2, &[]);
    }
    let said = abuser(&["ban", "remove"]).exits(2);
    assert!(said.stderr.contains("<ADDR|PREFIX|--all>"), "{said}");
}

#[test]
fn a_number_or_an_interval_that_is_none_is_refused_with_what_to_write() {
    for (arguments, phrase) in [
        (&["events", "-n", "0"][..], "write 1 or more"),
        (&["events", "-n", "x"], "write for example 10"),
        (&["scan", "a.log", "--over", "x"], "write for example 10"),
        (&["scan", "a.log", "--top=-1"], "write for example 10"),
        (
            &["replay", "a.pcap", "--top", "1.5"],
            "write for example 10",
        ),
        (
            &["top", "--interval", "x"],
            "from 100ms to 1h, such as 500ms",
        ),
        (
            &["top", "--interval", "1"],
            "from 100ms to 1h, such as 500ms",
        ),
        (
            &["top", "--interval", "1ms"],
            "write a time from 100ms to 1h",
        ),
    ] {
        abuser(arguments).complains(2, &[phrase]);
    }
}

#[test]
fn what_cannot_be_written_or_read_is_said_with_the_reason() {
    abuser(&["man", "/proc/abuser"]).complains(1, &["cannot write to /proc/abuser: No such file"]);
    abuser(&["import", "fail2ban", "/nonexistent"]).complains(
        1,
        &[
            "cannot read /nonexistent/jail.conf",
            "name fail2ban's folder",
        ],
    );
    abuser(&["check", "-c", "/nonexistent"]).complains(2, &["no such file", "--config"]);
}

#[test]
fn an_unknown_command_or_flag_is_refused_by_name() {
    abuser(&["bann", "add", "203.0.113.7"]).complains(2, &["unrecognized subcommand 'bann'"]);
    abuser(&["ban", "ad", "203.0.113.7"]).complains(2, &["unrecognized subcommand 'ad'"]);
    abuser(&["status", "--jsn"]).complains(2, &["unexpected argument '--jsn'"]);
}

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    let bad = OsStr::from_bytes(b"203.0.113.\xff");
    for arguments in [
        &[OsStr::new("ban"), OsStr::new("add"), bad][..],
        &[OsStr::new("events"), OsStr::new("--limit"), bad],
        &[OsStr::new("run"), OsStr::new("-i"), bad],
        &[bad],
    ] {
        abuser(arguments).complains(2, &[]);
    }
}

#[test]
fn a_path_that_is_not_utf_8_is_a_path_like_any_other() {
    let path = OsStr::from_bytes(b"/nonexistent/\xff.sock");
    abuser(&[OsStr::new("--socket"), path, OsStr::new("status")]).complains(1, &["is not there"]);
    abuser(&[OsStr::new("check"), OsStr::new("-c"), path]).complains(2, &["no such file"]);
}

#[test]
fn every_command_explains_itself_and_its_options() {
    for (arguments, mentioned) in [
        (
            &[][..],
            &[
                "run", "status", "limits", "ban", "allow", "throttle", "explain", "events",
                "check", "reload", "confirm", "detach",
            ][..],
        ),
        (
            &["run"],
            &[
                "--config",
                "--interface",
                "--mode",
                "--observe",
                "--events",
                "--json",
                "--log-level",
            ],
        ),
        (&["status"], &["--json", "--socket"]),
        (&["limits"], &["--json"]),
        (&["ban"], &["add", "remove", "list", "show"]),
        (
            &["ban", "add"],
            &[
                "ADDR|PREFIX",
                "--for",
                "--permanent",
                "--reason",
                "--force",
                "--json",
            ],
        ),
        (&["ban", "remove"], &["--all", "--json"]),
        (&["ban", "list"], &["--json"]),
        (&["ban", "show"], &["ADDR", "--json"]),
        (&["allow"], &["add", "remove", "list"]),
        (&["allow", "add"], &["--reason", "--json"]),
        (&["allow", "remove"], &["--json"]),
        (&["allow", "list"], &["--json"]),
        (&["throttle"], &["add", "remove", "list"]),
        (
            &["throttle", "add"],
            &["--limit", "--for", "--reason", "--force", "--json"],
        ),
        (&["throttle", "remove"], &["--limit", "--json"]),
        (&["throttle", "list"], &["--json"]),
        (
            &["events"],
            &["--json", "--source", "--kind", "--limit", "--count"],
        ),
        (&["check"], &["--config", "--json"]),
        (&["import"], &["fail2ban", "nginx", "snort"]),
        (
            &["import", "fail2ban"],
            &["DIR", "--output", "--force", "--json"],
        ),
        (&["import", "nginx"], &["FILE", "--action", "--output"]),
        (
            &["import", "snort"],
            &["FILE", "--action", "--log", "--output"],
        ),
        (
            &["replay"],
            &[
                "--config",
                "--to",
                "--top",
                "--json",
                "CAPTURE|LOG",
                "SOURCE=LOG",
            ],
        ),
        (
            &["test"],
            &[
                "DETECTOR|FILTER",
                "FILE",
                "--config",
                "--source",
                "--all",
                "--json",
            ],
        ),
        (&["detach"], &["--interface", "--pin-dir", "--json"]),
    ] {
        for help in ["--help", "-h"] {
            let said = abuser(&[arguments, &[help]].concat()).success();
            assert_eq!(said.stderr, "", "{said}");
            for option in mentioned {
                assert!(said.stdout.contains(option), "no {option}: {said}");
            }
        }
    }
}

#[test]
fn the_version_is_the_workspace_s() {
    let said = abuser(&["--version"]).success();
    assert_eq!(
        said.stdout,
        format!("abuser {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn without_a_command_the_commands_are_listed_as_an_error() {
    let said = abuser(&[] as &[&str]).exits(2);
    assert_eq!(said.stdout, "", "{said}");
    assert!(said.stderr.contains("Usage: abuser"), "{said}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure_with_its_reason() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    let sound = "interfaces = [\"lo\"]\n[[limit]]\nname = \"all\"\nrate = \"1/s\"\n";
    std::fs::write(config.path(), sound).expect("writing a configuration");
    let full = std::fs::File::create("/dev/full").expect("/dev/full");
    let mut check = command(&["check".as_ref(), "-c".as_ref(), config.path().as_os_str()]);
    let child = check.stdout(full).stderr(std::process::Stdio::piped());
    let child = child.spawn().expect("running abuser");
    crate::support::finish_child(child, "abuser check > /dev/full".to_owned())
        .complains(1, &["cannot write to standard output", "No space left"]);
    for arguments in [["--help"], ["--version"]] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut help = command(&arguments);
        let child = help.stdout(full.expect("/dev/full"));
        let child = child.stderr(std::process::Stdio::piped()).spawn();
        crate::support::finish_child(child.expect("running abuser"), arguments.concat())
            .complains(1, &["cannot write to standard output", "No space left"]);
    }
    // The same with a place to write to.
    finish(&mut command(&[
        "check".as_ref(),
        "-c".as_ref(),
        config.path().as_os_str(),
    ]))
    .success();
}
