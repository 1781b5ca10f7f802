//! The API's description, made of the code: of the routes in [`super::server`] and of the types
//! in [`super::types`] with their comments.
//!
//! It is served at `/v1/openapi.json` and checked in as `docs/openapi.json`; a test compares the
//! two, and says how to renew the latter.

use std::sync::LazyLock;

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, RefOr, Response, ResponseBuilder, Schema, SecurityRequirement,
        content::ContentBuilder,
        header::HeaderBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    server,
    types::{Address, ApiError, Prefix},
};

/// Statuses of errors, under which names they are described, and what they mean.
const FAILURES: [(&str, &str, &str); 10] = [
    (
        "400",
        "Senseless",
        "The request makes no sense or is not safe; `error` says why.",
    ),
    (
        "401",
        "NoToken",
        "Over TCP only: the token is missing or wrong.",
    ),
    (
        "403",
        "ReadOnly",
        "Over the socket only: whoever asks may only read (`[api] read_only`).",
    ),
    ("404", "Missing", "What the request names is not there."),
    ("408", "TooSlow", "The body did not come in time."),
    ("413", "TooLarge", "The body is too large."),
    (
        "415",
        "NotJson",
        "The body does not say that it is JSON: `content-type: application/json`.",
    ),
    (
        "422",
        "OtherJson",
        "The body is JSON, and not what this request takes.",
    ),
    (
        "500",
        "Failed",
        "The kernel refused, or the daemon made a mistake.",
    ),
    (
        "503",
        "Busy",
        "Too many connections, streams or requests at once, no answer in time, or the daemon is \
         stopping.",
    ),
];

/// What stands around the requests.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "abuser",
        version = "1",
        description = "What the daemon of abuser can be asked over its unix socket \
            (`/run/abuser/abuser.sock`), or over TCP with a token if `[api] listen` is set.\n\n\
            Times are RFC 3339 in UTC with milliseconds. A key that means nothing is `null`, never \
            missing. Keys may be added to answers; those of requests that are not known are \
            refused. An error has changed nothing, but for a 503 that says otherwise. A resource \
            that does not exist is a 404, a method that it does not have a 405, and heads that are \
            too large a 431.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "daemon", description = "The daemon and its limits."),
        (name = "bans", description = "Who is banned."),
        (name = "detection", description = "Logs and detectors."),
        (name = "offences", description = "What applications tell of."),
        (name = "allow", description = "Who is never dropped."),
        (name = "fleet", description = "Nodes that share bans and allow entries."),
        (name = "throttles", description = "To whom stricter limits apply for a while."),
        (name = "events", description = "What happens, as it does."),
    ),
    servers((url = "/", description = "The daemon that this document comes from.")),
    components(schemas(Address, ApiError, Prefix)),
    modifiers(&Errors, &Token),
)]
struct Frame;

/// The document without requests.
pub(super) fn frame() -> openapi::OpenApi {
    Frame::openapi()
}

/// The document.
pub fn document() -> openapi::OpenApi {
    let (_router, mut document) = server::routes::all().split_for_parts();
    complete_answers(&mut document);
    document
}

/// The document as it is served.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = document().to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

/// Describes what all errors look like.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (status, name, description) in FAILURES {
            let mut response = error(description);
            if status == "401" {
                let header = HeaderBuilder::new()
                    .description(Some("`Bearer`: what to send."))
                    .build();
                response
                    .headers
                    .insert("WWW-Authenticate".to_owned(), RefOr::T(header));
            }
            components
                .responses
                .insert(name.to_owned(), response.into());
        }
    }
}

fn error(description: &str) -> Response {
    let schema = openapi::Ref::from_schema_name("ApiError");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build()
}

/// Describes the token.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "What `[api] token_file` holds. The unix socket needs none.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let none = SecurityRequirement::default();
        let token = SecurityRequirement::new("token", [] as [&str; 0]);
        document.security = Some(vec![none, token]);
    }
}

/// A key of an answer is never missing, also one that can be `null`; of a request's keys those are
/// required that have no default.
fn complete_answers(document: &mut openapi::OpenApi) {
    let Some(components) = &mut document.components else {
        return;
    };
    for (name, schema) in &mut components.schemas {
        if !name.ends_with("Request") {
            require_all(schema);
        }
    }
}

