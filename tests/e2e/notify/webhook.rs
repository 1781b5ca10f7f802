//! What a request is, and to whom it goes.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use testkit::{
    markdown::{Piece, pieces},
    peers, require_root,
};

use super::{SECRET, Site, addresses, ban, list, sources, status, text, wait_for};
use crate::support::{Complains as _, assert_keys, parse, wait_until};

/// Over it once is banned; nothing of a webhook's traffic meets it.
const LIMIT: &str = "[[policy]]\nname = \"strict\"\nmaxretry = 1\nrequire_verified = false\n\
     [[limit]]\nname = \"discard\"\nprotocol = \"udp\"\nports = [9]\nrate = \"1/h\"\npolicy = \"strict\"\n";

#[test]
fn a_ban_for_going_over_a_limit_reaches_the_receiver_signed() {
    require_root!();
    let site = Site::new();
    site.write("secret", SECRET);
    site.write("token", "tk_short\n");
    let daemon = site.daemon(&format!(
        "{LIMIT}[[notify]]\nname = \"chat\"\nurl = \"URL\"\nsecret_file = \"FOLDER/secret\"\n\
         bearer_file = \"FOLDER/token\"\nheaders = {{ X-Room = \"ops\" }}\n"
    ));
    site.send(9);
    let requests = site.server.wait_for(1);
    let [request] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    let body = request.json();
    assert_keys(
        &body,
        &[
            "version", "id", "notifier", "host", "time", "test", "lost", "events",
        ],
    );
    assert_eq!(body["version"], 1);
    assert_eq!(body["notifier"], "chat");
    assert_eq!((&body["test"], &body["lost"]), (&json!(false), &json!(0)));
    assert_eq!(body["id"], request.id());
    let [event] = request.events().try_into().expect("one event");
    assert_eq!(event["kind"], "ban");
    assert_eq!(event["source"], "127.0.0.66/32");
    assert_eq!(
        (&event["policy"], &event["limit"]),
        (&json!("strict"), &json!("discard"))
    );
    let text = event["text"].as_str().expect("a text");
    assert!(text.contains("127.0.0.66/32  until"), "{text}");
    // The event is otherwise what `abuser events` tells.
    assert_eq!(event.as_object().expect("an object").len(), 18);

    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-room"), Some("ops"));
    assert_eq!(request.header("authorization"), Some("Bearer tk_short"));
    let agent = request.header("user-agent").expect("it says who it is");
    assert!(agent.starts_with("abuser/"), "{agent}");

    let signature = request.header("x-abuser-signature").expect("a signature");
    let (time, code) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .expect("its form");
    let mut signed = format!("{time}.").into_bytes();
    signed.extend_from_slice(&request.body);
    assert_eq!(openssl_hmac(&signed), code);
    assert!(is_genuine(signature, &request.body));
    let mut forged = request.body.clone();
    forged[0] ^= 1;
    assert!(!is_genuine(signature, &forged));
    let old = format!(
        "t={},v1={code}",
        time.parse::<u64>().expect("seconds") - 301
    );
    assert!(!is_genuine(&old, &request.body));
    let told = wait_for(&daemon, "chat", "sent", |status| status["sent"] == 1);
    assert_eq!(
        (&told["error"], &told["pending"]),
        (&Value::Null, &json!(0))
    );
}

/// HMAC-SHA256 under [`SECRET`], as openssl has it.
fn openssl_hmac(bytes: &[u8]) -> String {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256", "-hmac", SECRET, "-r"]);
    let said = run(command, bytes);
    said.split(' ').next().expect("a digest").to_owned()
}

/// What the function in the documentation says.
fn is_genuine(signature: &str, body: &[u8]) -> bool {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/NOTIFY.md");
    let page = fs::read_to_string(page).expect("the page");
    let mut code = pieces(&page).into_iter().filter_map(|piece| match piece {
        Piece::Code(code) if code.language == "python" => Some(code.text()),
        _ => None,
    });
    let code = code.next().expect("a snippet");
    let ask = "import sys\nprint(is_genuine(sys.argv[1], sys.argv[2], sys.stdin.buffer.read()))\n";
    let namespace = testkit::Namespace::new().expect("a namespace");
    let mut command =
        peers::command(&namespace, "/usr/bin/python3").unwrap_or_else(|error| panic!("{error}"));
    command.args(["-c", &format!("{code}\n{ask}"), SECRET, signature]);
    match run(command, body).trim() {
        "True" => true,
        "False" => false,
        other => panic!("{other}"),
    }
}

fn run(mut command: Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a command");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn each_is_told_of_what_it_is_for_and_of_nothing_else() {
    require_root!();
    let site = Site::new();
    let others = [(); 2].map(|()| super::Server::start(&site.namespace));
    let daemon = site.daemon(&format!(
        "{LIMIT}[[limit]]\nname = \"echo\"\nprotocol = \"udp\"\nports = [7]\nrate = \"1/h\"\n\
         [[notify]]\nname = \"strict\"\nurl = \"URL\"\npolicies = [\"strict\"]\n\
         events = [\"ban\", \"unban\", \"drop\"]\n\
         [[notify]]\nname = \"hand\"\nurl = \"{}\"\ncauses = [\"manual\"]\n\
         [[notify]]\nname = \"ends\"\nurl = \"{}\"\nevents = [\"unban\"]\n",
        others[0].url(),
        others[1].url()
    ));
    site.send(7);
    ban(&daemon, "198.51.100.1");
    site.send(9);
    daemon.abuser(&["ban", "remove", "198.51.100.1"]).success();
    wait_until("the ban", || {
        let bans = daemon.json(&["ban", "list"]);
        bans[0]["source"] == "127.0.0.66/32"
    });
    daemon.abuser(&["ban", "remove", "127.0.0.66"]).success();
    others[1].wait_for(2);
    // What came before the last is there by then, too.
    let told = |events: &[Value]| {
        let told = events.iter().map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("kind"), text("source"), text("cause"))
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        told(&others[1].events()),
        ["unban 198.51.100.1/32 manual", "unban 127.0.0.66/32 limit"]
    );
    assert_eq!(told(&others[0].events()), ["ban 198.51.100.1/32 manual"]);
    site.server.wait_for(3);
    let strict = site.server.events();
    let first: Vec<_> = strict
        .iter()
        .filter(|event| event["kind"] == "drop")
        .map(|event| event["limit"].clone())
        .collect();
    assert!(first.contains(&json!("discard")), "{strict:?}");
    assert!(!first.contains(&json!("echo")), "{strict:?}");
    let bans: Vec<_> = strict
        .iter()
        .filter(|event| event["kind"] != "drop")
        .cloned()
        .collect();
    assert_eq!(
        told(&bans),
        ["ban 127.0.0.66/32 limit", "unban 127.0.0.66/32 limit"]
    );
}

