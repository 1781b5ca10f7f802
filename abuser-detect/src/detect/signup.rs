//! Accounts made by the dozen: the rate of requests to the endpoints that make them.
//!
//! A household signs up once or twice. Whoever sends `count` such requests within a time that slides is found,
//! whether they succeed or not (unless `statuses` says which ones count), and again after as many.
//!
//! Servers take one path for another: `/api//register`, `/api/%72egister` and `/api/register/` mostly
//! are the same to them, so they are here. Case matters, as it mostly does there.

use std::{borrow::Cow, time::Duration};

use super::{
    Detector, Finding, Occupancy,
    table::WeighedTable,
    window::{Span, Window},
    words,
};
use crate::{
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// Bytes on the heap for each source there is room for.
const HEAP_PER_SOURCE: usize = 96;

/// What a sign-up is, and how many are too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Paths without query: exact, or with `*` at the end all that begin so. Without any, every request
    /// counts, as far as the other settings let it.
    pub paths: Vec<String>,
    /// Methods; none is any. A record without a method counts: its log does not tell.
    pub methods: Vec<String>,
    /// Statuses of answers that count; none is any. A record without a status counts then only.
    pub statuses: Vec<u16>,
    /// How many requests it takes; 0 is 1.
    pub count: u32,
    /// Within which time.
    pub within: Duration,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Sources that are remembered.
    pub capacity: usize,
}

impl Default for Settings {
    /// Ten `POST` within an hour, to the paths where most frameworks and `OAuth` servers let people sign up. Room
    /// for a quarter of a million sources.
    fn default() -> Self {
        let paths = [
            "/register",
            "/signup",
            "/sign-up",
            "/api/register",
            "/api/signup",
            "/api/auth/register",
            "/api/auth/signup",
            "/auth/register",
            "/auth/signup",
            "/users/sign_up",
            "/accounts/signup",
            "/oauth/register",
            "/connect/register",
        ];
        Self {
            paths: paths.map(str::to_owned).to_vec(),
            methods: vec!["POST".to_owned()],
            statuses: Vec::new(),
            count: 10,
            within: Duration::from_secs(3600),
            masks: Masks::default(),
            capacity: 250_000,
        }
    }
}

/// Finds who signs up too often.
pub struct Signup {
    settings: Settings,
    paths: Vec<Pattern>,
    span: Span,
    sources: WeighedTable<Source, Window>,
}

/// A path that is meant, or the beginning of several.
struct Pattern {
    path: String,
    is_prefix: bool,
}

impl Pattern {
    fn new(pattern: &str) -> Self {
        let (path, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix.to_owned(), true),
            None => (plain(pattern).into_owned(), false),
        };
        Self { path, is_prefix }
    }

    fn matches(&self, path: &str) -> bool {
        if self.is_prefix {
            // `/signup/*` means `/signup/` too, whose last slash is not there any more.
            path.starts_with(&self.path) || self.path.strip_suffix('/') == Some(path)
        } else {
            path == self.path
        }
    }
}

impl Signup {
    /// A detector that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            paths: settings
                .paths
                .iter()
                .map(|path| Pattern::new(path))
                .collect(),
            span: Span::new(settings.count, settings.within),
            sources: WeighedTable::with_heap_per_key(settings.capacity, HEAP_PER_SOURCE),
            settings,
        }
    }

    /// What it looks for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn is_signup(&self, record: &Record<'_>) -> bool {
        let Settings {
            methods, statuses, ..
        } = &self.settings;
        let method = record.method.as_deref();
        if !methods.is_empty()
            && method
                .is_some_and(|method| !methods.iter().any(|one| one.eq_ignore_ascii_case(method)))
        {
            return false;
        }
        if !statuses.is_empty()
            && !record
                .status
                .is_some_and(|status| statuses.contains(&status))
        {
            return false;
        }
        if self.paths.is_empty() {
            return true;
        }
        record.path.as_deref().is_some_and(|path| {
            let path = plain(path);
            self.paths.iter().any(|pattern| pattern.matches(&path))
        })
    }
}

impl Detector for Signup {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let address = record.source?;
        if !self.is_signup(record) {
            return None;
        }
        let source = Source::new(address, self.settings.masks);
        let span = &self.span;
        let count = self
            .sources
            .update(source, Window::default, |window| window.hit(at, span))?;
        let to = record.path.as_deref().map_or_else(String::new, |path| {
            format!(", the last one to {}", words::quoted(&plain(path)))
        });
        let reason = format!(
            "{} within {}{to}",
            words::many(count, "sign-up"),
            words::duration(self.settings.within),
        );
        Some(Finding {
            sources: vec![source.net(self.settings.masks)],
            subject: None,
            at,
            count,
            reason,
        })
    }

    fn occupancy(&self) -> Occupancy {
        self.sources.occupancy()
    }
}

