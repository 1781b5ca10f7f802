//! Which records the detectors of presets are given, and what they do.

use abuser_detect::{condition::Condition, detect::Finding, record::Record, time::Time};

use super::{detectors::named, good};
use crate::config::Config;

fn preset(name: &str) -> Config {
    good(&format!(
        "[[source]]\nfiles = [\"/a\"]\npreset = \"{name}\"\n"
    ))
}

fn request<'l>(method: &'l str, path: &'l str, status: u16) -> Record<'l> {
    Record {
        source: Some([192, 0, 2, 1].into()),
        method: Some(method.into()),
        path: Some(path.into()),
        status: Some(status),
        ..Record::default()
    }
}

/// Whether a detector is given a record.
fn wants(config: &Config, detector: &str, record: &Record<'_>) -> bool {
    let condition = named(config, detector).condition.as_deref();
    let condition: Condition = condition.expect("a condition").parse().expect("one");
    condition.holds(record)
}

/// What a detector finds of so many records, one a second.
fn found(config: &Config, detector: &str, records: &[Record<'_>]) -> Option<Finding> {
    let mut built = named(config, detector).kind.build();
    let mut times = (1_000_000..).step_by(1000).map(Time);
    let mut given = records
        .iter()
        .filter(|record| wants(config, detector, record));
    given.find_map(|record| built.observe(record, times.next()?))
}

#[test]
fn a_post_to_a_path_of_a_login_is_one() {
    let config = preset("nginx");
    for path in [
        "/login",
        "/login/",
        "/Login",
        "/login.php",
        "/login.php/x",
        "/Account/Login.aspx",
        "/login?next=/blog",
        "/login;jsessionid=1A2B",
        "/shop/login_check",
        "/user/sign-in",
        "/users/sign_in",
        "/signin",
        "/log-in",
        "/customer/account/loginPost/",
        "/auth",
        "/api/auth/",
        "/api/v1/authenticate",
        "/api/v1/authn",
        "/sessions",
        "/api/session.json",
        "/token",
        "/oauth/token",
        "/oauth2/v1/token?grant_type=password",
        "/realms/a/protocol/openid-connect/token",
        "/api/v1/login/access-token",
        "/api-token-auth/",
        "/auth/local",
        "/api/auth/callback/credentials",
        "/wp-login.php",
        "/blog/xmlrpc.php",
        "/j_spring_security_check",
        "/api/v2/users/login",
        "login",
        "https://example.com/login",
        // Other spellings that servers take for it.
        "//login",
        "/login/.",
        "/a%2Flogin%2F",
        "/login#x",
        "/login.php#x?y",
        "/login.php%2fx",
        "/users/sign_in.x",
        "/users/sign_in.foobar",
        "/dologin.action",
        "/account/login.php3",
        "/login/;x",
        "/login%20",
    ] {
        for status in [200, 302, 401, 403] {
            let post = request("POST", path, status);
            assert!(wants(&config, "web-stuffing", &post), "{path} {status}");
        }
        let get = request("GET", path, 401);
        assert!(!wants(&config, "web-stuffing", &get), "{path}");
    }
}

#[test]
fn failures_at_paths_that_are_escaped_for_nothing_count_and_successes_do_not() {
    let config = preset("nginx");
    for path in [
        "/%6cogin",
        "/log%69n?x",
        "/%4Cogin",
        "/sign%2din",
        "/login/x/..",
    ] {
        for (status, counts) in [(401, true), (403, true), (200, false), (302, false)] {
            let post = request("POST", path, status);
            assert_eq!(
                wants(&config, "web-stuffing", &post),
                counts,
                "{path} {status}"
            );
        }
    }
}

#[test]
fn a_post_to_any_other_path_is_no_login() {
    let config = preset("nginx");
    for path in [
        "/",
        "/api/orders",
        "/author",
        "/authors/",
        "/authority/7",
        "/auth/refresh",
        "/broadcasting/auth",
        "/app/pusher/auth",
        "/api/token/refresh/",
        "/api/tokens",
        "/refresh-token",
        "/tokenizer",
        "/tokens/7",
        "/csrf-token",
        "/blog-in",
        "/blogin",
        "/plugin",
        "/design-in",
        "/signing",
        "/logs",
        "/login/history/7",
        "/sessions/7/messages",
        "/obsession",
        "/logout",
        "/register",
        "/search?next=/login",
        "/api/v4/projects/group%2Fproject/issues",
        "/caf%C3%A9/%E4%BD%A0",
        "/a%20b/%5B1%5D/%40me",
    ] {
        let post = request("POST", path, 401);
        assert!(!wants(&config, "web-stuffing", &post), "{path}");
    }
}

#[test]
fn an_application_whose_session_has_run_out_is_no_stuffer_and_who_tries_passwords_is() {
    let config = preset("nginx");
    for status in [401, 403] {
        let mut posts = vec![request("POST", "/api/orders", status); 40];
        posts.push(request("POST", "/api/session", 200));
        posts.push(request("POST", "/api/orders", 201));
        assert_eq!(found(&config, "web-stuffing", &posts), None);
        let tries = vec![request("POST", "/api/login", status); 20];
        assert!(found(&config, "web-stuffing", &tries).is_some());
        let mut success = vec![request("POST", "/api/login", status); 10];
        success.push(request("POST", "/api/login", 200));
        assert!(found(&config, "web-stuffing", &success).is_some());
    }
}

#[test]
fn only_what_does_harm_whoever_caused_it_bans() {
    for (name, bans) in [
        ("nginx", &["web-stuffing", "web-throttled"][..]),
        ("api", &["web-stuffing", "web-throttled", "api-throttled"]),
        ("sshd", &["sshd-failures"]),
        ("nginx-error", &[]),
    ] {
        let config = preset(name);
        let banning = config.detectors.iter().map(|detector| &detector.rule);
        let banning = banning.filter(|rule| rule.action.name() == "ban");
        let banning: Vec<_> = banning.map(|rule| rule.name.as_str()).collect();
        assert_eq!(banning, bans, "{name}");
    }
    for (preset_of, detector) in [("nginx", "web-enumeration"), ("api", "api-enumeration")] {
        let config = preset(preset_of);
        let walk = named(&config, detector);
        assert_eq!(
            (walk.kind.name(), walk.rule.action.name()),
            ("enumeration", "alert")
        );
    }
}

#[test]
fn what_pages_embed_and_what_is_refused_is_no_probing() {
    let config = preset("nginx");
    for path in [
        "/.env",
        "/wp-admin/",
        "/backup.sql",
        "/x.php?a=b.png",
        "/admin",
    ] {
        let get = request("GET", path, 404);
        assert!(wants(&config, "web-probing", &get), "{path}");
        for status in [200, 301, 401, 403, 405] {
            let get = request("GET", path, status);
            assert!(!wants(&config, "web-probing", &get), "{path} {status}");
        }
    }
    for path in [
        "/img/7.png",
        "/img/7.JPEG?v=2",
        "/app.js",
        "/app.mjs.map",
        "/font.woff2",
        "/clip.webm",
        "/favicon.ico",
        "/robots.txt",
        "/.well-known/security.txt",
        "/apple-touch-icon-precomposed.png",
    ] {
        let get = request("GET", path, 404);
        assert!(!wants(&config, "web-probing", &get), "{path}");
    }
    // What was no request at all.
    let garbage = Record {
        method: None,
        path: None,
        ..request("", "", 400)
    };
    assert!(wants(&config, "web-probing", &garbage));
}
