//! The real `CrowdSec`: its local API, alone, and `cscli`, which talks to it.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{CommandOutput, Janitor, Namespace, Service, peers};

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
    listen_uri: 0.0.0.0:8080
    profiles_path: FOLDER/profiles.yaml
    console_path: FOLDER/console.yaml
prometheus:
  enabled: false
";

/// A local API in a namespace, on port 8080 of all its addresses, gone when it is dropped.
#[derive(Debug)]
pub struct Crowdsec {
    // Stopped before its folder goes.
    service: Option<Service>,
    namespace: Namespace,
    // Fields are dropped in this order: the folder is there until the janitor has gone.
    _janitor: Janitor,
    folder: TempDir,
}

impl Crowdsec {
    /// Starts one that knows one machine, which `cscli` is.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(namespace: &Namespace) -> Self {
        let folder = tempfile::Builder::new().prefix("abuser-test-").tempdir();
        let folder = folder.expect("a folder for a test");
        let mut crowdsec = Self {
            service: None,
            namespace: namespace.clone(),
            _janitor: Janitor::hire(&[folder.path()]).expect("a janitor"),
            folder,
        };
        let here = crowdsec.folder.path().display().to_string();
        crowdsec.write("config.yaml", &SETTINGS.replace("FOLDER", &here));
        crowdsec.write("simulation.yaml", "simulation: off\n");
        crowdsec.write("profiles.yaml", "name: none\nfilters: [\"false\"]\n");
        for name in ["etc", "data", "hub"] {
            fs::create_dir(crowdsec.path(name)).expect("making a folder");
        }
        crowdsec.write("hub/.index.json", "{}");
        let credentials = crowdsec.path("credentials.yaml").display().to_string();
        let add = [
            "machines",
            "add",
            "test",
            "--password",
            "test",
            "-f",
            &credentials,
        ];
        crowdsec.cscli(&add);
        crowdsec.restart();
        crowdsec
    }

    /// Starts it again after [`Crowdsec::stop`].
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        let mut command = self.command("crowdsec");
        command.args(["-no-cs", "-no-capi"]);
        let namespace = self.namespace.clone();
        let service = Service::start(command, &self.path("log"), || {
            namespace.run(|| TcpStream::connect("127.0.0.1:8080").is_ok())
        });
        self.service = Some(service.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Stops it; what it knows stays.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into its folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("writing a file");
        path
    }

    /// Writes a file into its folder that nobody else can read.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        fs::set_permissions(&path, private).expect("making a file private");
        path
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.path("data/crowdsec.db")
    }

    /// Runs `cscli …`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn cscli(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.command("cscli");
        CommandOutput::of(command.args(arguments)).success()
    }

    /// Runs `cscli decisions …`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn decisions(&self, arguments: &[&str]) -> CommandOutput {
        self.cscli(&[&["decisions"], arguments].concat())
    }

    /// What `cscli decisions list` or `cscli alerts list` prints in JSON, with these options; `null`
    /// if there is nothing.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn list(&self, what: &str, options: &[&str]) -> Value {
        let list = [&[what, "list", "-l", "0", "-o", "json"], options].concat();
        let printed = self.cscli(&list).stdout;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed:?}"))
    }

    /// The key of a new bouncer, in a file that nobody else can read.
    ///
    /// # Panics
    /// If there is one of this name.
    #[track_caller]
    pub fn add_bouncer(&self, name: &str) -> PathBuf {
        let key = self.cscli(&["bouncers", "add", name, "-o", "raw"]).stdout;
        self.write_secret(&format!("{name}.key"), &key)
    }

    /// The password of a new machine, in a file that nobody else can read.
    ///
    /// # Panics
    /// If there is one of this name.
    #[track_caller]
    pub fn add_machine(&self, name: &str) -> PathBuf {
        let password = format!("password of {name}");
        let add = [
            "machines",
            "add",
            name,
            "--password",
            &password,
            "-f",
            "/dev/null",
        ];
        self.cscli(&add);
        self.write_secret(&format!("{name}.password"), &password)
    }

    fn command(&self, program: &str) -> Command {
        let command = peers::command(&self.namespace, program);
        let mut command = command.unwrap_or_else(|error| panic!("{error}"));
        command.arg("-c").arg::<&Path>(&self.path("config.yaml"));
        command
    }
}
