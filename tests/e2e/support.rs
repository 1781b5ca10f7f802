//! Commands that cannot hang a test, and words that an error must have.

use std::{
    ffi::OsStr,
    fmt, fs,
    io::Read,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use abuser_common::{
    layout::{Ban, LAYOUT_VERSION, maps},
    prefix::PrefixKey,
};
use aya::maps::{HashMap, Map, MapData};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{CommandOutput, Daemon, Namespace, abuser_binary, comes_true};

/// How long anything may take that is done in milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a command may take to its end. Programs of others take seconds where the machine is busy, and one that
/// hangs does so for good.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A socket that nobody listens on, so that no test meets the machine's own daemon.
const NOWHERE: &str = "/proc/nonexistent/abuser.sock";

/// The `abuser` under test, with nothing of the caller's environment that it would heed.
pub(crate) fn command(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    clean(command)
}

/// Runs `abuser` to its end, outside of any namespace.
pub(crate) fn abuser(arguments: &[impl AsRef<OsStr>]) -> CommandOutput {
    finish(&mut command(arguments))
}

/// What gzip makes of some bytes.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let plain = tempfile::NamedTempFile::new().expect("a file");
    fs::write(plain.path(), bytes).expect("writing it");
    let packed = Command::new("gzip").arg("-c").arg(plain.path()).output();
    let packed = packed.expect("gzip");
    assert!(packed.status.success(), "gzip");
    packed.stdout
}

fn binary() -> PathBuf {
    abuser_binary().unwrap_or_else(|error| panic!("{error}"))
}

fn clean(mut command: Command) -> Command {
    command.env_remove("RUST_LOG").env("ABUSER_SOCKET", NOWHERE);
    command
}

/// Runs a command to its end; one that does not end in time is killed, and the test fails.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> CommandOutput {
    finish_child(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")),
        format!("{command:?}"),
    )
}

/// [`finish`] for a child that runs already.
#[track_caller]
pub(crate) fn finish_child(mut child: Child, command: String) -> CommandOutput {
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let deadline = Instant::now() + ENDS_WITHIN;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for our own child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("killing our own child");
            child.wait().expect("waiting for our own child");
            panic!("{command} had not ended after {ENDS_WITHIN:?}");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.map_or_else(String::new, |reader| reader.join().expect("a reader"))
    };
    CommandOutput {
        command,
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _broken = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a command says that did not do what it was asked.
pub(crate) trait Complains {
    /// Asserts the exit status, that standard output is empty, and that one line on standard
    /// error, the only one that is an error, has all these phrases.
    #[track_caller]
    fn complains(self, code: i32, phrases: &[&str]);
}

impl Complains for CommandOutput {
    fn complains(self, code: i32, phrases: &[&str]) {
        let said = self.exits(code);
        assert!(!said.stderr.contains("panicked"), "{said}");
        assert_eq!(said.stdout, "", "{said}");
        let mut lines = said
            .stderr
            .lines()
            .skip_while(|line| !line.starts_with("abuser: ") && !line.starts_with("error: "));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no line is an error: {said}"));
        for phrase in phrases {
            assert!(line.contains(phrase), "no {phrase:?} in the line: {said}");
        }
        // Wrong usage is followed by clap's pointer to --help.
        if line.starts_with("abuser: ") {
            assert_eq!(lines.next(), None, "more than one line: {said}");
        }
    }
}

/// Parses what a command printed as JSON.
#[track_caller]
pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// Asserts that a JSON object has exactly these keys.
#[track_caller]
pub(crate) fn assert_keys(value: &Value, keys: &[&str]) {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("no object: {value}"));
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    let mut expected = keys.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{value}");
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        comes_true(PATIENCE, condition),
        "not within {PATIENCE:?}: {what}"
    );
}

/// Waits until what is seen `is_so`; if it never is, what was seen last is told.
#[track_caller]
pub(crate) fn wait_until_seen<T: fmt::Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    is_so: impl Fn(&T) -> bool,
) {
    let mut last = None;
    let came = comes_true(PATIENCE, || is_so(last.insert(look())));
    assert!(came, "not within {PATIENCE:?}: {what}; at last {last:?}");
}

/// A daemon on `lo` of a namespace of its own.
pub(crate) fn daemon_on_lo(tables: &str) -> (Namespace, Daemon) {
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    let daemon = Daemon::start(&namespace, &format!("interfaces = [\"lo\"]\n{tables}"));
    (namespace, daemon)
}

