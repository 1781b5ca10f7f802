//! Who may do what: users by what the kernel says of them, and over TCP whoever knows the token.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::json;
use testkit::{CommandOutput, Daemon, require_root};

use crate::{
    http::{Answer, connect_tcp, exchange, message, request},
    support::{Complains as _, Site, finish},
};

/// `nobody`, and a group of this number is on every system under one name or another.
const NOBODY: u32 = 65534;
/// The group `daemon` is number 1 everywhere.
const DAEMON: u32 = 1;

const TOKEN: &str = "correct-horse-battery-staple";

/// A daemon whose socket others can reach, if its mode lets them.
struct Open {
    site: Site,
    daemon: Daemon,
}

impl Open {
    fn new(api: &str) -> Self {
        let site = Site::new();
        let config = format!(
            "interfaces = [\"lo\"]\n[api]\nsocket = \"{}\"\n{api}\n",
            site.socket().display()
        );
        let daemon = Daemon::start(&site.namespace, &config);
        Self { site, daemon }
    }

    fn as_user(&self, uid: u32, groups: &[u32], arguments: &[&str]) -> CommandOutput {
        finish(&mut self.site.command_as(uid, groups, arguments))
    }

    /// Asserts that nobody is banned or allowed and that `lo` is protected.
    #[track_caller]
    fn assert_unchanged(&self) {
        let status = self.daemon.json(&["status"]);
        assert_eq!((&status["bans"], &status["allow"]), (&json!(0), &json!(0)));
        assert_eq!(status["interfaces"][0]["state"], "attached");
    }
}

#[test]
fn others_cannot_even_connect_unless_everyone_may_read() {
    require_root!();
    let open = Open::new("group = \"daemon\"");
    let mode = fs::metadata(open.site.socket()).expect("a socket");
    assert_eq!(mode.permissions().mode() & 0o777, 0o660);
    for command in [&["status"][..], &["ban", "add", "203.0.113.7"]] {
        open.as_user(NOBODY, &[NOBODY], command)
            .complains(1, &["not permitted to talk to abuser"]);
    }
    open.assert_unchanged();
    // Whoever is in the group may do everything.
    let ban = ["ban", "add", "203.0.113.7"];
    open.as_user(NOBODY, &[NOBODY, DAEMON], &ban).success();
    assert_eq!(open.daemon.json(&["status"])["bans"], 1);
}

#[test]
fn if_everyone_may_read_others_do_and_change_nothing() {
    require_root!();
    let open = Open::new("group = \"daemon\"\nread_only = \"everyone\"");
    for command in [
        &["status"][..],
        &["limits"],
        &["ban", "list"],
        &["allow", "list"],
        &["throttle", "list"],
        &["explain", "203.0.113.7"],
    ] {
        open.as_user(NOBODY, &[NOBODY], command).success();
    }
    for command in [
        &["ban", "add", "203.0.113.7"][..],
        &["ban", "remove", "--all"],
        &["allow", "add", "203.0.113.7"],
        &["allow", "remove", "203.0.113.7"],
        &["throttle", "add", "203.0.113.7", "--limit", "slow"],
        &["throttle", "remove", "203.0.113.7"],
        &["reload"],
        &["confirm"],
        &["detach"],
    ] {
        // Root's group does not make root.
        for groups in [&[NOBODY][..], &[0, NOBODY]] {
            open.as_user(NOBODY, groups, command).complains(
                1,
                &["may only read here; root and members of the group `daemon`"],
            );
        }
    }
    open.assert_unchanged();
}

#[test]
fn if_everyone_may_read_root_and_members_of_the_group_may_do_everything() {
    require_root!();
    let open = Open::new("group = \"daemon\"\nread_only = \"everyone\"");
    open.as_user(NOBODY, &[DAEMON], &["ban", "add", "203.0.113.1"])
        .success();
    open.as_user(NOBODY, &[NOBODY, DAEMON], &["ban", "add", "203.0.113.2"])
        .success();
    open.daemon.abuser(&["ban", "add", "203.0.113.3"]).success();
    assert_eq!(open.daemon.json(&["status"])["bans"], 3);
    let bans = open.daemon.json(&["ban", "list"]);
    let by = bans.as_array().expect("an array").iter();
    let by: Vec<_> = by.map(|ban| ban["by"].clone()).collect();
    assert!(by.contains(&json!("root")), "{by:?}");
    assert!(by.contains(&json!("nobody")), "{by:?}");
}

