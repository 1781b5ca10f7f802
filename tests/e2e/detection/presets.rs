//! Presets: a file and a word are all that a site needs.

use std::fmt::Write as _;

use testkit::require_root;

use super::{Site, append, assert_banned};
use crate::support::wait_until;

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
