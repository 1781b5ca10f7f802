//! `abuser test`: a detector or a filter on a log, line by line.

use std::{fs, io::Write as _, path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::CommandOutput;

use crate::support::{Complains as _, abuser, assert_keys, command, finish_child, gzip, parse};

/// Three failed logins in ten minutes ban for an hour.
const CONFIG: &str = r#"
[allow]
addresses = ["192.0.2.66"]

[ban]
maxretry = 3
findtime = "10m"
bantime = "1h"
rollup = { hosts = 2, ipv4_prefix = 24, ipv6_prefix = 48 }

[[limit]]
name = "slow"
only = "throttled"
protocol = "tcp"
ports = [443]
count = "connections"
rate = "1/m"

[[source]]
name = "web"
files = ["/var/log/nginx/*access.log"]
parser = "nginx-combined"

[[source]]
name = "api"
files = ["FOLDER/api*.log"]
parser = "json"
trusted_proxies = ["192.0.2.77"]

[[source]]
name = "auth"
files = ["/var/log/auth.log"]

[[detector]]
name = "logins"
where = 'status == 401'
action = "ban"

[[detector]]
name = "told"
sources = ["web"]
where = 'status == 401'

[[detector]]
name = "slowed"
sources = ["web"]
where = 'status == 401'
action = "throttle"
limit = "slow"
throttle_for = "20m"

[[detector]]
name = "ssh"
sources = ["auth"]
filter = "fail2ban:FOLDER/own.conf"
action = "ban"
"#;

/// A filter with all that a line can fail at.
const FILTER: &str = r"
[Definition]
prefregex = ^ host own: <F-CONTENT>.+</F-CONTENT>$
failregex = ^failure of \S+ from <HOST>$
            ^breach by <HOST>$
ignoreregex = backup
";

const AUTH: &str = "\
2024-01-15T10:40:00Z host own: failure of root from 198.51.100.9
2024-01-15T10:40:01Z host own: failure of backup from 198.51.100.9
2024-01-15T10:40:02Z host own: breach by 198.51.100.9
2024-01-15T10:40:03Z host own: all is well
2024-01-15T10:40:04Z host other: failure of root from 198.51.100.9
without a date
2024-01-15T10:40:05Z host own: failure of root from 198.51.100.9
2024-01-15T10:45:00Z host own: failure of root from 198.51.100.9
";

/// A folder with a configuration, a filter and logs.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().expect("a folder"));
        let folder = site.0.path().to_str().expect("UTF-8");
        site.write("abuser.toml", CONFIG.replace("FOLDER", folder));
        site.write("own.conf", FILTER);
        site.write("auth.log", AUTH);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).expect("writing a file");
    }

    /// `abuser test`, in the folder.
    fn run(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = command(&[&["test"], arguments].concat());
        command.current_dir(self.0.path());
        crate::support::finish(&mut command)
    }

    fn with_config(&self, arguments: &[&str]) -> CommandOutput {
        self.run(&[arguments, &["-c", "abuser.toml"]].concat())
    }

    /// What it prints as JSON.
    #[track_caller]
    fn records(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.with_config(&[arguments, &["--json"]].concat());
        let said = said.success();
        assert_eq!(said.stderr, "", "{said}");
        said.stdout.lines().map(parse).collect()
    }
}

fn request(source: &str, second: u32, status: u16) -> String {
    format!(
        "{source} - - [15/Jan/2024:10:40:{second:02} +0000] \"POST /login HTTP/1.1\" {status} 5 \"-\" \"x\"\n"
    )
}

/// The one record of a kind.
#[track_caller]
fn one<'r>(records: &'r [Value], kind: &str) -> &'r Value {
    let found: Vec<_> = records.iter().filter(|it| it["kind"] == kind).collect();
    let [one] = *found else {
        panic!("{} of the kind {kind}: {records:#?}", found.len());
    };
    one
}

#[test]
fn of_each_line_that_a_filter_matches_the_failregex_is_told_and_the_ban_with_its_end() {
    let site = Site::new();
    // Without a configuration, [ban]'s defaults hold: five failures, of which there are four.
    let said = site.run(&["./own.conf", "auth.log"]).success();
    assert!(
        said.stdout.ends_with("nobody would have been banned\n"),
        "{said}"
    );
    let said = site.with_config(&["./own.conf", "auth.log"]).success();
    assert_eq!(said.stderr, "", "{said}");
    let line = |number: u32, at: &str, what: &str| {
        format!("     {number}  2024-01-15T10:4{at}.000Z  198.51.100.9{what}")
    };
    let text = |number: usize| AUTH.lines().nth(number - 1).expect("a line");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "./own.conf reads auth.log as a log of the source log with fail2ban:./own.conf"
                .to_owned(),
            line(1, "0:00", &format!("  failregex 1 matched: {}", text(1))),
            line(3, "0:02", &format!("  failregex 2 matched: {}", text(3))),
            line(7, "0:05", &format!("  failregex 1 matched: {}", text(7))),
            line(
                7,
                "0:05",
                "/32  FOUND by ./own.conf: 3 matches within 10m: ban until 2024-01-15T11:40:05.000Z (1h)"
            ),
            line(
                8,
                "5:00",
                &format!(" (banned already)  failregex 1 matched: {}", text(8))
            ),
        ]
    );
    assert_eq!(lines[6], "8 lines: 4 matched, 1 finding");
    assert!(
        lines[7].starts_with("failregex 1 matched 3 lines: ^failure of"),
        "{said}"
    );
    assert!(
        lines[8].starts_with("failregex 2 matched 1 line: ^breach by"),
        "{said}"
    );
    assert_eq!(
        lines[9..],
        [
            "would have banned 198.51.100.9/32 from 2024-01-15T10:40:05.000Z until 2024-01-15T11:40:05.000Z \
          (1h); 1 later line is from there"
        ]
    );
}

