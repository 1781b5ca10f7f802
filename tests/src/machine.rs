//! A Debian of one's own with systemd as its first process: what a service meets on a real host, in
//! namespaces, on a file system that is thrown away.
//!
//! `cargo xtask test` makes the tree that it starts from, [`tree`], once. What is written inside goes
//! to memory; its BPF file system, its network and its processes are its own, and go with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{CommandOutput, Namespace, context, peers};

/// How long it may take to come up: seconds, on a machine that has nothing else to do.
const BOOT: Duration = Duration::from_secs(120);

/// Makes the mounts and becomes systemd: `$1` is the tree, `$2` an empty folder.
const INIT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=700 bpf sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/outside
pivot_root . run/outside
umount -l /run/outside
exec env -i container=abuser-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"#;

/// The tree of a small Debian with systemd.
pub fn tree() -> PathBuf {
    peers::target().join("debian12")
}

/// A running machine; dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    /// `unshare`, whose end is the end of all that is inside.
    outside: Child,
    /// The first process inside, as it is numbered here.
    init: u32,
    cgroup: PathBuf,
    folder: TempDir,
}

impl Machine {
    /// Starts it in a network namespace, and waits until all is started that it starts by itself.
    ///
    /// # Panics
    /// With what it said, if it does not come up.
    #[track_caller]
    pub fn boot(namespace: &Namespace) -> Self {
        Self::try_boot(namespace).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_boot(namespace: &Namespace) -> io::Result<Self> {
        let tree = tree();
        if !tree.join("lib/systemd/systemd").exists() {
            let missing = format!("{} is not there; run `{}`", tree.display(), peers::REMEDY);
            return Err(io::Error::new(io::ErrorKind::NotFound, missing));
        }
        let folder = tempfile::Builder::new().prefix("abuser-test-").tempdir()?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        let cgroup = cgroups()?.join(folder.path().file_name().unwrap_or_default());
        fs::create_dir(&cgroup)
            .map_err(|error| context(&error, format!("cannot make {}", cgroup.display())))?;
        let log = fs::File::create(folder.path().join("log"))?;
        // In a control group of its own, of which systemd makes its tree.
        let enter = r#"echo $$ > "$1/cgroup.procs"; shift; exec "$@""#;
        let outside = namespace
            .command("sh")
            .args(["-c", enter, "sh"])
            .arg(&cgroup)
            .args(["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc"])
            .args(["--cgroup", "--kill-child=SIGKILL", "sh", "-c", INIT, "sh"])
            .args([&tree, &root])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut machine = Self {
            outside,
            init: 0,
            cgroup,
            folder,
        };
        machine.wait()?;
        Ok(machine)
    }

    fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + BOOT;
        loop {
            if let Some(status) = self.outside.try_wait()? {
                return Err(self.failed(&format!("it ended with {status}")));
            }
            if let Some(init) = self.first_process() {
                self.init = init;
                let state = self.run("systemctl is-system-running");
                if ["running\n", "degraded\n"].contains(&&*state.stdout) {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("it is not up after {BOOT:?}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The child of `unshare`, once it is systemd.
    fn first_process(&self) -> Option<u32> {
        let outside = self.outside.id();
        let children = format!("/proc/{outside}/task/{outside}/children");
        let init = fs::read_to_string(children).ok()?;
        let init = init.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name == "systemd\n").then_some(init)
    }

    fn failed(&self, why: &str) -> io::Error {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        io::Error::other(format!("no machine: {why}; it said:\n{log}"))
    }

    /// A command that runs inside, with nothing of this environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(["--all", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of shell inside to its end.
    ///
    /// # Panics
    /// If it cannot be run at all.
    pub fn run(&self, line: &str) -> CommandOutput {
        CommandOutput::of(self.command("sh").args(["-c", line]))
    }

    /// What a path inside is called here.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.init.to_string())
            .join("root")
            .join(path.trim_start_matches('/'))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() && self.init != 0 {
            let log = self.run("journalctl --no-pager -n 100 -o short-monotonic");
            eprintln!("--- the machine's journal\n{}---", log.stdout);
        }
        let _dead = self.outside.kill();
        let _reaped = self.outside.wait();
        // It takes a moment until the last process has left.
        for _ in 0..100 {
            if remove_groups(&self.cgroup).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where the kernel's control groups of version 2 are.
fn cgroups() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut places = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    places.next().ok_or_else(|| {
        let missing = "no cgroup2 is mounted, which systemd needs: mount -t cgroup2 cgroup2 FOLDER";
        io::Error::new(io::ErrorKind::NotFound, missing)
    })
}

/// Removes a control group and those in it: the files in them go along.
fn remove_groups(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
