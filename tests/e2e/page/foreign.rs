//! A page of somebody else in the same browser: it can neither read what the daemon tells nor have it
//! do anything, whatever name it is reached by.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use serde_json::json;
use testkit::{Namespace, require_root};

use super::{Browser, Site, TOKEN, sign_in};

/// What a page of another origin may try.
const ATTEMPTS: &str = r#"<!doctype html><title>elsewhere</title>
<form id="form" method="post" enctype="text/plain" action="http://127.0.0.1:9090/v1/bans" target="sink">
<input name='{"sources":["203.0.113.1/32"],"reason":"' value='"}'></form>
<iframe name="sink"></iframe><iframe id="frame" src="http://127.0.0.1:9090/"></iframe>
<script>
const ban = JSON.stringify({ sources: ["203.0.113.2/32"] });
const at = "http://127.0.0.1:9090/v1/bans";
const attempts = {
  read: () => fetch("http://127.0.0.1:9090/v1/status").then((answer) => answer.text()),
  page: () => fetch("http://127.0.0.1:9090/").then((answer) => answer.text()),
  json: () => fetch(at, { method: "POST", headers: { "content-type": "application/json" }, body: ban }),
  bearer: () => fetch(at, { method: "POST", headers: { "content-type": "application/json", authorization: "Bearer TOKEN" }, body: ban }),
  remove: () => fetch(at, { method: "DELETE", body: ban }),
};
window.told = {};
(async () => {
  for (const [name, attempt] of Object.entries(attempts)) {
    window.told[name] = await attempt().then(() => "done", () => "refused");
  }
  // A browser sends this one and tells nothing of the answer.
  await fetch(at, { method: "POST", mode: "no-cors", credentials: "include", body: ban }).catch(() => null);
  document.getElementById("form").submit();
  setTimeout(() => { window.told.all = "done"; }, 1000);
})();
</script>"#;

/// Serves one page at a port, until the test ends.
fn serve(namespace: &Namespace, port: u16, page: String) {
    let listener = namespace
        .run(|| TcpListener::bind(("127.0.0.1", port)))
        .expect("a port");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _request = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
            let length = page.len();
            let _sent = write!(stream, "{head}content-length: {length}\r\n\r\n{page}");
        }
    });
}

#[test]
fn a_page_from_elsewhere_reads_nothing_and_does_nothing() {
    require_root!();
    let site = Site::new("");
    site.abuser(&["ban", "add", "203.0.113.7"]);
    // It even knows the token.
    serve(&site.namespace, 8080, ATTEMPTS.replace("TOKEN", TOKEN));
    let browser = Browser::start(&site.namespace);
    sign_in(&browser);
    browser.open("http://127.0.0.1:8080/");
    browser.wait_for("window.told?.all === 'done'");
    assert_eq!(
        browser.value("window.told"),
        json!({
            "read": "refused", "page": "refused", "json": "refused", "bearer": "refused",
            "remove": "refused", "all": "done",
        })
    );
    // It is in no frame either: nothing can be laid over its buttons.
    let framed = "(() => { try { return document.querySelector('#frame').contentDocument !== null; } \
                  catch { return false; } })()";
    assert_eq!(browser.value(framed), false);
    let blocked = browser.log("browser");
    let is_blocked = |entry: &serde_json::Value| {
        let message = entry["message"].as_str().unwrap_or_default();
        message.contains("frame-ancestors") || message.contains("X-Frame-Options")
    };
    assert!(blocked.iter().any(is_blocked), "{blocked:?}");
    // What the tab of the page keeps is not that of another origin.
    assert_eq!(browser.value("sessionStorage.length"), 0);
    let bans = site.bans();
    assert_eq!(
        (bans.len(), &bans[0]["source"]),
        (1, &json!("203.0.113.7/32"))
    );
}

#[test]
fn a_name_that_is_bound_anew_brings_no_token_along() {
    require_root!();
    let site = Site::new("");
    // The same daemon by another name is another origin, which has to sign in by itself.
    let browser = site.browser();
    browser.open("http://localhost:9090/");
    browser.wait_for("!document.querySelector('#sign-in').hidden");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    let status = "fetch('v1/status').then((answer) => answer.status)";
    let script = format!("return {status};");
    assert_eq!(browser.run(&script), 401);
}
