//! Lines that other people's programs write: the real journal, the real `logger`, and logs that
//! the real `logrotate` rotates. What is read here is what the daemon reads; no daemon is needed.
//!
//! Journals and logs are in folders and mounts of the test's own. What is not there is not
//! skipped: `cargo xtask doctor --fix` gets it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::UdpSocket,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant, SystemTime},
};

use abuser::{
    sources::{Begin, Handle, JournalConfig, Kind, Line, Listen, Sink, SourceConfig, SyslogConfig},
    store::{Change, PositionRow},
};
use tempfile::TempDir;
use testkit::{
    Mounts, Namespace,
    mounts::mount_empty,
    peers::{self, PEERS},
    require_root,
};

/// What is waited for is there much sooner, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of a line.
struct Came {
    text: String,
    stated: Option<u64>,
    arrived: u64,
    program: Option<String>,
}

/// Hands on what comes.
struct Channel(mpsc::Sender<Came>);

impl Sink for Channel {
    fn line(&mut self, _source: usize, line: Line<'_>) {
        let _gone = self.0.send(Came {
            text: String::from_utf8_lossy(line.bytes).into_owned(),
            stated: line.stated.map(|time| time.0),
            arrived: line.arrived.0,
            program: line.program.map(str::to_owned),
        });
    }

    fn idle(&mut self) {}
}

/// What outlives a reading.
type Kept = Arc<Mutex<Vec<PositionRow>>>;

/// A source that is read.
struct Reading {
    handle: Handle<Channel>,
    lines: mpsc::Receiver<Came>,
}

impl Reading {
    fn start(kind: Kind, begin: Begin, kept: &Kept) -> Self {
        let source = SourceConfig {
            name: "test".to_owned(),
            kind,
            begin,
        };
        source.check().expect("a source");
        let (sender, lines) = mpsc::channel();
        let positions = kept.lock().unwrap().clone();
        let kept = Arc::clone(kept);
        let keep = move |changes: Vec<Change>| {
            let mut kept = kept.lock().unwrap();
            for change in changes {
                match change {
                    Change::Position(row) => {
                        kept.retain(|other| other.key != row.key);
                        kept.push(row);
                    }
                    Change::PositionGone(key) => kept.retain(|other| other.key != key),
                    other => panic!("{other:?} is not about positions"),
                }
            }
        };
        let handle = Handle::start(vec![source], positions, Channel(sender), Box::new(keep));
        let reading = Self {
            handle: handle.expect("a thread"),
            lines,
        };
        let (done, is_done) = mpsc::channel();
        reading.handle.with(move |_| done.send(()).unwrap());
        is_done.recv_timeout(PATIENCE).expect("a source");
        reading
    }

    fn next(&self) -> Came {
        let came = self.lines.recv_timeout(PATIENCE);
        came.unwrap_or_else(|_| panic!("a line; {:?}", self.handle.status()))
    }

    fn expect_no_more(&self) {
        if let Ok(came) = self.lines.recv_timeout(Duration::from_millis(1500)) {
            panic!("{} came again", came.text);
        }
    }
}

/// One of [`PEERS`], without a namespace.
fn command(program: &str) -> Command {
    let peer = PEERS.iter().find(|peer| peer.program == program);
    let peer = peer.expect("a peer");
    let file = peer.find().unwrap_or_else(|| {
        panic!(
            "there is no {program}, of Debian's {}: run `{}`",
            peer.package,
            peers::REMEDY
        )
    });
    Command::new(file)
}