/// The path of a request target as servers understand it: without scheme and host, query and
/// fragment, escapes of what needs none, empty and dot segments, and a slash at its end (RFC 3986, 6.2.2).
fn plain(target: &str) -> Cow<'_, str> {
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let path = target.get(..end).unwrap_or(target);
    let path = match path.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest
            .find('/')
            .and_then(|slash| rest.get(slash..))
            .unwrap_or("/"),
        _ => path,
    };
    if !path.contains('%') && !path.contains("//") && !path.contains("/.") {
        let path = path
            .strip_suffix('/')
            .filter(|path| !path.is_empty())
            .unwrap_or(path);
        return Cow::Borrowed(path);
    }
    let decoded = decoded(path);
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// Without escapes; what they make that is no text is replaced.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high << 4 | low);
            rest = rest.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn detector(paths: &[&str], count: u32) -> Signup {
        Signup::new(Settings {
            paths: paths.iter().map(ToString::to_string).collect(),
            count,
            ..Settings::default()
        })
    }

    fn post(path: &str) -> Record<'_> {
        Record {
            source: Some("192.0.2.1".parse().expect("an address")),
            method: Some("POST".into()),
            path: Some(path.into()),
            status: Some(201),
            ..Record::default()
        }
    }

    fn counts(path: &str, pattern: &str) -> bool {
        detector(&[pattern], 1)
            .observe(&post(path), Time(1))
            .is_some()
    }

    #[test]
    fn who_signs_up_by_the_dozen_is_found_and_again_after_as_many() {
        let mut detector = detector(&["/api/register"], 3);
        let mut found = (0..6_u64)
            .map(|minute| detector.observe(&post("/api/register?ref=7"), Time(minute * 60_000)));
        assert!(found.next().flatten().is_none() && found.next().flatten().is_none());
        let finding = found.next().flatten().expect("the third");
        assert_eq!(finding.count, 3);
        assert_eq!(finding.sources, ["192.0.2.1/32".parse().expect("a net")]);
        assert_eq!(
            finding.reason,
            "3 sign-ups within 1h, the last one to \"/api/register\""
        );
        assert!(found.next().flatten().is_none() && found.next().flatten().is_none());
        assert!(found.next().flatten().is_some());
    }

    #[test]
    fn a_household_over_days_is_not_found() {
        let mut detector = detector(&["/api/register"], 3);
        for day in 0..30_u64 {
            for minute in [0, 5] {
                let at = Time(day * 86_400_000 + minute * 60_000);
                assert_eq!(detector.observe(&post("/api/register"), at), None);
            }
        }
    }

    #[test]
    fn only_named_paths_count_and_a_star_stands_for_any_end() {
        assert!(counts("/api/register", "/api/register"));
        assert!(!counts("/api/register/confirm", "/api/register"));
        assert!(!counts("/api/registered", "/api/register"));
        assert!(!counts("/API/register", "/api/register"));
        assert!(counts("/oauth/v2/register", "/oauth/*"));
        assert!(counts("/oauth", "/oauth/*") && counts("/oauth/", "/oauth/*"));
        assert!(!counts("/oauthx", "/oauth/*"));
    }

    #[test]
    fn another_spelling_of_a_path_is_no_way_around() {
        for path in [
            "/api/register/",
            "//api///register",
            "/api/%72egister",
            "/api/./register",
            "/api/users/../register",
            "/api/%2e/register",
            "http://example.com/api/register",
            "/api/register#top",
        ] {
            assert!(counts(path, "/api/register"), "{path}");
            assert!(counts(path, "/api/reg*"), "{path}");
        }
        for path in [
            "/api/%zzregister",
            "/api/register%",
            "",
            "*",
            "://",
            "/../..",
        ] {
            assert!(!counts(path, "/api/register"), "{path}");
        }
    }

    #[test]
    fn only_the_methods_and_statuses_that_are_set_count() {
        let mut any = detector(&["/register"], 1);
        let mut made = Signup::new(Settings {
            statuses: vec![201],
            ..any.settings().clone()
        });
        let get = Record {
            method: Some("GET".into()),
            ..post("/register")
        };
        assert_eq!(any.observe(&get, Time(1)), None);
        let refused = Record {
            status: Some(409),
            ..post("/register")
        };
        assert_eq!(made.observe(&refused, Time(1)), None);
        assert!(any.observe(&refused, Time(1)).is_some());
        assert!(made.observe(&post("/register"), Time(1)).is_some());
        let unknown = Record {
            method: None,
            status: None,
            ..post("/register")
        };
        assert!(any.observe(&unknown, Time(1)).is_some());
        assert_eq!(made.observe(&unknown, Time(1)), None);
    }

    #[test]
    fn without_paths_all_that_is_given_counts_and_without_a_source_nothing() {
        let mut detector = detector(&[], 1);
        assert!(detector.observe(&post("/anything"), Time(1)).is_some());
        let nobody = Record {
            source: None,
            ..post("/anything")
        };
        assert_eq!(detector.observe(&nobody, Time(1)), None);
    }

    proptest! {
        #[test]
        fn a_plain_path_stays_as_it_is_and_nothing_panics(
            target in "[/.%a2f?#:*é ]{0,24}",
        ) {
            let once = plain(&target).into_owned();
            if !once.contains('%') && !once.contains(['?', '#']) && !once.contains("://") {
                prop_assert_eq!(plain(&once), once.clone());
            }
        }
    }
}