#[test]
fn a_group_that_is_not_there_is_refused_at_the_start() {
    require_root!();
    let site = Site::new();
    let config = with_api(&site, "group = \"no-such-group\"");
    site.run(&config, &[])
        .complains(1, &["no group \"no-such-group\"", "[api] group"]);
    site.assert_untouched();
}

/// This site's configuration with more lines in `[api]`.
fn with_api(site: &Site, lines: &str) -> PathBuf {
    let path = site.config();
    let text = fs::read_to_string(&path).expect("just written");
    let text = text.replace("[api]\n", &format!("[api]\n{lines}\n"));
    fs::write(&path, text).expect("writing a configuration");
    path
}

/// Writes a token and says how to configure it.
fn token_file(site: &Site, token: &str, mode: u32) -> String {
    let path = site.path("token");
    fs::write(&path, token).expect("writing a token");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    format!("token_file = \"{}\"", path.display())
}

#[test]
fn tcp_without_a_token_is_refused_where_it_is_configured_and_at_the_start() {
    require_root!();
    let site = Site::new();
    let config = with_api(&site, "listen = \"127.0.0.1:9090\"");
    let place = format!("{}:3:10:", config.display());
    let phrases = [&place, "`listen` in [api] without `token_file`"];
    site.run(&config, &[]).complains(2, &phrases);
    let check = ["check", "-c", config.to_str().expect("UTF-8")];
    finish(&mut site.command(&check)).complains(2, &phrases);
    site.assert_untouched();
}

#[test]
fn a_token_that_is_none_or_no_secret_is_refused_and_changes_nothing() {
    require_root!();
    let site = Site::new();
    for (token, mode, phrase) in [
        (TOKEN, 0o644, "(mode 644): run `chmod 600 "),
        (TOKEN, 0o640, "(mode 640): run `chmod 600 "),
        ("short", 0o600, "5 bytes, and 16 are the least"),
        ("", 0o600, "0 bytes, and 16 are the least"),
    ] {
        let file = token_file(&site, token, mode);
        let config = with_api(&site, &format!("listen = \"127.0.0.1:9090\"\n{file}"));
        site.run(&config, &[])
            .complains(2, &["token", phrase, "[api] token_file"]);
        site.assert_untouched();
    }
    let missing = "listen = \"127.0.0.1:9090\"\ntoken_file = \"/nowhere/token\"";
    site.run(&with_api(&site, missing), &[])
        .complains(2, &["cannot read the secret in /nowhere/token"]);
    site.assert_untouched();
}

#[test]
fn a_port_that_is_taken_is_refused_by_address_and_changes_nothing() {
    require_root!();
    let site = Site::new();
    let file = token_file(&site, TOKEN, 0o600);
    let config = with_api(&site, &format!("listen = \"127.0.0.1:9090\"\n{file}"));
    let _taken = site
        .namespace
        .run(|| std::net::TcpListener::bind("127.0.0.1:9090").expect("a port"));
    site.run(&config, &[])
        .complains(1, &["cannot listen at 127.0.0.1:9090", "[api] listen"]);
    site.assert_untouched();
}

/// A daemon that listens at 127.0.0.1:9090 of its namespace.
fn remote() -> (Site, Daemon) {
    let site = Site::new();
    let file = token_file(&site, &format!("{TOKEN}\n"), 0o600);
    let config = format!("interfaces = [\"lo\"]\n[api]\nlisten = \"127.0.0.1:9090\"\n{file}\n");
    let daemon = Daemon::start(&site.namespace, &config);
    (site, daemon)
}

