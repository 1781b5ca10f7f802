//! The parts of the traffic that rules look at, by the names of Snort 2, Snort 3 and Suricata.

/// Where a rule looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Buffer {
    /// In all that was sent.
    Raw,
    /// In the first line of the request.
    RequestLine,
    /// In all headers.
    Header,
    /// In what a field of a record has.
    Field(&'static str),
    /// In a header that few logs have.
    Named(String),
    /// In the status of the answer.
    Status,
    /// In what no log has.
    Unknown(String),
}

impl Buffer {
    /// The buffer of that name, with what follows its colon; `None` if it is none.
    pub(super) fn named(name: &str, value: &str) -> Option<Self> {
        let buffer = match name {
            "pkt_data" | "raw_data" => Self::Raw,
            "http_uri" | "http_raw_uri" => match value {
                "" | "path,query" => Self::Field("path"),
                "path" => Self::Field("uri"),
                "query" => Self::Field("query"),
                _ => Self::Unknown(format!("{name}:{value}")),
            },
            "http.uri" | "http.uri.raw" => Self::Field("path"),
            "http_method" | "http.method" => Self::Field("method"),
            "http_user_agent" | "http.user_agent" => Self::Field("user_agent"),
            "http_referer" | "http.referer" => Self::Field("referer"),
            "http_host" | "http_raw_host" | "http.host" | "http.host.raw" => {
                Self::Named("header.host".to_owned())
            }
            "http_cookie" | "http_raw_cookie" | "http.cookie" => {
                Self::Named("header.cookie".to_owned())
            }
            "http_header" | "http_raw_header" | "http.header" | "http.header.raw" => header(value),
            "http.accept" | "http.accept_lang" | "http.accept_enc" | "http.connection"
            | "http.content_type" | "http.content_len" | "http_accept" | "http_accept_lang"
            | "http_accept_enc" | "http_connection" | "http_content_type" => header_of(name),
            "http_request_line" | "http.request_line" => Self::RequestLine,
            "http_stat_code" | "http.stat_code" => Self::Status,
            _ if is_unknown(name) => Self::Unknown(name.to_owned()),
            _ => return None,
        };
        Some(buffer)
    }

    /// The one that a letter behind a `pcre` names.
    pub(super) fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'U' | 'I' => Self::Field("path"),
            'M' => Self::Field("method"),
            'V' => Self::Field("user_agent"),
            'W' | 'Z' => Self::Named("header.host".to_owned()),
            'C' | 'K' => Self::Named("header.cookie".to_owned()),
            'H' | 'D' => Self::Header,
            'S' => Self::Status,
            'P' => Self::Unknown("http_client_body".to_owned()),
            'Q' => Self::Unknown("http_server_body".to_owned()),
            'Y' => Self::Unknown("http_stat_msg".to_owned()),
            _ => return None,
        })
    }

    /// Whether it is a part of the answer.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status)
    }
}

/// Snort 3's `http_header:field user-agent`.
fn header(value: &str) -> Buffer {
    let mut fields = value.split(',').map(str::trim);
    let field = fields.find_map(|part| part.strip_prefix("field "));
    match field.map(|field| field.trim().to_ascii_lowercase()) {
        None => Buffer::Header,
        Some(name) if name == "user-agent" => Buffer::Field("user_agent"),
        Some(name) if name == "referer" => Buffer::Field("referer"),
        Some(name) => Buffer::Named(format!("header.{name}")),
    }
}

fn header_of(name: &str) -> Buffer {
    let header = match name.get(5..).unwrap_or_default() {
        "accept_lang" => "accept-language",
        "accept_enc" => "accept-encoding",
        "content_type" => "content-type",
        "content_len" => "content-length",
        name => name,
    };
    Buffer::Named(format!("header.{header}"))
}

/// Whether a name is that of a buffer at all.
fn is_unknown(name: &str) -> bool {
    matches!(
        name,
        "file_data" | "file.data" | "base64_data" | "dce_stub_data" | "sip_header" | "sip_body"
    ) || [
        "http_", "http.", "tls.", "tls_", "dns.", "dns_", "ssh.", "ja3.", "ja4.", "smtp.", "smb.",
        "quic.", "krb5.", "rfb.", "sip.", "mqtt.", "ftp.",
    ]
    .iter()
    .any(|begin| name.starts_with(begin))
}
