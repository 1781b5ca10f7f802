//! `abuser check`: what is wrong, where, and what to write instead.

use std::{fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Complains as _, abuser, parse};

struct Config {
    _folder: TempDir,
    path: PathBuf,
}

impl Config {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("abuser.toml");
        fs::write(&path, text).expect("writing a configuration");
        Self {
            _folder: folder,
            path,
        }
    }

    fn check(&self, more: &[&str]) -> testkit::CommandOutput {
        abuser(&[&["check", "-c", self.path.to_str().expect("UTF-8")], more].concat())
    }

    /// Asserts that it is refused at `place` (`LINE:COLUMN:`) in these words, by `run`, too.
    #[track_caller]
    fn refused(&self, place: &str, phrases: &[&str]) {
        let path = self.path.to_str().expect("UTF-8");
        let place = format!("{path}:{place}");
        let phrases = [&[place.as_str()], phrases].concat();
        self.check(&[]).complains(2, &phrases);
        self.check(&["--json"]).complains(2, &phrases);
        abuser(&["run", "-c", path]).complains(2, &phrases);
    }
}

fn limit(line: &str) -> Config {
    Config::new(format!("[[limit]]\nname = \"api\"\n{line}\n"))
}

/// A configuration that nothing is said of.
const SOUND: &str = "interfaces = [\"lo\"]\n[[limit]]\nname = \"all\"\nrate = \"1/s\"\n";

const GOOD: &str = r#"
interfaces = ["lo"]
[allow]
addresses = ["10.0.0.0/8", "::ffff:192.0.2.7", "monitoring.example.com"]
[[limit]]
name = "api"
protocol = "tcp"
ports = [80, "8000-8100"]
count = "connections"
rate = "60/m"
burst = 20
"#;

#[test]
fn a_good_configuration_is_summed_up_in_a_line() {
    let config = Config::new(GOOD);
    let said = config.check(&[]).success();
    assert_eq!(said.stderr, "", "{said}");
    assert_eq!(
        said.stdout,
        format!(
            "{}: fine; interfaces: lo; limits: api; allow entries: 3; sources: none; \
             detectors: none; notify: none\n",
            config.path.display()
        )
    );
}

