//! `abuser import`: what fail2ban, nginx and Snort are told, as a configuration.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::support::{Complains as _, abuser, assert_keys, parse};

/// A folder with files.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            let path = folder.path(name);
            let parent = path.parent().expect("a file is in a folder");
            fs::create_dir_all(parent).expect("making a folder");
            fs::write(path, text).expect("writing a file");
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as an argument.
    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
}

const NGINX: &str = "http {
    limit_req_zone $binary_remote_addr zone=api_limit:10m rate=60r/m;
    include sites/*.conf;
}
";
const SITE: &str = "server {
    listen 80;
    limit_req zone=api_limit burst=20 nodelay;
    limit_req_status 429;
    access_log /var/log/nginx/api_access.log combined;
    location /slow { limit_req zone=api_limit burst=5; }
}
";
const RULES: &str = r#"alert tcp any any -> any 80 (content:"GET /api/"; threshold: type threshold, track by_src, count 100, seconds 60; sid:1;)
alert tcp any any -> any 80 (content:"x"; http_client_body; sid:2;)
"#;
const JAIL: &str = "[DEFAULT]\nbackend = polling\n[web]\nenabled = true\nfilter = web\n\
    logpath = /var/log/web.log\nmaxretry = 100\nfindtime = 60\nbantime = 86400\nport = http\n";
const FILTER: &str = "[Definition]\nfailregex = ^<HOST> .* 401 \n";

fn nginx() -> Folder {
    Folder::new(&[
        ("nginx.conf", NGINX),
        ("sites/a.conf", SITE),
        ("sites/.hidden.conf", "}"),
        ("sites/b.conf.off", "}"),
    ])
}

#[test]
fn a_configuration_goes_to_standard_output_and_what_it_lacks_to_standard_error() {
    let folder = nginx();
    let said = abuser(&["import", "nginx", &folder.name("nginx.conf")]).success();
    let config: toml::Table = said.stdout.parse().expect("valid TOML");
    assert_eq!(config["limit"][0]["rate"].as_str(), Some("60/m"));
    assert_eq!(config["limit"][0]["burst"].as_integer(), Some(20));
    let site = folder.name("sites/a.conf");
    for line in said.stderr.lines() {
        assert!(line.starts_with(&format!("{site}:6: ")), "{line}");
    }
    assert_eq!(said.stderr.lines().count(), 3, "{said}");

    let rules = Folder::new(&[("local.rules", RULES)]);
    let said = abuser(&[
        "import",
        "snort",
        &rules.name("local.rules"),
        "--action",
        "ban",
    ])
    .success();
    let config: toml::Table = said.stdout.parse().expect("valid TOML");
    assert_eq!(config["detector"][0]["action"].as_str(), Some("ban"));
    assert!(
        said.stderr.contains("local.rules:2: rule 2: left out: "),
        "{said}"
    );

    let jails = Folder::new(&[("f2b/jail.local", JAIL), ("f2b/filter.d/web.conf", FILTER)]);
    let said = abuser(&["import", "fail2ban", &jails.name("f2b")]).success();
    let config: toml::Table = said.stdout.parse().expect("valid TOML");
    assert_eq!(config["policy"][0]["maxretry"].as_integer(), Some(100));
    let filter = format!("fail2ban:{}", jails.name("f2b/filter.d/web.conf"));
    assert_eq!(
        config["detector"][0]["filter"].as_str(),
        Some(filter.as_str())
    );
    assert!(
        said.stderr.contains("jail.local:10: [web] port = http: "),
        "{said}"
    );
}

#[test]
fn what_is_written_is_a_configuration_whatever_detectors_are_to_do() {
    let alerting = format!("{JAIL}ignorecommand = /bin/true <ip>\nmaxretry = 100000\n");
    let alerting = alerting.replace("maxretry = 100\n", "");
    let folder = Folder::new(&[
        ("nginx.conf", NGINX),
        ("sites/a.conf", SITE),
        ("local.rules", RULES),
        ("jails/jail.local", JAIL),
        ("jails/filter.d/web.conf", FILTER),
        ("alerting/jail.local", &alerting),
        ("alerting/filter.d/web.conf", FILTER),
    ]);
    for (kind, from) in [
        ("nginx", "nginx.conf"),
        ("snort", "local.rules"),
        ("fail2ban", "jails"),
        ("fail2ban", "alerting"),
    ] {
        let to = folder.name(&format!("{from}.toml"));
        abuser(&["import", kind, &folder.name(from), "-o", &to]).success();
        let text = fs::read_to_string(&to).expect("a configuration");
        let alerts = text.contains("action = \"alert\"") && text.contains("policy = ");
        assert_eq!(alerts, from == "alerting", "{text}");
        abuser(&["check", "-c", &to]).success();
    }
    for (kind, from) in [("nginx", "nginx.conf"), ("snort", "local.rules")] {
        let to = folder.name(&format!("{from}.throttle.toml"));
        let from = folder.name(from);
        abuser(&["import", kind, &from, "--action", "throttle", "-o", &to]).success();
        let text = fs::read_to_string(&to).expect("a configuration");
        assert!(text.contains("limit = \"throttled\""), "{text}");
        abuser(&["check", "-c", &to]).success();
    }
}

#[test]
fn as_json_it_is_one_object() {
    let folder = nginx();
    let said = abuser(&["import", "nginx", &folder.name("nginx.conf"), "--json"]).success();
    assert_eq!(said.stderr, "");
    let outcome = parse(&said.stdout);
    assert_keys(&outcome, &["config", "notes", "output"]);
    assert_keys(&outcome["notes"][0], &["file", "line", "what", "why"]);
    assert_eq!(outcome["notes"][0]["line"], 6);
    assert_eq!(outcome["output"], serde_json::Value::Null);
    let config = outcome["config"].as_str().expect("a configuration");
    assert!(config.parse::<toml::Table>().is_ok(), "{config}");
}

#[test]
fn a_file_is_written_once_and_replaced_only_by_force() {
    let folder = nginx();
    let (from, to) = (folder.name("nginx.conf"), folder.name("out.toml"));
    let import = |more: &[&str]| abuser(&[&["import", "nginx", &from, "-o", &to], more].concat());
    let said = import(&[]).success();
    assert!(said.stdout.contains("out.toml: 5 tables written"), "{said}");
    let written = fs::read_to_string(&to).expect("a file");
    assert!(written.contains("[[limit]]"), "{written}");
    fs::write(&to, "mine").expect("writing");
    let said = import(&[]).exits(2);
    assert!(said.stderr.contains("out.toml is there already"), "{said}");
    assert_eq!(fs::read_to_string(&to).expect("a file"), "mine");
    import(&["--force"]).success();
    assert_eq!(fs::read_to_string(&to).expect("a file"), written);
    let outcome = parse(&import(&["--force", "--json"]).success().stdout);
    assert_eq!(outcome["output"], to.as_str());
    assert_eq!(outcome["config"], serde_json::Value::Null);
    let said = abuser(&["import", "nginx", &from, "--force"]).exits(2);
    assert!(said.stderr.contains("--output"), "{said}");
    let nowhere = folder.name("none/out.toml");
    let said = abuser(&["import", "nginx", &from, "-o", &nowhere]).exits(1);
    assert!(said.stderr.contains("cannot create"), "{said}");
}

#[test]
fn what_cannot_be_imported_is_a_failure_that_names_the_place() {
    let folder = Folder::new(&[
        ("open.conf", "http {\n  server {\n"),
        ("none.conf", "http { server { listen 80; } }"),
        ("bad.rules", "alert tcp any any -> any any (content:\"x;)\n"),
        ("comments.rules", "# alert\n"),
        ("f2b/jail.local", "[a]\nenabled = false\n"),
        ("bad/jail.local", "enabled = true\n"),
    ]);
    for (arguments, phrases) in [
        (
            ["nginx", "open.conf"],
            ["open.conf:2: the block that begins here has no }", ""],
        ),
        (["nginx", "none.conf"], ["nothing to import", "limit_req"]),
        (["nginx", "gone.conf"], ["cannot read", "No such file"]),
        (["nginx", "f2b"], ["cannot read", "directory"]),
        (["snort", "bad.rules"], ["bad.rules:1: a quote", ""]),
        (["snort", "comments.rules"], ["nothing to import", "rule"]),
        (["fail2ban", "f2b"], ["nothing to import", "jail"]),
        (["fail2ban", "bad"], ["jail.local", "line 1"]),
        (["fail2ban", "gone"], ["cannot read", "jail.conf"]),
    ] {
        let [kind, name] = arguments;
        let out = folder.name("out.toml");
        abuser(&["import", kind, &folder.name(name), "-o", &out]).complains(1, &phrases);
        assert!(!folder.path("out.toml").exists(), "{name}");
    }
    let said = abuser(&["import", "snort"]).exits(2);
    assert!(said.stderr.contains("<FILE>"), "{said}");
    let said = abuser(&["import", "nginx", "--action", "drop"]).exits(2);
    assert!(said.stderr.contains("ban, throttle, alert"), "{said}");
}

#[test]
fn what_a_file_says_cannot_command_the_terminal() {
    let folder = Folder::new(&[(
        "a.rules",
        "alert tcp any any -> any 80 (msg:\"\u{1b}[2J\"; content:\"GET /\"; dsize:1; sid:1;)\n\
         alert tcp any any -> any 80 (msg:\"\u{1b}[2J\"; content:\"GET /\"; sid:2;)\n",
    )]);
    let said = abuser(&["import", "snort", &folder.name("a.rules")]).success();
    assert!(
        !said.stderr.contains('\u{1b}') && !said.stdout.contains('\u{1b}'),
        "{said}"
    );
}
