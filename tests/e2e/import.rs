//! `abuser ban import` and `abuser ban export`: lists from and for other programs.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use testkit::{CommandOutput, Daemon, Namespace, require_root};

use crate::support::{Complains as _, assert_keys, daemon_on_lo, finish_child, parse};

/// Runs `abuser ban import` on a file with this text.
fn import(daemon: &Daemon, text: &str, options: &[&str]) -> CommandOutput {
    let folder = tempfile::tempdir().expect("a folder for a list");
    let path = folder.path().join("list");
    fs::write(&path, text).expect("writing a list");
    import_file(daemon, &path, options)
}

fn import_file(daemon: &Daemon, path: &Path, options: &[&str]) -> CommandOutput {
    let path = path.to_str().expect("UTF-8");
    daemon.abuser(&[&["ban", "import", path], options].concat())
}

/// Each ban's source, remaining time rounded to tens of seconds, and reason.
fn bans(daemon: &Daemon) -> Vec<(String, Option<u64>, Option<String>)> {
    let list = daemon.json(&["ban", "list"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.as_array()
        .expect("a list")
        .iter()
        .map(|ban| {
            let remaining = ban["remaining_seconds"].as_u64();
            (
                text(&ban["source"]).expect("a source"),
                remaining.map(|seconds| (seconds + 5) / 10 * 10),
                text(&ban["reason"]),
            )
        })
        .collect()
}

fn sources(daemon: &Daemon) -> Vec<String> {
    bans(daemon)
        .into_iter()
        .map(|(source, ..)| source)
        .collect()
}

#[test]
fn a_list_is_imported_and_what_is_wrong_with_it_is_told_by_line() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let list = "# spammers\r\n\
                203.0.113.1\n\
                203.0.113.0/24   # all of them\n\
                \n\
                198.51.100.5-198.51.100.6\n\
                nonsense\n\
                10.0.0.1/8\n\
                203.0.113.1\n\
                8.0.0.0/7\n\
                2001:db8::/48 # six";
    let said = import(&daemon, list, &["--reason", "listed"]).success();
    assert_eq!(
        said.stdout,
        "imported 5 bans of a list in plain format, 1 duplicate, 3 skipped\n"
    );
    let told: Vec<_> = said.stderr.lines().collect();
    assert_eq!(told.len(), 3, "{said}");
    for (line, phrases) in told.iter().zip([
        ["line 6:", "\"nonsense\"", "not an IP address"],
        ["line 7:", "10.0.0.1/8", "host bits"],
        ["line 9:", "8.0.0.0/7", "wider than /16"],
    ]) {
        for phrase in phrases {
            assert!(line.contains(phrase), "no {phrase:?}: {said}");
        }
    }
    let reason = |text: &str| Some(text.to_owned());
    assert_eq!(
        bans(&daemon),
        [
            ("198.51.100.5/32".to_owned(), None, reason("listed")),
            ("198.51.100.6/32".to_owned(), None, reason("listed")),
            ("203.0.113.0/24".to_owned(), None, reason("all of them")),
            ("203.0.113.1/32".to_owned(), None, reason("listed")),
            ("2001:db8::/48".to_owned(), None, reason("six")),
        ]
    );
    let shown = daemon.json(&["ban", "show", "203.0.113.1"]);
    assert_eq!(shown[0]["cause"], "import");
    assert_eq!(shown[0]["by"], "root");
    let forced = import(&daemon, "8.0.0.0/7\n", &["--force"]).success();
    assert_eq!(forced.stdout, "imported 1 ban of a list in plain format\n");
}

#[test]
fn a_strict_import_is_all_or_nothing() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let cases: [(&str, &[&str]); 2] = [
        ("203.0.113.1\nnonsense\n", &["line 2:", "nonsense"]),
        // Well written, and refused by the daemon.
        (
            "203.0.113.1\n8.0.0.0/7\n",
            &["line 2:", "8.0.0.0/7", "wider"],
        ),
    ];
    for (list, phrases) in cases {
        let said = import(&daemon, list, &["--strict"]).exits(1);
        assert_eq!(said.stdout, "", "{said}");
        for phrase in phrases.iter().chain(&["imported nothing", "1 line"]) {
            assert!(said.stderr.contains(phrase), "no {phrase:?}: {said}");
        }
        assert_eq!(sources(&daemon), Vec::<String>::new());
    }
    import(&daemon, "203.0.113.1\n203.0.113.2\n", &["--strict"]).success();
    assert_eq!(sources(&daemon), ["203.0.113.1/32", "203.0.113.2/32"]);
}

#[test]
fn a_dry_run_tells_what_would_be_and_bans_nobody() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    daemon
        .abuser(&["ban", "add", "203.0.113.1", "--for", "1h"])
        .success();
    for strict in [&[][..], &["--strict"]] {
        let options = [&["--dry-run", "--json"][..], strict].concat();
        let said = import(&daemon, "203.0.113.1\n203.0.113.2\n", &options).success();
        let outcome = parse(&said.stdout);
        assert_keys(
            &outcome,
            &[
                "format",
                "added",
                "extended",
                "duplicates",
                "expired",
                "skipped",
                "problems",
            ],
        );
        assert_eq!(outcome["added"], 1, "{said}");
        assert_eq!(outcome["extended"], 1, "{said}");
    }
    assert_eq!(sources(&daemon), ["203.0.113.1/32"]);
    assert!(bans(&daemon)[0].1.is_some(), "it ends still");
}