#[test]
fn a_good_configuration_is_summed_up_as_json() {
    let config = Config::new(GOOD);
    assert_eq!(
        parse(&config.check(&["--json"]).success().stdout),
        json!({
            "config": config.path,
            "interfaces": ["lo"],
            "limits": ["api"],
            "allow": ["10.0.0.0/8", "192.0.2.7/32", "monitoring.example.com"],
            "sources": [],
            "detectors": [],
            "notify": [],
        })
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    Config::new("interface = [\"eth0\"]\n").refused(
        "1:1:",
        &["unknown key `interface`", "did you mean `interfaces`?"],
    );
    limit("rate = \"1/s\"\nprots = [80]").refused("4:1:", &["did you mean `ports`?"]);
    Config::new("[ban]\n\n  findtme = \"1m\"\n").refused("3:3:", &["did you mean `findtime`?"]);
}

#[test]
fn a_wrong_rate_is_refused_where_it_stands() {
    for (rate, phrase) in [
        ("60", "is not a rate"),
        ("-1/s", "is not a rate"),
        ("0/s", "would pass nothing"),
        ("5/x", "is not a unit of time"),
        ("99999999999999999999/s", "too large"),
    ] {
        limit(&format!("rate = \"{rate}\"")).refused("3:8:", &[phrase]);
    }
}

#[test]
fn a_wrong_port_is_refused_where_it_stands() {
    for port in [
        "0",
        "70000",
        "-1",
        "\"90-80\"",
        "\"0\"",
        "\"a\"",
        "\"80-\"",
        "\"80-70000\"",
    ] {
        limit(&format!(
            "rate = \"1/s\"\nprotocol = \"tcp\"\nports = [{port}]"
        ))
        .refused("5:10:", &[]);
    }
}

#[test]
fn a_wrong_time_or_address_is_refused_where_it_stands() {
    Config::new("[ban]\nbantime = \"10x\"\n").refused("2:11:", &["\"x\" is not a unit of time"]);
    Config::new("[allow]\naddresses = [\"10.0.0.1/8\"]\n")
        .refused("2:14:", &["host bits", "10.0.0.0/8"]);
    Config::new("[allow]\naddresses = [\"10.0.0.0/40\"]\n").refused("2:14:", &["from 0 to 32"]);
}

#[test]
fn an_impossible_interface_name_is_refused_where_it_stands() {
    for name in ["a/b", "0123456789abcdef", "", "a b", ".."] {
        Config::new(format!("interfaces = [\"{name}\"]\n"))
            .refused("1:15:", &["cannot be the name of an interface"]);
    }
}

#[test]
fn what_is_not_toml_is_refused_where_it_stops_being_so() {
    Config::new("interfaces = [\n").refused("1:15:", &["not TOML", "unclosed array"]);
}

#[test]
fn text_that_is_not_utf_8_is_refused_where_it_stops_being_so() {
    Config::new(b"interfaces = [\"eth\xff\"]\n").refused("1:19:", &["not UTF-8"]);
}

#[test]
fn a_file_that_cannot_be_a_configuration_is_refused_by_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let check = |path: &str| {
        abuser(&["run", "-c", path]).complains(2, &[path]);
        abuser(&["check", "-c", path])
    };
    check(&path("missing.toml")).complains(2, &["missing.toml: no such file; write one"]);
    check(&path("")).complains(2, &["is a directory, not a file"]);
    fs::write(path("huge.toml"), vec![b'#'; 2 << 20]).expect("writing");
    check(&path("huge.toml")).complains(2, &["huge.toml: larger than 1048576 bytes"]);
    check("/dev/zero").complains(2, &["larger than"]);
}

#[test]
fn secrets_and_certificates_of_a_fleet_that_will_not_do_are_warnings() {
    let config = Config::new("");
    let folder = config.path.parent().expect("a folder");
    let password = folder.join("password");
    fs::write(&password, "secret").expect("writing a password");
    let fleet = |keys: &str| {
        let nats = "[fleet]\nnats = [\"tls://192.0.2.1:4222\"]\nnode = \"web-1\"\n";
        fs::write(&config.path, format!("{SOUND}{nats}{keys}")).expect("writing a configuration");
        config.check(&[]).success().stderr
    };
    let with_password = format!(
        "user = \"web-1\"\npassword_file = \"{}\"\n",
        password.display()
    );
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    mode(0o644);
    let said = fleet(&with_password);
    assert!(
        said.contains("the password_file of [fleet]: others can get at the secret in")
            && said.contains("(mode 644): run `chmod 600 "),
        "{said}"
    );
    mode(0o600);
    assert_eq!(fleet(&with_password), "");
    for (keys, phrases) in [
        (
            "credentials_file = \"/nowhere/creds\"",
            ["the credentials_file of [fleet]", "/nowhere/creds"],
        ),
        (
            "nkey_file = \"PASSWORD\"",
            ["the nkey of [fleet] is no seed", "abuser: warning"],
        ),
        (
            "ca_file = \"/nowhere/ca.pem\"",
            [
                "the certificates of [fleet]: cannot read the certificates in",
                "/nowhere/ca.pem",
            ],
        ),
        (
            "cert_file = \"PASSWORD\"\nkey_file = \"/nowhere/key\"",
            ["the certificates of [fleet]: the key", "/nowhere/key"],
        ),
    ] {
        let said = fleet(&keys.replace("PASSWORD", &password.display().to_string()));
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(phrases.iter().all(|phrase| said.contains(phrase)), "{said}");
    }
}

