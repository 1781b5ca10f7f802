//! The parsers: a line of a log in, a record out.
//!
//! What a client sends is in the log that is read here, so every parser takes the server's own
//! fields from where no client's text can come before them, or knows how the server escapes what
//! clients sent. A line that is in doubt is no record, or one without a source: nobody is banned
//! because somebody else wrote their address into a path.
//!
//! | module | what it reads |
//! | --- | --- |
//! | `combined` | nginx's and Apache's access logs |
//! | `nginx_error` | nginx's error log |
//! | `haproxy` | `HAProxy`'s `option httplog` |
//! | `json` | Caddy, Traefik, Envoy, and any other log of a JSON object a line |
//! | `pattern` | whatever a regular expression fits |
//! | `sshd` | who could not log in by OpenSSH |
//! | `clock` | times |
//! | `guess` | what a log is written by |
//! | `escapes` | what servers do to quotes and control characters |
//! | `proxies` | addresses, and who is behind trusted proxies |

mod clock;
mod combined;
mod escapes;
mod guess;
mod haproxy;
mod json;
mod nginx_error;
mod pattern;
mod proxies;
mod sshd;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, str::FromStr};

use ipnet::IpNet;
use jiff::tz::TimeZone;

pub use self::guess::guess;
use self::{clock::Clock, json::Json, pattern::Pattern, proxies::Proxies, sshd::Sshd};
use crate::{field::nearest, record::Record, time::Time};

/// What a log is written by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nginx's `combined`, also with `"$http_x_forwarded_for"` behind it.
    NginxCombined,
    /// nginx's `error_log`.
    NginxError,
    /// Apache's `combined` and `common`, also with the virtual host before it.
    ApacheCombined,
    /// Caddy's access log.
    CaddyJson,
    /// Traefik's access log with `format: json`.
    TraefikJson,
    /// `HAProxy`'s `option httplog`.
    HaproxyHttp,
    /// Envoy's access log as JSON, with the names of its documentation.
    EnvoyJson,
    /// A JSON object a line.
    Json,
    /// What a regular expression fits.
    Regex,
    /// `OpenSSH`'s failed logins, each once.
    Sshd,
}

impl Kind {
    /// All there are, with their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("nginx-combined", Self::NginxCombined),
        ("nginx-error", Self::NginxError),
        ("apache-combined", Self::ApacheCombined),
        ("caddy-json", Self::CaddyJson),
        ("traefik-json", Self::TraefikJson),
        ("haproxy-http", Self::HaproxyHttp),
        ("envoy-json", Self::EnvoyJson),
        ("json", Self::Json),
        ("regex", Self::Regex),
        ("sshd", Self::Sshd),
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, kind)| kind == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for Kind {
    type Err = ParserError;

    fn from_str(name: &str) -> Result<Self, ParserError> {
        let named = Self::ALL.iter().find(|(known, _)| *known == name);
        named
            .map(|(_, kind)| *kind)
            .ok_or_else(|| ParserError::Unknown {
                name: name.to_owned(),
                nearest: nearest(name, Self::ALL.iter().map(|(name, _)| *name)),
            })
    }
}

/// What a parser can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the log is written by.
    pub kind: Kind,
    /// For [`Kind::Regex`]: the expression, with named groups.
    pub pattern: Option<String>,
    /// Where fields of a record are, other than where they are looked for anyway: for JSON
    /// dotted paths (`source` is `request.ip`), for [`Kind::Regex`] groups, and for
    /// [`Kind::HaproxyHttp`] captured headers (`user_agent` is `captured.0`). [`Target`] has the names.
    pub fields: BTreeMap<String, String>,
    /// Whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// The time zone of logs whose times name none.
    pub zone: TimeZone,
}

impl Settings {
    /// Those of a parser that needs to be told nothing; times are in UTC unless they say otherwise.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            pattern: None,
            fields: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            zone: TimeZone::UTC,
        }
    }
}