#[test]
fn a_ban_that_lasts_longer_is_left_alone_and_a_shorter_one_extended() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    daemon
        .abuser(&["ban", "add", "203.0.113.1", "--for", "1h"])
        .success();
    daemon
        .abuser(&["ban", "add", "203.0.113.2", "--permanent"])
        .success();
    let list = "203.0.113.1\n203.0.113.2\n203.0.113.3\n203.0.113.3\n";
    let said = import(&daemon, list, &["--for", "2h", "--json"]).success();
    let outcome = parse(&said.stdout);
    for (key, expected) in [
        ("added", 1),
        ("extended", 1),
        ("duplicates", 2),
        ("skipped", 0),
    ] {
        assert_eq!(outcome[key], expected, "{key}: {said}");
    }
    let ends: Vec<_> = bans(&daemon).into_iter().map(|(_, end, _)| end).collect();
    assert_eq!(ends, [Some(7200), None, Some(7200)]);
    // The same list again changes nothing.
    let again = import(&daemon, list, &["--for", "1h", "--json"]).success();
    assert_eq!(parse(&again.stdout)["duplicates"], 4, "{again}");
}

#[test]
fn of_a_source_that_is_named_more_than_once_the_longest_ban_counts() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let list = "source,duration\n203.0.113.1,1h\n203.0.113.1,2h\n203.0.113.1,30m\n";
    let said = import(&daemon, list, &["--json"]).success();
    let outcome = parse(&said.stdout);
    assert_eq!(outcome["added"], 1, "{said}");
    assert_eq!(outcome["duplicates"], 2, "{said}");
    assert_eq!(bans(&daemon)[0].1, Some(7200));
}

#[test]
fn what_is_essential_to_this_host_is_not_imported() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let lo = namespace.interface("lo").expect("every namespace has it");
    lo.add_address("192.0.2.1/32").expect("adding an address");
    let daemon = Daemon::start(
        &namespace,
        "interfaces = [\"lo\"]\n[allow]\nautomatic = true\n",
    );
    let list = "192.0.2.1\n192.0.2.0/24\n203.0.113.1\n";
    let said = import(&daemon, list, &[]).success();
    assert!(
        said.stderr
            .contains("line 1: 192.0.2.1/32 stays allowed (own address on lo)"),
        "{said}"
    );
    assert!(said.stderr.contains("line 2:"), "{said}");
    assert_eq!(sources(&daemon), ["203.0.113.1/32"]);
    import(&daemon, list, &["--force", "--strict"]).success();
    assert_eq!(sources(&daemon).len(), 3);
}

#[test]
fn a_list_comes_from_standard_input_too() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    for (arguments, source) in [(&["ban", "import"][..], 1), (&["ban", "import", "-"], 2)] {
        let mut child = daemon
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running abuser");
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(
            stdin,
            "source,duration,reason\n203.0.113.{source},90m,\"a, b\""
        )
        .expect("writing");
        drop(stdin);
        let said = finish_child(child, format!("abuser {}", arguments.join(" "))).success();
        assert_eq!(said.stdout, "imported 1 ban of a list in csv format\n");
    }
    assert_eq!(bans(&daemon)[1].1, Some(5400));
    assert_eq!(bans(&daemon)[1].2.as_deref(), Some("a, b"));
}

#[test]
fn a_list_may_come_slowly() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let slowly = |options: &[&str]| {
        let mut child = daemon
            .command(&[&["ban", "import"], options].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running abuser");
        let stdin = child.stdin.take().expect("a pipe");
        (child, stdin)
    };
    let imports: Vec<_> = [&[][..], &["--strict"]].map(slowly).into();
    // Longer than the daemon waits for a request.
    thread::sleep(Duration::from_secs(12));
    for (child, mut stdin) in imports {
        writeln!(stdin, "203.0.113.1").expect("writing");
        drop(stdin);
        finish_child(child, "abuser ban import".to_owned()).success();
    }
    assert_eq!(sources(&daemon), ["203.0.113.1/32"]);
}