#[test]
fn what_a_notification_lacks_is_a_warning_and_what_is_wrong_with_it_an_error() {
    let config = Config::new(format!(
        "{SOUND}[[notify]]\nname = \"chat\"\nurl = \"https://a/\"\nsecret_file = \"/nowhere/secret\"\n\
         ca_file = \"/nowhere/ca.pem\"\n\
         [[notify]]\nname = \"hook\"\ncommand = [\"/nowhere/hook\"]\n\
         [[notify]]\nname = \"fine\"\ncommand = [\"/bin/sh\"]\n",
    ));
    let said = config.check(&[]).success();
    assert!(
        said.stdout.ends_with("notify: chat, hook, fine\n"),
        "{said}"
    );
    let warnings: Vec<_> = said.stderr.lines().collect();
    let [secret, authority, hook] = warnings.as_slice() else {
        panic!("{said}");
    };
    for (warning, phrase) in [
        (
            secret,
            "warning: notify chat: cannot read the secret in /nowhere/secret",
        ),
        (
            authority,
            "warning: notify chat: cannot read the certificates in /nowhere/ca.pem",
        ),
        (
            hook,
            "warning: notify hook: /nowhere/hook cannot be run: No such file",
        ),
    ] {
        assert!(warning.contains(phrase), "{said}");
    }
    Config::new("[[notify]]\nname = \"a\"\nurl = \"http://a/\"\ntemplate = '\"{{ id }}\"'\n")
        .refused("4:12:", &["`template` in [[notify]]", "put none around it"]);
}

#[test]
fn what_run_would_refuse_or_what_would_do_nothing_is_a_warning_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef").expect("writing a token");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    mode(0o600);
    let token = token.display();
    let limit = "[[limit]]\nname = \"all\"\nrate = \"1/s\"\n";
    let api = |listen, file: &str| {
        format!("{SOUND}[api]\nlisten = \"{listen}\"\ntoken_file = \"{file}\"\n")
    };
    let warnings = |text: &str| {
        let said = Config::new(text).check(&[]).success();
        assert!(said.stdout.contains(": fine; "), "{said}");
        said.stderr
    };
    for text in [
        SOUND,
        &format!("{SOUND}[store]\npath = \":memory:\"\n"),
        &api("[::1]:9090", &token.to_string()),
    ] {
        assert_eq!(warnings(text), "");
    }
    for (text, phrase) in [
        (
            "interfaces = [\"lo\"]\n",
            "no [[limit]]: nothing is rate limited",
        ),
        (limit, "names no interface, so `abuser run` needs -i"),
        (
            &format!("interfaces = []\n{limit}"),
            "names no interface, so `abuser run` needs -i",
        ),
        (
            &format!("interfaces = [\"lo\", \"nosuch0\"]\n{limit}"),
            "there is no interface \"nosuch0\"; there are: ",
        ),
        (
            &format!("{SOUND}[allow]\naddresses = [\"10.0.0.0/8\", \"0.0.0.0/0\"]\n"),
            "[allow] addresses: 0.0.0.0/0 is so wide",
        ),
        (
            &format!("{SOUND}[[blocklist]]\npath = \"/nowhere/spam.txt\"\n"),
            "block list spam: cannot read /nowhere/spam.txt: No such file",
        ),
        (
            &format!("{SOUND}[store]\npath = \"/nowhere/abuser/abuser.db\"\n"),
            "[store] path: there is no folder /nowhere, so nothing would be kept",
        ),
        (
            &api("127.0.0.1:9090", "/nowhere/token"),
            "[api] token_file: cannot read the secret in /nowhere/token: No such file",
        ),
        (
            &api("0.0.0.0:9090", &token.to_string()),
            "whoever is on the way to 0.0.0.0:9090 can read the token",
        ),
    ] {
        let said = warnings(text);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("abuser: warning: "), "{said}");
        assert!(said.contains(phrase), "no {phrase:?}: {said}");
    }
    mode(0o644);
    let said = warnings(&api("127.0.0.1:9090", &token.to_string()));
    assert!(
        said.contains("[api] token_file: others can get at the secret in"),
        "{said}"
    );
}
