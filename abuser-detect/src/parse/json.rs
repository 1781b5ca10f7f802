//! Logs of a JSON object a line.
//!
//! What clients send is in strings, whose quotes JSON escapes: nothing in them becomes a field. Before the
//! object there may be what syslog or a container's log puts there.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    Target, Unparsed,
    clock::{self, Clock},
    proxies::{Proxies, address},
};
use crate::{
    field::{self, at_path, scalar},
    record::{Fields, Header, Record},
};

/// Where the fields of a record are in the objects of a log.
#[derive(Debug)]
pub(super) struct Json {
    /// Places to look at, in the order in which they count.
    places: Vec<(Target, Cow<'static, str>)>,
    /// The fields that were placed by the configuration, which are nowhere else.
    placed: Vec<Target>,
    headers: HeadersAt,
    /// Whether fields are also known by their usual names.
    is_generic: bool,
}

/// Where a log has headers.
#[derive(Clone, Copy, Debug)]
enum HeadersAt {
    Nowhere,
    /// In an object at one of these paths; whether it has all of them.
    Object(&'static [&'static str], bool),
    /// In fields whose names begin like this.
    Prefix(&'static str),
}

/// Caddy: `caddyhttp/marshalers.go` and `server.go`. `client_ip` is Caddy's own reading of
/// `X-Forwarded-For`, by its own list of proxies, and for it to count the peer must be one of ours.
const CADDY: [(Target, &str); 10] = [
    (Target::Source, "request.remote_ip"),
    (Target::Time, "ts"),
    (Target::Method, "request.method"),
    (Target::Path, "request.uri"),
    (Target::Status, "status"),
    (Target::Bytes, "size"),
    (Target::User, "user_id"),
    (Target::Message, "msg"),
    (Target::ForwardedFor, "request.headers.X-Forwarded-For"),
    (Target::ForwardedFor, "request.client_ip"),
];

/// Traefik: `accesslog/logdata.go` and `logger.go`. `ClientHost` is `X-Forwarded-For` if there is one.
const TRAEFIK: [(Target, &str); 13] = [
    (Target::Source, "ClientAddr"),
    (Target::Time, "StartUTC"),
    (Target::Time, "time"),
    (Target::Method, "RequestMethod"),
    (Target::Path, "RequestPath"),
    (Target::Status, "DownstreamStatus"),
    (Target::Bytes, "DownstreamContentSize"),
    (Target::User, "ClientUsername"),
    (Target::Message, "msg"),
    (Target::UserAgent, "request_User-Agent"),
    (Target::Referer, "request_Referer"),
    (Target::ForwardedFor, "request_X-Forwarded-For"),
    (Target::ForwardedFor, "ClientHost"),
];

/// Envoy, Istio and Envoy Gateway: the names of the default JSON formats of the latter two.
const ENVOY: [(Target, &str); 15] = [
    (Target::Source, "downstream_direct_remote_address"),
    (Target::Source, "downstream_remote_address"),
    (Target::Time, "start_time"),
    (Target::Method, "method"),
    (Target::Path, "path"),
    (Target::Path, "x-envoy-origin-path"),
    (Target::Path, "x-envoy-original-path"),
    (Target::Status, "response_code"),
    (Target::Bytes, "bytes_sent"),
    (Target::UserAgent, "user_agent"),
    (Target::UserAgent, "user-agent"),
    (Target::Referer, "referer"),
    (Target::ForwardedFor, "x_forwarded_for"),
    (Target::ForwardedFor, "x-forwarded-for"),
    (Target::ForwardedFor, "forwarded_for"),
];

impl Json {
    pub(super) fn caddy(fields: Vec<(Target, String)>) -> Self {
        Self::new(
            fields,
            &CADDY,
            HeadersAt::Object(&["request.headers"], true),
        )
    }

    pub(super) fn traefik(fields: Vec<(Target, String)>) -> Self {
        Self::new(fields, &TRAEFIK, HeadersAt::Prefix("request_"))
    }