#[test]
fn with_all_the_step_is_told_at_which_a_line_fails() {
    let site = Site::new();
    let records = site.records(&["ssh", "auth.log", "--all"]);
    let lines = records.iter().filter(|record| record["kind"] == "line");
    let why: Vec<_> = lines.map(|line| &line["why"]).collect();
    assert_eq!(
        why,
        [
            &Value::Null,
            &json!("ignoreregex 1 matches"),
            &Value::Null,
            &json!("no failregex matches"),
            &json!("prefregex does not match"),
            &json!("prefregex does not match; no date was found"),
            &Value::Null,
            &Value::Null,
        ]
    );
    // A detector of the configuration finds the same through the same filter.
    let finding = one(&records, "finding");
    assert_eq!(finding["line"], 7);
    assert_eq!(finding["detector"], "ssh");
    let summary = one(&records, "summary");
    let numbers = ["lines", "unparsed", "matched", "findings", "spared"].map(|key| &summary[key]);
    assert_eq!(numbers, [8, 0, 4, 1, 1]);
}

#[test]
fn a_detector_reads_records_and_tells_what_is_none() {
    let site = Site::new();
    let log = [
        request("203.0.113.7", 0, 200),
        request("198.51.100.9", 1, 401),
        "garbage \u{1b}[31m\u{7}\n".to_owned(),
        request("198.51.100.9", 2, 401),
        request("198.51.100.9", 3, 401),
        request("198.51.100.9", 4, 200),
    ];
    site.write("access.log", log.concat());
    let said = site
        .with_config(&["logins", "access.log", "--all"])
        .success();
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
    let lines: Vec<_> = said.stdout.lines().collect();
    for (number, phrases) in [
        (
            0,
            &["logins reads access.log", "source web with nginx-combined"][..],
        ),
        (
            1,
            &["  1  2024-01-15T10:40:00.000Z  203.0.113.7  the condition does not hold: 203"],
        ),
        (
            2,
            &["  2  2024-01-15T10:40:01.000Z  198.51.100.9  matched: 198.51.100.9 - -"],
        ),
        (
            3,
            &[
                "  3  -  -  no record: there is no ",
                ": garbage \\u{1b}[31m\\u{7}",
            ],
        ),
        (
            6,
            &["  5  2024-01-15T10:40:03.000Z  198.51.100.9/32  FOUND by logins: 3 matches"],
        ),
        (
            7,
            &["198.51.100.9 (banned already)  the condition does not hold"],
        ),
        (8, &["6 lines, 1 is no record: 3 matched, 1 finding"]),
    ] {
        for phrase in phrases {
            assert!(
                lines[number].contains(phrase),
                "no {phrase:?} in line {number}: {said}"
            );
        }
    }
    // The same from a pipe and compressed.
    site.write("access.log.gz", gzip(log.concat().as_bytes()));
    let lines = |records: &[Value]| records.iter().rev().skip(1).cloned().collect::<Vec<_>>();
    let plain = site.records(&["logins", "access.log"]);
    assert_eq!(
        lines(&site.records(&["logins", "access.log.gz"])),
        lines(&plain)
    );
    let mut piped = command(&["test", "logins", "-", "--json", "-c"]);
    piped.arg(site.path("abuser.toml")).stdin(Stdio::piped());
    let mut child = piped
        .stdout(Stdio::piped())
        .spawn()
        .expect("running abuser");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(log.concat().as_bytes())
        .expect("writing to it");
    drop(stdin);
    let said = finish_child(child, "abuser test -".to_owned()).success();
    let piped: Vec<_> = said.stdout.lines().map(parse).collect();
    assert_eq!(lines(&piped), lines(&plain));
}