fn require_all(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.required = object.properties.keys().cloned().collect();
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(require_all),
        _ => {}
    }
}

/// Which errors a request may meet; each refers to one of [`FAILURES`].
pub(super) mod refusals {
    use std::collections::BTreeMap;

    use utoipa::{
        IntoResponses,
        openapi::{Ref, RefOr, Response},
    };

    use super::FAILURES;

    macro_rules! refusals {
        ($($(#[$comment:meta])* $name:ident: $statuses:expr;)+) => {$(
            $(#[$comment])*
            pub(in crate::api) enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    references(&$statuses)
                }
            }
        )+};
    }

    refusals! {
        /// Every request may.
        Any: ["401", "500", "503"];
        /// One that may be refused by what it asks for.
        Senseless: ["400"];
        /// One that names something.
        Missing: ["404"];
        /// One that changes something.
        Write: ["403"];
        /// One that has a body.
        Body: ["400", "408", "413", "415", "422"];
    }

    fn references(statuses: &[&str]) -> BTreeMap<String, RefOr<Response>> {
        FAILURES
            .iter()
            .filter(|(status, ..)| statuses.contains(status))
            .map(|(status, name, _)| {
                let reference = Ref::from_response_name(*name);
                ((*status).to_owned(), reference.into())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs, path::Path};

    use serde_json::Value;

    use super::*;

    const RENEW: &str = "ABUSER_RENEW_OPENAPI=1 cargo test -p abuser-userspace openapi";

    fn json() -> Value {
        serde_json::from_str(text()).unwrap()
    }

    #[test]
    fn the_document_that_is_checked_in_is_the_one_the_code_makes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        if env::var_os("ABUSER_RENEW_OPENAPI").is_some() {
            fs::write(&path, text()).unwrap();
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == text(),
            "docs/openapi.json is not what the code says; run `{RENEW}`, look at what has \
             changed, and commit it"
        );
    }

    /// Calls `visit` with each object and the way to it.
    fn walk(value: &Value, way: &str, visit: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(object) => {
                visit(way, value);
                for (key, value) in object {
                    walk(value, &format!("{way}/{key}"), visit);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    walk(value, &format!("{way}/{index}"), visit);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn everything_in_it_is_described() {
        let mut bare = Vec::new();
        walk(&json(), "", &mut |way, object| {
            let folder = way.rsplit('/').nth(1).unwrap_or_default();
            let has =
                |object: &Value, key: &str| object[key].as_str().is_some_and(|text| text.len() > 2);
            // What can be `null` is described where it is not.
            let ways = object["oneOf"].as_array();
            let is_described = ["description", "summary", "$ref"]
                .iter()
                .any(|key| has(object, key))
                || ways.is_some_and(|ways| ways.iter().any(|way| has(way, "description")));
            let wants = object.get("operationId").is_some()
                || matches!(
                    folder,
                    "parameters" | "properties" | "responses" | "schemas"
                );
            if wants && !is_described {
                bare.push(way.to_owned());
            }
        });
        assert!(bare.is_empty(), "{bare:#?}");
    }

    #[test]
    fn its_names_are_unique_and_its_text_is_for_those_who_do_not_read_the_code() {
        let mut names = BTreeSet::new();
        walk(&json(), "", &mut |way, object| {
            if let Some(name) = object["operationId"].as_str() {
                assert!(
                    names.insert(name.to_owned()),
                    "two requests are called {name}"
                );
            }
            let text = object["description"].as_str().unwrap_or_default();
            assert!(
                !text.contains("[`"),
                "{way} has a link into the code: {text}"
            );
        });
        assert!(names.len() > 12);
    }

    #[test]
    fn what_it_refers_to_is_in_it() {
        let document = json();
        let mut references = BTreeSet::new();
        walk(&document, "", &mut |_, object| {
            if let Some(reference) = object["$ref"].as_str() {
                references.insert(reference.trim_start_matches('#').to_owned());
            }
        });
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            assert!(document.pointer(&reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn what_changes_something_is_refused_to_those_who_may_only_read() {
        let document = json();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 9);
        for (path, item) in paths {
            assert!(path.starts_with("/v1/"), "{path}");
            for (method, operation) in item.as_object().unwrap() {
                let forbidden = operation["responses"].get("403").is_some();
                assert_eq!(forbidden, method != "get", "{method} {path}");
            }
        }
    }
}
