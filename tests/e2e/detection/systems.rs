//! The five systems that people use today against API abuse: each with its configuration, rule or
//! command as it is, the program that writes the log, and the ban at the end.

use std::{fs, process::Command};

use serde_json::json;
use testkit::{Daemon, Namespace, Wire, peers, require_root};

use super::{Site, append, assert_banned};
use crate::support::{abuser, wait_until};

/// Of the configurations that are made here, nobody is banned for long.
const BAN: &str = "[ban]\nmaxretry = 5\nfindtime = \"10m\"\nbantime = \"1h\"\n";

/// A logger as Django REST Framework's users have one: a throttle writes `ip` and `path` as extra
/// fields, and a formatter makes JSON of it.
const THROTTLE_LOGGER: &str = r#"
import json, logging, sys

class JsonFormatter(logging.Formatter):
    def format(self, record):
        return json.dumps({
            "asctime": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "levelname": record.levelname, "name": record.name, "message": record.getMessage(),
            "ip": record.ip, "path": record.path,
        })

handler = logging.FileHandler(sys.argv[1])
handler.setFormatter(JsonFormatter())
logger = logging.getLogger("api.throttle")
logger.addHandler(handler)
for number in range(int(sys.argv[3])):
    logger.warning("API rate limit exceeded", extra={"ip": sys.argv[2], "path": f"/api/{number}"})
"#;

#[test]
fn a_frameworks_throttle_log_bans_whom_it_names() {
    require_root!();
    let site = Site::new("server { listen 80; }");
    let log = site.nginx.path("throttle.log");
    let daemon = site.daemon(&format!(
        "{BAN}[[source]]\nfiles = [\"{}\"]\nparser = \"json\"\nfrom = \"start\"\n\
         [[detector]]\nname = \"throttled\"\n\
         where = 'message == \"API rate limit exceeded\" and field.levelname == \"WARNING\"'\n\
         count = 10\nwithin = \"60s\"\naction = \"ban\"\n",
        log.display()
    ));
    let client = site.client(66);
    let write = |count: &str| {
        let python = peers::command(&Namespace::new().expect("a namespace"), "/usr/bin/python3");
        let mut python = python.unwrap_or_else(|error| panic!("{error}"));
        python.args(["-c", THROTTLE_LOGGER]).arg(&log);
        python.args([&client.to_string(), count]);
        assert!(python.status().expect("running Python").success());
    };
    write("9");
    wait_until("nine lines are read", || {
        daemon.json(&["detectors"])["detectors"][0]["matched"] == 9
    });
    assert!(site.answers(client), "nine are too few");
    write("1");
    let ban = assert_banned(&site, &daemon, client);
    assert_eq!(ban["detector"], "throttled");
    assert_eq!(ban["offences"], 10);
    let explained = daemon.json(&["explain", &client.to_string()]);
    let evidence = explained["bans"][0]["evidence"].to_string();
    assert!(evidence.contains("/api/8"), "{evidence}");
}

/// The configuration as given, in the places where nginx has it.
const LIMIT_REQ: &str = "\
limit_req_zone $binary_remote_addr zone=api_limit:10m rate=60r/m;
server {
    listen 80;
    location /api/ {
        limit_req zone=api_limit burst=20 nodelay;
        limit_req_status 429;
        access_log FOLDER/api_access.log combined;
        try_files /nothing @answer;
    }
    location @answer { return 200; }
}
";

#[test]
fn nginx_limit_req_becomes_a_limit_and_its_logs_ban() {
    require_root!();
    let site = Site::new(LIMIT_REQ);
    let config = site.nginx.config();
    let imported = abuser(&["import", "nginx", &config.display().to_string()]).success();
    let limit =
        imported.stdout.contains("rate = \"60/m\"") && imported.stdout.contains("burst = 20");
    assert!(limit, "{imported}");
    // The kernel's limit would drop what nginx is to refuse here; another test has both agree.
    let config = imported
        .stdout
        .replace("burst = 20", "burst = 20\naction = \"observe\"");
    let daemon = site.daemon(&config);
    let client = site.client(66);
    let mut statuses = Vec::new();
    for number in 0..200 {
        let Some(status) = site.get(client, &format!("/api/{number}")) else {
            break;
        };
        statuses.push(status);
    }
    let passed = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!((21..=30).contains(&passed), "{statuses:?}");
    assert!(refused >= 5, "{statuses:?}");
    let ban = assert_banned(&site, &daemon, client);
    assert_eq!(ban["cause"], "detector");
}

