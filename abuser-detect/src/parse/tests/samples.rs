//! Lines as the programs' documentation and the programs themselves have them.

use super::*;

#[test]
fn nginx_combined() {
    let line = r#"192.0.2.1 - bob [10/Oct/2000:13:55:36 -0700] "GET /api/users/7?full=1 HTTP/1.1" 401 2326 "https://example.com/" "Mozilla/5.0 (X11; Linux x86_64)""#;
    let mut parser = parser(Kind::NginxCombined);
    assert_fields(
        &mut parser,
        line,
        &[
            ("time", "971211336000"),
            ("source", "192.0.2.1"),
            ("user", "bob"),
            ("method", "GET"),
            ("path", "/api/users/7?full=1"),
            ("uri", "/api/users/7"),
            ("query", "full=1"),
            ("status", "401"),
            ("bytes", "2326"),
            ("referer", "https://example.com/"),
            ("user_agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("key", "~"),
            ("line", line),
        ],
    );
    let record = parser
        .parse(r#"2001:db8::1 - - [10/Oct/2000:13:55:36 -0700] "\x16\x03\x01" 400 150 "-" "-""#);
    let record = record.expect("a record");
    assert_eq!(
        fields(&record, &["source", "method", "path", "status", "user"]),
        [
            Some("2001:db8::1".to_owned()),
            None,
            None,
            Some("400".to_owned()),
            None,
        ]
    );
    assert_eq!(record.headers.user_agent, Header::Absent);
    assert_eq!(record.headers.referer, Header::Absent);
    assert_eq!(record.headers.get("origin"), Header::Unknown);
    assert_fields(
        &mut parser,
        r#"::ffff:192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "" 400 0 "-" """#,
        &[("source", "192.0.2.1"), ("method", "~"), ("user_agent", "")],
    );
}

#[test]
fn a_forwarded_client_behind_the_user_agent_counts_through_trusted_proxies_only() {
    let line = |peer: &str, forwarded: &str| {
        format!(
            r#"{peer} - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1 "-" "curl" "{forwarded}" "more""#
        )
    };
    let mut plain = parser(Kind::NginxCombined);
    let mut trusting = trusting(Kind::NginxCombined, &["10.0.0.0/8"]);
    for (peer, forwarded, expected) in [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("10.0.0.1", "-", "10.0.0.1"),
        ("10.0.0.1", r"\x22, junk", "10.0.0.1"),
    ] {
        let line = line(peer, forwarded);
        assert_fields(
            &mut trusting,
            &line,
            &[("source", expected), ("user_agent", "curl")],
        );
        assert_fields(&mut plain, &line, &[("source", peer)]);
    }
}

#[test]
fn apache_combined_common_and_vhost_combined() {
    let mut parser = parser(Kind::ApacheCombined);
    assert_fields(
        &mut parser,
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#,
        &[
            ("source", "127.0.0.1"),
            ("user", "frank"),
            ("path", "/apache_pb.gif"),
            ("status", "200"),
            ("user_agent", "~"),
        ],
    );
    assert_fields(
        &mut parser,
        r#"client.example ident J. "Joe [x] Doe [10/Oct/2000:13:55:36 -0700] "GET /\"a\xfc HTTP/1.0" 304 - "http://x/\"y\"" "Agent \"7\"\\""#
            .replace("J. \"Joe", r#"J. \"Joe"#)
            .as_str(),
        &[
            ("source", "~"),
            ("user", "J. \"Joe [x] Doe"),
            ("path", "/\"a\u{fffd}"),
            ("status", "304"),
            ("bytes", "~"),
            ("referer", "http://x/\"y\""),
            ("user_agent", "Agent \"7\"\\"),
        ],
    );
    assert_fields(
        &mut parser,
        r#"www.example.com:443 192.0.2.1 - bob [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1 "-" "x""#,
        &[
            ("source", "192.0.2.1"),
            ("user", "bob"),
            ("user_agent", "x"),
        ],
    );
    // The request timed out before there was one.
    assert_fields(
        &mut parser,
        r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "-" 408 - "-" "-""#,
        &[("source", "192.0.2.1"), ("path", "~"), ("status", "408")],
    );
}

#[test]
fn nginx_error() {
    let mut parser = parser(Kind::NginxError);
    assert_fields(
        &mut parser,
        r#"2024/01/15 10:00:00 [error] 31#31: *7 limiting requests, excess: 20.400 by zone "api_limit", client: 192.0.2.1, server: example.com, request: "GET /api/x?y=z HTTP/1.1", host: "example.com", referrer: "https://a/""#,
        &[
            ("time", "1705305600000"),
            ("source", "192.0.2.1"),
            (
                "message",
                "limiting requests, excess: 20.400 by zone \"api_limit\"",
            ),
            ("field.level", "error"),
            ("field.zone", "api_limit"),
            ("field.host", "example.com"),
            ("method", "GET"),
            ("path", "/api/x?y=z"),
            ("referer", "https://a/"),
            ("status", "~"),
            ("user_agent", "~"),
        ],
    );
    assert_fields(
        &mut parser,
        r#"2024/01/15 10:00:00 [warn] 31#31: *8 delaying request, excess: 0.123, by zone "api_limit", client: 2001:db8::1, server: , request: "GET / HTTP/2.0", host: "h""#,
        &[
            ("source", "2001:db8::1"),
            ("field.zone", "api_limit"),
            ("path", "/"),
        ],
    );
    assert_fields(
        &mut parser,
        r#"2024/01/15 10:00:00 [error] 31#31: *8 limiting connections by zone "per_ip", client: 192.0.2.1, server: s, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:80/", host: "h""#,
        &[
            ("source", "192.0.2.1"),
            ("field.zone", "per_ip"),
            ("path", "/"),
        ],
    );
    assert_fields(
        &mut parser,
        r#"2024/01/15 10:00:00 [error] 31#31: *9 open() "/srv/x" failed (2: No such file or directory), client: 192.0.2.1, server: s, request: "GET /x HTTP/1.1", host: "h""#,
        &[
            ("source", "192.0.2.1"),
            (
                "message",
                "open() \"/srv/x\" failed (2: No such file or directory)",
            ),
            ("path", "/x"),
        ],
    );
    assert_fields(
        &mut parser,
        "2024/01/15 10:00:00 [info] 31#31: *9 client closed connection, client: unix:, server: 0.0.0.0:80",
        &[("source", "~"), ("path", "~")],
    );
    assert_fields(
        &mut parser,
        "2024/01/15 10:00:00 [notice] 1#1: signal process started",
        &[
            ("source", "~"),
            ("message", "signal process started"),
            ("field.level", "notice"),
        ],
    );
}

#[test]
fn haproxy_http() {
    let short = r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in~ static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu|Moz#7Cilla} {} "GET /index.html?a#22b HTTP/1.1""#;
    let expected = [
        ("time", "1233915254655"),
        ("source", "10.0.1.2"),
        ("method", "GET"),
        ("path", "/index.html?a\"b"),
        ("status", "200"),
        ("bytes", "2750"),
        ("field.frontend", "http-in"),
        ("field.backend", "static/srv1"),
        ("field.state", "----"),
        ("captured.0", "1wt.eu"),
        ("captured.1", "Moz|illa"),
        ("captured_response.0", ""),
        ("user_agent", "~"),
    ];
    let mut plain = parser(Kind::HaproxyHttp);
    assert_fields(&mut plain, short, &expected);
    for header in [
        "Feb  6 12:14:14 localhost haproxy[14389]: ",
        "<134>Feb  6 12:14:14 haproxy[14389]: ",
        "<134>1 2009-02-06T12:14:14.655+02:00 lb haproxy 14389 - - ",
        "<134>1 2009-02-06T12:14:14.655+02:00 lb haproxy 14389 - [meta sequenceId=\"1\"] ",
        "2009-02-06T12:14:14.655+02:00 lb haproxy[14389]: ",
    ] {
        assert_fields(&mut plain, &format!("{header}{short}"), &expected);
    }
    assert_fields(
        &mut plain,
        r#"2001:db8::1:33317 [06/Feb/2009:12:14:14.655] in in/<NOSRV> -1/-1/-1/-1/0 400 +187 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>""#,
        &[
            ("source", "2001:db8::1"),
            ("status", "400"),
            ("bytes", "187"),
            ("path", "~"),
        ],
    );
    assert_fields(
        &mut plain,
        r#"unix:1 [06/Feb/2009:12:14:14.655] in in/s 0/0/0/0/0 -1 0 - - CD-- 1/1/0/0/0 0/0 "GET /cut"#,
        &[("source", "~"), ("status", "~"), ("path", "/cut")],
    );
    let fields = [
        ("user_agent", "captured.1"),
        ("x_forwarded_for", "captured.0"),
        ("key", "captured.2"),
    ];
    let line = short.replace("{1wt.eu|", "{203.0.113.7|");
    assert_fields(
        &mut with_fields(Kind::HaproxyHttp, None, &fields),
        &line,
        &[
            ("source", "203.0.113.7"),
            ("user_agent", "Moz|illa"),
            ("key", "~"),
        ],
    );
    let tcp =
        "10.0.1.2:33313 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0";
    assert!(plain.parse(tcp).is_err());
}

#[test]
fn caddy_json() {
    let line = r#"{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"10.0.0.1","remote_port":"41342","client_ip":"10.0.0.1","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/api?x=1","headers":{"User-Agent":["curl/7.82.0"],"Accept":["*/*"],"Authorization":["REDACTED"],"X-Forwarded-For":["198.51.100.9","203.0.113.7"]},"tls":{"resumed":false,"version":772}},"bytes_read":0,"user_id":"","duration":0.000929675,"size":10900,"status":200,"resp_headers":{"Server":["Caddy"]}}"#;
    let mut plain = parser(Kind::CaddyJson);
    assert_fields(
        &mut plain,
        line,
        &[
            ("time", "1646861401524"),
            ("source", "10.0.0.1"),
            ("method", "GET"),
            ("path", "/api?x=1"),
            ("status", "200"),
            ("bytes", "10900"),
            ("user", "~"),
            ("user_agent", "curl/7.82.0"),
            ("referer", ""),
            ("message", "handled request"),
            ("header.accept", "*/*"),
            ("header.authorization", "REDACTED"),
            ("header.origin", ""),
            ("request.host", "localhost"),
            ("field.duration", "0.000929675"),
        ],
    );
    let record = plain.parse(line).expect("a record");
    assert!(record.headers.complete);
    assert_eq!(record.headers.get("x-requested-with"), Header::Absent);
    let mut trusting = trusting(Kind::CaddyJson, &["10.0.0.0/8"]);
    assert_fields(&mut trusting, line, &[("source", "203.0.113.7")]);
    let prefixed = format!("Jul  4 23:37:51 app2 caddy[2140]: {line}");
    assert_fields(&mut trusting, &prefixed, &[("source", "203.0.113.7")]);
}

#[test]
fn traefik_json() {
    let line = r#"{"ClientAddr":"10.0.0.1:51234","ClientHost":"203.0.113.7","ClientPort":"51234","ClientUsername":"-","DownstreamContentSize":19,"DownstreamStatus":404,"Duration":123456,"OriginStatus":0,"RequestMethod":"POST","RequestPath":"/login?next=%2F","RequestProtocol":"HTTP/1.1","StartLocal":"2024-01-15T10:00:00.5+02:00","StartUTC":"2024-01-15T08:00:00.5Z","entryPointName":"web","level":"info","msg":"","request_User-Agent":"curl/8","request_X-Api-Key":"k1","time":"2024-01-15T10:00:00+02:00"}"#;
    let expected = [
        ("time", "1705305600500"),
        ("method", "POST"),
        ("path", "/login?next=%2F"),
        ("status", "404"),
        ("bytes", "19"),
        ("user", "~"),
        ("user_agent", "curl/8"),
        ("referer", "~"),
        ("header.x-api-key", "k1"),
        ("message", "~"),
        ("field.entryPointName", "web"),
    ];
    assert_fields(&mut parser(Kind::TraefikJson), line, &expected);
    assert_fields(
        &mut parser(Kind::TraefikJson),
        line,
        &[("source", "10.0.0.1")],
    );
    let mut trusting = trusting(Kind::TraefikJson, &["10.0.0.0/8"]);
    assert_fields(&mut trusting, line, &[("source", "203.0.113.7")]);
}

#[test]
fn envoy_json() {
    let line = r#"{"start_time":"2024-01-15T08:00:00.500Z","method":"GET","path":"/status/418","protocol":"HTTP/1.1","response_code":"418","response_flags":"-","bytes_received":"0","bytes_sent":"135","duration":"2","user_agent":null,"x_forwarded_for":"203.0.113.7,10.0.1.38","downstream_remote_address":"10.0.1.38:35842","authority":"httpbin:8000"}"#;
    let expected = [
        ("time", "1705305600500"),
        ("source", "10.0.1.38"),
        ("method", "GET"),
        ("path", "/status/418"),
        ("status", "418"),
        ("bytes", "135"),
        ("user_agent", ""),
        ("referer", "~"),
        ("field.authority", "httpbin:8000"),
    ];
    assert_fields(&mut parser(Kind::EnvoyJson), line, &expected);
    let mut trusting = trusting(Kind::EnvoyJson, &["10.0.0.0/8"]);
    assert_fields(&mut trusting, line, &[("source", "203.0.113.7")]);
}

#[test]
fn a_throttle_log_of_django_rest_framework() {
    let line = r#"{"asctime": "2024-01-15 10:00:00,500", "levelname": "WARNING", "name": "api.throttle", "message": "API rate limit exceeded", "ip": "192.0.2.1", "path": "/api/users/"}"#;
    assert_fields(
        &mut parser(Kind::Json),
        line,
        &[
            ("time", "1705305600500"),
            ("source", "192.0.2.1"),
            ("path", "/api/users/"),
            ("message", "API rate limit exceeded"),
            ("field.levelname", "WARNING"),
            ("status", "~"),
        ],
    );
}

#[test]
fn json_of_any_application_by_usual_names_or_by_path() {
    let mut parser = parser(Kind::Json);
    // pino and its like.
    assert_fields(
        &mut parser,
        r#"{"level":30,"time":1705305600500,"req":{"method":"GET","url":"/a","remoteAddress":"::ffff:192.0.2.1","headers":{"user-agent":"x","x-api-key":"k"}},"res":{"statusCode":200,"headers":{"user-agent":"no"}},"msg":"done"}"#,
        &[
            ("time", "1705305600500"),
            ("source", "192.0.2.1"),
            ("path", "/a"),
            ("status", "200"),
            ("user_agent", "x"),
            ("header.x-api-key", "k"),
            ("message", "done"),
        ],
    );
    // The Elastic Common Schema.
    assert_fields(
        &mut parser,
        r#"{"@timestamp":"2024-01-15T08:00:00.500Z","source.ip":"192.0.2.1","http.request.method":"GET","url.original":"https://example.com/a?b","http.response.status_code":403,"user.name":"bob"}"#,
        &[
            ("time", "1705305600500"),
            ("source", "192.0.2.1"),
            ("path", "/a?b"),
            ("status", "403"),
            ("user", "bob"),
        ],
    );
    // `source` is often the name of a file.
    assert_fields(
        &mut parser,
        r#"{"source":"stderr","client":{"ip":"192.0.2.1"},"status":"ok","user":{"id":7}}"#,
        &[
            ("source", "192.0.2.1"),
            ("status", "~"),
            ("user", "~"),
            ("user.id", "7"),
        ],
    );
    let fields = [
        ("source", "net.peer"),
        ("time", "at"),
        ("key", "auth.key"),
        ("x_forwarded_for", "net.xff"),
    ];
    assert_fields(
        &mut with_fields(Kind::Json, None, &fields),
        r#"{"ip":"198.51.100.1","net":{"peer":"10.0.0.1","xff":"203.0.113.7"},"at":1705305600.5,"auth":{"key":42},"path":"/x"}"#,
        &[
            ("source", "203.0.113.7"),
            ("time", "1705305600500"),
            ("key", "42"),
            ("path", "/x"),
        ],
    );
    // Absent where it was placed: not looked for elsewhere.
    assert_fields(
        &mut with_fields(Kind::Json, None, &fields),
        r#"{"ip":"198.51.100.1"}"#,
        &[("source", "~")],
    );
}

#[test]
fn what_a_header_may_have_said_does_not_come_before_what_the_connection_shows() {
    let mut alone = parser(Kind::Json);
    for line in [
        r#"{"ip":"203.0.113.66","client_ip":"203.0.113.66","remote_addr":"192.0.2.1"}"#,
        r#"{"remote_addr":"192.0.2.1:41342","client_ip":"203.0.113.66"}"#,
        r#"{"clientIp":"203.0.113.66","remote_ip":"192.0.2.1"}"#,
        r#"{"client":{"ip":"203.0.113.66"},"source":{"ip":"192.0.2.1"}}"#,
        r#"{"client.ip":"203.0.113.66","source.ip":"192.0.2.1"}"#,
        r#"{"client_ip":"203.0.113.66","network.peer.address":"192.0.2.1"}"#,
        r#"{"address":"203.0.113.66","peer":{"address":"192.0.2.1","port":4}}"#,
        // Wherever it is.
        r#"{"client_ip":"203.0.113.66","req":{"remoteAddress":"::ffff:192.0.2.1"}}"#,
        r#"{"ip":"203.0.113.66","request":{"client_ip":"203.0.113.66","remote_ip":"192.0.2.1"}}"#,
        // A request's own parameters show nothing.
        r#"{"ip":"192.0.2.1","status":401,"request":{"source":"203.0.113.66","peer":"203.0.113.66"}}"#,
        // What is no address shows nothing.
        r#"{"remote_addr":"unix:","client_ip":"192.0.2.1"}"#,
        r#"{"client_ip":"192.0.2.1"}"#,
        r#"{"ip":"192.0.2.1","x_forwarded_for":"203.0.113.66"}"#,
    ] {
        assert_fields(&mut alone, line, &[("source", "192.0.2.1")]);
    }
    // Through a proxy that is trusted, what it has put at the end of the list counts, and no other word.
    let mut behind = trusting(Kind::Json, &["10.0.0.0/8"]);
    for (line, source) in [
        (
            r#"{"client_ip":"203.0.113.66","remote_addr":"10.0.0.1","x_forwarded_for":"203.0.113.66, 192.0.2.1"}"#,
            "192.0.2.1",
        ),
        (
            r#"{"client_ip":"203.0.113.66","remote_addr":"10.0.0.1"}"#,
            "10.0.0.1",
        ),
        (
            r#"{"remote_addr":"192.0.2.9","x_forwarded_for":"203.0.113.66"}"#,
            "192.0.2.9",
        ),
    ] {
        assert_fields(&mut behind, line, &[("source", source)]);
    }
    // Who knows better says so: always, or through trusted proxies.
    let line = r#"{"client_ip":"192.0.2.1","remote_addr":"10.0.0.1"}"#;
    for target in ["source", "x_forwarded_for"] {
        let mut placed = with_fields(Kind::Json, None, &[(target, "client_ip")]);
        assert_fields(&mut placed, line, &[("source", "192.0.2.1")]);
    }
}

#[test]
fn regex() {
    let pattern = r"^(?<time>\S+) (?<ip>\S+) (?<peer>\S+) (?<key>\S+) (?<status>\d+) (?<path>.*)$";
    assert_fields(
        &mut with_fields(Kind::Regex, Some(pattern), &[]),
        "2024-01-15T08:00:00.5Z 192.0.2.1 198.51.100.1 - 429 /a b",
        &[
            ("time", "1705305600500"),
            ("source", "192.0.2.1"),
            ("key", "~"),
            ("status", "429"),
            ("path", "/a b"),
            ("field.peer", "198.51.100.1"),
        ],
    );
    let mut placed = with_fields(
        Kind::Regex,
        Some(pattern),
        &[("source", "peer"), ("user", "key")],
    );
    assert_fields(
        &mut placed,
        "2024-01-15T08:00:00.5Z 192.0.2.1 198.51.100.1 bob 429 /",
        &[
            ("source", "198.51.100.1"),
            ("user", "bob"),
            ("key", "~"),
            ("field.ip", "192.0.2.1"),
        ],
    );
    assert_eq!(placed.parse("else"), Err(Unparsed::NoMatch));
    let bomb = with_fields(Kind::Regex, Some(r"(?<user>(a+)+)+$"), &[])
        .parse(&"a".repeat(60_000))
        .map(drop);
    assert_eq!(bomb, Ok(()));
}