    pub(super) fn envoy(fields: Vec<(Target, String)>) -> Self {
        Self::new(fields, &ENVOY, HeadersAt::Nowhere)
    }

    pub(super) fn generic(fields: Vec<(Target, String)>) -> Self {
        let headers = HeadersAt::Object(&["headers", "request.headers", "req.headers"], false);
        Self {
            is_generic: true,
            ..Self::new(fields, &[], headers)
        }
    }

    fn new(
        fields: Vec<(Target, String)>,
        known: &[(Target, &'static str)],
        headers: HeadersAt,
    ) -> Self {
        let set: Vec<_> = fields.iter().map(|(target, _)| *target).collect();
        let known = known.iter().filter(|(target, _)| !set.contains(target));
        let known = known.map(|(target, place)| (*target, Cow::Borrowed(*place)));
        let mut places: Vec<_> = known.collect();
        places.extend(
            fields
                .into_iter()
                .map(|(target, place)| (target, Cow::Owned(place))),
        );
        Self {
            places,
            placed: set,
            headers,
            is_generic: false,
        }
    }

    pub(super) fn parse<'l>(
        &self,
        line: &'l str,
        clock: &mut Clock,
        proxies: &Proxies,
    ) -> Result<Record<'l>, Unparsed> {
        let start = line.find('{').ok_or(Unparsed::Json(1))?;
        let document: Value = line
            .get(start..)
            .ok_or(Unparsed::Json(1))
            .and_then(|json| {
                serde_json::from_str(json).map_err(|e| Unparsed::Json(start + e.column()))
            })?;
        let mut found = Found::default();
        if self.is_generic {
            found.take_usual_names(&document, &self.placed);
        }
        for (target, place) in &self.places {
            if let Some(value) = at_path(&document, place) {
                found.take(*target, value, 0);
            }
        }
        let is_access = [Target::Source, Target::Path, Target::Status];
        if !self.is_generic && is_access.iter().all(|target| found.get(*target).is_none()) {
            return Err(Unparsed::Missing("client, path or status of an access log"));
        }

        let mut record = Record {
            time: found.get(Target::Time).and_then(|value| time(value, clock)),
            method: found.text(Target::Method),
            path: found.text(Target::Path).map(without_origin),
            status: found.number(Target::Status),
            bytes: found.number(Target::Bytes),
            key: found.text(Target::Key),
            user: found.text(Target::User),
            message: found.text(Target::Message),
            raw: line,
            ..Record::default()
        };
        record.headers.user_agent = found.header(Target::UserAgent);
        record.headers.referer = found.header(Target::Referer);
        self.add_headers(&mut record, &document);
        let peer = found.get(Target::Source).and_then(Value::as_str);
        let forwarded = found.get(Target::ForwardedFor).and_then(header_text);
        record.source = proxies.client(peer.and_then(address), forwarded.as_deref());
        record.fields = Fields::Json(document);
        Ok(record)
    }

    /// Takes the headers that the log has.
    fn add_headers(&self, record: &mut Record<'_>, document: &Value) {
        let (headers, prefix) = match self.headers {
            HeadersAt::Nowhere => return,
            HeadersAt::Prefix(prefix) => (document.as_object(), prefix),
            HeadersAt::Object(places, complete) => {
                let mut places = places.iter();
                let object = places.find_map(|place| at_path(document, place)?.as_object());
                record.headers.complete = complete && object.is_some();
                (object, "")
            }
        };
        let headers = headers.into_iter().flatten().filter_map(|(name, value)| {
            let name = name.strip_prefix(prefix)?.to_ascii_lowercase();
            Some((name, header_text(value)?.into_owned()))
        });
        let named = &mut record.headers;
        for (name, value) in headers {
            let slot = match name.as_str() {
                "user-agent" => &mut named.user_agent,
                "referer" => &mut named.referer,
                _ => {
                    named.others.push((name.into(), value.into()));
                    continue;
                }
            };
            if *slot == Header::Unknown {
                *slot = Header::Sent(value.into());
            }
        }
        if named.complete {
            for slot in [&mut named.user_agent, &mut named.referer] {
                if *slot == Header::Unknown {
                    *slot = Header::Absent;
                }
            }
        }
    }
}

/// What was found for each field, and how good the name is that it was found by: 0 is best.
#[derive(Default)]
struct Found<'j>([Option<(&'j Value, u8)>; Target::ALL.len()]);

