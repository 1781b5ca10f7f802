use proptest::prelude::*;

use super::*;
use crate::import::{MAX_FILE_BYTES, memory::Memory};

const FILE: &str = "local.rules";
const HOW: Rules<'_> = Rules {
    action: None,
    log: "/var/log/nginx/access.log",
};

fn try_import(text: &str, how: Rules<'_>) -> Result<Imported, ImportError> {
    snort(&Memory::new(&[(FILE, text)]), &[Path::new(FILE)], how)
}

#[track_caller]
fn of(text: &str) -> Imported {
    try_import(text, HOW).unwrap_or_else(|error| panic!("{error}"))
}

/// A rule to web servers with these options.
fn rule(options: &str) -> String {
    format!("alert tcp any any -> $HTTP_SERVERS $HTTP_PORTS ({options} sid:7;)")
}

fn detectors(imported: &Imported) -> Vec<&Table> {
    let tables = imported.tables.iter();
    tables.filter(|table| table.name == "detector").collect()
}

fn text(table: &Table, key: &str) -> String {
    let value = table.get(key).and_then(toml::Value::as_str);
    value.unwrap_or_default().to_owned()
}

fn notes(imported: &Imported) -> Vec<String> {
    imported.notes.iter().map(ToString::to_string).collect()
}

/// The condition of the one detector that comes of a rule.
#[track_caller]
fn condition(options: &str) -> String {
    let imported = of(&rule(options));
    let [detector] = detectors(&imported)[..] else {
        panic!("{options}: {:?}", notes(&imported));
    };
    text(detector, "where")
}

/// Why nothing comes of a rule.
#[track_caller]
fn refusal(text: &str) -> String {
    let imported = of(text);
    assert!(imported.is_empty(), "{}", imported.to_toml());
    let [note] = &imported.notes[..] else {
        panic!("{:?}", notes(&imported));
    };
    note.why.clone()
}

/// The fifth of the systems that people use today.
const GIVEN: &str = r#"alert tcp $EXTERNAL_NET any -> $HTTP_SERVERS $HTTP_PORTS ( \
    msg:"API abuse\: possible scraping"; flow:to_server,established; \
    content:"GET /api/"; pcre:"/\/api\/[a-z]+\/\d+/i"; \
    threshold: type threshold, track by_src, count 100, seconds 60; \
    classtype:attempted-recon; sid:1000001; rev:1;)
"#;

#[test]
fn a_rule_becomes_the_same_as_a_detector() {
    let imported = of(GIVEN);
    assert_eq!(notes(&imported), Vec::<String>::new());
    assert_eq!(
        imported.to_toml(),
        r#"# The rules looked at packets; here an access log tells of the requests.
[[source]]
name = "web"
files = ["/var/log/nginx/access.log"]
parser = "nginx-combined"

# local.rules:1: rule 1000001 "API abuse: possible scraping"
# alert tcp $EXTERNAL_NET any -> $HTTP_SERVERS $HTTP_PORTS
[[detector]]
name = "api-abuse-possible-scrap-1000001"
where = 'method == "GET" and path starts_with "/api/" and path ~ "(?i)/api/[a-z]+/\d+"'
kind = "threshold"
type = "threshold"
track = "source"
count = 100
within = "60s"
action = "alert"
"#
    );
}

#[test]
fn what_comes_of_a_rule_finds_what_the_rule_looks_for() {
    let imported = of(GIVEN);
    let condition: crate::condition::Condition = text(detectors(&imported)[0], "where")
        .parse()
        .expect("a condition");
    let settings = crate::parse::Settings::new(crate::parse::Kind::NginxCombined);
    let mut parser = crate::parse::Parser::new(settings).expect("a parser");
    for (request, is_found) in [
        ("GET /api/users/17 HTTP/1.1", true),
        ("GET /api/USERS/17?x=1 HTTP/1.1", true),
        ("GET /api/users/me HTTP/1.1", false),
        ("POST /api/users/17 HTTP/1.1", false),
        ("GET /v2/api/users/17 HTTP/1.1", false),
    ] {
        let line = format!(
            "192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] \"{request}\" 200 5 \"-\" \"curl/8\""
        );
        let record = parser.parse(&line).expect("a line of nginx");
        assert_eq!(condition.holds(&record), is_found, "{request}");
    }
}

