//! `abuser scan`: the same numbers as `awk`, of logs of any kind, and whatever is in them.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Complains as _, abuser, command, finish_child, parse};

/// A folder with logs.
struct Logs(TempDir);

impl Logs {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("writing a log");
        path
    }
}

/// A log of three hours: some sources with many 401s, some with few, and lines that would count
/// for somebody else if their quotes and brackets did.
fn access_log() -> String {
    let mut random = fastrand::Rng::with_seed(5);
    let mut log = String::new();
    for second in 0..3 * 3600_u32 {
        for _ in 0..random.u32(0..4) {
            let source = match random.u32(0..4) {
                0 => format!("2001:db8::{}", random.u32(1..9)),
                1 => format!("192.0.2.{}", random.u32(1..9)),
                _ => format!("198.51.100.{}", random.u32(1..200)),
            };
            let status = random
                .choice([200, 200, 200, 304, 401, 401, 404])
                .expect("one of them");
            let agent = random
                .choice([
                    "curl/8",
                    "-",
                    r"x\x22 401 1 [\x22 203.0.113.66 - -",
                    "M (X; L) like",
                ])
                .expect("one of them");
            let _infallible = writeln!(
                log,
                "{source} - - [15/Jan/2024:{:02}:{:02}:{:02} +0000] \"GET /api/{second} HTTP/1.1\" {status} 7 \"-\" \"{agent}\"",
                9 + second / 3600,
                second / 60 % 60,
                second % 60,
            );
        }
    }
    log
}

/// What a shell's line prints that counts a log, as counts and sources.
fn shell(line: &str, log: &Path) -> Vec<(u64, String)> {
    let said = Command::new("sh")
        .args(["-c", line, "sh"])
        .arg(log)
        .output();
    let said = said.expect("a shell");
    assert!(said.status.success(), "{line}");
    pairs(&String::from_utf8(said.stdout).expect("UTF-8"))
}

/// The first two words of each line, in an order.
fn pairs(text: &str) -> Vec<(u64, String)> {
    let mut pairs: Vec<_> = text
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let count = words.next().expect("a count").parse().expect("a number");
            (count, words.next().expect("a source").to_owned())
        })
        .collect();
    pairs.sort();
    pairs
}

fn scan(path: &Path, options: &[&str]) -> testkit::CommandOutput {
    let path = path.to_str().expect("UTF-8");
    abuser(&[&["scan", path], options].concat()).success()
}

fn gzip(path: &Path) -> PathBuf {
    let done = Command::new("gzip").arg("-k").arg(path).status();
    assert!(done.is_ok_and(|status| status.success()), "gzip");
    let mut path = path.to_owned().into_os_string();
    path.push(".gz");
    path.into()
}

#[test]
fn the_count_of_401s_by_address_is_that_of_awk() {
    let logs = Logs::new();
    let log = logs.write("access.log", access_log());
    let expected = shell(
        r#"awk '$9 == 401 {print $1}' "$1" | sort | uniq -c | sort -rn | awk '$1 > 20'"#,
        &log,
    );
    assert!(expected.len() > 10, "{expected:?}");
    let options = ["--where", "status == 401", "--over", "20"];
    let said = scan(&log, &options);
    assert_eq!(pairs(&said.stdout), expected);
    assert!(said.stderr.contains("looks like nginx-combined"), "{said}");
    let counts: Vec<u64> = said
        .stdout
        .lines()
        .map(|line| {
            line.split('\t')
                .next()
                .expect("a count")
                .parse()
                .expect("a number")
        })
        .collect();
    assert!(counts.is_sorted_by(|a, b| a >= b), "{said}");

    let named = scan(
        &log,
        &[&options[..], &["--parser", "nginx-combined", "--top", "3"]].concat(),
    );
    assert_eq!(named.stderr, "");
    let top: Vec<_> = said.stdout.lines().take(3).collect();
    assert_eq!(named.stdout.lines().collect::<Vec<_>>(), top);

    let compressed = gzip(&log);
    assert_eq!(scan(&compressed, &options).stdout, said.stdout);

    let twice: Vec<_> = expected
        .iter()
        .map(|(count, source)| (count * 2, source.clone()))
        .collect();
    let both = [log.to_str(), compressed.to_str()].map(|path| path.expect("UTF-8"));
    let both = abuser(&[
        "scan",
        both[0],
        both[1],
        "--where",
        "status == 401",
        "--over",
        "40",
    ])
    .success();
    assert_eq!(pairs(&both.stdout), twice);
}

