//! The real daemon in a namespace, and the real command line that talks to it.

use std::{
    fs::{self, File},
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    CommandOutput, LineStream, Mounts, Namespace, abuser_binary, config::with_default, context,
    guest, janitor::Janitor, pause_since, stream,
};

/// How long the daemon may take until it answers.
const START: Duration = Duration::from_secs(60);
/// How long it may take to leave after SIGTERM before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// A running `abuser run` with its own socket, pins and folder.
///
/// Dropping it, also in a panic, ends the daemon and removes all of them; a `kill -9` of
/// this process does too. Keep it on the test's own thread: the daemon is killed when the
/// thread that started it ends.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    binary: PathBuf,
    /// What `abuser run` is told besides the configuration.
    options: Vec<String>,
    namespace: Namespace,
    /// The mounts that the daemon has, if not those of the test.
    mounts: Option<Mounts>,
    socket: PathBuf,
    pin_dir: PathBuf,
    // Fields are dropped in this order: the folder is there until the janitor has gone.
    _janitor: Janitor,
    folder: TempDir,
}

impl Daemon {
    /// Starts the daemon with this configuration and waits until it answers.
    ///
    /// `[api] socket`, `[xdp] pin_dir` and `[store] path` are added with unique values unless
    /// given, and `[allow] automatic = false`.
    ///
    /// # Panics
    /// If the binary is not built, or with the daemon's own words if it does not start.
    #[track_caller]
    pub fn start(namespace: &Namespace, config: &str) -> Self {
        Self::start_with(namespace, config, &[])
    }

    /// [`Daemon::start`] with more options, such as `["--observe"]`.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    #[track_caller]
    pub fn start_with(namespace: &Namespace, config: &str, options: &[&str]) -> Self {
        abuser_binary()
            .and_then(|binary| Self::try_start_with(&binary, namespace, None, config, options))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`Daemon::start`] with mounts of its own, in which the BPF file system can be another one.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    #[track_caller]
    pub fn start_in(namespace: &Namespace, mounts: &Mounts, config: &str) -> Self {
        let mounts = Some(mounts.clone());
        abuser_binary()
            .and_then(|binary| Self::try_start_with(&binary, namespace, mounts, config, &[]))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`Daemon::start`] with a given binary; the error has the daemon's own words.
    pub fn try_start(binary: &Path, namespace: &Namespace, config: &str) -> io::Result<Self> {
        Self::try_start_with(binary, namespace, None, config, &[])
    }

    fn try_start_with(
        binary: &Path,
        namespace: &Namespace,
        mounts: Option<Mounts>,
        config: &str,
        options: &[&str],
    ) -> io::Result<Self> {
        // The BPF file system allows no dots in names; tempfile's suffix is alphanumeric.
        let folder = tempfile::Builder::new().prefix("abuser-test-").tempdir()?;
        let unique = folder.path().file_name().unwrap_or_default();
        let socket = folder.path().join("abuser.sock");
        let pin_dir = Path::new("/sys/fs/bpf").join(unique);

        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let (config, socket) = with_default(config, "api", "socket", &quoted(&socket));
        let (config, pin_dir) = with_default(&config, "xdp", "pin_dir", &quoted(&pin_dir));
        let store = folder.path().join("abuser.db");
        let (config, _) = with_default(&config, "store", "path", &quoted(&store));
        // What this machine's resolvers are is no test's business but that of one that asks.
        let (config, _) = with_default(&config, "allow", "automatic", "false");
        fs::write(folder.path().join("abuser.toml"), config)?;

        let mut daemon = Self {
            child: None,
            binary: binary.to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
            namespace: namespace.clone(),
            mounts,
            socket: socket.into(),
            _janitor: Janitor::hire(&[folder.path(), Path::new(&pin_dir)])?,
            pin_dir: pin_dir.into(),
            folder,
        };
        daemon.try_restart()?;
        Ok(daemon)
    }

