//! What a parser makes of a line.
//!
//! A record borrows from its line wherever it can: a million lines a second leave no time to
//! copy.

use std::{borrow::Cow, net::IpAddr};

use crate::{
    field::{Field, Value},
    time::Time,
};

/// One line of a log, or what several belong together to, as detectors see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record<'l> {
    /// When it happened, as the line says; `None` if it does not.
    pub time: Option<Time>,
    /// The client, behind trusted proxies if there are any.
    pub source: Option<IpAddr>,
    /// `GET`, `POST` and so on.
    pub method: Option<Cow<'l, str>>,
    /// The request target as it was sent, with its query: `/api/users/7?full=1`.
    pub path: Option<Cow<'l, str>>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub bytes: Option<u64>,
    /// The API key or token, if the log has it.
    pub key: Option<Cow<'l, str>>,
    /// The user that was named or tried.
    pub user: Option<Cow<'l, str>>,
    /// The text of the message, for logs that have one.
    pub message: Option<Cow<'l, str>>,
    /// What is known of the request's headers.
    pub headers: Headers<'l>,
    /// What else the line tells.
    pub fields: Fields<'l>,
    /// The whole line, without its end.
    pub raw: &'l str,
}

impl Record<'_> {
    /// What the record has by that name, as [`Field`] lists them. Whoever asks for the same name
    /// again and again parses it once.
    pub fn field(&self, name: &str) -> Option<Value<'_>> {
        name.parse::<Field>().ok()?.of(self)
    }
}

/// What is known of a request's headers. Names are compared without case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers<'l> {
    /// `User-Agent`.
    pub user_agent: Header<'l>,
    /// `Referer`.
    pub referer: Header<'l>,
    /// Others that were seen, in lower case.
    pub others: Vec<(Cow<'l, str>, Cow<'l, str>)>,
    /// Whether the log has all headers, so that one which is not in `others` was not sent.
    pub complete: bool,
}

/// What is known of one header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Header<'l> {
    /// The log does not tell.
    #[default]
    Unknown,
    /// It was not sent.
    Absent,
    /// It was sent, with this value.
    Sent(Cow<'l, str>),
}

impl Headers<'_> {
    /// What is known of the header of that name, in lower case.
    pub fn get(&self, name: &str) -> Header<'_> {
        let named = match name {
            "user-agent" => &self.user_agent,
            "referer" => &self.referer,
            _ => &Header::Unknown,
        };
        if let Header::Sent(value) = named {
            return Header::Sent(Cow::Borrowed(value));
        }
        let other = self.others.iter().find(|(other, _)| other == name);
        match other {
            Some((_, value)) => Header::Sent(Cow::Borrowed(value)),
            None if self.complete || *named == Header::Absent => Header::Absent,
            None => Header::Unknown,
        }
    }
}

/// What a line tells beyond what every record has.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fields<'l> {
    /// Nothing.
    #[default]
    None,
    /// Named groups of a regular expression.
    Groups(Vec<(Cow<'l, str>, Cow<'l, str>)>),
    /// A JSON document, whose fields have dotted paths: `request.headers.X-Api-Key`.
    Json(serde_json::Value),
}
