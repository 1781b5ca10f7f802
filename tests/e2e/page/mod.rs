//! The page, in a real browser: what it shows, what can be done there, what it keeps to itself, and
//! what happens if nobody answers.

mod browser;
mod foreign;
mod scene;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Daemon, Namespace, require_root, traffic::send_udp};

use self::browser::{Browser, ENTER, ESCAPE, processes};
use crate::{
    http::{Answer, connect_tcp, exchange, message, request},
    support::{parse, wait_until},
};

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

#[test]
fn nobody_gets_in_without_the_token_and_it_stays_in_the_tab() {
    require_root!();
    let site = Site::new("");
    site.abuser(&["ban", "add", "203.0.113.7"]);
    let browser = Browser::start(&site.namespace);
    browser.open(PAGE);
    let is_out = "!document.querySelector('#sign-in').hidden && \
                  document.querySelector('#picture').hidden";
    browser.wait_for(is_out);
    for wrong in [
        "wrong",
        "correct-horse-battery-stapl",
        "correct-horse-battery-staple2",
        "\u{e4}",
    ] {
        browser.fill("#token", &format!("{wrong}\n"));
        browser.wait_for_text("#sign-in-problem", "does not know this token");
        browser.wait_for(is_out);
        assert_eq!(browser.value("sessionStorage.length"), 0, "{wrong}");
        // The next one has to be said anew.
        browser.run("document.querySelector('#sign-in-problem').textContent = ''");
    }
    assert!(
        !browser
            .run("return document.body.innerText")
            .to_string()
            .contains("203.0.113.7")
    );
    browser.fill("#token", &format!(" {TOKEN} \n"));
    browser.wait_for_text("#bans", "203.0.113.7");
    assert_eq!(browser.value("location.href"), PAGE);
    assert_eq!(browser.value("localStorage.length"), 0);
    assert_eq!(browser.value("document.cookie"), "");
    assert_eq!(browser.value("document.querySelector('#token').value"), "");
    browser.reload();
    browser.wait_for_text("#bans", "203.0.113.7");
    browser.click("#sign-out");
    browser.wait_for(is_out);
    assert_eq!(browser.value("sessionStorage.length"), 0);
    browser.reload();
    browser.wait_for(is_out);

    // A token that is not valid any more is asked for again.
    browser.run("sessionStorage.setItem('abuser-token', 'of-yesterday-and-long-enough')");
    browser.reload();
    browser.wait_for_text("#sign-in-problem", "does not know this token any more");
}