    /// Starts the daemon again after [`Daemon::terminate`] or [`Daemon::kill`], with the
    /// configuration that [`Daemon::config_path`] has now.
    ///
    /// # Panics
    /// With the daemon's own words if it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// [`Daemon::restart`] that says what went wrong.
    ///
    /// # Panics
    /// If it is running.
    pub fn try_restart(&mut self) -> io::Result<()> {
        assert!(self.child.is_none(), "the daemon is running");
        let open = |name| File::create(self.folder.path().join(name));
        let child = self
            .starting()
            .stdout(open("stdout")?)
            .stderr(open("stderr")?)
            .spawn()
            .map_err(|error| context(&error, format!("cannot run {}", self.binary.display())))?;
        let child = self.child.insert(child);

        let deadline = Instant::now() + guest::patience(START);
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Err(io::Error::other(format!(
                    "`abuser run` ended with {status}:\n{}",
                    self.stderr()
                )));
            }
            let look = Instant::now();
            // Until it listens, a command would only be in its way.
            let listens = UnixStream::connect(&self.socket).is_ok();
            if listens && query(&self.namespace, &self.binary, &self.socket).success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "`abuser status` had no answer within {START:?}; the daemon said:\n{}",
                    self.stderr()
                )));
            }
            pause_since(look);
        }
    }

    /// What starts it.
    fn starting(&self) -> Command {
        let mut command = self.namespace.command(&self.binary);
        if let Some(mounts) = &self.mounts {
            mounts.enter(&mut command, "/");
        }
        command
            .env_remove("ABUSER_SOCKET")
            .env_remove("RUST_LOG")
            .args(["run", "-c"])
            .arg(self.config_path())
            .args(&self.options)
            .stdin(Stdio::null());
        command
    }

    /// Starts it as [`Daemon::restart`] does, and kills it after so long, whatever it has come to.
    ///
    /// # Panics
    /// If it cannot be run at all.
    pub fn start_and_kill(&self, after: Duration) {
        let mut start = self.starting();
        let mut child = start
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        thread::sleep(after);
        child.kill().expect("killing our own child");
        child.wait().expect("waiting for our own child");
    }

    /// A command `abuser --socket SOCKET …` in the daemon's namespace, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.binary);
        command
            .arg("--socket")
            .arg(&self.socket)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command such as `["ban", "add", "192.0.2.1"]` to its end.
    ///
    /// # Panics
    /// If it cannot be run at all.
    pub fn abuser(&self, arguments: &[&str]) -> CommandOutput {
        let output = self
            .command(arguments)
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        CommandOutput::new(format!("abuser {}", arguments.join(" ")), &output)
    }

    /// Runs a command with `--json` and reads what it printed.
    ///
    /// # Panics
    /// If its exit status is not 0 or it did not print JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.try_json(arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`Daemon::json`] that says what went wrong.
    pub fn try_json(&self, arguments: &[&str]) -> io::Result<Value> {
        let output = self.abuser(&[arguments, &["--json"]].concat());
        if !output.status.success() {
            return Err(io::Error::other(output.to_string()));
        }
        serde_json::from_str(&output.stdout)
            .map_err(|error| io::Error::other(format!("this is not JSON: {error}\n{output}")))
    }

    /// Starts a command that goes on, such as `["events", "--json"]`.
    ///
    /// # Panics
    /// If it cannot be run at all.
    pub fn stream(&self, arguments: &[&str]) -> LineStream {
        LineStream::start(self.command(arguments))
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()))
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon was stopped").id()
    }

    /// Asks the daemon to leave (SIGTERM) and waits; kills it if it does not within 5 s.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn terminate(&mut self) -> ExitStatus {
        self.terminate_within(guest::patience(STOP))
    }

    /// [`Daemon::terminate`] that waits for so long before it kills.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn terminate_within(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon was stopped before");
        stream::stop(&mut child, Signal::SIGTERM, patience).expect("stopping our own child")
    }

    /// Kills the daemon (SIGKILL) and waits. What it pinned goes on working.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn kill(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon was stopped before");
        child.kill().expect("killing our own child");
        child.wait().expect("waiting for our own child")
    }

    /// Sends any other signal, such as SIGHUP.
    ///
    /// # Panics
    /// If it was stopped before.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the daemon was stopped before");
        stream::send(child, signal).expect("signalling our own child");
    }

    /// What the daemon wrote to standard error since its last start.
    pub fn stderr(&self) -> String {
        self.output("stderr")
    }

    /// What the daemon wrote to standard output since its last start.
    pub fn stdout(&self) -> String {
        self.output("stdout")
    }

    /// The API's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where the daemon pins its maps and links.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// The configuration file; a test may change it and restart or reload.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("abuser.toml")
    }

    /// Where the daemon keeps what outlives it, unless the configuration says otherwise.
    pub fn store_path(&self) -> PathBuf {
        self.folder.path().join("abuser.db")
    }

    fn output(&self, name: &str) -> String {
        fs::read(self.folder.path().join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = stream::stop(&mut child, Signal::SIGTERM, guest::patience(STOP));
        }
        if thread::panicking() {
            eprintln!("--- the daemon's stderr\n{}---", self.stderr());
        }
        // A clean exit has removed it; a killed daemon's pins keep its program attached.
        let _absent = fs::remove_dir_all(&self.pin_dir);
    }
}

/// Whether the daemon answers.
fn query(namespace: &Namespace, binary: &Path, socket: &Path) -> ExitStatus {
    namespace
        .command(binary)
        .arg("--socket")
        .arg(socket)
        .args(["status", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap_or_default()
}
