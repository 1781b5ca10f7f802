//! The view in a terminal, over a real daemon: what is seen, and what keys do.

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Daemon, require_root};

use super::{CONFIG, screen::Screen, send};
use crate::support::{daemon_on_lo, wait_until};

/// The view of a daemon.
fn watch(daemon: &Daemon) -> Screen {
    watch_with(daemon, &[])
}

fn watch_with(daemon: &Daemon, environment: &[(&str, &str)]) -> Screen {
    let mut command = daemon.command(&["top", "--interval", "200ms"]);
    command.envs(environment.iter().copied());
    let screen = Screen::run(command, 24, 80);
    screen.wait_for("lo (");
    screen
}

/// Bans all of these.
fn import(daemon: &Daemon, sources: impl Iterator<Item = String>) {
    let list: Vec<_> = sources.collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), list.join("\n")).expect("writing a list");
    let path = file.path().to_str().expect("UTF-8");
    daemon.abuser(&["ban", "import", path]).success();
}

/// Something that is done to the view.
type Act = fn(&mut Screen);

fn bans(daemon: &Daemon) -> Vec<Value> {
    let bans = daemon.json(&["ban", "list"]);
    bans.as_array().expect("a list").clone()
}

#[test]
fn who_is_dropped_is_seen_and_banned_and_let_go_by_keys() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    let mut screen = watch(&daemon);
    send(&namespace, "127.0.0.66", 200);
    screen.wait("who is over the limit", |lines| {
        let row = lines.iter().find(|line| line.starts_with("127.0.0.66 "));
        row.is_some_and(|row| row.contains("over limit") && row.contains("100% tight"))
    });
    screen.press("b");
    screen.wait_for("ban: 127.0.0.66");
    screen.press("1x\r");
    screen.wait_for("unit of time");
    assert!(bans(&daemon).is_empty(), "what cannot be read bans nobody");
    screen.press("\u{7f}h\r");
    screen.wait_for("banned 127.0.0.66 for 1h");
    let made = bans(&daemon);
    assert_eq!(made[0]["source"], "127.0.0.66/32");
    assert_eq!(made[0]["reason"], "abuser top");
    assert!(
        made[0]["remaining_seconds"].as_u64() > Some(3500),
        "{made:?}"
    );
    screen.wait("the row says so", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("127.0.0.66 ") && line.contains("ban 59m"))
    });
    screen.press("2");
    screen.wait_for("abuser top (root)");
    screen.press("u");
    screen.wait_for("Lift the ban of 127.0.0.66? (y, n)");
    screen.press("n");
    screen.wait_for("nothing was changed");
    assert_eq!(bans(&daemon).len(), 1);
    screen.press("uy");
    screen.wait_for("unbanned 127.0.0.66");
    assert!(bans(&daemon).is_empty());
    screen.wait_for("nobody is banned");
    screen.press("5");
    screen.wait("both are told as events", |lines| {
        let of = |kind: &str| {
            lines
                .iter()
                .any(|line| line.contains(kind) && line.contains("127.0.0.66"))
        };
        of(" ban ") && of(" unban ")
    });
}

#[test]
fn keys_allow_and_observe_and_explain() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    let mut screen = watch(&daemon);
    send(&namespace, "127.0.0.66", 200);
    screen.wait_for("127.0.0.66 ");
    let allowed = || {
        daemon
            .json(&["allow", "list"])
            .as_array()
            .expect("a list")
            .len()
    };
    screen.press("a");
    screen.wait_for("Allow 127.0.0.66, so that it is never dropped? (y, n)");
    assert_eq!(allowed(), 0);
    screen.press("y");
    screen.wait_for("allowed 127.0.0.66");
    assert_eq!(allowed(), 1);
    screen.wait("the row says so", |lines| {
        lines
            .iter()
            .any(|line| line.starts_with("127.0.0.66 ") && line.contains(" allowed "))
    });
    screen.press("a");
    screen.wait_for("off the allow list?");
    screen.press("y");
    screen.wait_for("is no longer allowed");
    assert_eq!(allowed(), 0);
    screen.press("\r");
    screen.wait_for("127.0.0.66 is dropped for now: it is over a limit");
    screen.press("\u{1b}");
    screen.wait_gone("is dropped for now");
    screen.press("o");
    screen.wait_for("DROP NOTHING");
    screen.press("y");
    screen.wait_for(" OBSERVES ");
    assert_eq!(daemon.json(&["status"])["observe"], true);
    screen.press("oy");
    screen.wait_gone(" OBSERVES ");
    assert_eq!(daemon.json(&["status"])["observe"], false);
    // What the daemon refuses is said, and ends nothing.
    screen.press("b");
    screen.wait_for("ban: ");
    screen.press("\u{15}10.0.0.0/8\r");
    screen.wait_for("wider than");
    assert!(bans(&daemon).is_empty());
}