/// The jail as given; its log is the test's.
const JAIL: &str = "\
[nginx-api-abuse]
enabled  = true
filter   = nginx-api-abuse
logpath  = ACCESS_LOG
maxretry = 100
findtime = 60
bantime  = 86400
";
/// A filter file for it.
const FILTER: &str = "\
[Definition]
failregex = ^<HOST> -.*\"(?:GET|POST|PUT|DELETE) /api/.*\" (?:401|403|429) .*$
ignoreregex =
";

#[test]
fn a_fail2ban_jail_runs_with_its_filter_as_it_is() {
    require_root!();
    let site = Site::new("server { listen 80; location /api/ { return 403; } }");
    let folder = tempfile::tempdir().expect("a folder");
    let log = site.nginx.access_log().display().to_string();
    fs::create_dir(folder.path().join("filter.d")).expect("a folder");
    for (name, text) in [
        ("jail.conf", "[DEFAULT]\nbackend = auto\n"),
        ("jail.local", &JAIL.replace("ACCESS_LOG", &log)),
        ("filter.d/nginx-api-abuse.conf", FILTER),
    ] {
        fs::write(folder.path().join(name), text).expect("writing a file");
    }
    let imported = abuser(&["import", "fail2ban", &folder.path().display().to_string()]).success();
    let daemon = site.daemon(&imported.stdout);
    let client = site.client(66);
    for number in 0..99 {
        assert_eq!(site.get(client, &format!("/api/users/{number}")), Some(403));
    }
    wait_until("99 lines are read", || {
        daemon.json(&["detectors"])["detectors"][0]["matched"] == 99
    });
    assert!(site.answers(client), "99 are too few");
    site.get(client, "/api/users/99");
    let ban = assert_banned(&site, &daemon, client);
    assert_eq!(
        ban["remaining_seconds"].as_u64().map(|left| left / 100),
        Some(863)
    );
}

#[test]
fn a_log_count_is_one_command_and_what_it_finds_can_be_banned() {
    require_root!();
    let site = Site::new("server { listen 80; location /login { return 401; } }");
    let daemon = site.daemon("");
    let [stuffer, user] = [66, 67].map(|number| site.client(number));
    for _ in 0..21 {
        assert_eq!(site.get(stuffer, "/login"), Some(401));
    }
    for _ in 0..20 {
        assert_eq!(site.get(user, "/login"), Some(401));
    }
    let log = site.nginx.access_log().display().to_string();
    let pipeline = format!(
        "awk '$9 == 401 {{print $1}}' {log} | sort | uniq -c | sort -rn | awk '$1 > 20' | \
         awk '{{print $2}}'"
    );
    let awk = Command::new("sh").args(["-c", &pipeline]).output();
    let awk = String::from_utf8(awk.expect("running awk").stdout).expect("text");
    assert_eq!(awk.trim(), stuffer.to_string());
    let scan = [
        "scan",
        &log,
        "--where",
        "status == 401",
        "--over",
        "20",
        "--within",
        "1h",
    ];
    let scanned = abuser(&[&scan[..], &["--json"]].concat()).success();
    let scanned: serde_json::Value = serde_json::from_str(&scanned.stdout).expect("JSON");
    assert_eq!(
        scanned["rows"].as_array().map(Vec::len),
        Some(1),
        "{scanned}"
    );
    let found = scanned["rows"][0]["value"].as_str().expect("an address");
    assert_eq!(found, awk.trim());
    daemon
        .abuser(&["ban", "add", found, "--reason", "scan"])
        .success();
    assert_banned(&site, &daemon, stuffer);
    assert!(site.answers(user));
}