#[test]
fn it_shows_live_what_the_commands_tell_and_why_and_unbans() {
    require_root!();
    let site = Site::new(LIMIT);
    let browser = site.browser();
    send(&site.namespace, "127.0.0.66", 500);
    let came = Instant::now();
    site.abuser(&[
        "ban",
        "add",
        "127.0.0.66",
        "--for",
        "1h",
        "--reason",
        "knocks",
    ]);
    browser.wait_for(&format!(
        "{} !== null",
        row("bans", "127.0.0.66", "innerText")
    ));
    let took = came.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let ban = browser
        .value(&row("bans", "127.0.0.66", "innerText"))
        .to_string();
    for phrase in ["59m", "by hand, root", "knocks"] {
        assert!(ban.contains(phrase), "no {phrase} in {ban}");
    }
    send(&site.namespace, "127.0.0.66", 30);
    site.abuser(&["throttle", "list"]);

    let told = site.daemon.json(&["status"]);
    let packets = |name: &str| {
        told["outcomes"][name]["packets"]
            .as_u64()
            .expect("a number")
    };
    assert!(
        packets("dropped_limit") >= 490 && packets("dropped_ban") >= 30,
        "{told}"
    );
    for name in [
        "dropped_limit",
        "dropped_ban",
        "observed",
        "allowed",
        "malformed",
    ] {
        let shown = "querySelector('[data-packets]').dataset.packets";
        browser.wait_for(&format!(
            "Number(document.querySelector('#traffic-{name}').{shown}) === {}",
            packets(name)
        ));
    }
    // What passes goes on all the time.
    let passed = packets("passed");
    browser.wait_for(&format!(
        "Number(document.querySelector('#traffic-passed [data-packets]').dataset.packets) >= {passed}"
    ));
    let shown =
        browser.value("document.querySelector('#traffic-passed [data-packets]').dataset.packets");
    let shown: u64 = shown.as_str().expect("text").parse().expect("a number");
    let later = site.daemon.json(&["status"]);
    assert!(Some(shown) <= later["outcomes"]["passed"]["packets"].as_u64());
    let version = format!("\"{}\"", told["version"].as_str().expect("a version"));
    browser.wait_for(&format!(
        "document.querySelector('#fact-version').innerText === {version}"
    ));
    browser.wait_for_text("#fact-interfaces", "lo");
    browser.wait_for_text("#fact-mode", "enforcing");

    // The busiest source: all of its bucket is used, and it is banned.
    let busiest = row("top", "127.0.0.66", "innerText");
    browser.wait_for(&format!("({busiest} ?? '').includes('all of 10, tight')"));
    browser.wait_for(&format!("({busiest} ?? '').includes('banned 59m')"));
    let limit = row("limits", "tight", "innerText");
    browser.wait_for(&format!("({limit} ?? '').includes('udp/9')"));
    browser.wait_for_text("#events", "by hand");

    // A search says why.
    browser.fill("#search-address", "127.0.0.66\n");
    browser.wait_for_text("#verdict", "Dropped: it is banned.");
    browser.wait_for_text("#explain-body", "knocks; by root");
    browser.wait_for_text("#explain-body", "0 of 10 left for 127.0.0.66");
    browser.click("#explain [data-close]");
    browser.fill("#search-address", "127.0.0.67\n");
    browser.wait_for_text("#verdict", "Passes.");
    browser.click("#explain [data-close]");
    browser.fill("#search-address", "nonsense\n");
    browser.wait_for_text("#explain-body", "is not an IP address");
    browser.click("#explain [data-close]");

    // A click unbans, after a question.
    browser.click("#bans button.small");
    browser.wait_for_text("#act-title", "Unban 127.0.0.66?");
    browser.click("#act [data-close]");
    assert_eq!(site.bans().len(), 1, "nothing was said yet");
    browser.click("#bans button.small");
    browser.click("#act-submit");
    wait_until("it is not banned any more", || site.bans().is_empty());
    browser.wait_for_text("#toast", "127.0.0.66 is not banned any more");
    browser.wait_for_text("#bans-empty", "Nobody is banned.");
    let history = site.daemon.json(&["explain", "127.0.0.66"]);
    assert_eq!(
        history["history"][0]["how"],
        "removed by token from 127.0.0.1"
    );
}

