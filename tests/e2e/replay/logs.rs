//! Logs, alone and several as one.

use std::fs;

use serde_json::{Value, json};

use super::{Site, attack, capture};
use crate::support::{Complains as _, assert_keys, gzip, parse};
use testkit::capture::Format;

/// Of two sources three failures together ban; an application's key of many is told.
const CONFIG: &str = r#"
[ban]
maxretry = 3
findtime = "1m"
bantime = "10m"

[[source]]
name = "web"
files = ["FOLDER/access*.log"]
parser = "nginx-combined"

[[source]]
name = "api"
files = ["/var/log/api.log"]
parser = "json"

[[source]]
name = "auth"
files = ["/var/log/auth.log"]

[[detector]]
name = "failures"
sources = ["web", "api"]
where = 'status == 401'
action = "ban"

[[detector]]
name = "ssh"
sources = ["auth"]
filter = "fail2ban:FOLDER/own.conf"
action = "ban"
"#;

const FILTER: &str = "[Definition]\nfailregex = ^ host own: failure from <HOST>$\n";

fn site() -> Site {
    let site = Site::new("");
    let folder = site.path("").to_str().expect("UTF-8").to_owned();
    let folder = folder.trim_end_matches('/');
    site.write("abuser.toml", CONFIG.replace("FOLDER", folder).as_bytes());
    site.write("own.conf", FILTER.as_bytes());
    site
}

/// Requests at seconds after 10:40.
fn web(requests: &[(u32, &str, u16)]) -> String {
    let line = |(second, source, status): &(u32, &str, u16)| {
        let (minute, second) = (40 + second / 60, second % 60);
        format!(
            "{source} - - [15/Jan/2024:10:{minute:02}:{second:02} +0000] \"GET / HTTP/1.1\" {status} 5 \"-\" \"x\"\n"
        )
    };
    requests.iter().map(line).collect()
}

fn api(requests: &[(u32, &str)]) -> String {
    let line = |(second, source): &(u32, &str)| {
        let time = format!("2024-01-15T10:40:{second:02}Z");
        format!("{}\n", json!({"time": time, "ip": source, "status": 401}))
    };
    requests.iter().map(line).collect()
}

/// A file whose name is not one that a source knows, said to be of a source.
fn named(site: &Site, source: &str, name: &str) -> String {
    format!("{source}={}", site.path(name).display())
}

fn times(report: &Value) -> Vec<(String, String)> {
    let bans = report["bans"].as_array().expect("bans").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    bans.map(|ban| (text(&ban["source"]), text(&ban["time"])))
        .collect()
}

