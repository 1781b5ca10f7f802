use proptest::prelude::*;

use super::*;
use crate::{
    condition::Condition,
    import::{MAX_FILE_BYTES, memory::Memory},
    parse::{Kind, Parser, Settings},
};

const MAIN: &str = "/etc/nginx/nginx.conf";

#[track_caller]
fn import(files: &[(&str, &str)]) -> Imported {
    let imported = nginx(&Memory::new(files), Path::new(MAIN), "ban");
    imported.unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn of(text: &str) -> Imported {
    import(&[(MAIN, text)])
}

#[track_caller]
fn fails(text: &str) -> String {
    let imported = nginx(&Memory::new(&[(MAIN, text)]), Path::new(MAIN), "ban");
    imported.expect_err("it is wrong").to_string()
}

fn notes(imported: &Imported) -> Vec<String> {
    imported.notes.iter().map(ToString::to_string).collect()
}

fn tables<'i>(imported: &'i Imported, name: &str) -> Vec<&'i crate::import::Table> {
    let tables = imported.tables.iter();
    tables.filter(|table| table.name == name).collect()
}

/// Asserts that the parsers and conditions are such as there are.
#[track_caller]
fn check(imported: &Imported) {
    for source in tables(imported, "source") {
        let text = |key: &str| source.get(key).and_then(toml::Value::as_str);
        let kind = text("parser").expect("a parser").parse().expect("a kind");
        let fields = source.get("fields").and_then(toml::Value::as_table);
        let settings = Settings {
            pattern: text("pattern").map(str::to_owned),
            fields: fields
                .into_iter()
                .flatten()
                .map(|(name, place)| (name.clone(), place.as_str().unwrap_or_default().to_owned()))
                .collect(),
            ..Settings::new(kind)
        };
        if let Err(error) = Parser::new(settings) {
            panic!("{source:?}: {error}");
        }
    }
    for detector in tables(imported, "detector") {
        let condition = detector.get("where").and_then(toml::Value::as_str);
        let condition = condition.expect("a condition").parse::<Condition>();
        assert!(condition.is_ok(), "{detector:?}: {condition:?}");
    }
}

#[test]
fn what_nginx_writes_is_found_by_what_comes_of_its_configuration() {
    let imported = of(GIVEN);
    let condition = |number: usize| -> Condition {
        let table = tables(&imported, "detector")[number];
        let text = table.get("where").and_then(toml::Value::as_str);
        text.expect("a condition").parse().expect("a condition")
    };
    let mut access = Parser::new(Settings::new(Kind::NginxCombined)).expect("a parser");
    let refused = access.parse(
        "192.0.2.1 - - [10/Oct/2025:13:55:36 +0000] \"GET /api/a HTTP/1.1\" 429 169 \"-\" \"curl/8\"",
    );
    assert!(condition(0).holds(&refused.expect("a line")));
    let mut error = Parser::new(Settings::new(Kind::NginxError)).expect("a parser");
    let refused = error.parse(
        "2025/10/10 13:55:36 [error] 7#7: *1 limiting requests, excess: 20.100 by zone \
         \"api_limit\", client: 192.0.2.1, server: _, request: \"GET /api/a HTTP/1.1\", host: \"h\"",
    );
    let refused = refused.expect("a line");
    assert_eq!(refused.source, Some([192, 0, 2, 1].into()));
    assert!(condition(1).holds(&refused));
}