#[test]
fn who_is_signed_in_bans_allows_and_has_the_daemon_observe() {
    require_root!();
    let site = Site::new("");
    let browser = site.browser();
    browser.click("#ban-new");
    browser.fill("#act-source", "203.0.113.7");
    browser.fill("#act-duration", "1d 12 parsecs");
    browser.click("#act-submit");
    browser.wait_for_text("#act-problem", "is not a time");
    browser.fill("#act-duration", "1d 12h");
    browser.fill("#act-reason", "tries doors");
    browser.click("#act-submit");
    browser.wait_for_text("#bans", "203.0.113.7");
    let bans = site.bans();
    assert_eq!(bans[0]["reason"], "tries doors");
    assert_eq!(bans[0]["by"], "token from 127.0.0.1");
    let left = bans[0]["remaining_seconds"].as_u64().expect("an end");
    assert!((129_000..=129_600).contains(&left), "{left}");

    // What the daemon refuses is said in its own words, and nothing is done.
    browser.click("#ban-new");
    browser.fill("#act-source", "203.0.0.0/8");
    browser.click("#act-submit");
    browser.wait_for("document.querySelector('#act-problem').innerText.length > 10");
    assert!(browser.text("#act-problem").contains("203.0.0.0/8"));
    browser.fill("#act-source", "203.0.113.8");
    browser.fill("#act-duration", "permanent\n");
    browser.wait_for_text("#bans", "for good");
    assert_eq!(site.bans().len(), 2);

    browser.fill("#search-address", "203.0.113.7\n");
    browser.wait_for_text("#explain-actions", "Allow…");
    browser.run(
        "[...document.querySelectorAll('#explain-actions button')].find((button) => \
                 button.innerText === 'Allow…').click()",
    );
    browser.fill("#act-reason", "mine\n");
    browser.wait_for_text("#verdict", "the allow list has it");
    let allow = site.daemon.json(&["allow", "list"]);
    assert_eq!(allow[0]["note"], "mine");
    browser.run(
        "[...document.querySelectorAll('#explain-actions button')].find((button) => \
                 button.innerText.includes('no more')).click()",
    );
    browser.click("#act-submit");
    browser.wait_for_text("#verdict", "Dropped: it is banned.");
    assert_eq!(site.daemon.json(&["allow", "list"]), json!([]));
    browser.click("#explain [data-close]");

    browser.click("#observe");
    browser.click("#act-submit");
    browser.wait_for_text("#banners", "only observes");
    assert_eq!(site.daemon.json(&["status"])["observe"], true);
    browser.click("#banners button");
    browser.click("#act-submit");
    browser.wait_for_text("#fact-mode", "enforcing");
    assert_eq!(site.daemon.json(&["status"])["observe"], false);
}

/// Text that would be more than text, if it were not put in as such.
const HOSTILE: [&str; 4] = [
    "<img src=x onerror=\"window.harmed=1;fetch('http://127.0.0.1:9091/')\">",
    "</script><script>window.harmed=1</script>",
    "\"><svg onload=window.harmed=1>{{7*7}}${window.harmed=1}",
    "javascript:window.harmed=1//\u{202e}\u{0}&lt;b&gt;",
];

