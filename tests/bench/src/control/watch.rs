//! `abuser top` in a terminal: how much of a core it takes while somebody watches, and what it asks of the
//! daemon.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::pty::{OpenptyResult, Winsize, openpty};
use testkit::{Daemon, Namespace, traffic::send_udp};

use super::process::Process;
use crate::scenario::Measured;

/// How long it is watched, and how long the daemon is measured without that.
const TIME: Duration = Duration::from_secs(20);
/// How long the first drawings take at most, which are not measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// The bans of which it shows the first.
const BANS: u32 = 10_000;
/// Who is over the limit, and shown, too.
const ABUSERS: u8 = 60;
/// Lines and columns: several panes at once.
const SIZE: (u16, u16) = (40, 120);

/// A limit that few datagrams are over.
const CONFIG: &str = r#"
interfaces = ["lo"]
[[limit]]
name = "tight"
protocol = "udp"
ports = [9]
rate = "1/h"
burst = 9
[ban]
require_verified = false
maxretry = 1000
"#;

/// `top` that is ended when nobody looks any more.
struct Watcher {
    child: Child,
    /// What it has written, in bytes.
    written: Arc<AtomicU64>,
}

/// Watches for a while.
pub(super) fn measure() -> Result<Measured> {
    let namespace = Namespace::new()?;
    let binary = testkit::abuser_binary()?;
    let daemon = Daemon::try_start(&binary, &namespace, CONFIG).context("start abuser for top")?;
    import(&daemon)?;
    for host in 1..=ABUSERS {
        let source = IpAddr::from(Ipv4Addr::new(127, 0, 8, host));
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        send_udp(&namespace, source, target, 1000.0, 30)?;
    }
    thread::sleep(WARM_UP);
    let process = Process(daemon.pid());
    let rest = share_of(process)?;
    let watcher = Watcher::start(&daemon)?;
    thread::sleep(WARM_UP);
    let drawn = watcher.written();
    ensure!(drawn > 0, "`abuser top` draws nothing");
    let top = Process(watcher.child.id());
    let begun = Instant::now();
    let before = [top.cpu_seconds()?, process.cpu_seconds()?];
    thread::sleep(TIME);
    let after = [top.cpu_seconds()?, process.cpu_seconds()?];
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(
        watcher.written() > drawn,
        "`abuser top` has stopped drawing"
    );
    let percent = |number: usize| (after[number] - before[number]) / seconds * 100.0;
    Ok(Measured {
        value: percent(0),
        reference: None,
        also: vec![
            ("daemon_percent", percent(1)),
            ("daemon_rest_percent", rest),
        ],
        ..Measured::default()
    })
}

/// Hundredths of a core that a process takes.
fn share_of(process: Process) -> Result<f64> {
    let (begun, before) = (Instant::now(), process.cpu_seconds()?);
    thread::sleep(TIME);
    Ok((process.cpu_seconds()? - before) / begun.elapsed().as_secs_f64() * 100.0)
}

fn import(daemon: &Daemon) -> Result<()> {
    let mut list = String::new();
    for number in 0..BANS {
        writeln!(list, "10.{}.{}.1", number / 250, number % 250)?;
    }
    let path = daemon.config_path().with_file_name("list.txt");
    fs::write(&path, list).with_context(|| format!("write {}", path.display()))?;
    let arguments = ["ban", "import", "--for", "1d", &path.display().to_string()];
    let output = daemon.command(&arguments).output();
    let output = output.context("run `abuser ban import`")?;
    ensure!(
        output.status.success(),
        "`abuser ban import` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

impl Watcher {
    fn start(daemon: &Daemon) -> Result<Self> {
        let (ws_row, ws_col) = SIZE;
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } =
            openpty(Some(&size), None).context("open a pseudo-terminal")?;
        let end = || slave.try_clone().map(Stdio::from);
        let mut command = daemon.command(&["top"]);
        command
            .env("TERM", "xterm-256color")
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?);
        let child = command.spawn().context("run `abuser top`")?;
        let written = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&written);
        thread::spawn(move || {
            // A terminal that shows nothing reads all the same; it ends with the program.
            let mut terminal = File::from(master);
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = terminal.read(&mut bytes) {
                count.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { child, written })
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