/// One of the kernel's maps by prefix, as it is pinned.
pub(crate) fn pinned<V: aya::Pod>(daemon: &Daemon, name: &str) -> HashMap<MapData, PrefixKey, V> {
    let path = daemon.pin_dir().join(format!("v{LAYOUT_VERSION}"));
    let data = MapData::from_pin(path.join(name)).expect("the pinned map");
    HashMap::try_from(Map::HashMap(data)).expect("a hash map")
}

/// The prefixes that the kernel has banned.
pub(crate) fn banned_in_kernel(daemon: &Daemon) -> Vec<PrefixKey> {
    let bans = pinned::<Ban>(daemon, maps::BANS);
    bans.keys().map(|key| key.expect("a key")).collect()
}

/// Whether any XDP program is on the interface.
pub(crate) fn has_xdp(namespace: &Namespace, interface: &str) -> bool {
    namespace
        .interface(interface)
        .and_then(|interface| interface.xdp())
        .unwrap_or_else(|error| panic!("{error}"))
        .is_some()
}

/// A place for a daemon that is not to start: a namespace, a folder, names of its own.
pub(crate) struct Site {
    /// Where commands run.
    pub(crate) namespace: Namespace,
    folder: TempDir,
    pin_dir: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("abuser-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder for a test");
        let name = folder.path().file_name().expect("it has one");
        Self {
            namespace: Namespace::new().unwrap_or_else(|error| panic!("{error}")),
            pin_dir: Path::new("/sys/fs/bpf").join(name),
            folder,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("abuser.sock")
    }

    pub(crate) fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Writes a configuration for `lo` with this site's socket and pins.
    pub(crate) fn config(&self) -> PathBuf {
        self.config_with("interfaces = [\"lo\"]", &self.socket(), &self.pin_dir)
    }

    /// Writes a configuration whose first line, socket and pins are given.
    pub(crate) fn config_with(&self, first: &str, socket: &Path, pin_dir: &Path) -> PathBuf {
        let path = self.path("abuser.toml");
        let text = format!(
            "{first}\n[api]\nsocket = \"{}\"\n[xdp]\npin_dir = \"{}\"\n\
             [store]\npath = \"{}\"\n[allow]\nautomatic = false\n\
             [[limit]]\nname = \"flood\"\nrate = \"1000/s\"\n",
            socket.display(),
            pin_dir.display(),
            self.path("abuser.db").display()
        );
        fs::write(&path, text).expect("writing a configuration");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(binary());
        command.args(arguments);
        let mut command = clean(command);
        // It would override the configuration's.
        command.env_remove("ABUSER_SOCKET");
        command
    }

    /// Runs `abuser run -c CONFIG …` to its end.
    #[track_caller]
    pub(crate) fn run(&self, config: &Path, arguments: &[&str]) -> CommandOutput {
        let config = config.to_str().expect("UTF-8");
        finish(&mut self.command(&[&["run", "-c", config], arguments].concat()))
    }

    /// A command `abuser --socket SOCKET …` of a user and his groups, the first one being primary.
    pub(crate) fn command_as(&self, uid: u32, groups: &[u32], arguments: &[&str]) -> Command {
        let binary = self.path("abuser");
        if !binary.exists() {
            // The build folder may be closed to others. Not `fs::copy`: a child that another test
            // starts meanwhile would hold the file open for writing ("text file busy").
            let mut copy = Command::new("cp");
            finish(copy.arg(self::binary()).arg(&binary)).success();
        }
        let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!(
                "--regid={}",
                groups.first().expect("a primary group")
            ))
            .arg(format!("--groups={}", groups.join(",")))
            .arg(&binary)
            .arg("--socket")
            .arg(self.socket())
            .args(arguments);
        clean(command)
    }

    /// Asserts that there is no socket, no pin, and no program on `lo`.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert!(!self.socket().exists(), "a socket was left");
        assert!(!self.pin_dir.exists(), "pins were left");
        assert!(!has_xdp(&self.namespace, "lo"), "a program was left on lo");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _absent = fs::remove_dir_all(&self.pin_dir);
    }
}

/// How many rows a table of a store has that is being written, with its log.
pub(crate) fn written(store: &Path, table: &str) -> Option<u32> {
    let copies = tempfile::tempdir().expect("a folder");
    let copy = copies.path().join("copy.db");
    fs::copy(store, &copy).ok()?;
    fs::copy(
        store.with_extension("db-wal"),
        copy.with_extension("db-wal"),
    )
    .ok()?;
    let database = rusqlite::Connection::open(copy).ok()?;
    let count = format!("SELECT count(*) FROM {table}");
    database.query_row(&count, [], |row| row.get(0)).ok()
}