/// The rule as given.
const RULE: &str = r#"alert tcp $EXTERNAL_NET any -> $HTTP_SERVERS $HTTP_PORTS (msg:"API abuse: many requests"; flow:to_server,established; content:"GET /api/"; pcre:"/\/api\/[a-z]+\/\d+/i"; threshold: type threshold, track by_src, count 100, seconds 60; sid:1000001; rev:1;)"#;

#[test]
fn a_snort_rule_becomes_a_detector() {
    require_root!();
    let site = Site::new("server { listen 80; location / { return 200; } }");
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("local.rules");
    fs::write(&rules, RULE).expect("writing a rule");
    let rules = rules.display().to_string();
    let imported = abuser(&["import", "snort", &rules, "--action", "ban"]).success();
    let daemon = site.daemon(&format!(
        "[[source]]\nfiles = [\"ACCESS_LOG\"]\nparser = \"nginx-combined\"\n{}",
        imported.stdout
    ));
    let [fast, other] = [66, 67].map(|number| site.client(number));
    for number in 0..99 {
        assert_eq!(
            site.get(fast, &format!("/api/users/{}", number * 37 % 1000)),
            Some(200)
        );
        assert_eq!(site.get(other, &format!("/static/{number}")), Some(200));
    }
    wait_until("99 requests are read", || {
        daemon.json(&["detectors"])["detectors"][0]["matched"] == 99
    });
    assert!(site.answers(fast), "99 are too few");
    site.get(fast, "/API/Users/5");
    // In another case, as the expression allows; but the content is told by case.
    assert!(site.answers(fast));
    site.get(fast, "/api/Users/5");
    assert_banned(&site, &daemon, fast);
    assert!(site.answers(other));
}

#[test]
fn walking_ids_in_order_is_told_from_mere_frequency() {
    require_root!();
    let site = Site::new("server { listen 80; location / { return 200; } }");
    let daemon = site.daemon(
        "[[source]]\nfiles = [\"ACCESS_LOG\"]\nparser = \"nginx-combined\"\n\
         [[detector]]\nname = \"walk\"\nkind = \"enumeration\"\naction = \"ban\"\n",
    );
    let [walker, reader] = [66, 67].map(|number| site.client(number));
    let mut random = fastrand::Rng::with_seed(5);
    for number in 0..150 {
        let id = random.u32(1..100_000);
        assert_eq!(site.get(reader, &format!("/api/users/{id}")), Some(200));
        if site
            .get(walker, &format!("/api/users/{}", 4000 + number))
            .is_none()
        {
            break;
        }
    }
    let ban = assert_banned(&site, &daemon, walker);
    assert!(ban["offences"].as_u64() <= Some(100), "{ban}");
    assert!(site.answers(reader));
    assert_eq!(
        daemon.json(&["ban", "list"]).as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn lines_of_a_log_that_is_appended_to_by_others_count_as_well() {
    require_root!();
    let wire = Wire::new();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("app.log");
    let daemon = Daemon::start(
        &wire.server,
        &format!(
            "interfaces = [\"veth-server\"]\n[[source]]\nfiles = [\"{}\"]\nparser = \"regex\"\n\
             pattern = '^denied (?<ip>\\S+)$'\n\
             [[detector]]\nname = \"denied\"\ncount = 3\nwithin = \"1m\"\naction = \"ban\"\n",
            log.display()
        ),
    );
    append(
        &log,
        "denied 192.0.2.77\nnoise\ndenied 192.0.2.77\ndenied 192.0.2.7",
    );
    append(&log, "7\n");
    wait_until("the ban", || daemon.json(&["status"])["bans"] == 1);
    assert_eq!(
        daemon.json(&["ban", "list"])[0]["source"],
        json!("192.0.2.77/32")
    );
}
