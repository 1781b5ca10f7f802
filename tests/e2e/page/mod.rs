//! The page, in a real browser.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `document` | headers, whom it is for, and when it is there |
//! | `session` | signing in and out |
//! | `shown` | what is shown live, and what can be done |
//! | `search` | bans that are looked for |
//! | `hostile`, `foreign` | texts and pages of others |
//! | `absence` | a daemon that is gone, a page that nobody looks at |
//! | `everyone` | small screens, no mouse, no sight |
//! | `scene` | the picture in README.md |
//! | `browser` | the browser |

mod absence;
mod browser;
mod document;
mod everyone;
mod foreign;
mod hostile;
mod scene;
mod search;
mod session;
mod shown;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Daemon, Namespace, require_root, traffic::send_udp};

use self::browser::{Browser, processes};
use crate::http::{Answer, connect_tcp, exchange, message};

const TOKEN: &str = "correct-horse-battery-staple";
const ADDRESS: &str = "127.0.0.1:9090";
const PAGE: &str = "http://127.0.0.1:9090/";

/// A limit that few datagrams are over, and that no request of a browser is under.
const LIMIT: &str = r#"
[[limit]]
name = "tight"
protocol = "udp"
ports = [9]
rate = "1/h"
burst = 9
[ban]
require_verified = false
maxretry = 1000
"#;

/// A daemon on `lo` that browsers find a page at.
struct Site {
    namespace: Namespace,
    daemon: Daemon,
    _folder: TempDir,
}

impl Site {
    #[track_caller]
    fn new(tables: &str) -> Self {
        Self::with("page = true", tables)
    }

    #[track_caller]
    fn with(api: &str, tables: &str) -> Self {
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a folder for a token");
        let config = format!(
            "interfaces = [\"lo\"]\n[api]\n{}{api}\n{tables}",
            listening(folder.path())
        );
        let daemon = Daemon::start(&namespace, &config);
        Self {
            namespace,
            daemon,
            _folder: folder,
        }
    }

    /// A browser in which somebody has signed in.
    #[track_caller]
    fn browser(&self) -> Browser {
        let browser = Browser::start(&self.namespace);
        sign_in(&browser);
        browser
    }

    /// A request over TCP.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = message(method, path, headers, b"");
        self.namespace
            .run(|| exchange(connect_tcp(ADDRESS), &request))
    }

    #[track_caller]
    fn abuser(&self, arguments: &[&str]) {
        self.daemon.abuser(arguments).success();
    }

    /// Bans these, for an hour.
    #[track_caller]
    fn import(&self, sources: impl Iterator<Item = String>) {
        let file = self.daemon.config_path().with_file_name("list.txt");
        let list: Vec<_> = sources.collect();
        fs::write(&file, list.join("\n")).expect("writing a list");
        let file = file.to_str().expect("UTF-8");
        self.abuser(&["ban", "import", file, "--for", "1h"]);
    }

    #[track_caller]
    fn bans(&self) -> Vec<Value> {
        let bans = self.daemon.json(&["ban", "list"]);
        bans.as_array().expect("a list").clone()
    }
}

/// Writes a token; the lines of `[api]` that have the daemon listen for who knows it.
fn listening(folder: &Path) -> String {
    let token = folder.join("token");
    fs::write(&token, TOKEN).expect("writing a token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("chmod");
    format!(
        "listen = \"{ADDRESS}\"\ntoken_file = \"{}\"\n",
        token.display()
    )
}

#[track_caller]
fn sign_in(browser: &Browser) {
    browser.open(PAGE);
    browser.fill("#token", &format!("{TOKEN}\n"));
    browser.wait_for("document.querySelector('#connection').dataset.state === 'live'");
}

#[track_caller]
fn send(namespace: &Namespace, source: &str, count: u64) {
    let source = source.parse().expect("an address");
    let target = "127.0.0.1:9".parse().expect("an address");
    send_udp(namespace, source, target, 1000.0, count).expect("sending");
}

/// Of a table's row that has this text: an expression that is what `what` of it is, or `null`.
fn row(body: &str, text: &str, what: &str) -> String {
    format!(
        "([...document.querySelectorAll('#{body} tr')].find((row) => \
         row.innerText.includes({}))?.{what} ?? null)",
        json!(text)
    )
}

#[test]
fn a_browser_that_a_test_has_used_is_gone_after_it() {
    require_root!();
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let browser = Browser::start(&namespace);
    let mark = browser.mark().to_owned();
    let used = processes(&mark);
    assert!(used.len() > 2, "{used:?}");
    drop(browser);
    assert_eq!(processes(&mark), []);
}