#[test]
fn hostile_text_is_shown_as_it_is_and_nothing_is_asked_of_anybody_else() {
    require_root!();
    let site = Site::new(LIMIT);
    let browser = site.browser();
    for (number, reason) in HOSTILE.iter().enumerate() {
        let reason = reason.replace('\u{0}', "");
        let source = format!("203.0.113.{number}");
        site.abuser(&["ban", "add", &source, "--reason", &reason]);
        browser.wait_for_text("#bans", &source);
        let shown = browser.value(&row(
            "bans",
            &source,
            "querySelector('.reason').textContent",
        ));
        assert_eq!(shown, reason);
        browser.wait_for(&format!(
            "document.querySelector('#events').textContent.includes({})",
            json!(reason)
        ));
        browser.fill("#search-address", &format!("{source}\n"));
        browser.wait_for_text("#explain-title", &source);
        browser.wait_for(&format!(
            "document.querySelector('#explain-body').textContent.includes({})",
            json!(reason)
        ));
        browser.click("#explain [data-close]");
    }
    browser.fill("#bans-filter", HOSTILE[0]);
    browser.wait_for_text("#bans-count", "1 ban found");
    assert_eq!(browser.value("window.harmed ?? null"), Value::Null);
    let elements = "document.querySelectorAll('img, iframe, object, embed, base').length + \
                    document.scripts.length + document.styleSheets.length";
    assert_eq!(
        browser.value(elements),
        2,
        "its own script and style, and no more"
    );

    // One document, and requests to the daemon; nothing else came or was tried.
    let others = "performance.getEntriesByType('resource').map((entry) => entry.name)\
                  .filter((name) => !name.startsWith('http://127.0.0.1:9090/v1/'))";
    assert_eq!(browser.value(others), json!([]));
    let mut asked = 0;
    for entry in browser.log("performance") {
        let entry = parse(entry["message"].as_str().expect("text"));
        let message = &entry["message"];
        if message["method"] != "Network.requestWillBeSent" {
            continue;
        }
        let url = message["params"]["request"]["url"]
            .as_str()
            .expect("an address");
        // What a browser shows before it is sent anywhere, and the icon in the document itself.
        if url.starts_with("data:") || url.starts_with("about:") || url.starts_with("chrome:") {
            continue;
        }
        assert!(
            url == PAGE || url.starts_with("http://127.0.0.1:9090/v1/"),
            "{url}"
        );
        assert!(!url.contains(TOKEN), "{url}");
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
    let mut console = browser.log("browser");
    // What the browser's own first tab says is none of the page's.
    console.retain(|entry| {
        !entry["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("chrome://"))
    });
    assert_eq!(console, Vec::<Value>::new());
}

#[test]
fn of_many_bans_a_page_is_shown_and_the_rest_is_found() {
    require_root!();
    let site = Site::new("");
    site.import((0..3000).map(|number| format!("10.{}.{}.7", number / 250, number % 250)));
    site.abuser(&["ban", "add", "203.0.113.7", "--reason", "The Needle"]);
    let browser = site.browser();
    browser.wait_for_text("#bans-page", "1 to 50 of 3\u{202f}001");
    let rows = "document.querySelectorAll('#bans tr').length";
    assert_eq!(browser.value(rows), 50);
    // The latest comes first.
    let first = "document.querySelector('#bans tr').innerText";
    assert!(browser.value(first).to_string().contains("203.0.113.7"));
    assert_eq!(
        browser.value("document.querySelector('#bans-newer').disabled"),
        true
    );
    let sources =
        "[...document.querySelectorAll('#bans .address')].map((button) => button.innerText)";
    let on_the_first = browser.value(sources);
    browser.click("#bans-older");
    browser.wait_for_text("#bans-page", "51 to 100 of 3\u{202f}001");
    assert_eq!(browser.value(rows), 50);
    let on_the_second = browser.value(sources);
    for source in on_the_second.as_array().expect("a list") {
        let first = on_the_first.as_array().expect("a list");
        assert!(!first.contains(source), "{source} is on both pages");
    }
    browser.click("#bans-newer");
    browser.wait_for_text("#bans", "203.0.113.7");
    for (search, found, shown) in [
        ("needle", "1 ban found", "203.0.113.7"),
        ("10.3.0.0/16", "250 bans found", "10.3."),
        ("10.3.7.7", "1 ban found", "10.3.7.7"),
        ("IMPORT", "3\u{202f}000 bans found", "10."),
    ] {
        browser.fill("#bans-filter", search);
        browser.wait_for_text("#bans-count", found);
        browser.wait_for_text("#bans", shown);
    }
    browser.fill("#bans-filter", "nothing like it");
    browser.wait_for_text("#bans-empty", "No ban is found.");
    // All of them, a page after the other, each once.
    let mut seen = Vec::new();
    loop {
        let before = seen
            .last()
            .map_or_else(String::new, |id| format!("&before={id}"));
        let path = format!("/v1/bans/latest?limit=1000{before}");
        let page = request(&site.daemon, "GET", &path, b"").json();
        assert_eq!(page["found"], 3001);
        let bans = page["bans"].as_array().expect("a list").iter();
        let before = seen.len();
        seen.extend(bans.map(|ban| ban["id"].as_u64().expect("a number")));
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen.len(), 3001);
    assert!(seen.is_sorted_by(|one, other| one > other));
    for (query, phrase) in [
        ("limit=0", "ask for 1 to 1000"),
        ("limit=1001", "ask for 1 to 1000"),
        ("limit=many", "limit"),
        ("order=ends", "unknown field"),
    ] {
        request(
            &site.daemon,
            "GET",
            &format!("/v1/bans/latest?{query}"),
            b"",
        )
        .refuses(400, &[phrase]);
    }
}

#[test]
fn a_daemon_that_is_gone_is_missed_and_one_that_is_back_is_followed_again() {
    require_root!();
    let mut site = Site::new("");
    let browser = site.browser();
    site.abuser(&["ban", "add", "203.0.113.7"]);
    browser.wait_for_text("#bans", "203.0.113.7");
    site.daemon.kill();
    browser.wait_for_text("#connection", "connection lost");
    assert_eq!(
        browser.value("document.querySelector('#connection').dataset.state"),
        "lost"
    );
    site.daemon.restart();
    browser.wait_for("document.querySelector('#connection').dataset.state === 'live'");
    browser.wait_for_text("#toast", "The daemon was restarted");
    // Events are followed again, too.
    wait_until("events are followed", || {
        site.abuser(&["ban", "add", "203.0.113.8", "--reason", "after it"]);
        thread::sleep(Duration::from_millis(500));
        browser.text("#events").contains("after it")
    });
    browser.wait_for_text("#bans", "203.0.113.8");
}

#[test]
fn while_nobody_looks_the_daemon_is_left_alone() {
    require_root!();
    let site = Site::new("");
    let browser = site.browser();
    // A tab that is not in front is not told so without a window: have it told.
    let hide = |hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    hide(true);
    browser.wait_for_text("#connection", "resting");
    let asked = "performance.getEntriesByType('resource').length";
    // What was under way may still come.
    thread::sleep(Duration::from_secs(1));
    let before = browser.value(asked);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(browser.value(asked), before);
    hide(false);
    browser.wait_for("document.querySelector('#connection').dataset.state === 'live'");
    browser.wait_for(&format!("{asked} > {before}"));
}

#[test]
fn events_can_be_held_still_and_chosen_and_only_the_last_are_kept() {
    require_root!();
    let site = Site::new("");
    let browser = site.browser();
    site.import((0..50).map(|number| format!("10.7.0.{number}")));
    browser.wait_for("document.querySelectorAll('#events li').length === 50");
    browser.click("#events-pause");
    site.import((0..230).map(|number| format!("10.0.0.{number}")));
    browser.wait_for_text("#events-aside", "230 since the pause");
    let items = "document.querySelectorAll('#events li').length";
    assert_eq!(browser.value(items), 50);
    browser.click("#events-pause");
    browser.wait_for(&format!("{items} === 200"));
    browser.wait_for_text("#events li", "10.0.0.");
    browser.click("#events-kind option[value=unban]");
    browser.wait_for(&format!("{items} === 0"));
    wait_until("ends of bans are followed", || {
        site.abuser(&["ban", "add", "10.1.0.1"]);
        site.abuser(&["ban", "remove", "10.1.0.1"]);
        thread::sleep(Duration::from_millis(500));
        browser.value(items) != 0
    });
    let kinds = "[...new Set([...document.querySelectorAll('#events .badge')]\
                 .map((kind) => kind.innerText))]";
    assert_eq!(browser.value(kinds), json!(["unban"]));
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_screen_but_tables_that_scroll() {
    require_root!();
    let site = Site::new(LIMIT);
    send(&site.namespace, "127.0.0.66", 50);
    let long = "x".repeat(200);
    site.abuser(&["ban", "add", "2001:db8:1234:5678::/64", "--reason", &long]);
    site.abuser(&["ban", "add", "203.0.113.7", "--reason", &"word ".repeat(40)]);
    let browser = site.browser();
    browser.wait_for_text("#bans", "2001:db8:1234:5678::/64");
    browser.wait_for_text("#top", "127.0.0.66");
    for (width, height) in [
        (360, 740),
        (320, 568),
        (768, 1024),
        (1280, 800),
        (2560, 1440),
    ] {
        browser.resize(width, height);
        assert_fits(&browser, width, "the picture");
        browser.fill("#search-address", "2001:db8:1234:5678::1\n");
        browser.wait_for_text("#verdict", "Dropped");
        assert_fits(&browser, width, "an explanation");
        browser.click("#explain [data-close]");
        browser.click("#ban-new");
        assert_fits(&browser, width, "a question");
        browser.click("#act [data-close]");
    }
    browser.resize(360, 740);
    browser.click("#sign-out");
    assert_fits(&browser, 360, "who is not signed in");
}

/// Asserts that nothing hangs over the right edge.
#[track_caller]
fn assert_fits(browser: &Browser, width: u32, what: &str) {
    browser.wait_for(&format!("innerWidth === {width}"));
    let beyond = "[document.documentElement, document.body].some((element) => \
                  element.scrollWidth > document.documentElement.clientWidth)";
    assert_eq!(browser.value(beyond), false, "{what} at {width}");
    // Nor is anything cut off that cannot be scrolled to.
    let cut = "[...document.querySelectorAll('main *, header *')].filter((element) => \
               element.checkVisibility() && !element.closest('.unseen') && \
               !element.parentElement.closest('.scroll') && \
               element.getBoundingClientRect().right > document.documentElement.clientWidth)\
               .map((element) => element.outerHTML.slice(0, 100))";
    assert_eq!(browser.value(cut), json!([]), "{what} at {width}");
    let wide_dialog = "[...document.querySelectorAll('dialog[open]')].some((dialog) => \
                       dialog.scrollWidth > dialog.clientWidth || \
                       dialog.getBoundingClientRect().right > innerWidth)";
    assert_eq!(browser.value(wide_dialog), false, "{what} at {width}");
}

#[test]
fn whoever_cannot_see_it_or_use_a_mouse_can_use_it() {
    require_root!();
    let site = Site::new(LIMIT);
    send(&site.namespace, "127.0.0.66", 50);
    site.abuser(&["ban", "add", "203.0.113.7"]);
    let browser = site.browser();
    browser.wait_for_text("#bans", "203.0.113.7");
    browser.wait_for_text("#top", "127.0.0.66");
    assert_named(&browser);
    let headless = "[...document.querySelectorAll('th')].filter((head) => !head.scope || \
                    head.textContent.trim() === '').length";
    assert_eq!(browser.value(headless), 0);
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        assert_eq!(browser.run(CONTRAST), json!([]), "{scheme}");
    }
    // By the keyboard alone to an explanation and back to where one was.
    browser.run("document.querySelector('#bans .address').focus()");
    browser.press(ENTER);
    browser.wait_for_text("#verdict", "Dropped");
    browser.wait_for("document.querySelector('#explain').contains(document.activeElement)");
    assert_named(&browser);
    browser.press(ESCAPE);
    browser.wait_for("document.querySelector('#explain').open === false");
    browser.wait_for("document.activeElement.innerText === '203.0.113.7'");
    browser.run("document.querySelector('#ban-new').focus()");
    browser.press(ENTER);
    browser.wait_for("document.activeElement.id === 'act-source'");
    assert_named(&browser);
    assert_eq!(browser.run(CONTRAST), json!([]));
    browser.press(ESCAPE);
    browser.run("document.querySelector('#bans .address').focus()");
    // A look at the daemon takes nothing out of anybody's hands.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(
        browser.value("document.activeElement.innerText"),
        "203.0.113.7"
    );
}

/// Asserts that each control that is seen tells what it is.
#[track_caller]
fn assert_named(browser: &Browser) {
    let nameless = "[...document.querySelectorAll('button, input, select')].filter((control) => \
                    control.checkVisibility() && !(control.innerText.trim() || \
                    control.ariaLabel || control.labels?.length)).map((control) => control.outerHTML)";
    assert_eq!(browser.value(nameless), json!([]));
}

/// Text whose contrast with what is behind it is less than WCAG's AA asks for (4.5).
const CONTRAST: &str = r"
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const over = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
  }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (colour) => {
  const [r, g, b] = colour.map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const bad = [];
for (const element of document.querySelectorAll('body *')) {
  const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!isText || element.closest('.unseen, noscript, script, style, datalist, :disabled') || !element.checkVisibility()) {
    continue;
  }
  const behind = [];
  for (let at = element; at !== null; at = at.parentElement) {
    behind.unshift(getComputedStyle(at).backgroundColor);
  }
  const [one, other] = [over(behind), over([...behind, getComputedStyle(element).color])].map(light);
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) {
    bad.push(`${contrast.toFixed(2)} ${element.outerHTML.slice(0, 120)}`);
  }
}
return bad;
";

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