fn over_tcp(site: &Site, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let header = token.map_or_else(String::new, |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let request = message(method, path, &header, body.as_bytes());
    site.namespace
        .run(|| exchange(connect_tcp("127.0.0.1:9090"), &request))
}

#[test]
fn over_tcp_the_token_opens_everything() {
    require_root!();
    let (site, daemon) = remote();
    let ask = |method, path, body| over_tcp(&site, method, path, Some(TOKEN), body).json();
    assert_eq!(ask("GET", "/v1/status", "")["bans"], 0);
    assert_eq!(ask("GET", "/v1/openapi.json", "")["openapi"], "3.1.0");
    let ban = ask("POST", "/v1/bans", "{\"sources\":[\"203.0.113.7/32\"]}");
    assert_eq!(ban[0]["by"], "token from 127.0.0.1");
    assert_eq!(daemon.json(&["status"])["bans"], 1);
    let answer = over_tcp(&site, "GET", "/v1/nothing", Some(TOKEN), "");
    answer.refuses(404, &["no such resource"]);
    assert!(!daemon.stderr().contains("plain HTTP"));
}

#[test]
fn over_tcp_nothing_is_told_without_the_token() {
    require_root!();
    let (site, daemon) = remote();
    let ban = "{\"sources\":[\"203.0.113.7/32\"]}";
    for token in [None, Some(""), Some("wrong"), Some(&TOKEN[..27])] {
        for (method, path, body) in [
            ("GET", "/v1/status", ""),
            ("GET", "/v1/openapi.json", ""),
            ("GET", "/v1/events", ""),
            ("GET", "/v1/nothing", ""),
            ("PUT", "/v1/bans", ""),
            ("POST", "/v1/bans", ban),
            ("POST", "/v1/detach", "{}"),
        ] {
            let answer = over_tcp(&site, method, path, token, body);
            answer.refuses(401, &["Authorization: Bearer"]);
            assert!(answer.head.contains("www-authenticate: bearer"));
        }
    }
    assert_eq!(daemon.json(&["status"])["bans"], 0);
    // Who was turned away is counted, by what was asked for.
    let metrics = request(&daemon, "GET", "/metrics", b"").body;
    for (method, route, count) in [
        ("GET", "/v1/status", 4),
        ("GET", "none", 4),
        ("other", "/v1/bans", 4),
        ("POST", "/v1/bans", 4),
    ] {
        let begun = "abuser_api_request_duration_seconds_count{";
        let labels = [
            format!("method=\"{method}\""),
            format!("route=\"{route}\""),
            "code=\"401\"".to_owned(),
        ];
        let counted = metrics.lines().find(|line| {
            line.starts_with(begun) && labels.iter().all(|label| line.contains(label))
        });
        let counted = counted.and_then(|line| line.rsplit_once(' '));
        let counted = counted.map(|(_, count)| count.to_owned());
        assert_eq!(counted, Some(count.to_string()), "{labels:?} in {metrics}");
    }
}

#[test]
fn who_may_do_what_waits_for_a_restart() {
    require_root!();
    let (site, daemon) = remote();
    let text = fs::read_to_string(daemon.config_path()).expect("a configuration");
    let text = text.replace(
        "listen = \"127.0.0.1:9090\"",
        "listen = \"127.0.0.1:9091\"\nread_only = \"everyone\"\ngroup = \"daemon\"",
    );
    fs::write(daemon.config_path(), text).expect("writing a configuration");
    assert_eq!(
        daemon.json(&["reload"])["needs_restart"],
        json!(["[api] group", "[api] read_only", "[api] listen"])
    );
    over_tcp(&site, "GET", "/v1/status", Some(TOKEN), "").json();
}

#[test]
fn a_daemon_that_others_can_reach_over_tcp_says_that_they_can_read_the_token() {
    require_root!();
    let site = Site::new();
    let file = token_file(&site, TOKEN, 0o600);
    let config = format!("interfaces = [\"lo\"]\n[api]\nlisten = \"0.0.0.0:9090\"\n{file}\n");
    let daemon = Daemon::start(&site.namespace, &config);
    let said = daemon.stderr();
    assert!(said.contains("plain HTTP"), "{said}");
    assert!(!said.contains(TOKEN), "{said}");
}
