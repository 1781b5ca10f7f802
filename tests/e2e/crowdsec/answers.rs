//! Answers that no local API should give, and those of newer ones than Debian has.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Daemon, Namespace, require_root};

use super::{bans, section, status, wait_for};
use crate::support::{PATIENCE, abuser, wait_until, wait_until_seen};

/// A request, as far as it matters: its first line, its header and its body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) head: String,
    pub(super) body: String,
}

/// What is answered: a whole answer, with its status line; `None`: nothing, and the connection stays.
type Script = dyn Fn(&Request) -> Option<String> + Send;

/// A header of answers after which the connection stays, as if there were more.
const MORE_TO_COME: &str = "x-more-to-come: yes\r\n";

/// A server that answers what it is told to.
pub(super) struct Lapi {
    script: Arc<Mutex<Box<Script>>>,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lapi {
    fn start(namespace: &Namespace) -> Self {
        let listener = namespace
            .run(|| TcpListener::bind("127.0.0.1:8080"))
            .expect("listening");
        listener.set_nonblocking(true).expect("not blocking");
        let script: Box<Script> = Box::new(|_| Some(ok("{\"new\":[],\"deleted\":[]}")));
        let script = Arc::new(Mutex::new(script));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let shared = (
            Arc::clone(&script),
            Arc::clone(&requests),
            Arc::clone(&stop),
        );
        let thread = thread::spawn(move || {
            let (script, requests, stop) = shared;
            let mut held = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).expect("blocking");
                let Some(request) = request(&stream) else {
                    continue;
                };
                requests.lock().expect("requests").push(request.clone());
                match script.lock().expect("a script")(&request) {
                    Some(answer) => {
                        // Whoever has heard enough may have gone.
                        let _gone = (&stream).write_all(answer.as_bytes());
                        if answer.contains(MORE_TO_COME) {
                            held.push(stream);
                        }
                    }
                    None => held.push(stream),
                }
            }
        });
        Self {
            script,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn answer(&self, script: impl Fn(&Request) -> Option<String> + Send + 'static) {
        *self.script.lock().expect("a script") = Box::new(script);
    }

    pub(super) fn requests(&self, path: &str) -> Vec<Request> {
        let requests = self.requests.lock().expect("requests");
        let wanted = requests
            .iter()
            .filter(|request| request.line.contains(path));
        wanted.cloned().collect()
    }
}

impl Drop for Lapi {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn request(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let lower = header.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head += &lower;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line,
        head,
        body: String::from_utf8(body).ok()?,
    })
}

/// An answer with this status and body, after which the connection is closed.
pub(super) fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

pub(super) fn ok(body: &str) -> String {
    http("200 OK", "content-type: application/json\r\n", body)
}

/// A decision about an address.
pub(super) fn decision(id: u64, address: &str) -> Value {
    json!({
        "id": id, "uuid": format!("uuid-{id}"), "origin": "CAPI", "type": "ban", "scope": "Ip",
        "value": address, "duration": "1h0m0.5s", "scenario": "crowdsecurity/ssh-bf",
    })
}

pub(super) fn snapshot(decisions: &[Value]) -> String {
    json!({"new": decisions, "deleted": null}).to_string()
}

/// A daemon on `lo` that follows such a server.
pub(super) struct Followed {
    _namespace: Namespace,
    _folder: TempDir,
    pub(super) lapi: Lapi,
    pub(super) daemon: Daemon,
}

impl Followed {
    pub(super) fn new(script: impl Fn(&Request) -> Option<String> + Send + 'static) -> Self {
        Self::with(false, script)
    }

    /// One that pushes as the machine `here`, if it does.
    pub(super) fn with(
        pushes: bool,
        script: impl Fn(&Request) -> Option<String> + Send + 'static,
    ) -> Self {
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        let lapi = Lapi::start(&namespace);
        lapi.answer(script);
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key");
        std::fs::write(&key, "0123456789\n").expect("writing a key");
        let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        std::fs::set_permissions(&key, private).expect("making it private");
        let push = format!(
            "push = true\nmachine_id = \"here\"\npassword_file = \"{}\"",
            key.display()
        );
        let push = if pushes { &*push } else { "" };
        let config = format!("interfaces = [\"lo\"]\n{}", section(&key, push));
        let daemon = Daemon::start(&namespace, &config);
        Self {
            _namespace: namespace,
            _folder: folder,
            lapi,
            daemon,
        }
    }
}