fn logger(arguments: &[&str]) {
    let status = command("logger").args(arguments).status().expect("logger");
    assert!(status.success(), "logger {arguments:?}: {status}");
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A journal daemon on a `/run` of this test's own.
fn journald() -> Running {
    const SOCKET: &str = "/run/systemd/journal/dev-log";
    fs::create_dir_all("/run/systemd/journal").expect("a folder");
    fs::create_dir_all("/run/log/journal").expect("a folder");
    let child = command("/lib/systemd/systemd-journald")
        .spawn()
        .expect("journald");
    let running = Running(child);
    let deadline = Instant::now() + PATIENCE;
    while !Path::new(SOCKET).exists() {
        assert!(Instant::now() < deadline, "the journal does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    running
}

fn journal(text: &str) {
    logger(&[
        "--socket",
        "/run/systemd/journal/dev-log",
        "--tag",
        "sshd",
        "--id=812",
        text,
    ]);
}

#[test]
fn entries_of_the_journal_come_as_syslog_would_write_them_and_each_once() {
    require_root!();
    let mounts = Mounts::new(|| mount_empty("tmpfs", "/run")).expect("mounts");
    mounts.run(|| {
        let _journald = journald();
        let kept = Kept::default();
        let kind = |matches: &[&str], directory: Option<&str>| {
            Kind::Journal(JournalConfig {
                matches: matches.iter().map(|&text| text.to_owned()).collect(),
                directory: directory.map(Into::into),
            })
        };
        let ours = || {
            kind(
                &["SYSLOG_IDENTIFIER=sshd", "+", "SYSLOG_IDENTIFIER=none"],
                None,
            )
        };
        journal("before");
        // An entry of the same second that is not older does not tell the two apart.
        std::thread::sleep(Duration::from_millis(100));
        let reading = Reading::start(ours(), Begin::End, &kept);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let line = |text: &str| format!("{} sshd[812]: {text}", host.trim());
        journal("Failed password for root from 203.0.113.7 port 4 ssh2");
        let came = reading.next();
        assert_eq!(
            came.text,
            line("Failed password for root from 203.0.113.7 port 4 ssh2")
        );
        assert_eq!(came.program.as_deref(), Some("sshd"));
        let stated = came.stated.expect("a time");
        assert!(
            came.arrived.abs_diff(stated) < 5_000,
            "{stated}, {}",
            came.arrived
        );
        logger(&[
            "--socket",
            "/run/systemd/journal/dev-log",
            "--tag",
            "other",
            "not asked for",
        ]);
        journal("two");
        assert_eq!(reading.next().text, line("two"));
        // journalctl dies, and nothing is missed.
        let children = || {
            let listed = Command::new("pgrep")
                .args([
                    "-P",
                    &std::process::id().to_string(),
                    "-f",
                    "SYSLOG_IDENTIFIER=none",
                ])
                .output();
            String::from_utf8(listed.expect("pgrep").stdout).expect("text")
        };
        let child = children();
        assert!(
            Command::new("kill")
                .args(child.split_whitespace())
                .status()
                .expect("kill")
                .success()
        );
        journal("three");
        assert_eq!(reading.next().text, line("three"));
        drop(reading);
        assert_eq!(children(), "");
        journal("while nobody reads");
        let reading = Reading::start(ours(), Begin::End, &kept);
        assert_eq!(reading.next().text, line("while nobody reads"));
        reading.expect_no_more();
        drop(reading);
        // The files of a journal by their folder, from their start, with no match at all.
        let all = Reading::start(
            kind(&[], Some("/run/log/journal")),
            Begin::Start,
            &Kept::default(),
        );
        while all.next().text != line("before") {}
        assert_eq!(
            all.next().text,
            line("Failed password for root from 203.0.113.7 port 4 ssh2")
        );
        let took = (0..50).map(|number| {
            let written = Instant::now();
            journal(&number.to_string());
            while all.next().text != line(&number.to_string()) {}
            written.elapsed()
        });
        let mut took: Vec<_> = took.collect();
        took.sort();
        println!(
            "from `logger` started to line handed on: median {:?}, worst {:?}",
            took[25], took[49]
        );
    });
}

#[test]
fn who_reads_the_journal_has_one_capability_and_no_way_to_more() {
    require_root!();
    let mounts = Mounts::new(|| mount_empty("tmpfs", "/run")).expect("mounts");
    mounts.run(|| {
        let _journald = journald();
        let journals = JournalConfig {
            matches: vec!["SYSLOG_IDENTIFIER=confined".to_owned()],
            directory: None,
        };
        let _reading = Reading::start(Kind::Journal(journals), Begin::End, &Kept::default());
        // Between fork and exec it has this test's name and rights yet.
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            let found = fs::read_dir("/proc").expect("processes").find_map(|entry| {
                let folder = entry.ok()?.path();
                let line = fs::read_to_string(folder.join("cmdline")).ok()?;
                let is_it = line.starts_with("journalctl") && line.contains("=confined");
                is_it.then(|| fs::read_to_string(folder.join("status")).ok())?
            });
            if let Some(found) = found {
                break found;
            }
            assert!(Instant::now() < deadline, "no journalctl");
            std::thread::sleep(Duration::from_millis(10));
        };
        // CAP_DAC_READ_SEARCH is the third.
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000004",
            "CapEff:\t0000000000000004",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "no {line} in {status}");
        }
    });
}