#[test]
fn an_action_can_be_given_for_all_and_rules_that_block_ban() {
    for (action, given, expected) in [
        ("alert", None, "alert"),
        ("log", None, "alert"),
        ("drop", None, "ban"),
        ("reject", None, "ban"),
        ("block", None, "ban"),
        ("alert", Some("ban"), "ban"),
        ("drop", Some("alert"), "alert"),
    ] {
        let text = rule("content:\"GET /\";").replacen("alert", action, 1);
        let imported = try_import(
            &text,
            Rules {
                action: given,
                ..HOW
            },
        )
        .expect("rules");
        let found = detectors(&imported)
            .first()
            .map(|table| self::text(table, "action"));
        assert_eq!(found.as_deref(), Some(expected), "{action}");
    }
}

#[test]
fn what_is_looked_for_in_a_request_is_looked_for_in_its_parts() {
    for (options, expected) in [
        (
            r#"content:"GET /api/";"#,
            r#"method == "GET" and path starts_with "/api/""#,
        ),
        (
            r#"content:"POST|20 2f|login HTTP/1.1|0d 0a|";"#,
            r#"method == "POST" and path == "/login""#,
        ),
        (r#"content:"POST"; depth:4;"#, r#"method == "POST""#),
        (r#"content:"HEAD ";"#, r#"method == "HEAD""#),
        (
            r#"content:"GET /API/"; nocase;"#,
            r#"method == "GET" and path ~ "(?i)^/API/""#,
        ),
        (
            r#"content:"/etc/passwd";"#,
            r#"path contains "/etc/passwd""#,
        ),
        (r#"content:"/a.b"; nocase;"#, r#"path ~ "(?i)/a\.b""#),
        (
            r#"content:"User-Agent|3a| sqlmap"; nocase;"#,
            r#"user_agent ~ "(?i)^sqlmap""#,
        ),
        (
            r#"content:"|0d 0a|User-Agent: x\"y\;|0d 0a|";"#,
            r#"user_agent == 'x"y;'"#,
        ),
        (r#"content:!"User-Agent|3a|";"#, r#"user_agent == """#),
        (
            r#"content:"GET /"; content:!"Referer|3a| http";"#,
            r#"method == "GET" and path starts_with "/" and referer !~ "^http""#,
        ),
    ] {
        assert_eq!(condition(options), expected, "{options}");
    }
}

#[test]
fn buffers_are_those_of_all_three_programs() {
    for (options, expected) in [
        // Snort 2, and Suricata before 5.
        (r#"content:"/api/"; http_uri;"#, r#"path contains "/api/""#),
        (
            r#"content:"/api/"; nocase; http_uri; fast_pattern;"#,
            r#"path ~ "(?i)/api/""#,
        ),
        (
            r#"content:"/a"; http_uri; offset:0; depth:2;"#,
            r#"path starts_with "/a""#,
        ),
        (r#"uricontent:"/x";"#, r#"path contains "/x""#),
        (
            r#"content:"POST"; http_method; content:"/login"; http_uri;"#,
            r#"method == "POST" and path contains "/login""#,
        ),
        (
            r#"content:"User-Agent|3A| Go-http"; http_header;"#,
            r#"user_agent starts_with "Go-http""#,
        ),
        (
            r#"content:"evil"; http_user_agent;"#,
            r#"user_agent contains "evil""#,
        ),
        // Snort 3.
        (
            r#"http_uri; content:"/api/",fast_pattern,nocase; content:"x",within 50;"#,
            r#"path ~ "(?i)/api/" and path contains "x""#,
        ),
        (
            r#"http_uri:path; content:"/a",depth 2;"#,
            r#"uri starts_with "/a""#,
        ),
        (r#"http_uri:query; content:"q=";"#, r#"query contains "q=""#),
        (
            r#"http_header:field user-agent; content:"curl";"#,
            r#"user_agent contains "curl""#,
        ),
        (
            r#"http_method; content:"PUT"; http_header:field x-key; content:"k";"#,
            r#"method == "PUT" and header.x-key contains "k""#,
        ),
        // Suricata.
        (
            r#"http.method; content:"GET"; http.uri; content:"/v1/"; startswith; content:".php"; endswith;"#,
            r#"method == "GET" and path starts_with "/v1/" and path ~ "\.php$""#,
        ),
        (
            r#"http.uri; content:"/v1"; startswith; endswith; http.user_agent; content:!"Mozilla";"#,
            r#"path == "/v1" and user_agent !~ "Mozilla""#,
        ),
        (r#"http.host; content:"a.example"; bsize:9;"#, ""),
    ] {
        if expected.is_empty() {
            assert!(refusal(&rule(options)).contains("`bsize`"));
        } else {
            assert_eq!(condition(options), expected, "{options}");
        }
    }
}

#[test]
fn expressions_are_looked_for_where_their_letters_say() {
    for (options, expected) in [
        (r#"pcre:"/\/api\/\d+/";"#, r#"path ~ "/api/\d+""#),
        (
            r#"pcre:"/\/user\?id=\d+/Ui";"#,
            r#"path ~ "(?i)/user\?id=\d+""#,
        ),
        (r#"pcre:"/^sqlmap/V";"#, r#"user_agent ~ "^sqlmap""#),
        (r#"pcre:!"/^(GET|POST)$/M";"#, r#"method !~ "^(GET|POST)$""#),
        (
            r#"pcre:"/^(?:GET|HEAD)\s+\/x[^\r\n]*y/smi";"#,
            r#"method ~ "(?smi)^(?:GET|HEAD)$" and path ~ "(?smi)^/x[^\r\n]*y""#,
        ),
        (
            r#"pcre:"/GET \/a/";"#,
            r#"method ~ "^(?:GET)$" and path ~ "^/a""#,
        ),
        (
            r#"pcre:"/^User-Agent\x3a\s*curl[^\r\n]+\r\n/Hmi";"#,
            r#"user_agent ~ "(?mi)^curl[^\r\n]+$""#,
        ),
        (r#"pcre:"/a.*b/G";"#, r#"path ~ "(?U)a.*b""#),
        (r#"http.uri; pcre:"/x\"y/A";"#, r#"path ~ '^x"y'"#),
    ] {
        assert_eq!(condition(options), expected, "{options}");
    }
}

#[test]
fn what_no_log_tells_leaves_a_rule_out_and_says_why() {
    for (options, why) in [
        (
            r#"content:"a=1"; http_client_body;"#,
            "`http_client_body` is a part of the traffic",
        ),
        (
            r#"http.request_body; content:"x";"#,
            "`http.request_body` is a part of the traffic",
        ),
        (
            r#"file_data; content:"<script";"#,
            "`file_data` is a part of the traffic",
        ),
        (
            r#"content:"x"; http_uri; file_data; content:"y";"#,
            "`file_data`",
        ),
        (r#"pcre:"/a/P";"#, "`http_client_body`"),
        (r#"pcre:"/a/q";"#, "the letter q"),
        (r#"pcre:"/(?=a)b/U";"#, "look-around"),
        (r#"pcre:"/(a)\1/U";"#, "backreferences are not supported"),
        (r#"pcre:"/(/U";"#, "no regular expression"),
        (r#"pcre:"/a{1000}{1000}/U";"#, "cannot be a condition here"),
        (
            r#"pcre:"/^Host\x3a x\r\nAccept/i";"#,
            "more than one header",
        ),
        (r#"pcre:"/^GET \/a|POST \/b/";"#, "alternatives"),
        (r#"pcre:"/^\/a/";"#, "does not name a method"),
        (
            r#"pcre:"/a\x0d\x0ab/";"#,
            "more than the request's method and target",
        ),
        (r#"pcre:"/a/H";"#, "without its name"),
        ("pcre:/a/;", "not in quotes"),
        (r#"pcre:"a";"#, "not between slashes"),
        (r#"content:"|ff fe|";"#, "no text"),
        (r#"content:"|f|";"#, "no list of bytes"),
        (r#"content:"|zz|";"#, "no list of bytes"),
        (r#"content:"|20";"#, "a | is not closed"),
        (r#"content:"";"#, "it is empty"),
        ("content:GET;", "not in quotes"),
        (r#"content:"|0d 0a|";"#, "the end of a line"),
        (r#"content:"HTTP/1.0";"#, "the protocol's version"),
        (r#"content:"a|0d 0a|b";"#, "no access log has"),
        (r#"content:"x"; http_header;"#, "without its name"),
        (r#"content:"GET /"; dsize:>100;"#, "what `dsize` asks for"),
        (
            r#"content:"GET /"; flowbits:isset,a;"#,
            "another rule has marked",
        ),
        (
            r#"content:"GET /"; flowbits:set,a; flowbits:noalert;"#,
            "only sets a mark",
        ),
        (
            r#"flow:to_client; content:"x"; http_uri;"#,
            "only the status",
        ),
        ("flow:from_server,established;", "not at their status"),
        ("flags:S;", "what `flags` asks for"),
        (
            "threshold:type both,track by_src,count 9,seconds 1;",
            "a [[limit]] counts those",
        ),
        (
            r#"content:"GET /"; threshold:type both, track by_dst, count 9, seconds 1;"#,
            "counted by_dst, and a log tells only who asked",
        ),
        (
            r#"content:"GET /"; threshold:type backoff, track by_src, count 1, multiplier 2;"#,
            "has the type \"backoff\"",
        ),
        (
            r#"content:"GET /"; detection_filter:track by_src, count 0, seconds 1;"#,
            "`count` is \"0\"",
        ),
        (
            r#"content:"GET /"; detection_filter:track by_src, count 1;"#,
            "`seconds` is \"\"",
        ),
    ] {
        let found = refusal(&rule(options));
        assert!(found.starts_with("left out: "), "{options}: {found}");
        assert!(found.contains(why), "{options}: {found}");
    }
    assert!(refusal("pass tcp any any -> any any (content:\"GET /\";)").contains("exception"));
    assert!(refusal("react tcp any any -> any any (content:\"GET /\";)").contains("no like here"));
    assert!(
        refusal("alert tcp 192.0.2.300 any -> any any (content:\"GET /\";)")
            .contains("its sources 192.0.2.300 are more than a list")
    );
}

#[test]
fn a_rule_for_what_no_web_server_speaks_is_left_out() {
    for protocol in ["udp", "dns", "tls", "ssh", "smtp", "icmp"] {
        let found = refusal(&format!(
            "drop {protocol} any any -> any any (content:\"login\"; sid:7;)"
        ));
        assert!(
            found.contains(&format!("it is for `{protocol}`")),
            "{found}"
        );
    }
}

#[test]
fn a_rule_that_each_request_meets_is_left_out_and_one_that_counts_them_is_not() {
    let http = |source: &str, threshold: &str| {
        format!(
            "drop http {source} any -> any any (flow:established,to_server; {threshold} sid:9;)"
        )
    };
    let filter = |kind: &str, count: u32| {
        format!("threshold:type {kind}, track by_src, count {count}, seconds 60;")
    };
    for threshold in [String::new(), filter("limit", 5), filter("both", 1)] {
        let found = refusal(&http("any", &threshold));
        assert!(
            found.contains("every visitor would be found"),
            "{threshold}: {found}"
        );
    }
    let spared = "suppress gen_id 1, sig_id 9, track by_src, ip 192.0.2.1\n";
    assert!(refusal(&(spared.to_owned() + &http("any", ""))).contains("every visitor"));
    for kept in [http("any", &filter("both", 5)), http("192.0.2.0/24", "")] {
        assert_eq!(detectors(&of(&kept)).len(), 1, "{kept}");
    }
}

#[test]
fn the_sources_that_a_rule_names_are_those_of_the_detector() {
    for (sources, expected) in [
        ("$EXTERNAL_NET", ""),
        ("!$HOME_NET", ""),
        ("any", ""),
        ("192.0.2.1", r#" and source in ["192.0.2.1/32"]"#),
        ("!192.0.2.7/24", r#" and source not in ["192.0.2.0/24"]"#),
        (
            "[192.0.2.0/24, !192.0.2.1,2001:db8::/32]",
            r#" and source in ["192.0.2.0/24", "2001:db8::/32"] and source not in ["192.0.2.1/32"]"#,
        ),
        (
            "![192.0.2.0/24,!192.0.2.1]",
            r#" and (source not in ["192.0.2.0/24"] or (source in ["192.0.2.1/32"]))"#,
        ),
    ] {
        let imported = of(&format!(
            "alert tcp {sources} any -> any 80 (content:\"GET /\";)"
        ));
        let [detector] = detectors(&imported)[..] else {
            panic!("{sources}: {:?}", notes(&imported));
        };
        let condition = text(detector, "where");
        assert_eq!(
            condition,
            format!(r#"method == "GET" and path starts_with "/"{expected}"#)
        );
        assert!(
            condition.parse::<crate::condition::Condition>().is_ok(),
            "{condition}"
        );
    }
}

#[test]
fn what_is_passed_over_is_said() {
    for (options, why) in [
        (
            r#"content:"/a"; http_uri; offset:4;"#,
            "where in the request",
        ),
        (
            r#"content:"/a"; http_uri; content:"b"; http_uri; distance:1;"#,
            "where in the request",
        ),
        (
            r#"content:"union select";"#,
            "in the request's target alone",
        ),
        (r#"pcre:"/union/Ri";"#, "where in the request"),
        (r#"pcre:"/union/i";"#, "in the request's target alone"),
        (
            r#"content:"x"; http_host;"#,
            "only known of logs that have it",
        ),
    ] {
        let imported = of(&rule(options));
        assert_eq!(detectors(&imported).len(), 1, "{options}");
        let notes = notes(&imported);
        assert_eq!(notes.len(), 1, "{options}: {notes:?}");
        assert!(notes[0].starts_with("local.rules:1: rule 7: "), "{notes:?}");
        assert!(notes[0].contains(why), "{options}: {notes:?}");
    }
}

#[test]
fn answers_are_known_by_their_status() {
    let text = r#"alert tcp $HTTP_SERVERS $HTTP_PORTS -> any any (content:"401"; http_stat_code; threshold:type both,track by_dst,count 20,seconds 60;)
alert http any any -> any any (flow:to_client; http.stat_code; content:"40"; detection_filter:track by_dst,count 5,seconds 9;)
alert http any any -> any any (http_stat_code; pcre:"/^5/"; sid:3;)"#;
    let imported = of(text);
    let conditions: Vec<_> = detectors(&imported)
        .iter()
        .map(|table| self::text(table, "where"))
        .collect();
    assert_eq!(
        conditions,
        ["status == 401", "status ~ \"^40[0-9]$\"", "status ~ \"^5\""]
    );
}

#[test]
fn every_kind_of_threshold_keeps_its_numbers() {
    for (options, kind, count, within) in [
        (
            "threshold:type limit, track by_src, count 1, seconds 60;",
            "limit",
            1,
            "60s",
        ),
        (
            "threshold: type both , count 5, seconds 30, track by_src;",
            "both",
            5,
            "30s",
        ),
        (
            "detection_filter: track by_src, count 30, seconds 60;",
            "detection_filter",
            30,
            "60s",
        ),
        (
            "threshold:type threshold,track by_both,count 2,seconds 3;",
            "threshold",
            2,
            "3s",
        ),
        ("", "threshold", 1, "60s"),
    ] {
        let imported = of(&rule(&format!("content:\"GET /\"; {options}")));
        let [detector] = detectors(&imported)[..] else {
            panic!("{options}: {:?}", notes(&imported));
        };
        assert_eq!(text(detector, "type"), kind);
        assert_eq!(detector.get("count"), Some(&count.into()));
        assert_eq!(text(detector, "within"), within);
    }
}

#[test]
fn filters_outside_of_rules_hold_for_them() {
    let rules = "alert http any any -> any any (content:\"GET /a\"; sid:1;)
alert http any any -> any any (content:\"GET /b\"; threshold:type limit,track by_src,count 1,seconds 1; sid:2;)
alert http any any -> any any (content:\"GET /c\"; sid:3;)
alert http any any -> any any (content:\"GET /d\"; sid:4; detection_filter:track by_src,count 8,seconds 8;)
";
    let filters = "event_filter gen_id 1, sig_id 1, type both, track by_src, count 7, seconds 70
threshold gen_id 1, sig_id 0, type limit, track by_src, count 2, seconds 20
suppress gen_id 1, sig_id 3
suppress gen_id 1, sig_id 1, track by_src, ip [10.0.0.0/8, 192.0.2.1]
suppress gen_id 1, sig_id 2, track by_dst, ip 10.0.0.1
event_filter gen_id 137, sig_id 1, type limit, track by_src, count 1, seconds 1
event_filter gen_id 1, type limit
rate_filter gen_id 1, sig_id 1, track by_src, count 100, seconds 1, new_action drop, timeout 10
var HOME_NET any
";
    let files = Memory::new(&[("a.rules", rules), ("threshold.conf", filters)]);
    let paths = [Path::new("threshold.conf"), Path::new("a.rules")];
    let imported = snort(&files, &paths, HOW).expect("rules");
    let found: Vec<_> = detectors(&imported)
        .iter()
        .map(|table| {
            (
                text(table, "name"),
                text(table, "type"),
                text(table, "within"),
            )
        })
        .collect();
    let expected = [
        ("1", "both", "70s"),
        ("2", "limit", "1s"),
        ("4", "detection_filter", "8s"),
    ];
    let expected =
        expected.map(|(name, kind, within)| (name.to_owned(), kind.to_owned(), within.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(
        text(detectors(&imported)[0], "where"),
        r#"method == "GET" and path starts_with "/a" and source not in ["10.0.0.0/8", "192.0.2.1/32"]"#
    );
    let notes = notes(&imported).join("\n");
    for expected in [
        "a.rules:3: rule 3: left out: it is suppressed at threshold.conf:3",
        "a.rules:4: rule 4: threshold: a detector has one",
        "threshold.conf:5: suppress gen_id 1, sig_id 2, track by_dst, ip 10.0.0.1: it is for who is asked",
        "threshold.conf:6: event_filter gen_id 137",
        "threshold.conf:7: event_filter gen_id 1, type limit: it has no sig_id",
        "threshold.conf:8: rate_filter",
        "threshold.conf:9: `var`: only rules",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

#[test]
fn rules_may_go_over_several_lines() {
    let text = "\u{feff}# alert tcp off any -> any any (content:\"x\"; sid:1;)\n\n\
        alert http\n(\n    msg:\"three (3)\";\n    # a comment\n    http_uri;\n    content:\"/x\";\n    sid:3;\n)\n\
        alert tcp any any -> any \\\n  $HTTP_PORTS (content:\"GET /\"; \\\n sid:4;)\n";
    let imported = of(text);
    let comments: Vec<_> = detectors(&imported)
        .iter()
        .map(|table| table.comments[0].clone())
        .collect();
    assert_eq!(
        comments,
        [
            "local.rules:3: rule 3 \"three (3)\"",
            "local.rules:11: rule 4"
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        (
            "\nalert tcp any any -> any any (content:\"a; sid:1;)",
            "local.rules:2: a quote in the rule that begins here is not closed",
        ),
        (
            "alert tcp any any -> any any (sid:1;",
            "local.rules:1: the rule that begins here has no )",
        ),
        (
            "alert tcp any any -> any any (sid:1;\nalert tcp any any -> any any (sid:2;)",
            "local.rules:1: the rule that begins here has no )",
        ),
        (
            "alert tcp any any -> any any",
            "local.rules:1: this rule has no options in parentheses",
        ),
        (
            "alert tcp any -> any (sid:1;)",
            "local.rules:1: a rule has a source and its ports, -> and a destination and its ports; here are 3 words",
        ),
        (
            "alert (sid:1;)",
            "local.rules:1: this rule names no protocol",
        ),
        (
            "alert tcp any any -> any any (sid:1;) x",
            "local.rules:1: what is \"x\" behind the rule's )?",
        ),
    ] {
        let error = try_import(text, HOW).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let long = "#".repeat(MAX_FILE_BYTES + 1);
    let error = try_import(&long, HOW).expect_err("too long");
    assert!(
        error
            .to_string()
            .starts_with("local.rules: is larger than 16 MiB")
    );
    let error = snort(&Memory::new(&[]), &[Path::new("gone")], HOW).expect_err("gone");
    assert_eq!(error.to_string(), "cannot read gone: entity not found");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn nothing_makes_it_panic(
        options in prop::collection::vec(prop_oneof![
            Just("content:\"GET /\";".to_owned()), Just("http_uri;".to_owned()),
            Just("nocase;".to_owned()), Just("pcre:\"/^GET a/i\";".to_owned()),
            Just("threshold:type limit,track by_src,count 1,seconds 1;".to_owned()),
            "content:\"[ -~]{0,9}\";", "pcre:\"/[ -~]{0,9}/[A-Za-z]{0,2}\";",
            "[ -~\n\\\\]{0,12}", any::<String>(),
        ], 0..9),
        before in prop_oneof![Just(String::new()), "[ -~\n]{0,20}", any::<String>()],
    ) {
        let text = format!("{before}\nalert tcp any any -> any any ({})", options.join(" "));
        if let Ok(imported) = try_import(&text, HOW) {
            for detector in detectors(&imported) {
                let condition = self::text(detector, "where");
                let parsed = condition.parse::<crate::condition::Condition>();
                prop_assert!(condition.is_empty() || parsed.is_ok(), "{}: {:?}", condition, parsed);
            }
            let toml = imported.to_toml();
            prop_assert!(toml.parse::<toml::Table>().is_ok(), "{}", toml);
        }
    }
}