impl<'j> Found<'j> {
    fn get(&self, target: Target) -> Option<&'j Value> {
        self.0.get(target as usize)?.map(|(value, _)| value)
    }

    /// Takes a value unless there is one by a name that is as good.
    fn take(&mut self, target: Target, value: &'j Value, rank: u8) {
        let is_of_use = match target {
            Target::Source => value.as_str().is_some_and(|text| address(text).is_some()),
            // That they are null says that they were not sent.
            Target::UserAgent | Target::Referer => !value.is_object(),
            Target::ForwardedFor => header_text(value).is_some(),
            _ => !value.is_null() && !value.is_object() && !value.is_array(),
        };
        if let Some(slot) = self.0.get_mut(target as usize)
            && is_of_use
            && slot.is_none_or(|(_, taken)| rank < taken)
        {
            *slot = Some((value, rank));
        }
    }

    /// Takes the fields that have one of the names that such fields usually have, in the document
    /// and in the objects that usually hold the request and the answer.
    fn take_usual_names(&mut self, document: &'j Value, placed: &[Target]) {
        const INNER: u8 = 10;
        const LAST: u8 = 100;
        let mut take = |named: Option<(Target, u8)>, value, inner| {
            if let Some((target, rank)) = named
                && !placed.contains(&target)
            {
                self.take(target, value, inner + rank);
            }
        };
        let fields = document.as_object().into_iter().flatten();
        for (name, value) in fields {
            take(usual(name), value, 0);
            let Value::Object(inner) = value else {
                continue;
            };
            let is_of_a_request = matches!(
                name.as_str(),
                "request" | "req" | "response" | "res" | "http" | "client" | "source" | "peer"
            );
            for (inner_name, value) in inner.iter().filter(|_| is_of_a_request) {
                let named = match (name.as_str(), inner_name.as_str()) {
                    ("source", "ip" | "address") => usual("source.ip"),
                    ("peer", "ip" | "address") => usual("peer_ip"),
                    // A request's own parameters may be called so.
                    (_, "source" | "src" | "remote" | "peer") => Some((Target::Source, LAST)),
                    (_, name) => usual(name),
                };
                take(named, value, INNER);
            }
        }
    }

    fn text(&self, target: Target) -> Option<Cow<'static, str>> {
        let value = scalar(self.get(target)?)?;
        let text = value.with_text(str::to_owned);
        (!matches!(text.as_str(), "" | "-")).then(|| text.into())
    }

    fn number<T: TryFrom<u64>>(&self, target: Target) -> Option<T> {
        let number = match scalar(self.get(target)?)? {
            field::Value::Whole(number) => number,
            field::Value::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        number.try_into().ok()
    }

    fn header(&self, target: Target) -> Header<'static> {
        match self.get(target) {
            None => Header::Unknown,
            Some(value) => match header_text(value) {
                Some(text) if text != "-" => Header::Sent(Cow::Owned(text.into_owned())),
                _ => Header::Absent,
            },
        }
    }
}

/// A header's text; those of one that was sent several times are joined (RFC 9110, 5.3).
fn header_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Some(Cow::Borrowed(text)),
            items => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                (!items.is_empty()).then(|| items.join(", ").into())
            }
        },
        Value::Number(_) => scalar(value).map(|value| value.to_string().into()),
        _ => None,
    }
}

