//! `CrowdSec`: its local API, alone and on loopback, and `cscli`, which talks to it.

use std::{fs, net::TcpStream, time::Instant};

use testkit::{CommandOutput, Namespace, Service, require_root};

use super::{
    Bans, Folder, assert_bans, ban, bans, expected, export, import, import_anew, peer, problems,
    run, text,
};
use crate::support::daemon_on_lo;

/// No agent, no hub and no central API: nothing leaves the namespace.
const SETTINGS: &str = "\
common:
  daemonize: false
  log_media: stdout
  log_level: info
  working_dir: FOLDER
config_paths:
  config_dir: FOLDER/etc
  data_dir: FOLDER/data
  simulation_path: FOLDER/simulation.yaml
  hub_dir: FOLDER/hub
  index_path: FOLDER/hub/.index.json
cscli:
  output: human
  color: no
db_config:
  type: sqlite
  db_path: FOLDER/data/crowdsec.db
  use_wal: false
api:
  client:
    credentials_path: FOLDER/credentials.yaml
  server:
    listen_uri: 127.0.0.1:8080
    profiles_path: FOLDER/profiles.yaml
    console_path: FOLDER/console.yaml
prometheus:
  enabled: false
";

/// The local API, with a folder of its own.
struct Crowdsec {
    _service: Service,
    namespace: Namespace,
    folder: Folder,
}

impl Crowdsec {
    fn start(namespace: &Namespace) -> Self {
        let folder = Folder::new();
        let config = folder.write("config.yaml", SETTINGS);
        folder.write("simulation.yaml", "simulation: off\n");
        folder.write("profiles.yaml", "name: none\nfilters: [\"false\"]\n");
        folder.write("hub/.index.json", "{}");
        for name in ["etc", "data"] {
            fs::create_dir(folder.path(name)).expect("making a folder");
        }
        let credentials = folder.path("credentials.yaml");
        let add = [
            "-c",
            text(&config),
            "machines",
            "add",
            "test",
            "--password",
            "test",
        ];
        let add = [&add[..], &["-f", text(&credentials)]].concat();
        run(namespace, "cscli", &add).success();
        let options = ["-c", text(&config), "-no-cs", "-no-capi"];
        let server = peer(namespace, "crowdsec", &options);
        let service = Service::start(server, &folder.path("log"), || {
            namespace.run(|| TcpStream::connect("127.0.0.1:8080").is_ok())
        });
        Self {
            _service: service.unwrap_or_else(|error| panic!("{error}")),
            namespace: namespace.clone(),
            folder,
        }
    }

    /// Runs `cscli decisions …`.
    #[track_caller]
    fn decisions(&self, arguments: &[&str]) -> CommandOutput {
        let config = self.folder.path("config.yaml");
        let arguments = [&["-c", text(&config), "decisions"], arguments].concat();
        run(&self.namespace, "cscli", &arguments).success()
    }

    fn list(&self) -> String {
        self.decisions(&["list", "-l", "0", "-o", "json"]).stdout
    }
}

#[test]
fn decisions_are_imported() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let crowdsec = Crowdsec::start(&namespace);
    assert!(import_anew(&daemon, "crowdsec", &crowdsec.list()).is_empty());
    let unsaid = Some("manual 'ban' from 'test'");
    let made = Instant::now();
    let mut added = Bans::new();
    for (arguments, ban) in [
        (
            &["-i", "203.0.113.1", "-d", "1h", "-R", "by \"hand\""][..],
            &[("203.0.113.1/32", Some(3600), Some("by \"hand\""))][..],
        ),
        (
            &["-r", "198.51.100.0/24", "-d", "24h"],
            &[("198.51.100.0/24", Some(86400), unsaid)],
        ),
        (
            &["-i", "2001:db8::1", "-d", "1h30m"],
            &[("2001:db8::1/128", Some(5400), unsaid)],
        ),
        (
            &["-r", "2001:db9::/32", "-d", "60s", "-R", "six"],
            &[("2001:db9::/32", Some(60), Some("six"))],
        ),
        // No bans of addresses.
        (&["-i", "203.0.113.2", "-d", "1h", "-t", "captcha"], &[]),
        (&["--scope", "country", "-v", "XX", "-d", "1h"], &[]),
    ] {
        added.extend(expected(ban));
        crowdsec.decisions(&[&["add"], arguments].concat());
    }
    let outcome = import(&daemon, &crowdsec.list());
    assert_eq!(outcome["format"], "crowdsec");
    assert_bans(&bans(&daemon), &added, made);
    let problems = problems(&outcome);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    for phrase in ["captcha", "Country"] {
        assert!(
            problems.iter().any(|problem| problem.contains(phrase)),
            "no {phrase}: {problems:#?}"
        );
    }
}

#[test]
fn bans_that_are_exported_are_decisions_and_imported_again() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo("");
    let crowdsec = Crowdsec::start(&namespace);
    ban(
        &daemon,
        "203.0.113.7",
        &["--for", "1h", "--reason", "scans \"ports\" \\ n\u{e9}t"],
    );
    ban(
        &daemon,
        "203.0.113.0/24",
        &["--permanent", "--reason", "all of them"],
    );
    ban(
        &daemon,
        "2001:db8::/48",
        &["--for", "30d", "--reason", "six"],
    );
    ban(&daemon, "2001:db9::1", &["--permanent", "--reason", "one"]);
    ban(&daemon, "198.51.100.1", &["--for", "20m"]);
    let mut before = bans(&daemon);
    let written = Instant::now();
    let file = crowdsec
        .folder
        .write("f.json", &export(&daemon, "crowdsec"));
    crowdsec.decisions(&["import", "-i", text(&file)]);
    // Without an origin, it lists none that were imported.
    let listed = crowdsec.decisions(&["list", "--origin", "cscli-import", "-o", "json"]);
    // What cscli says where there is no reason.
    before.get_mut("198.51.100.1/32").expect("it is there").1 = Some("manual".to_owned());
    let after = import_anew(&daemon, "crowdsec", &listed.stdout);
    assert_bans(&after, &before, written);
}