#[test]
fn a_log_tells_who_would_have_been_banned_when_and_how_many_lines_came_after() {
    let site = site();
    let mut log = web(&[
        (0, "198.51.100.9", 401),
        (1, "203.0.113.7", 200),
        (2, "198.51.100.9", 401),
        (3, "198.51.100.9", 401),
        // While it is banned, and after that.
        (4, "198.51.100.9", 401),
        (599, "198.51.100.9", 200),
        (604, "198.51.100.9", 200),
    ]);
    log.push_str("garbage\n");
    site.write("access.log", log.as_bytes());
    let report = site.replay(&["access.log"]);
    assert_keys(
        &report,
        &[
            "logs",
            "from",
            "to",
            "seconds",
            "lines",
            "spared",
            "detectors",
            "bans",
            "sources",
            "notes",
        ],
    );
    let bans = times(&report);
    let expected = (
        "198.51.100.9/32".to_owned(),
        "2024-01-15T10:40:03.000Z".to_owned(),
    );
    assert_eq!(bans, [expected]);
    let ban = &report["bans"][0];
    let told = ["expires", "seconds", "cause", "hits"].map(|key| &ban[key]);
    let expected = json!(["2024-01-15T10:50:03.000Z", 600, "detector failures", 2]);
    assert_eq!(json!(told), expected);
    assert_eq!(report["lines"], 8);
    assert_eq!(report["spared"], 2);
    assert_eq!(report["seconds"], 604.0);
    let log = &report["logs"][0];
    let told = ["source", "lines", "unparsed", "unparsed_sample"].map(|key| &log[key]);
    assert_eq!(json!(told), json!(["web", 8, 1, "garbage"]));
    let detector = &report["detectors"][0];
    let told = ["name", "kind", "action", "matched", "found"].map(|key| &detector[key]);
    assert_eq!(json!(told), json!(["failures", "threshold", "ban", 4, 1]));
    assert_eq!(detector["findings"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        report["sources"],
        json!([
            {"source": "198.51.100.9", "lines": 6, "spared": 2},
            {"source": "203.0.113.7", "lines": 1, "spared": 0},
        ])
    );
    assert!(
        report["notes"]
            .to_string()
            .contains("read none of these logs: ssh"),
        "{report}"
    );

    let said = site.run(&["access.log", "--top", "1"]).success();
    let lines: Vec<_> = said.stdout.lines().collect();
    let [log, rest @ ..] = &*lines else {
        panic!("{said}");
    };
    assert!(
        log.starts_with("web: 8 lines of ") && log.contains("1 is no record"),
        "{said}"
    );
    assert_eq!(
        rest[..6],
        [
            "replayed: 8 lines, 2024-01-15T10:40:00.000Z to 2024-01-15T10:50:04.000Z",
            "detector failures (threshold, ban): 4 records matched, 1 finding",
            "  2024-01-15T10:40:03.000Z  198.51.100.9/32: 3 matches within 1m; ban",
            "1 ban",
            "2024-01-15T10:40:03.000Z  ban 198.51.100.9/32  for 10m: 3 offences against detector \
             failures; 2 later lines met it",
            "source 198.51.100.9: 6 lines, 2 after a ban",
        ]
    );
}

#[test]
fn a_proxy_that_only_a_source_trusts_that_is_not_replayed_is_not_banned() {
    let site = site();
    let (proxy, client) = ("198.51.100.1", "198.51.100.9");
    let requests = [proxy, client].map(|source| [0, 1, 2].map(|second| (second, source, 401)));
    site.write("access.log", web(&requests.concat()).as_bytes());
    let trusting = format!("name = \"api\"\ntrusted_proxies = [\"{proxy}\"]");
    let config = fs::read_to_string(site.path("abuser.toml")).expect("the configuration");
    assert_eq!(times(&site.replay(&["access.log"])).len(), 2);
    let config = config.replace("name = \"api\"", &trusting);
    site.write("abuser.toml", config.as_bytes());
    let bans = times(&site.replay(&["access.log"]));
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(bans[0].0, format!("{client}/32"));
}

#[test]
fn several_logs_are_one_stream_in_the_order_of_their_lines() {
    let site = site();
    let client = "198.51.100.9";
    // Each log for itself bans later: the web's lines alone at 30 s, the application's never.
    site.write(
        "access.log",
        web(&[(0, client, 401), (20, client, 401), (30, client, 401)]).as_bytes(),
    );
    site.write("calls", api(&[(10, client), (25, client)]).as_bytes());
    let calls = named(&site, "api", "calls");
    let at = |arguments: &[&str]| times(&site.replay(arguments));
    let banned = |second: u32| {
        vec![(
            format!("{client}/32"),
            format!("2024-01-15T10:40:{second}.000Z"),
        )]
    };
    assert_eq!(at(&["access.log"]), banned(30));
    assert_eq!(at(&[&calls]), []);
    // The third of all is at 20 s, whichever is named first.
    assert_eq!(at(&["access.log", &calls]), banned(20));
    assert_eq!(at(&[&calls, "access.log"]), banned(20));
    // Two logs of one source, one of them packed: as if nobody had rotated them.
    let (first, last) = (
        web(&[(0, client, 401), (20, client, 401)]),
        web(&[(30, client, 401)]),
    );
    site.write("access.log.2.gz", &gzip(first.as_bytes()));
    site.write("access.log.1", last.as_bytes());
    let report = site.replay(&["access.log.1", "access.log.2.gz"]);
    assert_eq!(times(&report), banned(30));
    assert_eq!(report["logs"][0]["files"].as_array().map(Vec::len), Some(2));
}

#[test]
fn lines_that_only_a_filter_reads_are_put_in_order_too() {
    let site = site();
    let client = "203.0.113.7";
    let line = |second| format!("2024-01-15T10:40:{second:02}Z host own: failure from {client}\n");
    // A line without a date goes with the one before it.
    site.write(
        "one",
        format!("{}  and more\n{}", line(0), line(40)).as_bytes(),
    );
    site.write("other", format!("{}{}", line(10), line(20)).as_bytes());
    let files = ["one", "other"].map(|name| named(&site, "auth", name));
    for order in [[0, 1], [1, 0]] {
        let report = site.replay(&order.map(|number: usize| files[number].as_str()));
        let expected = (
            format!("{client}/32"),
            "2024-01-15T10:40:20.000Z".to_owned(),
        );
        assert_eq!(times(&report), [expected]);
        assert_eq!(report["bans"][0]["hits"], 1);
        assert_eq!(report["lines"], 5);
    }
}

#[test]
fn what_cannot_be_replayed_together_or_at_all_is_refused() {
    let site = site();
    site.write("access.log", web(&[(0, "198.51.100.9", 401)]).as_bytes());
    site.write("strange", b"a line\n");
    site.write("binary", b"\x7fELF\x02\x01\x01\0\0\0");
    site.write("packets", &capture(Format::Pcap, &attack(1)));
    for (arguments, status, phrases) in [
        (
            &["strange"][..],
            2,
            &[
                "which [[source]]",
                "strange",
                "write for example web=",
                "web, api, auth",
            ][..],
        ),
        (
            &["wbe=strange"],
            2,
            &["no [[source]]", "\"wbe\"", "did you mean \"web\"?"],
        ),
        (
            &["web=missing.log"],
            1,
            &["cannot read missing.log", "No such file"],
        ),
        (
            &["access.log", "packets"],
            2,
            &["packets is a capture", "access.log is a log"],
        ),
        (&["access.log", "binary"], 1, &["binary is neither"]),
        (
            &["access.log", "--to", "192.0.2.1"],
            2,
            &["--to is for captures"],
        ),
    ] {
        site.run(arguments).complains(status, phrases);
    }
    let packets = named(&site, "web", "packets");
    site.run(&[&packets])
        .complains(2, &["packets is a capture, and no log"]);
    // An empty log is as good as none.
    site.write("access-empty.log", b"");
    assert_eq!(site.replay(&["access.log", "access-empty.log"])["lines"], 1);
    // One that breaks off is replayed as far as it goes.
    let packed = gzip(web(&[(0, "198.51.100.9", 401)]).repeat(300_000).as_bytes());
    site.write("access.log.gz", &packed[..packed.len() / 2]);
    let said = site.run(&["access.log.gz", "--json"]).exits(1);
    assert!(said.stderr.contains("cannot be read any further"), "{said}");
    assert!(parse(&said.stdout)["lines"].as_u64() > Some(1000), "{said}");
    // Where there are no sources, text is nothing.
    std::fs::write(site.path("abuser.toml"), "").expect("writing a configuration");
    site.run(&["strange"])
        .complains(2, &["strange is text and no capture", "no [[source]]"]);
}
