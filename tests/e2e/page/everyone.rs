//! Whoever has a small screen, no mouse, or cannot see it.

use std::{thread, time::Duration};

use serde_json::json;
use testkit::require_root;

use super::{
    LIMIT, Site,
    browser::{Browser, ENTER, ESCAPE},
    send,
};

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
