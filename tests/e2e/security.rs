//! What the daemon gives up once it runs, what it goes on with, and whom each route of the API answers.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testkit::{Daemon, Namespace, privilege, require_root};

use crate::{
    http::{connect, connect_tcp, message},
    support::{Site, daemon_on_lo, parse, wait_until},
};

/// `CAP_DAC_READ_SEARCH`, `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`, by their numbers in
/// linux/capability.h.
const KEPT: [u32; 5] = [2, 10, 12, 38, 39];

fn mask(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |mask, number| mask | 1 << number)
}

/// A number of a `/proc/PID/status`, in its own base.
#[track_caller]
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let text = line.unwrap_or_else(|| panic!("no {name} in {status}"));
    u64::from_str_radix(text.trim_start_matches(':').trim(), 16).expect("a number")
}

/// The status of each of the daemon's threads.
fn threads(daemon: &Daemon) -> Vec<String> {
    let folder = format!("/proc/{}/task", daemon.pid());
    let entries = fs::read_dir(folder).expect("its threads");
    let statuses = entries.filter_map(|entry| {
        // A thread may have ended meanwhile.
        fs::read_to_string(entry.ok()?.path().join("status")).ok()
    });
    statuses.collect()
}

#[track_caller]
fn assert_confined(daemon: &Daemon, kept: u64) {
    let threads = threads(daemon);
    assert!(threads.len() > 3, "{threads:?}");
    for status in threads {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(field(&status, set), kept, "{set} of {status}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), 0, "{set} of {status}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), 1, "{status}");
        // By a filter.
        assert_eq!(field(&status, "Seccomp"), 2, "{status}");
    }
}

#[test]
fn no_thread_of_a_daemon_that_runs_has_more_than_it_needs() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let status = daemon.json(&["status"]);
    let security = &status["security"];
    assert_eq!(security["sandbox"], "on");
    assert_eq!(security["no_new_privileges"], true);
    assert_eq!(security["seccomp"], true);
    assert_eq!(
        security["capabilities"],
        json!([
            "CAP_DAC_READ_SEARCH",
            "CAP_NET_BIND_SERVICE",
            "CAP_NET_ADMIN",
            "CAP_PERFMON",
            "CAP_BPF"
        ])
    );
    assert_confined(&daemon, mask(&KEPT));
    let said = daemon.abuser(&["status"]).success();
    let line = said
        .stdout
        .lines()
        .find(|line| line.starts_with("security:"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("PERFMON, BPF; "), "{line}");
    assert!(line.ends_with("seccomp"), "{line}");
}

#[test]
fn a_daemon_that_has_less_to_begin_with_starts_and_one_without_a_sandbox_keeps_all() {
    require_root!();
    let (_namespace, off) = daemon_on_lo("[security]\nsandbox = \"off\"\n");
    let all = field(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm");
    for status in threads(&off) {
        assert_eq!(field(&status, "CapPrm"), all, "{status}");
    }
    let said = off.abuser(&["status"]).success();
    assert!(said.stdout.contains("; the sandbox is off\n"), "{said}");

    let namespace = Namespace::new().unwrap();
    // Those of the unit.
    privilege::leave_only(&[2, 12, 38, 39]);
    let daemon = Daemon::start(&namespace, "interfaces = [\"lo\"]\n");
    assert_confined(&daemon, mask(&[2, 12, 38, 39]));
}

#[test]
fn a_reload_and_a_removed_socket_find_all_that_they_need() {
    require_root!();
    let site = Site::new();
    let group = "[api]\ngroup = \"daemon\"\n";
    let (namespace, daemon) = daemon_on_lo(group);
    let added = namespace.run(|| {
        std::process::Command::new("ip")
            .args([
                "link", "add", "veth0", "type", "veth", "peer", "name", "veth1",
            ])
            .status()
    });
    assert!(added.expect("ip").success());
    // A log that is another user's own.
    let private = site.path("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
    let log = private.join("app.log");
    fs::write(&log, "").unwrap();
    for path in [&log, &private] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    let more = format!(
        "{}\n[[source]]\nname = \"app\"\nfiles = [\"{}\"]\nparser = \"json\"\n\
         [[source]]\nname = \"port\"\nsyslog = \"127.0.0.1:514\"\nparser = \"json\"\n",
        text.replace("[\"lo\"]", "[\"lo\", \"veth0\"]"),
        log.display()
    );
    fs::write(daemon.config_path(), more).unwrap();
    let reloaded = daemon.json(&["reload"]);
    assert_eq!(reloaded["needs_restart"], json!([]), "{reloaded}");
    let status = daemon.json(&["status"]);
    for interface in status["interfaces"].as_array().unwrap() {
        assert_eq!(interface["state"], "attached", "{status}");
    }
    fs::write(&log, "{\"a\": 1}\n").unwrap();
    let lines = |name: &str| {
        let sources = daemon.json(&["detectors"])["sources"].clone();
        let mut sources = sources.as_array().unwrap().clone().into_iter();
        sources.find(|source| source["name"] == name).unwrap()
    };
    wait_until("the private log is read", || lines("app")["lines"] == 1);
    assert_eq!(lines("port")["error"], Value::Null, "{}", lines("port"));

    // Its group is set again, without CAP_CHOWN.
    fs::remove_file(daemon.socket()).unwrap();
    wait_until("the socket is there again", || {
        fs::metadata(daemon.socket()).is_ok_and(|socket| {
            use std::os::unix::fs::MetadataExt as _;
            socket.gid() == 1 && socket.permissions().mode() & 0o777 == 0o660
        })
    });
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    assert_eq!(daemon.json(&["status"])["store"]["error"], Value::Null);
    assert_confined(&daemon, mask(&KEPT));
}

#[test]
fn what_asks_for_what_was_given_up_is_named_by_a_reload() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).unwrap();
    let hook = "[[notify]]\nname = \"hook\"\ncommand = [\"/bin/true\"]\n";
    fs::write(&path, format!("{text}\n{hook}")).unwrap();
    let needs = daemon.json(&["reload"])["needs_restart"].clone();
    assert_eq!(needs, json!(["[[notify]] command"]));

    // A place that it may not write to is refused by the kernel, and nothing is made there.
    let name = daemon.pin_dir().file_name().expect("a name of its own");
    let socket = Path::new("/run").join(name).join("elsewhere.sock");
    let source = format!(
        "[[source]]\nname = \"app\"\nsyslog = \"{}\"\nparser = \"json\"\n",
        socket.display()
    );
    fs::write(&path, format!("{text}\n{source}")).unwrap();
    let needs = daemon.json(&["reload"])["needs_restart"].clone();
    assert_eq!(needs, json!(["[[source]] syslog"]));
    if daemon.json(&["status"])["security"]["landlock"].is_u64() {
        wait_until("the kernel refuses it", || {
            let told = daemon.json(&["detectors"])["sources"][0]["error"].clone();
            told.as_str()
                .is_some_and(|told| told.contains("Permission denied"))
        });
        assert!(!socket.parent().expect("a folder").exists());
    }
}