#[test]
fn what_is_no_answer_changes_nothing_and_is_told() {
    require_root!();
    let good = snapshot(&[decision(1, "203.0.113.1")]);
    let answer = ok(&good);
    let followed = Followed::new(move |_| Some(answer.clone()));
    let expected = [("203.0.113.1/32", "crowdsec")];
    wait_for(&followed.daemon, &expected);
    let first = &followed.lapi.requests("/v1/decisions/stream")[0];
    for part in ["startup=true", "scopes=ip%2Crange", "dedup=false"] {
        assert!(first.line.contains(part), "{first:?}");
    }
    assert!(
        first.head.contains("x-api-key: 0123456789\r\n"),
        "{first:?}"
    );
    let agent = format!("user-agent: abuser/{}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(first.head.contains(&agent), "{first:?}");

    let cut = ok(&good).replace(&good, &good[..good.len() / 2]);
    let elsewhere = "location: http://127.0.0.1:8080/elsewhere\r\n";
    let huge = ok(&format!("{{\"new\":[\"{}\"]}}", "x".repeat(2 << 20)));
    for (bad, phrase) in [
        (ok("{\"message\":\"fine\"}"), "no `new`"),
        (ok(""), "no list of decisions"),
        (
            ok("{\"new\":17,\"deleted\":[]}"),
            "expected an array of decisions or null",
        ),
        (
            ok("{\"new\":[{\"value\":\"203.0.113.9\"}],\"deleted\":[]}"),
            "none of its decisions can be read",
        ),
        (ok(&good[..good.len() - 1]), "EOF"),
        (cut, "no answer"),
        (huge, "more than 1048576 bytes"),
        (
            http("401 Unauthorized", "", "{\"message\":\"not you\"}"),
            "not you",
        ),
        (
            http("403 Forbidden", "", "{\"message\":\"access forbidden\"}"),
            "cscli bouncers",
        ),
        (http("500 Internal Server Error", "", "<html>"), "500"),
        (http("302 Found", elsewhere, ""), "[crowdsec] url"),
        ("nonsense\r\n\r\n".to_owned(), "no answer"),
    ] {
        let answer = bad.clone();
        followed.lapi.answer(move |_| Some(answer.clone()));
        let error = || {
            let status = status(&followed.daemon);
            status["error"].as_str().unwrap_or_default().to_owned()
        };
        // A reload asks at once.
        followed.daemon.abuser(&["reload"]).success();
        wait_until_seen(phrase, error, |error| error.contains(phrase));
        assert_eq!(status(&followed.daemon)["connected"], false);
        assert_eq!(bans(&followed.daemon).len(), 1, "{bad:?}");
    }
    assert!(
        followed.lapi.requests("/elsewhere").is_empty(),
        "a key is not sent elsewhere"
    );
    // After any of them, all is asked for.
    let answer = ok(&snapshot(&[
        decision(2, "203.0.113.2"),
        decision(1, "203.0.113.1"),
    ]));
    followed.lapi.answer(move |request| {
        request
            .line
            .contains("startup=true")
            .then(|| answer.clone())
    });
    followed.daemon.abuser(&["reload"]).success();
    wait_for(
        &followed.daemon,
        &[expected[0], ("203.0.113.2/32", "crowdsec")],
    );
}

#[test]
fn nulls_and_what_is_deleted_twice_or_unknown_do_no_harm() {
    require_root!();
    let first = ok(&snapshot(&[
        decision(1, "203.0.113.1"),
        decision(2, "203.0.113.1"),
        decision(3, "203.0.113.3"),
    ]));
    let followed = Followed::new(move |request| {
        if request.line.contains("startup=true") {
            return Some(first.clone());
        }
        let deleted = [
            decision(3, "203.0.113.3"),
            decision(1, "203.0.113.1"),
            decision(99, "203.0.113.9"),
            json!(null),
        ];
        Some(ok(&json!({"new": null, "deleted": deleted}).to_string()))
    });
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
    let asked = followed.lapi.requests("startup=false").len();
    wait_until("more answers", || {
        followed.lapi.requests("startup=false").len() > asked + 2
    });
    wait_for(&followed.daemon, &[("203.0.113.1/32", "crowdsec")]);
    assert_eq!(status(&followed.daemon)["decisions"], 1);
    assert_eq!(status(&followed.daemon)["failures"], 0);
}

#[test]
fn a_local_api_that_says_nothing_holds_up_neither_a_start_nor_commands_nor_a_stop() {
    require_root!();
    let mut followed = Followed::new(|_| None);
    wait_until("it to be asked", || {
        !followed.lapi.requests("stream").is_empty()
    });
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    assert_eq!(status(&followed.daemon)["connected"], false);
    let begin = Instant::now();
    assert!(followed.daemon.terminate().success(), "it was not killed");
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn an_answer_that_stops_half_way_holds_up_nobody() {
    require_root!();
    let good = snapshot(&[decision(1, "203.0.113.1"), decision(2, "203.0.113.2")]);
    let answer = ok(&good);
    let followed = Followed::new(move |_| Some(answer.clone()));
    let expected = [
        ("203.0.113.1/32", "crowdsec"),
        ("203.0.113.2/32", "crowdsec"),
    ];
    wait_for(&followed.daemon, &expected);
    let half = http("200 OK", MORE_TO_COME, &good).replace(&good, &good[..good.len() / 2]);
    followed.lapi.answer(move |_| Some(half.clone()));
    let asked = followed.lapi.requests("startup=true").len();
    followed.daemon.abuser(&["reload"]).success();
    wait_until("it to be asked", || {
        followed.lapi.requests("startup=true").len() > asked
    });
    wait_for(&followed.daemon, &expected);
    let more = ok(&snapshot(&[decision(3, "203.0.113.3")]));
    followed.lapi.answer(move |_| Some(more.clone()));
    followed.daemon.abuser(&["reload"]).success();
    wait_for(&followed.daemon, &[("203.0.113.3/32", "crowdsec")]);
}

#[test]
fn usage_is_told_to_whoever_has_use_for_it_and_others_are_asked_once() {
    require_root!();
    let answer = |request: &Request| {
        if request.line.contains("usage-metrics") {
            return Some(http("201 Created", "", ""));
        }
        Some(ok(&snapshot(&[
            decision(1, "203.0.113.1"),
            decision(2, "2001:db8::1"),
        ])))
    };
    let followed = Followed::new(answer);
    wait_until("usage", || {
        !followed.lapi.requests("/v1/usage-metrics").is_empty()
    });
    let told = &followed.lapi.requests("/v1/usage-metrics")[0];
    assert!(told.line.starts_with("POST "), "{told:?}");
    let told: Value = serde_json::from_str(&told.body).expect("JSON");
    let component = &told["remediation_components"][0];
    assert_eq!(
        (&component["type"], &component["version"]),
        (&"abuser".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert!(component["utc_startup_timestamp"].is_u64(), "{told}");
    let metrics = &component["metrics"][0];
    assert!(metrics["meta"]["window_size_seconds"].is_u64(), "{told}");
    let items = metrics["items"].as_array().expect("a list");
    let active = |family: &str| {
        let is_it = |item: &&Value| item["labels"] == json!({"origin": "CAPI", "ip_type": family});
        items.iter().find(is_it).map(|item| item["value"].clone())
    };
    assert_eq!(
        (active("ipv4"), active("ipv6")),
        (Some(1.into()), Some(1.into())),
        "{told}"
    );

    let old = Followed::new(move |request| {
        if request.line.contains("usage-metrics") {
            return Some(http("404 Not Found", "", ""));
        }
        answer(request)
    });
    wait_until("three answers", || old.lapi.requests("stream").len() >= 3);
    assert_eq!(old.lapi.requests("/v1/usage-metrics").len(), 1);
    assert_eq!(status(&old.daemon)["failures"], 0);
}

#[test]
fn many_decisions_are_in_force_at_once_and_hold_up_nobody() {
    const MANY: u64 = 5_000;
    require_root!();
    let decisions = (0..MANY).map(|number| {
        let address = format!("198.18.{}.{}", number / 256, number % 256);
        decision(number + 1, &address)
    });
    let text = snapshot(&decisions.collect::<Vec<_>>());
    let end = Instant::now() + Duration::from_secs(3600);
    let followed = Followed::new(move |request| {
        if !request.line.contains("startup=true") {
            return Some(ok("{\"new\":null,\"deleted\":null}"));
        }
        // A local API tells how much is left.
        let left = end.saturating_duration_since(Instant::now()).as_secs_f64();
        Some(ok(&text.replace("1h0m0.5s", &format!("{left}s"))))
    });
    wait_until("all of them", || {
        let begin = Instant::now();
        let bans = followed.daemon.json(&["status"])["bans"].as_u64();
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
        bans == Some(MANY)
    });
    // They are the same when all are asked for again: nobody is banned anew.
    let before = followed.daemon.json(&["ban", "show", "198.18.1.1"]);
    let asked = followed.lapi.requests("startup=true").len();
    followed.daemon.abuser(&["reload"]).success();
    wait_until("another answer", || {
        followed.lapi.requests("startup=true").len() > asked
            && status(&followed.daemon)["connected"] == true
    });
    followed
        .daemon
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    wait_until("the lists to be gone through", || {
        followed.daemon.json(&["status"])["bans"].as_u64() == Some(MANY + 1)
    });
    let after = followed.daemon.json(&["ban", "show", "198.18.1.1"]);
    assert_eq!(before[0]["created"], after[0]["created"]);
}

#[test]
fn a_check_warns_of_files_that_cannot_be_read_and_refuses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789").expect("writing a key");
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    std::fs::set_permissions(&key, private).expect("making it public");
    let config = folder.path().join("abuser.toml");
    let push = "push = true\nmachine_id = \"here\"\npassword_file = \"/nonexistent/password\"";
    std::fs::write(&config, section(&key, push)).expect("writing a configuration");
    let said = abuser(&["check", "-c", config.to_str().expect("UTF-8")]).success();
    for phrase in [
        "warning: [crowdsec]: ",
        "(mode 644): run `chmod 600 ",
        "cannot read the secret in /nonexistent/password",
    ] {
        assert!(said.stderr.contains(phrase), "no {phrase:?}: {said}");
    }
}
