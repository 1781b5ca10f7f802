//! A `log_format` as one of our parsers.

use serde_json::Value as Json;

/// The format `combined`, which nginx knows by itself.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                        $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// What reads lines of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parser {
    Combined,
    /// Dotted paths by the fields of a record.
    Json(Vec<(&'static str, String)>),
    /// An expression whose groups have the names of the fields.
    Regex(String, Vec<&'static str>),
}

impl Parser {
    /// What reads lines of this format; the error says why nothing does.
    pub(super) fn of(format: &str) -> Result<Self, &'static str> {
        let format = format.trim_end_matches(['\n', '\r']);
        if let Some(rest) = format.strip_prefix(COMBINED)
            && (rest.is_empty() || rest.starts_with(' '))
        {
            return Ok(Self::Combined);
        }
        let parser = if format.trim_start().starts_with('{') {
            Self::json(format).ok_or("it looks like JSON and is none")?
        } else {
            Self::regex(format)?
        };
        let has = |field: &str| match &parser {
            Self::Combined => true,
            Self::Json(fields) => fields.iter().any(|(name, _)| *name == field),
            Self::Regex(_, fields) => fields.contains(&field),
        };
        if !has("source") {
            return Err("it has no $remote_addr, so nobody could be found by it");
        }
        if !has("status") {
            return Err("it has no $status, so refusals cannot be told in it");
        }
        Ok(parser)
    }

    fn json(format: &str) -> Option<Self> {
        let document: Json = serde_json::from_str(&quoted(format)).ok()?;
        let mut fields = Vec::new();
        collect(&document, "", &mut fields);
        Some(Self::Json(fields))
    }

    fn regex(format: &str) -> Result<Self, &'static str> {
        let pieces = pieces(format);
        let mut pattern = String::from("^");
        let mut fields: Vec<&'static str> = Vec::new();
        // Whether a client can have written what follows.
        let mut is_forgeable = false;
        for (number, piece) in pieces.iter().enumerate() {
            let variable = match piece {
                Piece::Text(text) => {
                    pattern.push_str(&regex::escape(text));
                    continue;
                }
                Piece::Variable(name) => *name,
            };
            let any = match pieces.get(number + 1) {
                None => ".*".to_owned(),
                Some(Piece::Variable(_)) => ".*?".to_owned(),
                Some(Piece::Text(text)) => match text.chars().next() {
                    Some(c @ ('\\' | ']' | '[' | '^' | '-' | '&' | '~')) => format!("[^\\{c}]*"),
                    Some(c) => format!("[^{c}]*"),
                    None => ".*?".to_owned(),
                },
            };
            let is_quoted = matches!(
                (number.checked_sub(1).and_then(|before| pieces.get(before)), pieces.get(number + 1)),
                (Some(Piece::Text(before)), Some(Piece::Text(after)))
                    if before.ends_with('"') && after.starts_with('"')
            );
            if is_forgeable && matches!(variable, "remote_addr" | "status") {
                return Err(
                    "something that clients choose stands in it before the address or the status \
                     and not in quotes, so they could forge these",
                );
            }
            is_forgeable |= !is_quoted && !is_the_server_s(variable);
            if variable == "request" && !fields.contains(&"method") && !fields.contains(&"path") {
                // What is no request at all, such as the first bytes of TLS, is one word or none.
                pattern.push_str("(?:(?<method>[A-Za-z]+) (?<path>[^ \"]+)(?: HTTP/[0-9.]+)?|");
                pattern.push_str(&any);
                pattern.push(')');
                fields.extend(["method", "path"]);
                continue;
            }
            match field(variable) {
                Some(field) if !fields.contains(&field) => {
                    pattern.extend(["(?<", field, ">", &any, ")"]);
                    fields.push(field);
                }
                _ => pattern.push_str(&any),
            }
        }
        pattern.push('$');
        Ok(Self::Regex(pattern, fields))
    }
}

/// Whether clients have no say in what a variable is, beyond one word.
fn is_the_server_s(variable: &str) -> bool {
    let is_of_upstream = variable.starts_with("upstream_")
        && !["upstream_http_", "upstream_cookie_", "upstream_trailer_"]
            .iter()
            .any(|begin| variable.starts_with(begin));
    is_of_upstream
        || matches!(
            variable,
            "remote_addr"
                | "remote_port"
                | "time_local"
                | "time_iso8601"
                | "msec"
                | "status"
                | "body_bytes_sent"
                | "bytes_sent"
                | "request_time"
                | "request_length"
                | "request_id"
                | "request_method"
                | "server_name"
                | "server_addr"
                | "server_port"
                | "server_protocol"
                | "hostname"
                | "pid"
                | "pipe"
                | "scheme"
                | "connection"
                | "connection_requests"
                | "gzip_ratio"
                | "ssl_protocol"
                | "ssl_cipher"
        )
}

