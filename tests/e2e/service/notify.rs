//! What the service manager hears, with the test in its place.

use std::{
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::require_root;

use crate::support::{PATIENCE, Site, finish, wait_until};

/// After how long the manager takes a daemon for stuck; it says that it works twice as often.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A daemon that has this test as its service manager.
struct Supervised {
    site: Site,
    daemon: Child,
    manager: UnixDatagram,
}

impl Supervised {
    fn start() -> Self {
        let site = Site::new();
        let path = site.path("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        manager.set_read_timeout(Some(PATIENCE)).expect("a time");
        let config = site.config();
        let daemon = site
            .command(&["run", "-c", config.to_str().expect("UTF-8")])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("abuser");
        Self {
            site,
            daemon,
            manager,
        }
    }

    /// The next message.
    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message that does not only say that it works.
    fn hear_news(&self) -> String {
        loop {
            let message = self.hear();
            if !message.starts_with("WATCHDOG=1\n") {
                return message;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.daemon.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signalling our own child");
    }

    fn abuser(&self, arguments: &[&str]) -> testkit::CommandOutput {
        let socket = self.site.socket();
        let socket = ["--socket", socket.to_str().expect("UTF-8")];
        finish(&mut self.site.command(&[&socket, arguments].concat()))
    }

    fn end(mut self) {
        self.signal(Signal::SIGTERM);
        wait_until("the daemon to end", || {
            self.daemon.try_wait().expect("our own child").is_some()
        });
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ended = self.daemon.kill();
        let _reaped = self.daemon.wait();
    }
}

#[test]
fn the_manager_hears_of_a_start_that_is_done_of_life_of_reloads_and_of_the_end() {
    require_root!();
    let supervised = Supervised::start();
    let ready = supervised.hear();
    assert_eq!(ready, "READY=1\nSTATUS=protecting lo (generic), 0 bans\n");
    // Ready means that it listens.
    supervised
        .abuser(&["ban", "add", "203.0.113.7", "--for", "1h"])
        .success();
    let alive = supervised.hear();
    assert!(
        alive.starts_with("WATCHDOG=1\nSTATUS=protecting lo (generic), "),
        "{alive}"
    );
    let deadline = Instant::now() + PATIENCE;
    while supervised.hear() != "WATCHDOG=1\nSTATUS=protecting lo (generic), 1 ban\n" {
        assert!(Instant::now() < deadline, "the ban is not told of");
    }

    supervised.signal(Signal::SIGHUP);
    assert_reloads(&supervised);
    supervised.abuser(&["reload"]).success();
    assert_reloads(&supervised);
    // A configuration that is refused is read, too, and then the daemon is as ready as before.
    std::fs::write(supervised.site.path("abuser.toml"), "nonsense = 1\n").expect("writing");
    supervised.abuser(&["reload"]).exits(2);
    assert_reloads(&supervised);

    supervised.signal(Signal::SIGTERM);
    assert_eq!(supervised.hear_news(), "STOPPING=1\n");
    supervised.end();
}

#[track_caller]
fn assert_reloads(supervised: &Supervised) {
    let reloading = supervised.hear_news();
    let since = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap_or_else(|| panic!("{reloading}"));
    assert!(since.trim_end().parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(supervised.hear_news(), "READY=1\n");
}

#[test]
fn an_engine_that_stands_still_is_not_said_to_work() {
    require_root!();
    let supervised = Supervised::start();
    supervised.hear();
    for _ in 0..3 {
        assert!(supervised.hear().starts_with("WATCHDOG=1\n"));
    }
    supervised.signal(Signal::SIGSTOP);
    // What was under way when it was stopped.
    supervised
        .manager
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a time");
    while supervised.manager.recv(&mut [0; 4096]).is_ok() {}
    supervised
        .manager
        .set_read_timeout(Some(WATCHDOG * 3))
        .expect("a time");
    let heard = supervised.manager.recv(&mut [0; 4096]);
    assert!(heard.is_err(), "it says that it works while it does not");
    supervised
        .manager
        .set_read_timeout(Some(PATIENCE))
        .expect("a time");
    supervised.signal(Signal::SIGCONT);
    assert!(supervised.hear().starts_with("WATCHDOG=1\n"));
    supervised.end();
}

#[test]
fn a_manager_that_does_not_listen_holds_up_nobody() {
    require_root!();
    let supervised = Supervised::start();
    supervised.hear();
    // So many messages wait at most; the daemon's own come on top.
    let full = UnixDatagram::unbound().expect("a socket");
    full.set_nonblocking(true).expect("no waiting");
    let path = supervised.site.path("notify");
    while full.send_to(b"X=1", &path).is_ok() {}
    for n in 1..=80 {
        supervised.abuser(&["reload"]).success();
        if n % 20 == 0 {
            supervised
                .abuser(&["ban", "add", &format!("203.0.113.{n}")])
                .success();
        }
    }
    supervised.end();
}
