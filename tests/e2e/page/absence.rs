//! A daemon that is gone, and a page that nobody looks at.

use std::{thread, time::Duration};

use testkit::require_root;

use super::Site;
use crate::support::wait_until;

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
