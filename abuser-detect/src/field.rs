//! The fields of a record by the names that conditions, detectors and `abuser scan` know them by.
//!
//! | name | what it is |
//! | --- | --- |
//! | `time` | when it happened |
//! | `source` | the client's address |
//! | `method`, `status`, `bytes` | as in the log |
//! | `path` | the request target as it was sent, with its query |
//! | `uri`, `query` | the target before and after its `?` |
//! | `user_agent`, `referer` | those headers; empty if the log says that they were not sent |
//! | `header.NAME` | any header that the log has; empty if it says that it was not sent |
//! | `key`, `user`, `message` | as far as the log has them |
//! | `line` | the whole line |
//! | `a.b.c` | a field of a JSON log, or a group of a regular expression whose name has a dot |
//! | `field.NAME` | the same for a name without a dot: `field.level` |

use std::{borrow::Cow, fmt, net::IpAddr};

use crate::{
    record::{Fields, Header, Record},
    time::Time,
};

/// The names of what every record may have.
const NAMES: [(&str, Field); 14] = [
    ("time", Field::Time),
    ("source", Field::Source),
    ("method", Field::Method),
    ("path", Field::Path),
    ("uri", Field::Uri),
    ("query", Field::Query),
    ("status", Field::Status),
    ("bytes", Field::Bytes),
    ("user_agent", Field::UserAgent),
    ("referer", Field::Referer),
    ("key", Field::Key),
    ("user", Field::User),
    ("message", Field::Message),
    ("line", Field::Line),
];

/// What of a record is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `time`
    Time,
    /// `source`
    Source,
    /// `method`
    Method,
    /// `path`: the target with its query
    Path,
    /// `uri`: the target without its query
    Uri,
    /// `query`: what follows the target's first `?`
    Query,
    /// `status`
    Status,
    /// `bytes`
    Bytes,
    /// `user_agent`
    UserAgent,
    /// `referer`
    Referer,
    /// `key`
    Key,
    /// `user`
    User,
    /// `message`
    Message,
    /// `line`
    Line,
    /// `header.NAME`; the name in lower case
    Header(Box<str>),
    /// A path into a JSON document, or the name of a group
    Other(Box<str>),
}

/// A name that no record has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no field {name:?}; {}",
    nearest.map_or_else(
        || format!(
            "a record has {}, header.NAME, and for what else the log has its dotted path \
             (request.host) or field.NAME",
            NAMES.map(|(name, _)| name).join(", ")
        ),
        |near| format!("did you mean {near:?}?"),
    )
)]
pub struct UnknownField {
    /// What was asked for.
    pub name: String,
    /// The field that was probably meant.
    pub nearest: Option<&'static str>,
}

impl std::str::FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        if let Some((_, field)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(field.clone());
        }
        match name.split_once('.') {
            Some(("header", header)) if !header.is_empty() => {
                Ok(Self::Header(header.to_ascii_lowercase().into()))
            }
            Some(("field", path)) if !path.is_empty() => Ok(Self::Other(path.into())),
            Some((first, rest)) if !first.is_empty() && !rest.is_empty() => {
                Ok(Self::Other(name.into()))
            }
            _ => Err(UnknownField {
                name: name.to_owned(),
                nearest: nearest(name, NAMES.iter().map(|(name, _)| *name)),
            }),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Other(path) if path.contains('.') => f.write_str(path),
            Self::Other(name) => write!(f, "field.{name}"),
            field => {
                let named = NAMES.iter().find(|(_, named)| named == field);
                f.write_str(named.map_or("", |(name, _)| name))
            }
        }
    }
}

/// The one of `known` that was probably meant by `name`.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .min()
        .map(|(_, known)| known)
}

/// What a field is in a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'r> {
    /// Text.
    Text(Cow<'r, str>),
    /// A whole number.
    Whole(u64),
    /// Any other number.
    Float(f64),
    /// An address.
    Address(IpAddr),
    /// A moment.
    Time(Time),
}