fn time(value: &Value, clock: &mut Clock) -> Option<crate::time::Time> {
    match scalar(value)? {
        field::Value::Whole(number) => Some(clock::from_whole(number)),
        field::Value::Float(number) => clock::from_float(number),
        field::Value::Text(text) => clock.any(&text),
        _ => None,
    }
}

/// A target that is a whole URL, as applications log it, without scheme and host.
fn without_origin(target: Cow<'static, str>) -> Cow<'static, str> {
    let origin = ["http://", "https://"];
    let Some(rest) = origin.iter().find_map(|scheme| target.strip_prefix(scheme)) else {
        return target;
    };
    match rest.find(['/', '?']).and_then(|start| rest.get(start..)) {
        Some(path) => path.to_owned().into(),
        None => "/".into(),
    }
}

/// What a field is by the name that it has in many logs, and how sure that is: 0 is the surest.
///
/// Many programs fill `ip` and `client_ip` from the first address of `X-Forwarded-For`, which any client
/// can send: who believes those chooses whom to ban. So they count where there is nothing else.
fn usual(name: &str) -> Option<(Target, u8)> {
    /// Worse than any name of the connection's address, also one in an inner object.
    const SAID: u8 = 20;
    Some(match name {
        // What the connection shows, wherever it is, comes before what a header may have said.
        "remote_addr" | "remoteAddr" | "remoteAddress" | "remote_address" => (Target::Source, 0),
        "peer" | "peer_ip" | "peer_addr" | "peer_address" | "network.peer.address" => {
            (Target::Source, 0)
        }
        "remote_ip" | "remoteIp" | "remote" => (Target::Source, 1),
        "source_ip" | "source.ip" | "src_ip" | "source" | "src" => (Target::Source, 2),
        "ip" => (Target::Source, SAID),
        "client_ip" | "clientIp" | "clientip" | "client.ip" => (Target::Source, SAID + 1),
        "ip_address" | "client_addr" => (Target::Source, SAID + 2),
        "address" | "addr" | "client" => (Target::Source, SAID + 3),
        "time" => (Target::Time, 0),
        "ts" | "timestamp" | "@timestamp" => (Target::Time, 1),
        "asctime" | "datetime" | "date" | "time_iso8601" | "time_local" => (Target::Time, 2),
        "method" => (Target::Method, 0),
        "request_method" | "http_method" | "http.request.method" | "verb" => (Target::Method, 1),
        "path" => (Target::Path, 0),
        "uri" | "request_uri" | "request_path" | "target" => (Target::Path, 1),
        "url" | "request_url" | "url.original" | "url.path" => (Target::Path, 2),
        "status" => (Target::Status, 0),
        "status_code" | "statusCode" | "http_status" | "http.response.status_code" => {
            (Target::Status, 1)
        }
        "response_code" | "response_status" | "code" => (Target::Status, 2),
        "bytes" => (Target::Bytes, 0),
        "bytes_sent" | "body_bytes_sent" | "response_size" | "size" => (Target::Bytes, 1),
        "user_agent" | "user-agent" | "userAgent" | "http_user_agent" | "user_agent.original" => {
            (Target::UserAgent, 0)
        }
        "agent" | "ua" => (Target::UserAgent, 1),
        "referer" | "referrer" | "http_referer" => (Target::Referer, 0),
        "key" => (Target::Key, 2),
        "api_key" | "api-key" | "apiKey" | "apikey" => (Target::Key, 0),
        "key_id" | "token" | "access_token" => (Target::Key, 1),
        "user" => (Target::User, 0),
        "username" | "user_name" | "user.name" | "remote_user" => (Target::User, 1),
        "user_id" | "userId" | "login" | "email" => (Target::User, 2),
        "message" => (Target::Message, 0),
        "msg" => (Target::Message, 1),
        "x_forwarded_for" | "x-forwarded-for" | "http_x_forwarded_for" | "xff" => {
            (Target::ForwardedFor, 0)
        }
        _ => return None,
    })
}