#[test]
fn what_is_seen_is_filtered_sorted_and_held() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    for (host, count) in [(1, 4), (2, 8), (3, 6)] {
        send(&namespace, &format!("127.0.9.{host}"), count);
    }
    let mut screen = watch(&daemon);
    let order = |lines: &[String]| -> String {
        let rows = lines.iter().filter(|line| line.starts_with("127.0.9."));
        rows.filter_map(|line| line.chars().nth(8)).collect()
    };
    screen.wait("the fullest bucket first", |lines| order(lines) == "231");
    screen.press("s");
    screen.wait("by source", |lines| order(lines) == "123");
    screen.press("r");
    screen.wait("the other way round", |lines| order(lines) == "321");
    screen.press("/9.2");
    screen.wait("as it is typed", |lines| order(lines) == "2");
    screen.press("\r");
    screen.wait_for("only 9.2");
    screen.press("\u{1b}");
    screen.wait("all again", |lines| order(lines) == "321");
    screen.press("p");
    screen.wait_for(" PAUSED ");
    send(&namespace, "127.0.9.4", 9);
    // It has been asked several times by now, if it were.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(order(&screen.lines()), "321");
    screen.press(" ");
    screen.wait("it goes on", |lines| order(lines) == "4321");
    screen.press("?");
    screen.wait_for("any key closes this");
    screen.press("x");
    screen.wait_gone("any key closes this");
}

#[test]
fn an_address_finds_its_bans_however_many_there_are() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    import(
        &daemon,
        (0..600).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)),
    );
    let mut screen = watch(&daemon);
    screen.press("2");
    screen.wait_for("400 more bans");
    screen.press("/10.2.77.9\r");
    screen.wait("the ban that holds for it", |lines| {
        lines.iter().any(|line| line.starts_with("10.2.77.0/24 "))
    });
}

#[test]
fn words_of_others_do_not_reach_the_terminal_as_commands() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    let reason = "\u{1b}[2J\u{1b}]0;mine\u{7}\u{9b}7m\u{202e}\u{4f60}\u{597d}";
    daemon
        .abuser(&["ban", "add", "192.0.2.66", "--reason", reason])
        .success();
    let mut screen = watch(&daemon);
    screen.press("2");
    screen.wait_for("192.0.2.66");
    screen.wait_for("\\u{1b}[2J");
    screen.press("\r");
    screen.wait_for("192.0.2.66 is dropped: it is banned");
    screen.wait_for("\u{4f60}\u{597d}");
}

#[test]
fn without_colours_there_are_none_and_words_say_all() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    send(&namespace, "127.0.0.66", 200);
    let coloured = |screen: &Screen| {
        screen.wait_for("over limit");
        screen.look(|screen| {
            let cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
            let mut cells = cells.filter_map(|(row, column)| screen.cell(row, column));
            cells.any(|cell| {
                (cell.fgcolor(), cell.bgcolor()) != (vt100::Color::Default, vt100::Color::Default)
            })
        })
    };
    assert!(coloured(&watch(&daemon)), "or this test shows nothing");
    assert!(!coloured(&watch_with(&daemon, &[("NO_COLOR", "1")])));
    assert!(!coloured(&watch_with(&daemon, &[("TERM", "vt100")])));
    let ascii = watch_with(&daemon, &[("LC_ALL", "C")]);
    ascii.wait_for("over limit");
    assert!(
        ascii.lines().iter().all(|line| line.is_ascii()),
        "{:?}",
        ascii.lines()
    );
}

#[test]
fn another_size_is_another_view() {
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    send(&namespace, "127.0.0.66", 200);
    let mut screen = watch(&daemon);
    screen.wait_for("over limit");
    screen.resize(40, 120);
    screen.wait("all panes", |lines| {
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        ["SOURCE", "LIMIT", "REASON", "DETECTOR", "EVENT"]
            .into_iter()
            .all(has)
            && lines.len() == 40
            && lines[39].starts_with("b ban")
    });
    screen.resize(10, 30);
    screen.wait_for("abuser top needs");
    screen.resize(24, 80);
    screen.wait("as before", |lines| {
        lines[23].starts_with("b ban") && lines[9].starts_with("SOURCE")
    });
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    let ends: [(&str, Act); 5] = [
        ("q", |screen| screen.press("q")),
        ("Ctrl-C", |screen| screen.press("\u{3}")),
        ("SIGTERM", |screen| screen.signal(Signal::SIGTERM)),
        ("SIGHUP", |screen| screen.signal(Signal::SIGHUP)),
        ("SIGINT", |screen| screen.signal(Signal::SIGINT)),
    ];
    for (name, end) in ends {
        let mut screen = watch(&daemon);
        assert!(
            screen.look(vt100::Screen::alternate_screen),
            "or this test shows nothing"
        );
        end(&mut screen);
        assert!(screen.ended().success(), "{name}");
        screen.assert_restored();
    }
}

