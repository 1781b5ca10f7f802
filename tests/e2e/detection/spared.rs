//! Whom nothing happens to, whatever logs say of them.

use std::{net::IpAddr, time::Duration};

use serde_json::json;
use testkit::{Daemon, require_root};

use super::{Site, assert_banned};
use crate::support::{PATIENCE, parse, wait_until};

const FORWARDED: &str = "\
log_format forwarded '$remote_addr - $remote_user [$time_local] \"$request\" $status '
    '$body_bytes_sent \"$http_referer\" \"$http_user_agent\" \"$http_x_forwarded_for\"';
server {
    listen 80;
    access_log FOLDER/forwarded.log forwarded;
    location /login { return 401; }
    location / { return 200; }
}
";

/// Trusts 192.0.2.66, and allows 192.0.2.68.
fn daemon(site: &Site) -> Daemon {
    let log = site.nginx.path("forwarded.log");
    site.daemon(&format!(
        "[allow]\naddresses = [\"192.0.2.68\"]\n\
         [[source]]\nfiles = [\"{}\"]\nparser = \"nginx-combined\"\n\
         trusted_proxies = [\"192.0.2.66\"]\n\
         [[detector]]\nname = \"logins\"\nwhere = 'status == 401'\ncount = 5\nwithin = \"1m\"\n\
         action = \"ban\"\n",
        log.display()
    ))
}

fn log_in(site: &Site, source: IpAddr, forwarded_for: Option<&str>) {
    let header = forwarded_for.map_or_else(String::new, |client| {
        format!("X-Forwarded-For: {client}\r\n")
    });
    for _ in 0..5 {
        assert_eq!(site.request(source, "POST", "/login", &header), Some(401));
    }
}

#[test]
fn the_client_behind_a_trusted_proxy_is_banned_and_the_proxy_is_not() {
    require_root!();
    let site = Site::new(FORWARDED);
    let daemon = daemon(&site);
    let [proxy, client] = [66, 67].map(|number| site.client(number));
    // What a client writes before its own address is not believed.
    log_in(&site, proxy, Some("192.0.2.99, 192.0.2.67"));
    assert_banned(&site, &daemon, client);
    assert!(site.answers(proxy));
}

#[test]
fn who_is_no_trusted_proxy_speaks_for_itself_alone() {
    require_root!();
    let site = Site::new(FORWARDED);
    let daemon = daemon(&site);
    let [liar, other] = [69, 70].map(|number| site.client(number));
    log_in(&site, liar, Some("192.0.2.70"));
    assert_banned(&site, &daemon, liar);
    assert!(site.answers(other));
}

#[test]
fn a_trusted_proxy_and_who_is_allowed_are_told_and_never_banned() {
    require_root!();
    let site = Site::new(FORWARDED);
    let daemon = daemon(&site);
    let events = daemon.stream(&["events", "--kind", "detect", "--json"]);
    let [proxy, allowed] = [66, 68].map(|number| site.client(number));
    for (source, action) in [
        (proxy, "nothing: 192.0.2.66/32 is a trusted proxy"),
        (allowed, "nothing: 192.0.2.68/32 is allowed"),
    ] {
        let mut told = None;
        wait_until("it is told", || {
            log_in(&site, source, None);
            told = events.next_line(Duration::from_millis(500));
            told.is_some()
        });
        let told = parse(&told.expect("a line"));
        assert_eq!(told["source"], format!("{source}/32"));
        assert_eq!(told["action"], action);
        assert!(site.answers(source));
        while events.next_line(Duration::from_millis(100)).is_some() {}
    }
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
    // It goes on as it was, for who comes next.
    let client = site.client(71);
    log_in(&site, client, None);
    events.wait_for(PATIENCE, |line| line.contains("\"ban\""));
    assert_banned(&site, &daemon, client);
}
