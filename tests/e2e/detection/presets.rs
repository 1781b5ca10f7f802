//! Presets: a file and a word are all that a site needs.

use std::fmt::Write as _;

use serde_json::json;
use testkit::require_root;

use super::{Logged, Site, append, assert_banned};
use crate::support::{PATIENCE, wait_until};

const PRESET: &str = "[[source]]\nfiles = [\"ACCESS_LOG\"]\npreset = \"nginx\"\n";

#[test]
fn three_lines_stop_who_tries_passwords() {
    require_root!();
    let site = Site::new("server { listen 80; location /login { return 401; } }");
    let daemon = site.daemon(PRESET);
    let client = site.client(66);
    let mut tried = 0;
    while site
        .request(client, "POST", "/login", "User-Agent: x\r\n")
        .is_some()
    {
        tried += 1;
        assert!(tried < 200, "{}", daemon.stderr());
    }
    let ban = assert_banned(&site, &daemon, client);
    assert_eq!(ban["detector"], "web-stuffing");
}

#[test]
fn an_application_whose_session_has_run_out_is_not_banned() {
    require_root!();
    let site = Site::new(
        "server { listen 80; location /api/ { return 401; } location /login { return 200; } }",
    );
    let daemon = site.daemon(PRESET);
    let client = site.client(66);
    let post = |path: &str| site.request(client, "POST", path, "User-Agent: x\r\n");
    for _ in 0..30 {
        assert_eq!(post("/api/orders"), Some(401));
    }
    assert_eq!(post("/login"), Some(200));
    wait_until("all of it is read", || {
        daemon.json(&["detectors"])["sources"][0]["lines"] == 31
    });
    let stuffing = daemon.json(&["detectors"])["detectors"][0].clone();
    assert_eq!(stuffing["name"], "web-stuffing");
    assert_eq!(stuffing["matched"], 1, "{stuffing}");
    assert_eq!(stuffing["found"], 0, "{stuffing}");
    assert!(site.answers(client));
}

#[test]
fn whose_browser_another_sites_page_has_ask_for_what_is_not_there_is_told_and_not_banned() {
    require_root!();
    let site = Site::new("server { listen 80; location / { return 404; } }");
    let daemon = site.daemon(PRESET);
    let events = daemon.stream(&["events", "--kind", "detect", "--json"]);
    let client = site.client(66);
    let mut told = None;
    for _ in 0..200 {
        assert_eq!(site.get(client, "/.env"), Some(404));
        told = events.next_line(std::time::Duration::from_millis(5));
        if told.is_some() {
            break;
        }
    }
    let told = told.unwrap_or_else(|| events.wait_for(PATIENCE, |_| true));
    assert!(told.contains("web-probing"), "{told}");
    assert!(told.contains("\"action\":\"alert\""), "{told}");
    assert!(site.answers(client));
}

/// What an application logs of requests for one id after the other.
fn walk(source: &str, ids: std::ops::Range<u32>) -> String {
    let line = |id| {
        json!({"ip": source, "method": "GET", "path": format!("/api/users/{id}"), "status": 200})
            .to_string()
            + "\n"
    };
    ids.map(line).collect()
}