#[test]
fn the_last_hour_is_that_before_the_newest_line() {
    let logs = Logs::new();
    let log = logs.write("access.log", access_log());
    // The log ends in its last second.
    let expected = shell(
        r#"awk '$9 == 401 && $4 >= "[15/Jan/2024:10:59:59" {print $1}' "$1" | sort | uniq -c"#,
        &log,
    );
    let condition = [
        "--where",
        "status == 401 and time >= '2024-01-15T10:59:59Z'",
    ];
    assert_eq!(pairs(&scan(&log, &condition).stdout), expected);
    let ends = fs::read_to_string(&log)
        .expect("the log")
        .lines()
        .last()
        .expect("a line")
        .to_owned();
    assert!(ends.contains("11:59:59"), "{ends}");
    let said = scan(&log, &["--where", "status == 401", "--within", "1h"]);
    assert_eq!(pairs(&said.stdout), expected);
    // That log is years old.
    let said = scan(
        &log,
        &["--where", "status == 401", "--within", "1h", "--now"],
    );
    assert_eq!(said.stdout, "");
}

#[test]
fn standard_input_is_read_and_any_field_counted_by() {
    let log = r#"{"asctime": "2024-01-15 10:00:00,500", "levelname": "WARNING", "message": "API rate limit exceeded", "ip": "192.0.2.1", "path": "/api/users/?page=1"}
{"asctime": "2024-01-15 10:00:01,500", "levelname": "WARNING", "message": "API rate limit exceeded", "ip": "192.0.2.1", "path": "/api/users/?page=2"}
{"asctime": "2024-01-15 10:00:02,500", "levelname": "INFO", "message": "hello", "ip": "192.0.2.2", "path": "/"}
"#;
    for (by, expected) in [
        (
            "source",
            "2\t192.0.2.1\t2024-01-15T10:00:00Z\t2024-01-15T10:00:01Z\t100.0%\n",
        ),
        (
            "uri",
            "2\t/api/users/\t2024-01-15T10:00:00Z\t2024-01-15T10:00:01Z\t100.0%\n",
        ),
        (
            "field.levelname",
            "2\tWARNING\t2024-01-15T10:00:00Z\t2024-01-15T10:00:01Z\t100.0%\n",
        ),
    ] {
        let mut scan = command(&[
            "scan",
            "-",
            "--where",
            "message contains 'limit'",
            "--by",
            by,
        ]);
        scan.env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut scan = scan.spawn().expect("abuser");
        let mut stdin = scan.stdin.take().expect("a pipe");
        stdin.write_all(log.as_bytes()).expect("writing to it");
        drop(stdin);
        let said = finish_child(scan, "abuser scan -".to_owned()).success();
        assert_eq!(said.stdout, expected);
        assert!(
            said.stderr.contains("standard input looks like json"),
            "{said}"
        );
    }
}

#[test]
fn as_json_it_is_documented() {
    let logs = Logs::new();
    let log = logs.write(
        "access.log",
        r#"192.0.2.1 - - [15/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 401 1 "-" "x"
192.0.2.1 - - [15/Jan/2024:10:00:05 +0000] "GET / HTTP/1.1" 401 1 "-" "x"
192.0.2.2 - - [15/Jan/2024:10:00:07 +0000] "GET / HTTP/1.1" 401 1 "-" "x"
192.0.2.2 - - [15/Jan/2024:10:00:07 +0000] "GET / HTTP/1.1" 200 1 "-" "x"
something else
"#,
    );
    let said = scan(&log, &["--where", "status == 401", "--over", "1", "--json"]);
    let report = parse(&said.stdout);
    assert_eq!(
        report,
        json!({
            "by": "source", "lines": 5, "unparsed": 1, "matched": 3, "values": 2,
            "first": "2024-01-15T10:00:00.000Z", "last": "2024-01-15T10:00:07.000Z",
            "rows": [{
                "value": "192.0.2.1", "count": 2, "share": 2.0 / 3.0,
                "first": "2024-01-15T10:00:00.000Z", "last": "2024-01-15T10:00:05.000Z",
            }],
        })
    );
    assert!(said.stderr.contains("1 line is no record"), "{said}");
    assert!(said.stderr.contains("something else"), "{said}");
}

