//! The document: its headers, whom it is for, and when it is there.

use std::fs;

use serde_json::json;
use testkit::require_root;

use super::{Site, TOKEN};
use crate::http::request;

#[test]
fn the_page_is_one_document_for_everyone_with_strict_headers_and_no_data() {
    require_root!();
    let site = Site::new("");
    site.abuser(&["ban", "add", "203.0.113.7"]);
    let page = site.ask("GET", "/", "");
    assert_eq!(page.status, 200, "{}", page.head);
    for header in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
        "cross-origin-resource-policy: same-origin",
        "permissions-policy: camera=()",
    ] {
        let is_there = page.head.lines().any(|line| line.starts_with(header));
        assert!(is_there, "no {header} in {}", page.head);
    }
    let policy = page.head.lines();
    let policy = policy.filter_map(|line| line.strip_prefix("content-security-policy: "));
    let [policy] = policy.collect::<Vec<_>>()[..] else {
        panic!("not one policy: {}", page.head);
    };
    let mut directives: Vec<_> = policy.split("; ").collect();
    directives.sort_unstable();
    let (hashed, fixed): (Vec<_>, Vec<_>) = directives
        .into_iter()
        .partition(|directive| directive.contains("'sha256-"));
    assert_eq!(
        fixed,
        [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src data:",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    );
    let kinds: Vec<_> = hashed.iter().map(|text| text.split(' ').count()).collect();
    assert_eq!(kinds, [2, 2], "one hash for scripts and one for styles");
    assert!(!page.head.contains("access-control-"), "{}", page.head);
    assert!(!page.head.contains("set-cookie"), "{}", page.head);
    for secret in [TOKEN, "203.0.113.7/32"] {
        assert!(!page.body.contains(secret), "{secret}");
    }
    // Nothing else is there for everyone.
    for path in [
        "/index.html",
        "/script.js",
        "/favicon.ico",
        "/v1/status",
        "//",
        "/?/v1/status/..",
    ] {
        let answer = site.ask("GET", path, "");
        assert!(
            answer.status == 401 || (path.starts_with("/?") && answer.body == page.body),
            "{path}: {}",
            answer.head
        );
    }
    site.ask("POST", "/", "").refuses(405, &["no such method"]);
    let head = site.ask("HEAD", "/", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    // Not over the socket: nobody browses there.
    request(&site.daemon, "GET", "/", b"").refuses(404, &["no such resource"]);
}

#[test]
fn without_being_asked_for_there_is_no_page() {
    require_root!();
    for api in ["", "page = false"] {
        let site = Site::with(api, "");
        site.ask("GET", "/", "")
            .refuses(401, &["Authorization: Bearer"]);
        let token = format!("authorization: Bearer {TOKEN}\r\n");
        site.ask("GET", "/", &token)
            .refuses(404, &["no such resource"]);
        assert!(!site.daemon.stderr().contains("page"));
    }
}

#[test]
fn that_there_is_to_be_a_page_waits_for_a_restart() {
    require_root!();
    let mut site = Site::with("", "");
    let path = site.daemon.config_path();
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text.replace("[api]\n", "[api]\npage = true\n")).expect("writing it");
    let reloaded = site.daemon.json(&["reload"]);
    assert_eq!(reloaded["needs_restart"], json!(["[api] page"]));
    site.ask("GET", "/", "").refuses(401, &["Authorization"]);
    site.daemon.terminate();
    site.daemon.restart();
    assert_eq!(site.ask("GET", "/", "").status, 200);
    assert!(
        site.daemon
            .stderr()
            .contains("a page at http://127.0.0.1:9090/")
    );
}