impl fmt::Display for Value<'_> {
    /// As conditions see it as text; a time in milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Time(time) => time.0.fmt(f),
        }
    }
}

impl Value<'_> {
    /// Hands the value to `read` as text, without allocating anything.
    pub fn with_text<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        if let Self::Text(text) = self {
            return read(text);
        }
        let mut room = Room::default();
        // Numbers and addresses fit: the longest is a float of 330 digits.
        let _fits = fmt::write(&mut room, format_args!("{self}"));
        read(room.text())
    }
}

/// Room for a number or an address as text.
struct Room {
    bytes: [u8; 352],
    len: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: [0; 352],
            len: 0,
        }
    }
}

impl Room {
    fn text(&self) -> &str {
        let written = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(written).unwrap_or_default()
    }
}

impl fmt::Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Field {
    /// What the field is in a record; `None` if the record does not have it.
    pub fn of<'r>(&self, record: &'r Record<'_>) -> Option<Value<'r>> {
        match self {
            Self::Time => record.time.map(Value::Time),
            Self::Source => record.source.map(Value::Address),
            Self::Method => text(record.method.as_ref()),
            Self::Path => text(record.path.as_ref()),
            Self::Uri => record.path.as_deref().map(|path| {
                // No client is to send a fragment; servers leave it out where one does.
                let uri = path.find(['?', '#']).and_then(|end| path.get(..end));
                let uri = uri.unwrap_or(path);
                Value::Text(Cow::Borrowed(uri))
            }),
            Self::Query => record.path.as_deref().map(|path| {
                let query = path.split_once('?').map_or("", |(_, query)| query);
                Value::Text(Cow::Borrowed(query))
            }),
            Self::Status => record.status.map(|status| Value::Whole(status.into())),
            Self::Bytes => record.bytes.map(Value::Whole),
            Self::UserAgent => header(record.headers.get("user-agent")),
            Self::Referer => header(record.headers.get("referer")),
            Self::Key => text(record.key.as_ref()),
            Self::User => text(record.user.as_ref()),
            Self::Message => text(record.message.as_ref()),
            Self::Line => Some(Value::Text(Cow::Borrowed(record.raw))),
            Self::Header(name) => header(record.headers.get(name)),
            Self::Other(path) => match &record.fields {
                Fields::None => None,
                Fields::Groups(groups) => {
                    let group = groups.iter().find(|(name, _)| *name == **path);
                    group.map(|(_, value)| Value::Text(Cow::Borrowed(value)))
                }
                Fields::Json(document) => at_path(document, path).and_then(scalar),
            },
        }
    }
}

fn text<'r>(text: Option<&'r Cow<'_, str>>) -> Option<Value<'r>> {
    text.map(|text| Value::Text(Cow::Borrowed(text)))
}

fn header(header: Header<'_>) -> Option<Value<'_>> {
    match header {
        Header::Unknown => None,
        Header::Absent => Some(Value::Text(Cow::Borrowed(""))),
        Header::Sent(value) => Some(Value::Text(value)),
    }
}

/// What a JSON document has at a dotted path. A name may have dots itself (`{"source.ip": …}`),
/// and a number is a place in a list.
pub(crate) fn at_path<'j>(
    document: &'j serde_json::Value,
    path: &str,
) -> Option<&'j serde_json::Value> {
    child(document, path).or_else(|| {
        let mut dots = path.match_indices('.');
        dots.find_map(|(dot, _)| {
            let inner = child(document, path.get(..dot)?)?;
            at_path(inner, path.get(dot + 1..)?)
        })
    })
}