/// The field of a record that a variable fills.
fn field(variable: &str) -> Option<&'static str> {
    Some(match variable {
        "remote_addr" => "source",
        "time_local" | "time_iso8601" | "msec" => "time",
        "request_method" => "method",
        "request_uri" | "uri" => "path",
        "status" => "status",
        "body_bytes_sent" | "bytes_sent" => "bytes",
        "remote_user" => "user",
        "http_user_agent" => "user_agent",
        "http_referer" => "referer",
        "http_x_api_key" | "http_api_key" | "http_apikey" => "key",
        "http_x_forwarded_for" => "x_forwarded_for",
        _ => return None,
    })
}

enum Piece<'f> {
    Text(&'f str),
    Variable(&'f str),
}

/// What is text in a format, and what a variable.
fn pieces(mut format: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let Some(at) = format.find('$') {
        let (before, rest) = format.split_at(at);
        let name = rest.strip_prefix('$').unwrap_or(rest);
        let braced = name.strip_prefix('{').and_then(|name| name.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.split_at(name.find(|c| !is_name(c)).unwrap_or(name.len()))
        });
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Variable(name));
        format = after;
    }
    if !format.is_empty() {
        pieces.push(Piece::Text(format));
    }
    pieces
}

/// The format with each variable as a string of JSON: those of numbers have no quotes.
fn quoted(format: &str) -> String {
    let mut json = String::new();
    let mut is_string = false;
    for piece in pieces(format) {
        match piece {
            Piece::Variable(name) if is_string => json.extend(["$", name]),
            Piece::Variable(name) => json.extend(["\"$", name, "\""]),
            Piece::Text(text) => {
                let mut is_escaped = false;
                for c in text.chars() {
                    is_string ^= c == '"' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                }
                json.push_str(text);
            }
        }
    }
    json
}

fn collect(document: &Json, path: &str, fields: &mut Vec<(&'static str, String)>) {
    match document {
        Json::Object(members) => {
            for (name, member) in members {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                collect(member, &inner, fields);
            }
        }
        Json::String(text) => {
            let found = text.strip_prefix('$').and_then(field);
            if let Some(field) = found
                && !fields.iter().any(|(known, _)| *known == field)
            {
                fields.push((field, path.to_owned()));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_like_combined_is_combined() {
        assert_eq!(Parser::of(COMBINED), Ok(Parser::Combined));
        let packaged = format!("{COMBINED} \"$http_x_forwarded_for\"");
        assert_eq!(Parser::of(&packaged), Ok(Parser::Combined));
    }

    #[test]
    fn a_format_of_json_becomes_paths() {
        let format = r#"{"ts":"$time_iso8601","client":{"ip":"$remote_addr","say":"\"$foo"},"status":$status,"n":1,"uri":"$request_uri"}"#;
        let Ok(Parser::Json(fields)) = Parser::of(format) else {
            panic!("JSON");
        };
        let fields: std::collections::BTreeMap<_, _> = fields.into_iter().collect();
        assert_eq!(fields["source"], "client.ip");
        assert_eq!(fields["status"], "status");
        assert_eq!(fields["path"], "uri");
        assert_eq!(fields["time"], "ts");
        assert!(Parser::of("{ $remote_addr").is_err());
    }

    #[test]
    fn any_other_format_becomes_an_expression_that_matches_its_lines() {
        let format = r#"${remote_addr}|"$host"|[$time_local]|"$request"|$status|$request_time^$http_x_api_key"#;
        let Ok(Parser::Regex(pattern, fields)) = Parser::of(format) else {
            panic!("an expression");
        };
        assert_eq!(
            fields,
            ["source", "time", "method", "path", "status", "key"]
        );
        let regex = regex::Regex::new(&pattern).expect("an expression");
        let line =
            r#"2001:db8::1|"h"|[10/Oct/2025:13:55:36 +0000]|"GET /api/?a HTTP/1.1"|429|0.1^k 1"#;
        let found = regex.captures(line).expect("a match");
        let group = |name| found.name(name).map(|group| group.as_str());
        assert_eq!(group("source"), Some("2001:db8::1"));
        assert_eq!(group("path"), Some("/api/?a"));
        assert_eq!(group("status"), Some("429"));
        assert_eq!(group("key"), Some("k 1"));
        assert!(regex.is_match(r#"192.0.2.1|"h"|[x]|"\x16\x03\x01"|400|0.0^-"#));
    }

    #[test]
    fn a_format_in_which_clients_could_forge_who_they_are_is_refused() {
        for (format, is_sound) in [
            ("$http_user_agent $remote_addr $status", false),
            ("$remote_addr $request_uri $status", false),
            ("\"$http_user_agent\" $remote_addr $status", true),
            ("$remote_addr $status $request_uri", true),
            (
                "$server_name $upstream_addr $remote_addr $request_time $status",
                true,
            ),
        ] {
            assert_eq!(Parser::of(format).is_ok(), is_sound, "{format}");
        }
    }

    #[test]
    fn a_format_that_names_nobody_is_refused() {
        assert!(Parser::of("$hostname $status").is_err());
        assert!(Parser::of("$remote_addr $hostname").is_err());
    }
}