/// The second of the systems that people use today.
const GIVEN: &str = r"
user www-data;
events { worker_connections 768; }
http {
    limit_req_zone $binary_remote_addr zone=api_limit:10m rate=60r/m;
    server {
        listen 80;
        listen [::]:80;
        limit_req zone=api_limit burst=20 nodelay;
        limit_req_status 429;
        access_log /var/log/nginx/api_access.log combined;
        error_log /var/log/nginx/api_error.log;
        location /api/ { proxy_pass http://127.0.0.1:8000; }
    }
}
";

#[test]
fn the_limit_and_both_logs_are_carried_over() {
    let imported = of(GIVEN);
    assert_eq!(notes(&imported), Vec::<String>::new());
    assert_eq!(
        imported.to_toml(),
        r#"# /etc/nginx/nginx.conf:5: limit_req_zone $binary_remote_addr zone=api_limit rate=60r/m
# New connections of each source; IPv6 by /64, where nginx takes the address.
[[limit]]
name = "api_limit"
protocol = "tcp"
ports = [80]
count = "connections"
rate = "60/m"
burst = 20

[[source]]
name = "api_access"
files = ["/var/log/nginx/api_access.log"]
parser = "nginx-combined"

[[source]]
name = "api_error"
files = ["/var/log/nginx/api_error.log"]
parser = "nginx-error"

# Whom limit_req refuses again and again: maxretry and findtime of [ban].
[[detector]]
name = "nginx-429"
sources = ["api_access"]
where = "status == 429"
action = "ban"

[[detector]]
name = "nginx-limit-req"
sources = ["api_error"]
where = 'message contains "limiting requests, excess: "'
action = "ban"
"#
    );
}

#[test]
fn a_part_of_a_configuration_is_enough() {
    let imported = of(
        "limit_req_zone $binary_remote_addr zone=api_limit:10m rate=60r/m;\n\
         limit_req zone=api_limit burst=20 nodelay;\nlimit_req_status 429;\n\
         access_log /var/log/nginx/api_access.log combined;\n",
    );
    let [limit] = tables(&imported, "limit")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(limit.get("ports"), Some(&vec![80, 443].into()));
    assert_eq!(limit.get("rate"), Some(&"60/m".into()));
    let notes = notes(&imported);
    let [note] = &notes[..] else {
        panic!("{notes:?}");
    };
    assert!(note.starts_with("/etc/nginx/nginx.conf:2: "), "{note}");
    assert!(note.contains("ports 80 and 443"), "{note}");
}

#[test]
fn included_files_are_read_in_their_place() {
    let imported = import(&[
        (
            MAIN,
            "http {\n include conf.d/*.conf;\n include /etc/nginx/mime;\n include none/*;\n}",
        ),
        ("/etc/nginx/mime", "types { text/html html htm; }"),
        (
            "/etc/nginx/conf.d/10-zone.conf",
            "limit_req_zone $remote_addr zone=a:1m rate=5r/s;",
        ),
        (
            "/etc/nginx/conf.d/20-site.conf",
            "server {\n listen 8443 ssl;\n limit_req zone=a;\n}",
        ),
        ("/etc/nginx/conf.d/off", "} nothing"),
    ]);
    let [limit] = tables(&imported, "limit")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(limit.get("rate"), Some(&"5/s".into()));
    assert_eq!(limit.get("burst"), Some(&0.into()));
    assert_eq!(limit.get("ports"), Some(&vec![8443].into()));
    // 503 is no evidence.
    assert_eq!(tables(&imported, "detector").len(), 1);
    let notes = notes(&imported);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("/etc/nginx/conf.d/20-site.conf:3: limit_req_status is not set: "),
        "{notes:?}"
    );
}

