//! Logs that are written faster than they are read.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{comes_true, require_root};

use super::{DENIED, Logged, append};
use crate::support::{PATIENCE, wait_until};

/// Lines of one writer in one go; a log is rotated after each.
const LINES: usize = 60_000;
/// How often.
const ROUNDS: usize = 4;

/// Writes lines that nobody is denied in, as fast as it goes, and one in the midst that says who is.
fn flood(log: &Path, round: usize, denied: &str) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("the log");
    let some = format!("served 198.51.100.9 /of-round/{round}\n").repeat(1000);
    for part in 0..LINES / 1000 {
        file.write_all(some.as_bytes()).expect("writing");
        if part == LINES / 2000 {
            let line = format!("denied {denied}\n");
            file.write_all(line.as_bytes()).expect("writing");
        }
    }
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn a_log_that_outruns_the_reader_shows_how_far_and_loses_no_line_and_holds_up_nobody() {
    require_root!();
    let logged = Logged::new(&format!(
        "{DENIED}[[source]]\nname = \"quiet\"\nfiles = [\"FOLDER/quiet.log\"]\nparser = \"regex\"\n\
         pattern = '^denied (?<ip>[0-9a-f.:]+)$'\n\
         [[detector]]\nname = \"denied\"\ncount = 1\nwithin = \"10m\"\naction = \"ban\"\n"
    ));
    logged.deny("192.0.2.1", 1);
    let before = resident_kb(logged.daemon.pid());
    let log = logged.log();
    let rotated = log.with_extension("log.2");
    let copied = log.with_extension("log.1");
    let (mut behind, mut most) = (0, 0);
    let mut look = || {
        let source = logged.source();
        behind = behind.max(source["lag_bytes"].as_u64().expect("a number"));
        most = most.max(resident_kb(logged.daemon.pid()));
        source
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..ROUNDS {
                flood(&log, round, &format!("192.0.2.{}", 10 + round));
                match round {
                    // As logrotate does without and with `copytruncate`.
                    0 => fs::rename(&log, &rotated).expect("renaming"),
                    1 => {
                        // What was cut before anybody looked at it is known by nothing.
                        wait_until("the new file is begun with", || {
                            logged.source()["lines"].as_u64() > Some(LINES as u64 + 1000)
                        });
                        fs::copy(&log, &copied).expect("copying");
                        let cut = OpenOptions::new().write(true).truncate(true).open(&log);
                        cut.expect("cutting off");
                    }
                    _ => {}
                }
            }
        });
        while !writer.is_finished() {
            look();
            thread::sleep(Duration::from_millis(2));
        }
    });
    // Far behind, it still hears others, and does as it is told.
    let started = Instant::now();
    append(
        &logged.folder.path().join("quiet.log"),
        "denied 203.0.113.5\n",
    );
    logged
        .daemon
        .abuser(&["ban", "add", "203.0.113.6"])
        .success();
    let is_banned = |source: &str| logged.banned().iter().any(|banned| banned == source);
    wait_until("the quiet source bans, too", || is_banned("203.0.113.5/32"));
    let took = started.elapsed();
    assert!(took < PATIENCE, "{took:?}");

    let lines = (ROUNDS * (LINES + 1) + 1) as u64;
    let mut source = Value::Null;
    let all_are_read = comes_true(Duration::from_secs(60), || {
        source = look();
        source["lines"] == lines
    });
    assert!(all_are_read, "{lines} lines were written: {source:#}");
    assert_eq!(source["lost"], 0, "{source:#}");
    assert_eq!(source["error"], Value::Null, "{source:#}");
    for round in 0..ROUNDS {
        let denied = format!("192.0.2.{}/32", 10 + round);
        wait_until(&denied, || is_banned(&denied));
    }
    assert!(behind > 100_000, "never more than {behind} bytes behind");
    wait_until("nothing is left", || logged.source()["lag_bytes"] == 0);
    assert!(most < before + 65_536, "from {before} to {most} kB");
}