#[test]
fn who_walks_ids_is_told_and_banned_where_two_lines_say_so() {
    require_root!();
    let source = "[[source]]\nfiles = [\"LOG\"]\npreset = \"api\"\n";
    let found = |logged: &Logged| {
        let detectors = logged.daemon.json(&["detectors"])["detectors"].clone();
        let mut detectors = detectors.as_array().expect("a list").iter();
        let walk = detectors.find(|detector| detector["name"] == "api-enumeration");
        walk.expect("the preset's")["found"].as_u64()
    };
    let told = Logged::new(source);
    told.write(&walk("192.0.2.7", 1..150));
    wait_until("it is told", || found(&told) > Some(0));
    assert_eq!(told.banned(), Vec::<String>::new());
    let banned = Logged::new(&format!(
        "{source}[[detector]]\nname = \"api-enumeration\"\nkind = \"enumeration\"\naction = \"ban\"\n"
    ));
    banned.write(&walk("192.0.2.7", 1..150));
    banned.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn who_is_throttled_by_an_application_cannot_have_another_banned() {
    require_root!();
    let logged = Logged::new("[[source]]\nfiles = [\"LOG\"]\npreset = \"api\"\n");
    // The application believes the first address of X-Forwarded-For.
    let line = json!({
        "message": "API rate limit exceeded", "client_ip": "192.0.2.99", "remote_addr": "192.0.2.7",
    });
    logged.write(&format!("{line}\n").repeat(20));
    logged.assert_banned(&["192.0.2.7/32"]);
}

#[test]
fn a_detector_with_the_name_of_a_presets_takes_its_place() {
    require_root!();
    let site = Site::new("server { listen 80; location /login { return 401; } }");
    let daemon = site.daemon(&format!(
        "{PRESET}[[detector]]\nname = \"web-stuffing\"\nkind = \"threshold\"\n\
         where = 'status == 401'\ncount = 2\nwithin = \"1m\"\naction = \"ban\"\n"
    ));
    let client = site.client(66);
    site.get(client, "/login");
    site.get(client, "/login");
    assert_banned(&site, &daemon, client);
    let detectors = daemon.json(&["detectors"]);
    let names = detectors["detectors"].to_string();
    assert_eq!(names.matches("web-stuffing").count(), 1, "{names}");
}

/// As `OpenSSH` writes them, and a user name that tries to have another address banned.
fn sshd_failures(client: &str, count: usize) -> String {
    let mut lines = String::new();
    for number in 0..count {
        let _infallible = writeln!(
            lines,
            "host sshd[{number}]: Failed password for invalid user x from 192.0.2.99 port 1 ssh2: y \
             from {client} port 4{number:03} ssh2"
        );
    }
    lines
}

#[test]
fn the_sshd_preset_bans_who_fails_and_not_whom_a_user_name_names() {
    require_root!();
    let site = Site::new("server { listen 80; }");
    let log = site.nginx.path("auth.log");
    let daemon = site.daemon(&format!(
        "[[source]]\nfiles = [\"{}\"]\npreset = \"sshd\"\n",
        log.display()
    ));
    let client = site.client(66);
    append(&log, &sshd_failures("192.0.2.66", 4));
    wait_until("four lines are read", || {
        daemon.json(&["detectors"])["detectors"][0]["matched"] == 4
    });
    assert!(site.answers(client));
    append(&log, &sshd_failures("192.0.2.66", 1));
    assert_banned(&site, &daemon, client);
}

/// As `OpenSSH` writes them of attempts by PAM, from the third on twice, and of the end.
fn pam_failures(client: &str, count: usize) -> String {
    let mut lines = String::new();
    for number in 1..=count {
        let _infallible = writeln!(
            lines,
            "host sshd[812]: error: PAM: Authentication failure for root from {client}"
        );
        if number >= 3 {
            let _infallible = writeln!(
                lines,
                "host sshd[812]: Failed keyboard-interactive/pam for root from {client} port 40000 ssh2"
            );
        }
    }
    lines
}

#[test]
fn what_sshd_tells_twice_counts_once() {
    require_root!();
    let logged = Logged::new("[[source]]\nfiles = [\"LOG\"]\npreset = \"sshd\"\n");
    logged.write(&pam_failures("192.0.2.7", 4));
    logged.write(
        "host sshd[812]: Connection closed by authenticating user root 192.0.2.7 port 40000 [preauth]\n",
    );
    wait_until("they are counted", || logged.detector()["matched"] == 4);
    assert_eq!(logged.banned(), Vec::<String>::new());
    // A connection of which nothing else is told.
    logged.write(
        "host sshd[813]: Connection closed by authenticating user root 192.0.2.7 port 40001 [preauth]\n",
    );
    logged.assert_banned(&["192.0.2.7/32"]);
}
