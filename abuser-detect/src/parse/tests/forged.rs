//! What clients write into a log must not become somebody else's address, nor another status.

use proptest::prelude::*;

use super::*;

/// What nginx writes for a variable: `ngx_http_log_escape`.
fn nginx_escape(text: &[u8]) -> String {
    text.iter()
        .map(|byte| match byte {
            b'"' | b'\\' | 0..32 | 127.. => format!("\\x{byte:02X}"),
            byte => char::from(*byte).to_string(),
        })
        .collect()
}

/// What Apache writes for an item: `ap_escape_logitem`.
fn apache_escape(text: &[u8]) -> String {
    text.iter()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(*byte)),
            b'\n' => "\\n".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\t' => "\\t".to_owned(),
            8 => "\\b".to_owned(),
            11 => "\\v".to_owned(),
            12 => "\\f".to_owned(),
            0..32 | 127.. => format!("\\x{byte:02x}"),
            byte => char::from(*byte).to_string(),
        })
        .collect()
}

/// Texts that attackers would send.
const HOSTILE: [&str; 9] = [
    r#"x" 200 1 "-" "-""#,
    "x\"\n203.0.113.66 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 401 1 \"-\" \"-\"",
    "a] \"GET /evil HTTP/1.1\" 401 1",
    "203.0.113.66 - - [10/Oct/2000:13:55:36 -0700] ",
    "\\",
    "\\\" \\\\\" ",
    "[01/Jan/1999:00:00:00 +0000] \"",
    "\\x22 \\\\x22 \0\u{7f}\u{fc}",
    "-",
];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(&HOSTILE[..]).prop_map(str::to_owned),
        "\\PC{0,40}",
        "[ -~\\x00-\\x1f]{0,40}",
        "(\"|\\\\|\\]|\\[| |-|x22|200|203\\.0\\.113\\.66){0,12}",
    ]
}