#[test]
fn a_reason_stays_within_its_string_whatever_it_is() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(
        "[[notify]]\nname = \"chat\"\nurl = \"URL\"\n\
         template = '''{\"text\": {{ events | map(attribute=\"reason\") | join(\" \") }}, \"id\": {{ id }}}'''\n",
    );
    let hostile = "\", \"admin\": true, \"x\": \"\\{{ 7 * 7 }}</script>\u{1f4a3}$(id)";
    let banned = daemon.abuser(&["ban", "add", "192.0.2.7", "--reason", hostile]);
    banned.success();
    let request = site.server.wait_for(1).remove(0);
    let body = request.json();
    assert_keys(&body, &["text", "id"]);
    assert_eq!(body["text"], hostile);
    assert_eq!(body["id"], request.id());
}

#[test]
fn a_thousand_bans_come_in_few_requests_each_once_and_in_order() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon(
        "[[notify]]\nname = \"chat\"\nurl = \"URL\"\ncauses = [\"import\"]\nbatch = { max = 100, wait = \"1s\" }\n",
    );
    let addresses = addresses(1000);
    let file = list(&site, &addresses);
    let imported = daemon.abuser(&["ban", "import", text(&file), "--for", "1h"]);
    imported.success();
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 1000);
    let requests = site.server.requests();
    assert!((10..=20).contains(&requests.len()), "{}", requests.len());
    assert!(requests.iter().all(|request| request.events().len() <= 100));
    let events = site.server.events();
    let numbers: Vec<_> = events.iter().map(|event| event["ban"].as_u64()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let mut told = sources(&events);
    let mut expected: Vec<_> = addresses.iter().map(|a| format!("{a}/32")).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn a_list_that_is_imported_and_all_bans_that_are_lifted_are_not_told_one_by_one() {
    require_root!();
    let site = Site::new();
    let daemon =
        site.daemon("[[notify]]\nname = \"chat\"\nurl = \"URL\"\nevents = [\"ban\", \"unban\"]\n");
    let file = list(&site, &addresses(20));
    daemon
        .abuser(&["ban", "import", text(&file), "--for", "1h"])
        .success();
    ban(&daemon, "198.51.100.1");
    ban(&daemon, "198.51.100.2");
    daemon.abuser(&["ban", "remove", "198.51.100.1"]).success();
    daemon.abuser(&["ban", "remove", "--all"]).success();
    // What was to be told before it has been told when this is.
    ban(&daemon, "198.51.100.3");
    site.server.wait_for(4);
    wait_for(&daemon, "chat", "sent", |status| status["sent"] == 4);
    let told: Vec<_> = site
        .server
        .events()
        .iter()
        .map(|event| format!("{} {}", event["kind"], event["source"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [
            "ban 198.51.100.1/32",
            "ban 198.51.100.2/32",
            "unban 198.51.100.1/32",
            "ban 198.51.100.3/32"
        ]
    );
}

#[test]
fn a_test_says_what_came_back() {
    require_root!();
    let site = Site::new();
    let daemon = site.daemon("[[notify]]\nname = \"chat\"\nurl = \"URL\"\nevents = [\"detect\"]\n");
    site.server.answer(&["200 OK\r\n\r\nok\u{1b}[31m"]);
    let said = daemon.abuser(&["notify", "test", "chat"]).success();
    let server = site.server.address;
    assert_eq!(
        said.stdout,
        format!(
            "chat: told webhook {server} of a sample event; it answered 200: ok\\u{{1b}}[31m\n"
        )
    );
    let body = site.server.requests()[0].json();
    assert_eq!(body["test"], true);
    assert_eq!(body["events"][0]["kind"], "detect");

    site.server
        .answer(&["403 Forbidden\r\n\r\nno such hook"; 2]);
    let refused = daemon.abuser(&["notify", "test", "chat"]);
    refused.complains(1, &["chat: webhook", "403 Forbidden", "no such hook"]);
    let refused = daemon
        .abuser(&["notify", "test", "chat", "--json"])
        .exits(1);
    let refused = parse(&refused.stdout);
    assert_keys(
        &refused,
        &[
            "name",
            "kind",
            "target",
            "delivered",
            "status",
            "answer",
            "error",
            "milliseconds",
        ],
    );
    assert_eq!(refused["delivered"], false);
    assert_eq!(refused["status"], 403);
    let unknown = daemon.abuser(&["notify", "test", "chta"]);
    unknown.complains(1, &["\"chta\"", "there are: chat"]);
    // Tests are not counted as what happens.
    assert_eq!(status(&daemon, "chat")["sent"], 0);
    assert_eq!(status(&daemon, "chat")["failed"], 0);
}
