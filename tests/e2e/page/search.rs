//! Bans that are looked for, and turning over the pages of many.

use testkit::require_root;

use super::Site;
use crate::http::request;

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
fn a_search_of_as_much_as_the_field_holds_stops_nothing() {
    require_root!();
    let site = Site::new("");
    let reason = "\u{e4}".repeat(200);
    site.abuser(&["ban", "add", "203.0.113.7", "--reason", &reason]);
    site.abuser(&["ban", "add", "203.0.113.8"]);
    let browser = site.browser();
    browser.fill("#bans-filter", &format!("{reason}\u{e4}\u{e4}"));
    let typed = browser.value("document.querySelector('#bans-filter').value.length");
    assert_eq!(typed, 200);
    browser.wait_for_text("#bans-count", "1 ban found");
    browser.wait_for_text("#bans", "203.0.113.7");
    browser.wait_for("document.querySelector('#connection').dataset.state === 'live'");
}