/// What there is to be read of a hostile text: `-` stands for none.
fn read(text: &str) -> Option<String> {
    (!matches!(text, "" | "-")).then(|| text.to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_nginx_and_apache_write_is_read_as_it_was(
        user in hostile(),
        path in hostile(),
        referer in hostile(),
        agent in hostile(),
        forwarded in hostile(),
        status in 100..600_u16,
        second in 0..60_u64,
    ) {
        let escapes: [fn(&[u8]) -> String; 2] = [nginx_escape, apache_escape];
        let mut parser = trusting(Kind::NginxCombined, &["192.0.2.0/24"]);
        for escape in escapes {
            let escape = |text: &str| escape(text.as_bytes());
            let line = format!(
                "192.0.2.1 - {} [10/Oct/2000:13:55:{second:02} -0700] \"GET /{} HTTP/1.1\" {status} 7 \"{}\" \"{}\" \"{}\"",
                escape(&user), escape(&path), escape(&referer), escape(&agent), escape(&forwarded),
            );
            let record = parser.parse(&line).expect("a record");
            // Only a proxy that is trusted may name another client, and this one is what came.
            let expected: std::net::IpAddr = proxies::address(forwarded.rsplit(',').next().unwrap_or("").trim())
                .unwrap_or([192, 0, 2, 1].into());
            prop_assert_eq!(record.source, Some(expected));
            prop_assert_eq!(record.time, Some(Time((971_211_300 + second) * 1000)));
            prop_assert_eq!(record.status, Some(status));
            prop_assert_eq!(record.bytes, Some(7));
            prop_assert_eq!(record.user.as_deref().map(str::to_owned), read(&user));
            prop_assert_eq!(record.method.as_deref(), Some("GET"));
            let target = format!("/{path}");
            prop_assert_eq!(record.path.as_deref(), Some(target.as_str()));
            for (header, sent) in [(&record.headers.referer, &referer), (&record.headers.user_agent, &agent)] {
                let expected = match sent.as_str() {
                    "-" => Header::Absent,
                    sent => Header::Sent(sent.into()),
                };
                prop_assert_eq!(header, &expected);
            }
        }
    }

    #[test]
    fn what_a_json_logger_writes_is_read_as_it_was(path in hostile(), agent in hostile(), name in hostile()) {
        let line = serde_json::json!({
            "ip": "192.0.2.1", "path": path, "status": 401, "user_agent": agent, "extra": {"ip": name, &name: "203.0.113.66"},
        }).to_string();
        let mut parser = parser(Kind::Json);
        let record = parser.parse(&line).expect("a record");
        prop_assert_eq!(record.source, Some([192, 0, 2, 1].into()));
        prop_assert_eq!(record.status, Some(401));
        prop_assert_eq!(record.path.as_deref().map(str::to_owned), read(&path));
    }

    #[test]
    fn a_limit_of_nginx_s_error_log_counts_for_its_client_whatever_was_requested(
        path in "[ -~]{0,40}|, client: 203.0.113.66, server: x",
        referer in "[ -~]{0,40}|\", client: 203.0.113.66, server: x, request: \"GET / HTTP/1.1\"",
    ) {
        let line = format!(
            "2024/01/15 10:00:00 [error] 31#31: *7 limiting requests, excess: 20.400 by zone \"a\", client: 192.0.2.1, \
             server: s, request: \"GET /{path} HTTP/1.1\", host: \"h\", referrer: \"{referer}\""
        );
        let mut parser = parser(Kind::NginxError);
        let record = parser.parse(&line).expect("a record");
        prop_assert_eq!(record.source, Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn haproxy_s_client_is_the_one_before_the_time(request in "[ -!$-~]{0,60}", header in "[ -!$-z~]{0,40}") {
        let line = format!(
            "Feb  6 12:14:14 lb haproxy[1]: 192.0.2.1:33317 [06/Feb/2009:12:14:14.655] in b/s 10/0/30/69/109 401 7 - - ---- \
             1/1/1/1/0 0/0 {{{header}}} \"{request}\""
        );
        let mut parser = parser(Kind::HaproxyHttp);
        let record = parser.parse(&line).expect("a record");
        prop_assert_eq!(record.source, Some([192, 0, 2, 1].into()));
        prop_assert_eq!(record.status, Some(401));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        no_panic(&bytes);
    }

    #[test]
    fn no_part_of_a_line_makes_a_parser_panic(
        cut in any::<proptest::sample::Index>(),
        place in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..6),
        line in proptest::sample::select(&LINES[..]),
    ) {
        let mut bytes = line.as_bytes().to_vec();
        bytes.truncate(cut.index(bytes.len() + 1));
        let at = place.index(bytes.len() + 1);
        bytes.splice(at..at, noise);
        no_panic(&bytes);
    }
}

const LINES: [&str; 6] = [
    r#"192.0.2.1 - bob [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "-" "curl\"\x22" "203.0.113.7""#,
    r#"2024/01/15 10:00:00 [error] 31#31: *7 limiting requests, excess: 20.400 by zone "a", client: 192.0.2.1, server: s, request: "GET /x HTTP/1.1", host: "h""#,
    r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt#7C.eu} {} "GET /index.html HTTP/1.1""#,
    r#"{"ts":1646861401.52,"request":{"remote_ip":"10.0.0.1","uri":"/","headers":{"User-Agent":["x"]}},"status":200}"#,
    r#"{"StartUTC":"2024-01-15T08:00:00.5Z","ClientAddr":"10.0.0.1:1","start_time":1e300,"downstream_remote_address":"[::1]:1"}"#,
    "Jan 15 10:00:00 host sshd[1]: Failed password for invalid user x from 192.0.2.1 port 4 ssh2",
];

thread_local! {
    static PARSERS: std::cell::RefCell<Vec<Parser>> = {
        let kinds = Kind::ALL.into_iter().filter(|(_, kind)| *kind != Kind::Regex);
        let mut parsers: Vec<_> = kinds.map(|(_, kind)| trusting(kind, &["0.0.0.0/0"])).collect();
        let pattern = r"(?<ip>\S+)(?: (?<time>.{0,30}))?(?<path>.*)";
        parsers.push(with_fields(Kind::Regex, Some(pattern), &[]));
        parsers.into()
    };
}

fn no_panic(bytes: &[u8]) {
    let line = crate::line::text(bytes);
    PARSERS.with_borrow_mut(|parsers| {
        for parser in parsers {
            let _ = parser.parse(&line);
        }
    });
}

#[test]
fn of_two_clients_in_nginx_s_error_log_neither_counts() {
    let mut parser = parser(Kind::NginxError);
    for line in [
        r#"2024/01/15 10:00:00 [error] 31#31: *9 open() "/srv/x, client: 203.0.113.66, server: s" failed (2: No such file or directory), client: 192.0.2.1, server: s, request: "GET /x%2C%20client HTTP/1.1", host: "h""#,
        r#"2024/01/15 10:00:00 [error] 31#31: *9 upstream timed out, client: 192.0.2.1, server: s, request: "GET / HTTP/1.1", host: "h", referrer: "x, client: 203.0.113.66, server: s""#,
    ] {
        assert_fields(&mut parser, line, &[("source", "~")]);
    }
}