/// Runs a hook that notes what it may do in the daemon's own folder, and returns that.
fn as_a_command(sandbox: &str) -> (String, PathBuf, Site) {
    let site = Site::new();
    let hook = site.path("hook");
    let elsewhere = site.path("elsewhere");
    let namespace = Namespace::new().unwrap();
    let tables = format!(
        "interfaces = [\"lo\"]\n[security]\nsandbox = \"{sandbox}\"\n\
         [[notify]]\nname = \"hook\"\ncommand = [\"{}\"]\ntimeout = \"60s\"\n",
        hook.display()
    );
    fs::write(&hook, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let daemon = Daemon::start(&namespace, &tables);
    let own = daemon.store_path().with_file_name("told");
    let script = format!(
        "#!/bin/sh\nexec 2>/dev/null\n{{ cat /proc/self/status\n\
         touch {} && echo wrote elsewhere\nunshare --mount true && echo made a namespace\n\
         nsenter --net=/proc/self/ns/net true && echo entered a namespace\n\
         }} > {own}.new\nmv {own}.new {own}\n",
        elsewhere.display(),
        own = own.display()
    );
    fs::write(&hook, script).unwrap();
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    wait_until("the command has run", || own.exists());
    (fs::read_to_string(&own).unwrap(), elsewhere, site)
}

#[test]
fn commands_may_do_what_root_may_and_the_daemon_itself_may_not() {
    require_root!();
    let all = field(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm");
    let (told, elsewhere, _site) = as_a_command("auto");
    assert_eq!(field(&told, "CapEff"), all, "{told}");
    assert!(
        told.contains("wrote elsewhere\nmade a namespace\n"),
        "{told}"
    );
    assert!(elsewhere.exists());

    let (_namespace, daemon) =
        daemon_on_lo("[[notify]]\nname = \"hook\"\ncommand = [\"/bin/true\"]\n");
    assert_eq!(daemon.json(&["status"])["security"]["sandbox"], "commands");
    for status in threads(&daemon) {
        // And CAP_KILL, to end commands that have become somebody else.
        let kept = mask(&KEPT) | mask(&[5]);
        assert_eq!(field(&status, "CapPrm"), kept, "{status}");
        assert_eq!(field(&status, "CapEff"), kept, "{status}");
    }
}

#[test]
fn a_command_inside_the_sandbox_writes_nowhere_else_and_enters_no_namespace() {
    require_root!();
    let (told, elsewhere, _site) = as_a_command("on");
    // CAP_NET_ADMIN for the firewall and CAP_DAC_READ_SEARCH.
    assert_eq!(field(&told, "CapEff"), mask(&[2, 12]), "{told}");
    assert_eq!(field(&told, "CapPrm"), mask(&[2, 12]), "{told}");
    assert!(!told.contains("made a namespace"), "{told}");
    assert!(!told.contains("entered a namespace"), "{told}");
    assert!(!told.contains("wrote elsewhere"), "{told}");
    assert!(!elsewhere.exists());
}

/// Each method of each path of the API's document.
fn routes() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let document = parse(&fs::read_to_string(path).expect("the document"));
    let paths = document["paths"].as_object().expect("paths").iter();
    let routes: Vec<_> = paths
        .flat_map(|(path, item)| {
            let path = path.replace("{address}", "203.0.113.7");
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    assert!(routes.len() > 25, "{routes:?}");
    routes
}

/// The status that a request is answered with; its body is none that any route takes.
#[track_caller]
fn ask(mut stream: impl Read + Write, route: &(String, String), headers: &str) -> u16 {
    let (method, path) = route;
    let body = if method == "GET" { "" } else { "nonsense" };
    let request = message(method, path, headers, body.as_bytes());
    stream.write_all(&request).expect("sending a request");
    // A stream of events does not end.
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    let start = String::from_utf8_lossy(&start).into_owned();
    let status = start.strip_prefix("HTTP/1.1 ").expect("HTTP");
    status.parse().expect("a status")
}

#[test]
fn every_route_answers_those_it_may_and_refuses_all_others() {
    require_root!();
    let site = Site::new();
    let token = site.path("token");
    fs::write(&token, "correct-horse-battery-staple").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "interfaces = [\"lo\"]\n[api]\nsocket = \"{}\"\ngroup = \"daemon\"\nread_only = \"everyone\"\n\
         listen = \"127.0.0.1:9090\"\npage = true\ntoken_file = \"{}\"\n[metrics]\nlisten = \"127.0.0.1:9842\"\n",
        site.socket().display(),
        token.display()
    );
    let daemon = Daemon::start(&site.namespace, &config);
    let socket = daemon.socket().to_owned();
    let tcp = |port: u16, route: &_, headers: &str| {
        let stream = site
            .namespace
            .run(|| connect_tcp(&format!("127.0.0.1:{port}")));
        ask(stream, route, headers)
    };
    for route in &routes() {
        let (method, path) = route;
        let reads = method == "GET";
        let is_let_in = |status: u16| status != 401 && status != 403;
        let nobody = privilege::as_nobody(|| UnixStream::connect(&socket));
        let nobody = ask(nobody.expect("a connection"), route, "");
        assert_eq!(is_let_in(nobody), reads, "{route:?}: {nobody} to nobody");
        assert!(reads || nobody == 403, "{route:?}: {nobody}");
        for (headers, who) in [
            ("", "without a token"),
            (
                "authorization: Bearer correct-horse-battery-stapl\r\n",
                "a part",
            ),
            ("cookie: token=correct-horse-battery-staple\r\n", "a cookie"),
        ] {
            assert_eq!(tcp(9090, route, headers), 401, "{route:?} {who}");
        }
        let metrics = tcp(9842, route, "");
        if path == "/metrics" {
            assert_eq!(metrics, 200);
        } else {
            assert!([403, 404].contains(&metrics), "{route:?}: {metrics}");
        }
        let known = "authorization: Bearer correct-horse-battery-staple\r\n";
        let status = tcp(9090, route, known);
        assert!(is_let_in(status), "{route:?}: {status} to the token");
        let root = ask(connect(&daemon), route, "");
        assert!(is_let_in(root), "{route:?}: {root} to root");
    }
    // Nothing of that was an order.
    assert_eq!(daemon.json(&["status"])["bans"], 0);
}

/// All files of Rust below a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a file"));
        }
    }
}