#[test]
fn a_journal_that_is_not_there_is_an_error_that_is_tried_again() {
    require_root!();
    let folder = TempDir::new().expect("a folder");
    let journal = JournalConfig {
        directory: Some(folder.path().join("none")),
        ..JournalConfig::default()
    };
    let reading = Reading::start(Kind::Journal(journal), Begin::End, &Kept::default());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = reading.handle.status().swap_remove(0).error;
        let error = error.unwrap_or_default();
        // What journalctl says may be read a while before it has ended.
        if error.contains("tried again") {
            assert!(error.contains("none"), "{error}");
            break;
        }
        assert!(Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_logger_sends_comes_as_syslogd_would_write_it() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("log.sock");
    let socket = path.to_str().expect("text");
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = port.expect("a port");
    let port = address.port().to_string();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let host = host.trim();
    for (listen, way) in [
        (Listen::Unix(path.clone()), vec!["--socket", socket]),
        (
            Listen::Udp(address),
            vec!["--server", "127.0.0.1", "--udp", "--port", &port],
        ),
    ] {
        let syslog = Kind::Syslog(SyslogConfig {
            listen,
            group: None,
        });
        let reading = Reading::start(syslog, Begin::End, &Kept::default());
        for format in [&[][..], &["--rfc3164"], &["--rfc5424"]] {
            let text = "Failed password: 203.0.113.7 port 4";
            let arguments = [&way[..], format, &["--tag", "sshd", "--id=812", text]].concat();
            let before = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .expect("a time");
            logger(&arguments);
            let came = reading.next();
            assert_eq!(
                came.text,
                format!("{host} sshd[812]: {text}"),
                "{arguments:?}"
            );
            assert_eq!(came.program.as_deref(), Some("sshd"), "{arguments:?}");
            let stated = Duration::from_millis(came.stated.expect("a time"));
            assert!(
                stated.abs_diff(before) < Duration::from_secs(5),
                "{arguments:?}: {stated:?}"
            );
        }
    }
}

/// Has the real logrotate rotate a log, now.
fn rotate(namespace: &Namespace, folder: &Path, rules: &str) {
    let (config, state) = (folder.join("logrotate.conf"), folder.join("state"));
    let log = folder.join("logs/access.log");
    // It takes no rules that others could write, and reports a folder that they could write to.
    fs::write(
        &config,
        format!(
            "{} {{\n su root root\n rotate 50\n missingok\n {rules}\n}}\n",
            log.display()
        ),
    )
    .expect("rules");
    let mut command = peers::command(namespace, "logrotate").expect("logrotate");
    let output = command
        .arg("--force")
        .arg("--state")
        .arg(state)
        .arg(config)
        .output();
    let output = output.expect("logrotate");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn each_line_is_read_once_while_logrotate_rotates_the_log_and_nobody_reads_at_times() {
    require_root!();
    let namespace = Namespace::new().expect("a namespace");
    // What `copytruncate` loses between the copy and the cut is lost to everybody: nothing is written
    // meanwhile.
    let ways = [
        ("create\n nocompress", "access.log"),
        ("create\n compress\n delaycompress", "access.log"),
        ("create\n nocompress", "access.log*"),
        ("create\n dateext\n dateformat -%s", "access.log"),
        (
            "create\n dateext\n dateformat -%s\n extension .log",
            "*.log",
        ),
        ("copytruncate\n nocompress", "access.log"),
        ("copytruncate\n compress\n delaycompress", "access.log*"),
    ];
    for (rules, pattern) in ways {
        let folder = TempDir::new().expect("a folder");
        let log = folder.path().join("logs/access.log");
        fs::create_dir(folder.path().join("logs")).expect("a folder");
        File::create(&log).expect("a log");
        let kept = Kept::default();
        let pattern = folder
            .path()
            .join("logs")
            .join(pattern)
            .display()
            .to_string();
        let start = || Reading::start(Kind::Files(vec![pattern.clone()]), Begin::Start, &kept);
        let open = || OpenOptions::new().append(true).open(&log).expect("a log");
        let mut reading = Some(start());
        let mut writer = open();
        let mut expected = 0;
        for round in 0..6 {
            let write = |writer: &mut File, written: &mut usize| {
                for _ in 0..500 {
                    writeln!(writer, "203.0.113.7 line {written}").expect("writing");
                    *written += 1;
                }
            };
            let mut written = expected;
            if round % 3 == 1 {
                // Nobody reads while it is rotated.
                reading = None;
            }
            write(&mut writer, &mut written);
            rotate(&namespace, folder.path(), rules);
            if rules.contains("create") && !rules.contains("copytruncate") {
                write(&mut writer, &mut written);
                writer = open();
            }
            write(&mut writer, &mut written);
            let reading = reading.get_or_insert_with(start);
            for number in expected..written {
                assert_eq!(
                    reading.next().text,
                    format!("203.0.113.7 line {number}"),
                    "{rules}, {pattern}, round {round}"
                );
            }
            expected = written;
            // Names are made of seconds.
            if rules.contains("%s") {
                std::thread::sleep(Duration::from_millis(1100));
            }
        }
        reading.expect("a reading").expect_no_more();
    }
}
