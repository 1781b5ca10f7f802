//! Where and how metrics are told.

use std::{fs, os::unix::fs::PermissionsExt as _};

use testkit::{Daemon, Namespace, require_root};

use super::{
    Site,
    page::Page,
    prometheus::{Prometheus, check_metrics},
};
use crate::{
    http::{connect_tcp, exchange, message, request},
    support::{Complains as _, abuser},
};

#[test]
fn promtool_finds_nothing_wrong_with_the_text_format_and_open_metrics_has_an_end() {
    require_root!();
    let site = Site::new();
    site.live();
    let text = site.ask("GET", "/metrics", "accept: text/plain\r\n");
    assert_eq!(text.status, 200, "{}", text.body);
    let content = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(text.head.contains(content), "{}", text.head);
    assert!(text.body.contains("# TYPE abuser_packets_total counter"));
    let checked = check_metrics(&site.namespace, &text.body).success();
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));

    let open = site.ask("GET", "/metrics", "");
    let content = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(open.head.contains(content), "{}", open.head);
    assert!(open.body.ends_with("\n# EOF\n"), "{}", open.body);
}

#[test]
fn the_socket_tells_metrics_too_and_where_they_are_told_there_is_nothing_else() {
    require_root!();
    let site = Site::new();
    let page = request(&site.daemon, "GET", "/metrics", b"");
    assert_eq!(page.status, 200, "{}", page.body);
    Page::parse(&page.body).value("abuser_store_up", &[]);
    for path in ["/", "/v1/status", "/v1/bans", "/v1/openapi.json"] {
        site.ask("GET", path, "")
            .refuses(404, &["no such resource"]);
    }
    for (method, path) in [
        ("POST", "/v1/detach"),
        ("POST", "/metrics"),
        ("DELETE", "/v1/bans"),
    ] {
        site.ask(method, path, "").refuses(403, &["only GET here"]);
    }
}

#[test]
fn prometheus_scrapes_over_the_api_s_tcp_with_the_token_and_gets_nothing_without() {
    require_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "correct-horse-battery-staple").expect("writing a token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("chmod");
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let _daemon = Daemon::start(
        &namespace,
        &format!(
            "interfaces = [\"lo\"]\n[api]\nlisten = \"127.0.0.1:9091\"\ntoken_file = \"{}\"\n",
            token.display()
        ),
    );
    let bare = message("GET", "/metrics", "", b"");
    let bare = namespace.run(|| exchange(connect_tcp("127.0.0.1:9091"), &bare));
    bare.refuses(401, &["Authorization: Bearer"]);
    let prometheus = Prometheus::start(
        &namespace,
        &format!(
            "    authorization:\n      credentials_file: {}\n    static_configs:\n      \
             - targets: [\"127.0.0.1:9091\"]\n",
            token.display()
        ),
    );
    prometheus.wait_for("abuser_interface_attached{interface=\"lo\"}", 1.0);
}

#[test]
fn metrics_are_told_on_loopback_only_and_another_place_wants_a_restart() {
    require_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("abuser.toml");
    fs::write(&path, "[metrics]\nlisten = \"192.0.2.1:9842\"\n").expect("a configuration");
    abuser(&["check", "-c", path.to_str().expect("UTF-8")]).complains(
        2,
        &[
            ":2:10:",
            "192.0.2.1:9842 is no loopback address",
            "[api] listen",
        ],
    );
    let site = Site::new();
    let path = site.daemon.config_path();
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text.replace("127.0.0.1:9842", "127.0.0.1:9843")).expect("writing it");
    let reloaded = site.daemon.json(&["reload"]);
    assert_eq!(
        reloaded["needs_restart"],
        serde_json::json!(["[metrics] listen"])
    );
    // It goes on where it was.
    site.page();
}

#[test]
fn a_port_that_is_taken_is_refused_at_the_start() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let _taken = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:9842").expect("a port"));
    let binary = testkit::abuser_binary().unwrap_or_else(|error| panic!("{error}"));
    let config = "interfaces = [\"lo\"]\n[metrics]\nlisten = \"127.0.0.1:9842\"\n";
    let refused = Daemon::try_start(&binary, &namespace, config);
    let error = refused.expect_err("the port is taken").to_string();
    assert!(error.contains("cannot listen at 127.0.0.1:9842"), "{error}");
    assert!(error.contains("[metrics] listen"), "{error}");
}
