//! What is shown live, and what can be done there.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testkit::require_root;

use super::{LIMIT, Site, row, send};
use crate::support::wait_until;

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