/// What there must be for a name that a page quotes, if it is that of a test or of a module of tests. A name may be
/// cut short by an ellipsis.
fn sought(quoted: &str) -> Option<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || "_0123456789:…".contains(c);
    let is_of_test =
        quoted.contains("::") || quoted.ends_with('…') || quoted.matches('_').count() > 3;
    if !is_of_test || !quoted.chars().all(is_name) || quoted.starts_with("abuser_") {
        return None;
    }
    let (modules, name) = quoted.rsplit_once("::").unwrap_or(("", quoted));
    Some(match name.strip_suffix('…') {
        Some("") => format!("mod {}", modules.rsplit("::").next().unwrap_or(modules)),
        Some(beginning) => format!("fn {beginning}"),
        None if name.contains('_') => format!("fn {name}("),
        None => format!("mod {name}"),
    })
}

#[test]
fn every_test_that_the_pages_of_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = String::new();
    for folder in [
        "abuser-common/src",
        "abuser-detect/src",
        "abuser-userspace/src",
        "tests/e2e",
        "tests/netns",
        "tests/testrun",
        "tests/fuzz",
    ] {
        sources(&root.join(folder), &mut all);
    }
    for (page, least) in [("SECURITY.md", 40), ("RELIABILITY.md", 80)] {
        let text = fs::read_to_string(root.join("docs").join(page)).expect("the page");
        let quoted = text.split('`').skip(1).step_by(2);
        let sought: Vec<_> = quoted.filter_map(sought).collect();
        assert!(sought.len() > least, "{page}: {sought:?}");
        let missing: Vec<_> = sought.iter().filter(|name| !all.contains(*name)).collect();
        assert!(missing.is_empty(), "{page}: there is no {missing:?}");
    }
}