#[test]
fn a_client_behind_a_trusted_proxy_is_the_one_that_is_counted() {
    let logs = Logs::new();
    let log = logs.write(
        "access.log",
        r#"10.0.0.1 - - [15/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 401 1 "-" "x" "198.51.100.9, 203.0.113.7"
192.0.2.1 - - [15/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 401 1 "-" "x" "203.0.113.7"
"#,
    );
    let counted = |options: &[&str]| pairs(&scan(&log, options).stdout);
    let of = |sources: [&str; 2]| sources.map(|source| (1, source.to_owned())).to_vec();
    assert_eq!(counted(&[]), of(["10.0.0.1", "192.0.2.1"]));
    assert_eq!(
        counted(&["--trusted-proxy", "10.0.0.0/8"]),
        of(["192.0.2.1", "203.0.113.7"])
    );
}

#[test]
fn times_without_a_year_are_those_of_the_last_year() {
    let logs = Logs::new();
    let line = |time: &str| {
        format!("{time} host sshd[7]: Failed password for root from 192.0.2.1 port 4 ssh2\n")
    };
    let log = logs.write(
        "auth.log",
        line("Jan 15 10:00:00") + &line("Jan 15 12:00:00"),
    );
    let said = scan(&log, &["--parser", "sshd", "--within", "1h", "--json"]).success();
    let said = parse(&said.stdout);
    assert_eq!(said["rows"][0]["count"], 1, "{said}");
    assert!(said["last"].is_string(), "{said}");
}

#[test]
fn whatever_is_in_a_log_the_rest_of_it_is_counted() {
    let logs = Logs::new();
    let good = "192.0.2.1 - - [15/Jan/2024:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"x\"";
    let mut log = format!("{good}\r\n\n").into_bytes();
    log.extend(b"\0\0\0\0");
    log.extend(format!("{good}\n").bytes());
    log.extend(std::iter::repeat_n(b'"', 10 << 20));
    log.extend(b"\n\xff\xfe\x80 - - [\n\x1b[2J\n");
    log.extend(good.bytes());
    let log = logs.write("access.log", log);
    let said = scan(&log, &["--parser", "nginx-combined"]);
    assert_eq!(pairs(&said.stdout), [(3, "192.0.2.1".to_owned())]);
    assert!(said.stderr.contains("3 lines are no records"), "{said}");
    assert!(said.stderr.len() < 1000, "{said}");
    assert!(!said.stderr.contains('\u{1b}'), "{said}");
}

#[test]
fn what_cannot_be_counted_is_refused_with_what_could() {
    let logs = Logs::new();
    let log = logs.write("other.log", "one\ntwo\n");
    let path = log.to_str().expect("UTF-8");
    let folder = logs.0.path().to_str().expect("UTF-8");
    for (code, arguments, phrases) in [
        (
            2,
            &[path][..],
            &["cannot tell what", "--parser", "haproxy-http"][..],
        ),
        (
            1,
            &[path, "--parser", "json"],
            &["2 lines are no records", "it is not JSON", "--parser"],
        ),
        (
            1,
            &["/nonexistent.log"],
            &["cannot read /nonexistent.log", "No such file"],
        ),
        (1, &[folder], &["cannot read", "directory"]),
        (2, &[path, "--parser", "nginx"], &["there is no parser"]),
        (2, &[path, "--parser", "regex"], &["needs a pattern"]),
        (
            2,
            &[path, "--parser", "json", "--pattern", "x"],
            &["takes no pattern"],
        ),
        (
            2,
            &[path, "--where", "statsu == 401"],
            &["column 1", "did you mean \"status\"?"],
        ),
        (
            2,
            &[path, "--by", "ip"],
            &["there is no field \"ip\"", "source"],
        ),
        (2, &[path, "--within", "0"], &["how far back"]),
        (2, &[path, "--now"], &["required arguments"]),
        (2, &[], &["required arguments"]),
    ] {
        abuser(&[&["scan"], arguments].concat()).complains(code, phrases);
    }
    let empty = logs.write("empty.log", "");
    assert_eq!(scan(&empty, &[]).stdout, "");
}
