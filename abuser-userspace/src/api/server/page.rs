//! What browsers get: one document that shows how it stands, made of the files in `page/`.
//!
//! It holds no data. A browser that is sent to an address cannot bring the token along, so the
//! document is for everyone who reaches the port; its script asks for the token and brings it with
//! each of its requests, as any other client does. A page of another origin cannot: what it sends
//! has no such header, and a browser asks first before it lets it add one, which the daemon
//! refuses. So neither forged requests nor names that are bound anew (DNS rebinding) come to
//! anything.
//!
//! The policy lets run and apply only what has the hash of what is written here, and the script
//! makes no markup: whatever is in logs, reasons and names is text to it.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::no_such_method;

const MARKUP: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    "(() => {\n\"use strict\";\n\n",
    include_str!("page/words.js"),
    include_str!("page/client.js"),
    include_str!("page/charts.js"),
    include_str!("page/views.js"),
    include_str!("page/events.js"),
    include_str!("page/explain.js"),
    include_str!("page/actions.js"),
    include_str!("page/main.js"),
    "})();\n",
);

/// Where the other two go.
const STYLE_PLACE: &str = "/* style.css */";
const SCRIPT_PLACE: &str = "/* the scripts */";

/// The router with the page beside it.
pub(super) fn beside(router: Router) -> Router {
    Router::new()
        .route("/", get(show).fallback(no_such_method))
        .fallback_service(router)
}

async fn show() -> impl IntoResponse {
    (headers(), Html(document()))
}

/// All of it.
fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        MARKUP
            .replacen(STYLE_PLACE, STYLE, 1)
            .replacen(SCRIPT_PLACE, SCRIPT, 1)
    });
    &DOCUMENT
}

/// What a browser may do with it.
fn policy() -> String {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

fn headers() -> [(HeaderName, HeaderValue); 9] {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        // Base64 has nothing that a header has not.
        HeaderValue::try_from(policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    });
    let fixed = HeaderValue::from_static;
    [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::CACHE_CONTROL, fixed("no-store")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-embedder-policy"),
            fixed("require-corp"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("permissions-policy"),
            fixed("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is between two texts that are there once each.
    #[track_caller]
    fn between(from: &str, to: &str) -> &'static str {
        let document = document();
        assert_eq!(document.matches(from).count(), 1, "{from}");
        assert_eq!(document.matches(to).count(), 1, "{to}");
        let (_, rest) = document.split_once(from).unwrap();
        rest.split_once(to).unwrap().0
    }

    #[test]
    fn what_the_policy_has_the_hash_of_is_what_the_document_holds() {
        // Nothing may stand between the tags and the text: a browser hashes all of it.
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert_eq!(between("<script>", "</script>"), SCRIPT);
        assert!(policy().contains("script-src 'sha256-"));
        assert_eq!(headers()[0].1.to_str().unwrap(), policy());
    }

    #[test]
    fn nothing_in_it_comes_from_elsewhere_or_makes_markup_of_text() {
        for forbidden in [
            " src=",
            "@import",
            "url(",
            "<link rel=\"stylesheet",
            " style=",
            " onclick=",
        ] {
            assert!(!document().contains(forbidden), "{forbidden}");
        }
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            "document.cookie",
            "http://",
            "https://",
        ] {
            // The name of SVG's elements looks like an address, and is none.
            let script = SCRIPT.replace("http://www.w3.org/2000/svg", "");
            assert!(!script.contains(forbidden), "{forbidden}");
        }
    }
}
