//! Signing in and out, and what of it stays in a browser.

use std::{thread, time::Duration};

use testkit::require_root;

use super::{LIMIT, PAGE, Site, TOKEN, browser::Browser, send};

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
fn after_signing_out_nothing_that_was_told_is_left_in_the_tab() {
    require_root!();
    let mut tables = LIMIT.to_owned();
    tables +=
        "[[source]]\nname = \"zebra\"\nfiles = [\"/nonexistent/zebra.log\"]\nparser = \"json\"\n";
    let site = Site::new(&tables);
    send(&site.namespace, "127.0.0.66", 50);
    let browser = site.browser();
    site.abuser(&["ban", "add", "127.0.0.66", "--reason", "zebra"]);
    browser.fill("#bans-filter", "zebra");
    for (place, text) in [
        ("#bans", "zebra"),
        ("#top", "127.0.0.66"),
        ("#limits", "tight"),
        ("#sources", "zebra"),
        ("#events", "zebra"),
        ("#facts", "lo"),
    ] {
        browser.wait_for_text(place, text);
    }
    browser.fill("#search-address", "127.0.0.66\n");
    browser.wait_for_text("#explain-body", "zebra");
    browser.click("#explain [data-close]");
    browser.click("#bans button.small");
    browser.wait_for_text("#act-text", "zebra");
    browser.click("#act [data-close]");
    browser.click("#ban-new");
    browser.fill("#act-source", "127.0.0.66");
    browser.fill("#act-reason", "zebra");
    browser.click("#act [data-close]");
    browser.click("#sign-out");
    browser.wait_for("!document.querySelector('#sign-in').hidden");
    // Nor does anything come after it.
    let left = "[document.body.innerHTML.replace(/<script>[^]*/, ''), \
                ...[...document.querySelectorAll('input')].map((input) => input.value)].join(' ')";
    for _ in 0..5 {
        let left = browser.value(left).to_string();
        for told in ["127.0.0.66", "zebra", "tight", "data-packets"] {
            assert!(!left.contains(told), "{told} is still in {left}");
        }
        thread::sleep(Duration::from_millis(500));
    }
    // Whoever signs in again is told it all anew.
    browser.fill("#token", &format!("{TOKEN}\n"));
    browser.wait_for_text("#bans", "zebra");
    browser.wait_for_text("#limits", "tight");
    browser.wait_for_text("#bans-count", "1 ban");
    browser.wait_for("document.querySelectorAll('#facts dd').length === 8");
}