#[test]
fn it_lets_the_shell_have_the_terminal_and_comes_back() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    let mut screen = watch(&daemon);
    let is_stopped = |screen: &Screen| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", screen.pid())).expect("its state");
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        state.starts_with('T')
    };
    let suspends: [Act; 2] = [
        |screen| screen.press("\u{1a}"),
        |screen| screen.signal(Signal::SIGTSTP),
    ];
    for suspend in suspends {
        suspend(&mut screen);
        wait_until("it has stopped", || is_stopped(&screen));
        screen.assert_restored();
        screen.signal(Signal::SIGCONT);
        screen.wait_for("lo (");
        assert!(screen.look(vt100::Screen::alternate_screen));
        screen.press("?");
        screen.wait_for("any key closes this");
        screen.press("?");
        screen.wait_gone("any key closes this");
    }
}

#[test]
fn a_daemon_that_goes_away_is_missed_and_found_again() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo(CONFIG);
    let mut screen = watch(&daemon);
    daemon.kill();
    screen.wait_for(" NO ANSWER for ");
    screen.press("o");
    screen.wait_for("DROP NOTHING");
    screen.press("y");
    screen.wait_for("no abuser runs here");
    daemon.restart();
    screen.wait_gone(" NO ANSWER for ");
    screen.wait_for("lo (");
    daemon.abuser(&["ban", "add", "192.0.2.1"]).success();
    screen.press("2");
    screen.wait_for("192.0.2.1 ");
    // Events are followed again, too.
    screen.press("5");
    wait_until("an event is seen", || {
        daemon.abuser(&["ban", "add", "192.0.2.2"]).success();
        screen
            .lines()
            .iter()
            .any(|line| line.contains(" ban ") && line.contains("192.0.2.2"))
    });
    daemon.kill();
    screen.wait_for(" NO ANSWER for ");
    screen.press("q");
    assert!(screen.ended().success());
    screen.assert_restored();
}

#[test]
fn without_a_daemon_or_a_terminal_it_does_not_begin() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(CONFIG);
    send(&namespace, "127.0.0.66", 200);
    wait_until("it is told of", || {
        let said = daemon.abuser(&["top"]).success();
        let mut rows = said.stdout.lines();
        rows.any(|row| row.starts_with("127.0.0.66\tover limit\t"))
    });
    let snapshot = daemon.json(&["top"]);
    crate::support::assert_keys(&snapshot, &["status", "limits", "top", "bans", "detection"]);
    let command = daemon.command(&["top"]);
    daemon.kill();
    let mut screen = Screen::run(command, 24, 80);
    assert_eq!(screen.ended().code(), Some(1));
    screen.wait_for("no abuser runs here");
    screen.assert_restored();
}

#[test]
fn on_a_terminal_that_cannot_be_drawn_on_it_is_told_once() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(CONFIG);
    for term in [Some("dumb"), Some(""), None] {
        let mut command = daemon.command(&["top"]);
        match term {
            Some(term) => command.env("TERM", term),
            None => command.env_remove("TERM"),
        };
        let mut screen = Screen::run(command, 24, 100);
        assert!(screen.ended().success(), "{term:?}");
        screen.wait_for("this is told once");
        screen.wait_for("SOURCE");
        screen.assert_restored();
    }
}

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = fields
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // Fields 14 and 15; the state, which is no number, is the third.
    let ticks = fields[10] + fields[11];
    // SAFETY: it only asks.
    let a_second = unsafe { nix::libc::sysconf(nix::libc::_SC_CLK_TCK) };
    ticks / f64::from(i32::try_from(a_second).expect("a hundred"))
}

#[test]
fn watching_costs_next_to_nothing() {
    /// What is measured, in seconds.
    const TIME: u64 = 10;
    require_root!();
    let (namespace, daemon) = daemon_on_lo(CONFIG);
    import(
        &daemon,
        (0..10_000).map(|n| format!("10.{}.{}.1", n / 250, n % 250)),
    );
    for host in 1..=60 {
        send(&namespace, &format!("127.0.8.{host}"), 30);
    }
    let screen = Screen::run(daemon.command(&["top"]), 40, 120);
    screen.wait_for("9 800 more bans");
    let before = (cpu(screen.pid()), cpu(daemon.pid()));
    thread::sleep(Duration::from_secs(TIME));
    let spent = cpu(screen.pid()) - before.0;
    let of_daemon = cpu(daemon.pid()) - before.1;
    let share = |seconds: f64| seconds / Duration::from_secs(TIME).as_secs_f64() * 100.0;
    println!(
        "of a core: the view {:.2}%, the daemon {:.2}%",
        share(spent),
        share(of_daemon)
    );
    // A build for release takes a fraction of that.
    assert!(
        share(spent) < 5.0,
        "the view takes {:.1}% of a core",
        share(spent)
    );
}
