//! Text that would be more than text.

use serde_json::{Value, json};
use testkit::require_root;

use super::{LIMIT, PAGE, Site, TOKEN, row};
use crate::support::parse;

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