/// Why there is no such parser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParserError {
    /// No parser has that name.
    #[error(
        "there is no parser {name:?}; {}",
        nearest.map_or_else(
            || format!("there are {}", Kind::ALL.map(|(name, _)| name).join(", ")),
            |near| format!("did you mean {near:?}?"),
        )
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// `regex` without an expression.
    #[error(
        "the parser \"regex\" needs a pattern with named groups, such as \
         pattern = '(?<source>\\S+) (?<path>\\S+)'"
    )]
    NoPattern,
    /// An expression for a parser that has none.
    #[error("the parser \"{0}\" takes no pattern; the one that does is \"regex\"")]
    Pattern(Kind),
    /// The expression is none, or too large.
    #[error("the pattern is no regular expression that can be used: {0}")]
    Regex(String),
    /// An expression whose groups tell nothing.
    #[error("the pattern has no named group, such as (?<source>\\S+)")]
    NoGroups,
    /// A field for a parser that has its own.
    #[error(
        "the parser \"{0}\" takes no fields; those that do are json, regex, haproxy-http, and \
             caddy-json, traefik-json and envoy-json"
    )]
    Fields(Kind),
    /// A field that no record has.
    #[error(
        "fields cannot set {name:?}; {}",
        nearest.map_or_else(
            || format!("it can set {}", Target::ALL.map(|(name, _)| name).join(", ")),
            |near| format!("did you mean {near:?}?"),
        )
    )]
    Target {
        /// What was to be set.
        name: String,
        /// The field that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A field from a group that the expression does not have.
    #[error("fields takes {target:?} from the group {group:?}, which the pattern does not have")]
    Group {
        /// The field.
        target: String,
        /// The group.
        group: String,
    },
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsed {
    /// There is nothing in it.
    #[error("the line is empty")]
    Empty,
    /// Something that each line of that kind has.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// Something that is not what it should be.
    #[error("{0} is not what it should be")]
    Bad(&'static str),
    /// It is not a JSON object.
    #[error("it is not JSON: see column {0}")]
    Json(usize),
    /// The regular expression does not fit.
    #[error("the pattern does not match")]
    NoMatch,
    /// No failed login.
    #[error("it tells of no failed login")]
    NoFailure,
    /// A line before told of the same.
    #[error("it tells again of a failed login that was told of before")]
    Repeated,
}

/// A field of a record that a parser fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The client's address, or its proxy's.
    Source,
    /// When it happened.
    Time,
    /// The method of the request.
    Method,
    /// The target of the request, with its query.
    Path,
    /// The status of the answer.
    Status,
    /// The bytes of the answer.
    Bytes,
    /// `User-Agent`.
    UserAgent,
    /// `Referer`.
    Referer,
    /// The API key.
    Key,
    /// The user.
    User,
    /// The message.
    Message,
    /// `X-Forwarded-For`, which counts only through trusted proxies.
    ForwardedFor,
}

impl Target {
    /// All there are, with their names.
    pub const ALL: [(&'static str, Self); 12] = [
        ("source", Self::Source),
        ("time", Self::Time),
        ("method", Self::Method),
        ("path", Self::Path),
        ("status", Self::Status),
        ("bytes", Self::Bytes),
        ("user_agent", Self::UserAgent),
        ("referer", Self::Referer),
        ("key", Self::Key),
        ("user", Self::User),
        ("message", Self::Message),
        ("x_forwarded_for", Self::ForwardedFor),
    ];
}

impl FromStr for Target {
    type Err = ParserError;

    fn from_str(name: &str) -> Result<Self, ParserError> {
        let named = Self::ALL.iter().find(|(known, _)| *known == name);
        named
            .map(|(_, target)| *target)
            .ok_or_else(|| ParserError::Target {
                name: name.to_owned(),
                nearest: nearest(name, Self::ALL.iter().map(|(name, _)| *name)),
            })
    }
}

/// Reads the lines of one log.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    clock: Clock,
    proxies: Proxies,
}

/// What is known of a log before its first line.
#[derive(Debug)]
enum Format {
    Combined,
    NginxError,
    Haproxy(Vec<(Target, String)>),
    Json(Json),
    Pattern(Box<Pattern>),
    Sshd(Box<Sshd>),
}

impl Parser {
    /// A parser for a log.
    pub fn new(settings: Settings) -> Result<Self, ParserError> {
        let Settings {
            kind,
            pattern,
            fields,
            trusted_proxies,
            zone,
        } = settings;
        let fields = fields
            .into_iter()
            .map(|(target, place)| Ok((target.parse()?, place)))
            .collect::<Result<Vec<(Target, String)>, ParserError>>()?;
        if pattern.is_some() && kind != Kind::Regex {
            return Err(ParserError::Pattern(kind));
        }
        let format = match kind {
            Kind::NginxCombined | Kind::ApacheCombined | Kind::NginxError | Kind::Sshd
                if !fields.is_empty() =>
            {
                return Err(ParserError::Fields(kind));
            }
            Kind::NginxCombined | Kind::ApacheCombined => Format::Combined,
            Kind::NginxError => Format::NginxError,
            Kind::HaproxyHttp => Format::Haproxy(fields),
            Kind::CaddyJson => Format::Json(Json::caddy(fields)),
            Kind::TraefikJson => Format::Json(Json::traefik(fields)),
            Kind::EnvoyJson => Format::Json(Json::envoy(fields)),
            Kind::Json => Format::Json(Json::generic(fields)),
            Kind::Regex => {
                let pattern = pattern.ok_or(ParserError::NoPattern)?;
                Format::Pattern(Box::new(Pattern::new(&pattern, &fields)?))
            }
            Kind::Sshd => {
                let sshd = Sshd::new().map_err(|error| ParserError::Regex(error.to_string()))?;
                Format::Sshd(Box::new(sshd))
            }
        };
        Ok(Self {
            format,
            clock: Clock::new(zone),
            proxies: Proxies::new(trusted_proxies),
        })
    }

    /// Says about when the lines that follow were written: some logs have times without a year.
    pub fn set_now(&mut self, now: Time) {
        self.clock.set_now(now);
    }

    /// The record that a line is, as [`crate::line::text`] made it.
    pub fn parse<'l>(&mut self, line: &'l str) -> Result<Record<'l>, Unparsed> {
        if line.is_empty() {
            return Err(Unparsed::Empty);
        }
        let Self {
            format,
            clock,
            proxies,
        } = self;
        match format {
            Format::Combined => combined::parse(line, clock, proxies),
            Format::NginxError => nginx_error::parse(line, clock),
            Format::Haproxy(fields) => haproxy::parse(line, fields, clock, proxies),
            Format::Json(json) => json.parse(line, clock, proxies),
            Format::Pattern(pattern) => pattern.parse(line, clock, proxies),
            Format::Sshd(sshd) => sshd.parse(line, clock),
        }
    }
}