fn child<'j>(value: &'j serde_json::Value, name: &str) -> Option<&'j serde_json::Value> {
    match value {
        serde_json::Value::Object(fields) => fields.get(name),
        serde_json::Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A JSON value as a field; of a list its first item, as headers are lists in some logs.
pub(crate) fn scalar(value: &serde_json::Value) -> Option<Value<'_>> {
    match value {
        serde_json::Value::String(text) => Some(Value::Text(Cow::Borrowed(text))),
        serde_json::Value::Number(number) => number
            .as_u64()
            .map(Value::Whole)
            .or_else(|| number.as_f64().map(Value::Float)),
        serde_json::Value::Bool(value) => {
            let text = if *value { "true" } else { "false" };
            Some(Value::Text(Cow::Borrowed(text)))
        }
        serde_json::Value::Array(items) => match items.first() {
            Some(serde_json::Value::Array(_)) | None => None,
            Some(first) => scalar(first),
        },
        serde_json::Value::Null | serde_json::Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Headers;

    fn of(record: &Record<'_>, name: &str) -> Option<String> {
        let field: Field = name.parse().expect("a field");
        assert_eq!(field.to_string().parse(), Ok(field.clone()), "{name}");
        field.of(record).map(|value| value.with_text(str::to_owned))
    }

    #[test]
    fn each_field_is_found_by_its_name() {
        let record = Record {
            time: Some(Time(1000)),
            source: Some([192, 0, 2, 1].into()),
            method: Some("GET".into()),
            path: Some("/a/b?c=d?e".into()),
            status: Some(404),
            bytes: Some(u64::MAX),
            key: Some("k".into()),
            user: Some("u".into()),
            message: Some("m".into()),
            headers: Headers {
                user_agent: Header::Sent("curl".into()),
                referer: Header::Absent,
                others: vec![("x-api-key".into(), "secret".into())],
                complete: false,
            },
            fields: Fields::Groups(vec![("zone".into(), "api".into())]),
            raw: "the line",
        };
        for (name, expected) in [
            ("time", "1000"),
            ("source", "192.0.2.1"),
            ("method", "GET"),
            ("path", "/a/b?c=d?e"),
            ("uri", "/a/b"),
            ("query", "c=d?e"),
            ("status", "404"),
            ("bytes", "18446744073709551615"),
            ("user_agent", "curl"),
            ("referer", ""),
            ("header.X-Api-Key", "secret"),
            ("header.user-agent", "curl"),
            ("key", "k"),
            ("user", "u"),
            ("message", "m"),
            ("line", "the line"),
            ("field.zone", "api"),
        ] {
            assert_eq!(of(&record, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(of(&record, "header.origin"), None);
        assert_eq!(of(&record, "request.host"), None);
        for name in NAMES.map(|(name, _)| name) {
            let value = of(&Record::default(), name);
            assert_eq!(value.is_some(), name == "line", "{name}");
        }
    }

    #[test]
    fn json_has_dotted_paths() {
        let json = r#"{"a": {"b": [{"c": 1.5}, -2]}, "d.e": {"f": true}, "h": ["x", "y"],
                       "n": null, "big": 1e308}"#;
        let record = Record {
            fields: Fields::Json(serde_json::from_str(json).expect("JSON")),
            ..Record::default()
        };
        for (name, expected) in [
            ("a.b.0.c", Some("1.5")),
            ("a.b.1", Some("-2")),
            ("d.e.f", Some("true")),
            ("field.h", Some("x")),
            ("field.n", None),
            ("field.a", None),
            ("a.x.y", None),
            ("a.b.c", None),
            ("a.b.99", None),
        ] {
            assert_eq!(of(&record, name).as_deref(), expected, "{name}");
        }
        let big = of(&record, "field.big").expect("a number");
        assert_eq!(big.len(), 309);
    }

    #[test]
    fn a_name_that_nothing_has_is_refused_with_the_one_that_was_meant() {
        for (name, nearest) in [
            ("statsu", Some("status")),
            ("usr", Some("user")),
            ("user-agent", Some("user_agent")),
            ("zebra", None),
            ("", None),
            ("header.", None),
            (".x", None),
        ] {
            let error = name.parse::<Field>().expect_err(name);
            assert_eq!(error.nearest, nearest, "{name}");
            let hint = nearest.unwrap_or("header.NAME");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }
}