#[test]
fn a_zone_is_one_limit_on_the_ports_of_all_that_use_it() {
    let imported = of("limit_req_zone $binary_remote_addr zone=z:1m rate=10r/s;
        limit_req_status 429;
        server { listen 80; limit_req zone=z burst=5 nodelay; }
        server { listen 192.0.2.1:8080; listen [2001:db8::1]:8081; listen *:8082;
                 location /login { limit_req zone=z burst=9 nodelay; } }
        server { listen example.com; limit_req zone=z burst=5 nodelay; }");
    let [limit] = tables(&imported, "limit")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(limit.get("ports"), Some(&vec![80, 8080, 8081, 8082].into()));
    assert_eq!(limit.get("burst"), Some(&9.into()));
    let notes = notes(&imported);
    assert_eq!(notes.len(), 3, "{notes:#?}");
    assert!(notes[0].contains(":3: limit_req zone=z burst=5 nodelay: the zone's limit"));
    assert!(notes[1].contains("in location /login: the limit holds for all connections"));
}

#[test]
fn an_inner_limit_stands_in_the_place_of_the_outer_ones() {
    let imported = of("http {
        limit_req_zone $binary_remote_addr zone=outer:1m rate=10r/s;
        limit_req_zone $binary_remote_addr zone=inner:1m rate=1r/s;
        limit_req_zone $binary_remote_addr zone=idle:1m rate=1r/s;
        limit_req zone=outer nodelay; limit_req_status 429;
        server { listen 80; location / { } location /a { limit_req zone=inner; } }
        server { listen 81; limit_req zone=inner; location /b { if ($a) { return 444; } } }
    }");
    let ports = |number: usize| tables(&imported, "limit")[number].get("ports").cloned();
    assert_eq!(ports(0), Some(vec![80].into()));
    assert_eq!(ports(1), Some(vec![80, 81].into()));
    let notes = notes(&imported);
    assert!(
        notes
            .iter()
            .any(|note| note.contains(":4: ") && note.contains("no limit_req uses it")),
        "{notes:#?}"
    );
}

#[test]
fn what_the_kernel_cannot_count_is_listed() {
    for (text, what, why) in [
        (
            "limit_req_zone $http_x_api_key zone=z:1m rate=1r/s; limit_req zone=z;",
            "limit_req_zone $http_x_api_key zone=z",
            "does not see $http_x_api_key",
        ),
        (
            "limit_req_zone $server_name zone=z:1m rate=1r/s; limit_req zone=z;",
            "limit_req_zone $server_name zone=z",
            "does not see $server_name",
        ),
        (
            "limit_req_zone $binary_remote_addr$uri zone=z:1m rate=1r/s; limit_req zone=z;",
            "limit_req_zone $binary_remote_addr$uri zone=z",
            "stricter",
        ),
        (
            "geo $free { default 0; 10.0.0.0/8 1; }\n\
             map $free $key { 0 $binary_remote_addr; 1 ''; }\n\
             limit_req_zone ${key} zone=z:1m rate=1r/s; limit_req zone=z;",
            "limit_req_zone ${key} zone=z",
            "comes from `map $free $key` at /etc/nginx/nginx.conf:2",
        ),
        (
            "limit_req zone=z;",
            "limit_req zone=z",
            "no limit_req_zone with the name \"z\"",
        ),
        (
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/h; limit_req zone=z;",
            "zone=z",
            "rate=1r/h is none that nginx knows",
        ),
        (
            "limit_req_zone $binary_remote_addr;",
            "limit_req_zone",
            "has a key and zone=",
        ),
        (
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s; limit_req zone=z burst=x;",
            "limit_req zone=z burst=x",
            "burst is no number",
        ),
        (
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s;
             server { listen 127.0.0.1:80; listen unix:/run/a; limit_req zone=z; }",
            "listen unix:/run/a",
            "passes no network card",
        ),
        (
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s;
             server { listen 443 quic; limit_req zone=z; }",
            "listen 443 quic",
            "protocol = \"udp\"",
        ),
        (
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s; set_real_ip_from 10.0.0.0/8;
             server { listen 443; limit_req zone=z; }",
            "set_real_ip_from 10.0.0.0/8",
            "through a proxy",
        ),
    ] {
        let imported = of(text);
        assert!(tables(&imported, "limit").is_empty(), "{text}");
        let found = imported
            .notes
            .iter()
            .any(|note| note.what.contains(what) && note.why.contains(why));
        assert!(found, "{text}: {:#?}", notes(&imported));
    }
}

#[test]
fn what_is_delayed_there_and_not_here_is_said() {
    let zone = "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s; limit_req_status 429;";
    for (limit, is_said) in [
        ("limit_req zone=z;", false),
        ("limit_req zone=z burst=5 nodelay;", false),
        ("limit_req zone=z burst=5;", true),
        ("limit_req zone=z burst=5 delay=3;", true),
    ] {
        let imported = of(&format!("{zone} server {{ {limit} }}"));
        let said = notes(&imported)
            .iter()
            .any(|note| note.contains("not delayed"));
        assert_eq!(said, is_said, "{limit}");
        assert_eq!(tables(&imported, "limit").len(), 1, "{limit}");
    }
}

#[test]
fn a_dry_run_only_observes() {
    let imported = of("limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s;
        limit_req_dry_run on; limit_req_status 429; server { limit_req zone=z; }");
    let [limit] = tables(&imported, "limit")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(limit.get("action"), Some(&"observe".into()));
    let [detector] = tables(&imported, "detector")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(detector.get("action"), Some(&"alert".into()));
    assert_eq!(
        detector.get("where").and_then(toml::Value::as_str),
        Some("message contains \"limiting requests, dry run, excess: \"")
    );
}

#[test]
fn limits_of_open_connections_are_listed_and_their_refusals_found() {
    let imported = of(
        "limit_conn_zone $binary_remote_addr zone=c:1m; limit_conn_status 429;
        server { listen 80; limit_conn c 10; }",
    );
    assert!(tables(&imported, "limit").is_empty());
    let names: Vec<_> = tables(&imported, "detector")
        .iter()
        .filter_map(|table| table.get("name")?.as_str())
        .collect();
    assert_eq!(names, ["nginx-429", "nginx-limit-conn"]);
    assert!(notes(&imported)[0].contains("limit_conn c 10: the kernel counts new connections"));
}

#[test]
fn the_path_of_a_log_is_no_pattern() {
    let imported = of(
        "limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s; limit_req zone=z;
        access_log /l/[a]*.log; error_log /l/[e.log;",
    );
    let files: Vec<_> = tables(&imported, "source")
        .iter()
        .map(|table| table.get("files").cloned())
        .collect();
    let expected = ["/l/[[]a][*].log", "/l/[[]e.log"];
    assert_eq!(files, expected.map(|file| Some(vec![file].into())));
}

#[test]
fn each_log_has_the_parser_of_its_format() {
    let imported = of(r#"http {
        limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s; limit_req_status 429;
        log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                        '$status $body_bytes_sent "$http_referer" '
                        '"$http_user_agent" "$http_x_forwarded_for"';
        log_format js escape=json '{"ip":"$remote_addr","s":$status}';
        log_format own '$remote_addr $status $request_uri';
        log_format bad '$hostname'; log_format none escape=none '$remote_addr $status';
        access_log /l/access.log; access_log /l/main.log main; access_log /l/js.log js;
        access_log /l/own.log own buffer=32k; access_log /l/bad.log bad; access_log /l/none.log none;
        access_log /l/gone.log gone; access_log /l/gz.log main gzip flush=5m;
        access_log syslog:server=unix:/dev/log main; access_log logs/x.log;
        access_log /l/$host.log main; access_log /l/if.log main if=$loggable;
        error_log stderr; error_log /l/crit.log crit; error_log /l/error.log warn;
        server { limit_req zone=z; location /quiet { access_log off; } }
    }"#);
    let parsers: Vec<_> = tables(&imported, "source")
        .iter()
        .filter_map(|table| Some((table.get("name")?.as_str()?, table.get("parser")?.as_str()?)))
        .collect();
    assert_eq!(
        parsers,
        [
            ("l-access", "nginx-combined"),
            ("if", "nginx-combined"),
            ("js", "json"),
            ("main", "nginx-combined"),
            ("own", "regex"),
            ("l-error", "nginx-error"),
        ]
    );
    check(&imported);
    let notes = notes(&imported).join("\n");
    for expected in [
        "bad.log bad: it has no $remote_addr",
        "none.log none: with escape=none",
        "gone.log gone: its log_format is not",
        "gzip flush=5m: it is compressed",
        "syslog server",
        "relative to a folder",
        "made of variables",
        "if=$loggable: what nginx does not log",
        "error_log stderr: it is not written to a file",
        "error_log /l/crit.log crit: refusals are not written to /l/crit.log",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

#[test]
fn words_are_told_apart_as_nginx_does_it() {
    let imported = of(
        "# a comment { \n limit_req_zone \"$binary_remote_addr\" 'zone=a:1m'\n rate=2r/m;\
        #x\nmap $a $b{~^/x$ 1;\n\"~^/y{2}\" \"a;b\\\"\";\n}
        server{listen 80;limit_req zone=a;location ~ \\.php$ {set $x ${y}z;}
        content_by_lua_block { -- }\n local t = { '}' } }\n}",
    );
    assert_eq!(tables(&imported, "limit").len(), 1, "{imported:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        (
            "http {\n server {\n",
            "/etc/nginx/nginx.conf:2: the block that begins here has no }",
        ),
        (
            "http {\n}\n}",
            "/etc/nginx/nginx.conf:3: this } closes nothing",
        ),
        (
            "a \"b\nc",
            "/etc/nginx/nginx.conf:1: the \" here is not closed",
        ),
        (
            "\na 'b",
            "/etc/nginx/nginx.conf:2: the ' here is not closed",
        ),
        (
            "a \"b\"c;",
            "/etc/nginx/nginx.conf:1: there is no space between \" and 'c'",
        ),
        (
            ";",
            "/etc/nginx/nginx.conf:1: there is no directive before this ;",
        ),
        (
            "\n{",
            "/etc/nginx/nginx.conf:2: there is no directive before this {",
        ),
        (
            "user root",
            "/etc/nginx/nginx.conf:1: `user` does not end with ; or {",
        ),
        (
            "http {\n user root\n }",
            "/etc/nginx/nginx.conf:2: `user` does not end with ; or {",
        ),
        (
            "set $a ${b c;",
            "/etc/nginx/nginx.conf:1: the ${ here is not closed",
        ),
        (
            "x_by_lua_block {\n {}",
            "/etc/nginx/nginx.conf:1: the block that begins here has no }",
        ),
        (
            "include;",
            "/etc/nginx/nginx.conf:1: `include` takes one name of a file",
        ),
        (
            "\ninclude nginx.conf;",
            "/etc/nginx/nginx.conf:2: /etc/nginx/nginx.conf includes itself",
        ),
        (
            "include gone;",
            "cannot read /etc/nginx/gone: entity not found",
        ),
    ] {
        assert_eq!(fails(text), expected, "{text}");
    }
    assert!(fails(&"a {\n".repeat(100_000)).contains(":65: blocks lie more than 64 deep here"));
    let long = "#".repeat(MAX_FILE_BYTES + 1);
    assert!(fails(&long).contains("nginx.conf: is larger than 16 MiB"));
}

#[test]
fn files_that_include_each_other_without_end_are_refused() {
    let files = [
        (MAIN, "include a;"),
        ("/etc/nginx/a", "\ninclude b;"),
        ("/etc/nginx/b", "include a;"),
    ];
    let error = nginx(&Memory::new(&files), Path::new(MAIN), "ban").expect_err("a circle");
    assert_eq!(
        error.to_string(),
        "/etc/nginx/b:1: /etc/nginx/a includes itself"
    );
    // Each file twice as often as the one before.
    let names: Vec<_> = (0..40).map(|n| format!("/etc/nginx/{n}")).collect();
    let texts: Vec<_> = (1..=40)
        .map(|n| format!("{}include {n}; include {n};", "#\n".repeat(9000)))
        .collect();
    let mut files = vec![(MAIN, "include 0;")];
    files.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(texts.iter().map(String::as_str)),
    );
    let error = nginx(&Memory::new(&files), Path::new(MAIN), "ban").expect_err("too much");
    assert!(matches!(
        error,
        ImportError::Read { .. } | ImportError::Syntax { .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_makes_it_panic(
        words in prop::collection::vec(prop_oneof![
            Just("limit_req_zone $binary_remote_addr zone=z:1m rate=1r/s;".to_owned()),
            Just("limit_req zone=z burst=5;".to_owned()),
            Just("server {".to_owned()), Just("location /a {".to_owned()), Just("}".to_owned()),
            Just("listen 80;".to_owned()), Just("listen".to_owned()), Just("log_format a".to_owned()),
            Just("access_log /x a;".to_owned()), Just("error_log".to_owned()), Just(";".to_owned()),
            "[ -~\n]{0,12}", any::<String>(),
        ], 0..20),
    ) {
        let text = words.join(" ");
        let files = Memory::new(&[(MAIN, &text)]);
        if let Ok(imported) = nginx(&files, Path::new(MAIN), "alert") {
            check(&imported);
            let toml = imported.to_toml();
            prop_assert!(toml.parse::<toml::Table>().is_ok(), "{}", toml);
        }
    }
}

#[test]
fn whom_detectors_throttle_has_a_limit_of_a_name_that_no_zone_has() {
    let text = "limit_req_zone $binary_remote_addr zone=throttled:1m rate=1r/s;
        limit_req_status 429; server { limit_req zone=throttled; }";
    let files = Memory::new(&[(MAIN, text)]);
    let imported = nginx(&files, Path::new(MAIN), "throttle").expect("an import");
    let limits = tables(&imported, "limit");
    let names: Vec<_> = limits
        .iter()
        .filter_map(|limit| limit.get("name")?.as_str())
        .collect();
    assert_eq!(names, ["throttled", "throttled-too"]);
    assert_eq!(limits[1].get("only"), Some(&"throttled".into()));
    let detectors = tables(&imported, "detector");
    assert_eq!(detectors.len(), 2);
    for detector in detectors {
        assert_eq!(detector.get("limit"), Some(&"throttled-too".into()));
    }
}