#[test]
fn what_breaks_off_is_no_whole_list() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let broken = |options: &[&str]| {
        // Reading fails where there is nothing yet.
        let (input, mut end) = UnixStream::pair().expect("a socket");
        input.set_nonblocking(true).expect("not to wait");
        // More than what is looked at first.
        let list = "203.0.113.1\n".repeat(2000);
        end.write_all(list.as_bytes()).expect("writing");
        let child = daemon
            .command(&[&["ban", "import"], options].concat())
            .stdin(OwnedFd::from(input))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running abuser");
        finish_child(child, "abuser ban import".to_owned())
    };
    broken(&["--strict"]).complains(1, &["cannot read standard input", "0 bans imported"]);
    assert_eq!(sources(&daemon), Vec::<String>::new());
    broken(&[]).complains(1, &["cannot read standard input", "1 ban imported"]);
    assert_eq!(sources(&daemon), ["203.0.113.1/32"]);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    import_file(&daemon, Path::new("/nonexistent/list"), &[])
        .complains(1, &["cannot read /nonexistent/list", "No such file"]);
    import_file(&daemon, Path::new("/proc"), &[]).complains(1, &["cannot read /proc"]);
    import(&daemon, "", &["--format", "xml"]).complains(2, &["xml", "plain", "crowdsec"]);
    daemon
        .abuser(&["ban", "export", "--format", "fail2ban"])
        .complains(1, &["fail2ban", "plain"]);
    let page = "<html>\n<body>404 Not Found</body>\n</html>\n";
    let said = import(&daemon, page, &[]).exits(1);
    assert!(said.stderr.contains("no line of it is an entry"), "{said}");
    for blank in ["", " \n\n"] {
        let empty = import(&daemon, blank, &[]).success();
        assert_eq!(empty.stdout, "imported 0 bans of a list in plain format\n");
        assert_eq!(empty.stderr, "abuser: the list names nobody\n");
    }
}

#[test]
fn every_export_can_be_imported_again() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let restore = |daemon: &Daemon| {
        for (source, options) in [
            (
                "203.0.113.7",
                &["--for", "1h", "--reason", "scans 'ports', all of \\ them"][..],
            ),
            ("203.0.113.0/24", &["--permanent"]),
            (
                "198.51.100.0/22",
                &["--for", "3d", "--reason", "n\u{e9}t # 1"],
            ),
            ("2001:db8::/48", &["--permanent", "--reason", "six"]),
            ("2001:db9::1", &["--for", "20m"]),
        ] {
            daemon
                .abuser(&[&["ban", "add", source], options].concat())
                .success();
        }
    };
    restore(&daemon);
    let before = bans(&daemon);
    for format in ["csv", "json", "ipset", "nft", "crowdsec", "plain"] {
        let exported = daemon
            .abuser(&["ban", "export", "--format", format])
            .success();
        daemon.abuser(&["ban", "remove", "--all"]).success();
        assert_eq!(sources(&daemon), Vec::<String>::new());
        let said = import(&daemon, &exported.stdout, &["--strict", "--json"]).success();
        let outcome = parse(&said.stdout);
        assert_eq!(outcome["format"], format, "{exported}");
        let mut expected = before.clone();
        if format == "nft" {
            // A set of nft holds no address twice: what a wider ban covers is left out.
            expected.retain(|(source, ..)| source != "203.0.113.7/32");
        }
        assert_eq!(outcome["added"], expected.len(), "{exported}{said}");
        if format != "plain" {
            assert_eq!(bans(&daemon), expected, "{exported}");
        }
        restore(&daemon);
    }
    let expected: Vec<_> = before.iter().map(|(source, ..)| source.clone()).collect();
    assert_eq!(sources(&daemon), expected);
}

#[test]
fn thousands_of_bans_are_imported_listed_and_removed() {
    /// More than a few requests take.
    const COUNT: u32 = 20_000;
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let first = Ipv4Addr::new(198, 18, 0, 0).to_bits();
    let address = |number| Ipv4Addr::from_bits(first + number).to_string();
    let addresses: Vec<_> = (0..COUNT).map(address).collect();
    let mut list = addresses.join("\n");
    // Further apart than one request reaches.
    list += "\n198.18.0.0\n";
    let said = import(&daemon, &list, &["--json"]).success();
    let outcome = parse(&said.stdout);
    assert_eq!(outcome["added"], COUNT, "{said}");
    assert_eq!(outcome["duplicates"], 1, "{said}");
    assert_eq!(daemon.json(&["status"])["bans"], COUNT);
    let listed = sources(&daemon);
    assert_eq!(listed.len(), addresses.len());
    let rows = daemon.abuser(&["ban", "list"]).success().stdout;
    assert_eq!(rows.lines().count(), addresses.len());
    let exported = daemon.abuser(&["ban", "export"]).success().stdout;
    assert_eq!(
        exported
            .lines()
            .filter(|line| line.starts_with("198."))
            .count(),
        addresses.len()
    );
    let removed = daemon.json(&["ban", "remove", "--all"]);
    assert_eq!(removed.as_array().expect("a list").len(), addresses.len());
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
    assert_eq!(daemon.json(&["status"])["bans"], 0);
}

#[test]
fn an_expired_entry_is_counted_and_nobody_is_banned() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let past = humantime::format_rfc3339_seconds(SystemTime::now() - Duration::from_secs(60));
    let list = format!("source,expires\n203.0.113.1,{past}\n203.0.113.2,never\n");
    let said = import(&daemon, &list, &[]).success();
    assert_eq!(
        said.stdout,
        "imported 1 ban of a list in csv format, 1 over already\n"
    );
    assert_eq!(sources(&daemon), ["203.0.113.2/32"]);
}