#[test]
fn what_would_have_been_done_is_what_the_detector_says() {
    let site = Site::new();
    let mut log = String::new();
    let proxy = "192.0.2.77";
    for source in ["198.51.100.9", "192.0.2.66", "198.51.100.8", proxy] {
        log.extend((0..3).map(|second| request(source, second, 401)));
    }
    site.write("access.log", log);
    let found = |detector| {
        let records = site.records(&[detector, "access.log"]);
        let found = records
            .into_iter()
            .filter(|record| record["kind"] == "finding");
        found.collect::<Vec<_>>()
    };
    let banned = |finding: &Value| {
        let bans = finding["bans"].as_array().expect("bans").iter();
        bans.map(|ban| ban["source"].clone()).collect::<Vec<_>>()
    };
    let bans = found("logins");
    assert_eq!(banned(&bans[0]), ["198.51.100.9/32"]);
    assert_eq!(bans[1]["action"], "nothing: 192.0.2.66/32 is allowed");
    assert_eq!(banned(&bans[1]), [""; 0]);
    // Two hosts of a /24 are banned, so all of it is.
    assert_eq!(banned(&bans[2]), ["198.51.100.8/32", "198.51.100.0/24"]);
    // Only a source that is not read names it.
    let trusted = "nothing: 192.0.2.77/32 is a trusted proxy";
    assert_eq!(bans[3]["action"], trusted);
    assert_eq!(banned(&bans[3]), [""; 0]);
    assert_keys(
        &bans[0],
        &[
            "kind",
            "line",
            "detector",
            "time",
            "source",
            "subject",
            "reason",
            "action",
            "throttle_seconds",
            "limit",
            "bans",
        ],
    );
    let alerts = found("told");
    assert_eq!(alerts.len(), 4);
    assert!(
        alerts
            .iter()
            .all(|alert| alert["action"] == "alert" && banned(alert).is_empty())
    );
    let throttles = found("slowed");
    let told =
        |finding: &Value| ["action", "throttle_seconds", "limit"].map(|key| finding[key].clone());
    assert_eq!(
        told(&throttles[0]),
        [json!("throttle"), json!(1200), json!("slow")]
    );
    assert_eq!(throttles[1]["action"], "nothing: 192.0.2.66/32 is allowed");
    let said = site.with_config(&["slowed", "access.log"]).success();
    let until = "throttle until 2024-01-15T11:00:02.000Z by the limit slow";
    assert!(said.stdout.contains(until), "{said}");
}

#[test]
fn a_log_is_read_as_the_source_that_it_is_of() {
    let site = Site::new();
    let entry = json!({"ip": "203.0.113.7", "status": 401, "time": "2024-01-15T10:40:00Z"});
    for name in ["api.log", "api-2.log.1", "other.log"] {
        site.write(name, format!("{entry}\n").repeat(3));
    }
    let source = |arguments: &[&str]| {
        let records = site.records(&[&["logins"], arguments].concat());
        let summary = one(&records, "summary");
        (summary["source"].clone(), summary["findings"].clone())
    };
    // By its path, also after its rotation; else by name, else the first that the detector reads.
    assert_eq!(source(&["api.log"]), (json!("api"), json!(1)));
    assert_eq!(source(&["api-2.log.1"]), (json!("api"), json!(1)));
    assert_eq!(
        source(&["other.log", "--source", "api"]),
        (json!("api"), json!(1))
    );
    assert_eq!(source(&["other.log"]), (json!("web"), json!(0)));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_does() {
    let site = Site::new();
    site.write("empty", "");
    site.write("binary", b"\x7fELF\x02\x01\x01\0\0\0");
    site.write("pcap", b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00");
    site.write("bad.conf", "[Definition]\nfailregex = ^(from <HOST>\n");
    for (arguments, status, phrases) in [
        (
            &["logns", "auth.log"][..],
            2,
            &[
                "no [[detector]]",
                "\"logns\"",
                "did you mean \"logins\"?",
                "fail2ban:NAME",
            ][..],
        ),
        (
            &["zzz", "auth.log"],
            2,
            &["there are logins, told, slowed, ssh"],
        ),
        (
            &["logins", "nowhere.log"],
            1,
            &["cannot read nowhere.log", "No such file"],
        ),
        (&["logins", "."], 1, &["cannot read .", "directory"]),
        (&["logins", "empty"], 1, &["empty is empty"]),
        (&["logins", "binary"], 1, &["binary is not text"]),
        (
            &["logins", "pcap"],
            1,
            &["pcap is a capture", "abuser replay"],
        ),
        (
            &["told", "auth.log", "--source", "auth"],
            2,
            &["\"told\" does not read the source \"auth\"", "it reads web"],
        ),
        (
            &["told", "auth.log", "--source", "wbe"],
            2,
            &["no [[source]]", "\"wbe\"", "did you mean \"web\"?"],
        ),
        (
            &["./own.conf", "auth.log", "--source", "web"],
            2,
            &["--source is for detectors"],
        ),
        (
            &["fail2ban:no-such-filter", "auth.log"],
            2,
            &["no-such-filter"],
        ),
        (&["./bad.conf", "auth.log"], 2, &["bad.conf", "failregex"]),
    ] {
        site.with_config(arguments).complains(status, phrases);
    }
    site.run(&["logins", "auth.log", "-c", "missing.toml"])
        .complains(2, &["missing.toml", "no such file"]);
    // A log that breaks off is told as far as it goes.
    let packed = gzip(AUTH.repeat(1000).as_bytes());
    site.write("cut.gz", &packed[..packed.len() / 2]);
    let said = site.with_config(&["ssh", "cut.gz"]).exits(1);
    assert!(
        said.stderr.contains("cut.gz cannot be read any further"),
        "{said}"
    );
    abuser(&["test", "logins"]).exits(2);
}
