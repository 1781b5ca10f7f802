//! Programs that are run: what they are given, and what becomes of those that fail.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use testkit::require_root;

use super::{Site, addresses, ban, list, status, text, wait_for};
use crate::support::{parse, wait_until};

/// Runs `FOLDER/hook` for each ban.
const HOOK: &str = "[[notify]]\nname = \"hook\"\ncommand = [\"FOLDER/hook\", \"$(touch FOLDER/argument)\", \"two words\"]\n";

/// What a program was given as its environment.
fn environment(path: &Path) -> BTreeMap<String, String> {
    let bytes = fs::read(path).expect("what it wrote");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let pairs = text.split_terminator('\0').map(|pair| {
        let (name, value) = pair.split_once('=').expect("a pair");
        (name.to_owned(), value.to_owned())
    });
    pairs.collect()
}

#[test]
fn a_hostile_reason_is_passed_as_it_is_and_nothing_of_it_is_run() {
    require_root!();
    let site = Site::new();
    site.write(
        "hook",
        &site.placed(
            "#!/bin/sh\ncat /proc/self/environ > FOLDER/environ\nprintf '%s\\n' \"$@\" > FOLDER/arguments\n\
             ls -l /proc/self/fd > FOLDER/fds\ncat > FOLDER/stdin\npwd > FOLDER/done.new\n\
             mv FOLDER/done.new FOLDER/done\n",
        ),
    );
    let daemon = site.daemon(HOOK);
    let touched = site.path("touched").display().to_string();
    let hostile =
        format!("a\"'; touch {touched} #`touch {touched}`$(touch {touched})\n| touch {touched} \\");
    let banned = daemon.abuser(&[
        "ban",
        "add",
        "192.0.2.7",
        "--for",
        "1h",
        "--reason",
        &hostile,
    ]);
    banned.success();
    wait_for(&daemon, "hook", "run", |status| status["sent"] == 1);

    let environ = environment(&site.path("environ"));
    assert_eq!(environ["ABUSER_REASON"], hostile);
    assert_eq!(environ["ABUSER_KIND"], "ban");
    assert_eq!(environ["ABUSER_SOURCE"], "192.0.2.7/32");
    assert_eq!(environ["ABUSER_CAUSE"], "manual");
    assert_eq!(environ["ABUSER_BAN"], "1");
    assert_eq!(environ["ABUSER_POLICY"], "");
    assert_eq!(environ["ABUSER_TEST"], "false");
    let ban = &daemon.json(&["ban", "list"])[0];
    assert_eq!(
        environ["ABUSER_EXPIRES"].as_str(),
        ban["expires"].as_str().expect("an end")
    );
    // Nothing of the daemon's; a shell adds some of its own.
    let foreign: Vec<_> = environ
        .keys()
        .filter(|name| !name.starts_with("ABUSER_"))
        .filter(|name| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str()))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let given = fs::read_to_string(site.path("stdin")).expect("what it read");
    assert_eq!(given.matches('\n').count(), 1, "{given}");
    let given = parse(&given);
    assert_eq!(given["events"][0]["reason"], hostile.as_str());
    let arguments = fs::read_to_string(site.path("arguments")).expect("what it wrote");
    assert_eq!(
        arguments,
        site.placed("$(touch FOLDER/argument)\ntwo words\n")
    );
    assert!(!site.path("touched").exists(), "a reason was run");
    assert!(!site.path("argument").exists(), "an argument was run");
    assert_eq!(
        fs::read_to_string(site.path("done")).expect("it is done"),
        "/\n"
    );

    // No map, no socket, no database: three pipes and files of `ls`' own.
    let descriptors = fs::read_to_string(site.path("fds")).expect("what it wrote");
    let open = descriptors.lines().filter_map(|line| {
        let (left, target) = line.split_once(" -> ")?;
        Some((left.rsplit(' ').next().expect("a number"), target))
    });
    let foreign: Vec<_> = open
        .filter(|(number, target)| {
            let is_own = ["0", "1", "2"].contains(number) || target.starts_with("/proc/");
            !is_own && !is_handed_down(number, target)
        })
        .collect();
    assert!(foreign.is_empty(), "{descriptors}");
}

/// Whether this process has that open, too: then whoever runs the tests has handed it down to all.
fn is_handed_down(number: &str, target: &str) -> bool {
    let ours = fs::read_link(format!("/proc/self/fd/{number}"));
    ours.is_ok_and(|ours| ours == Path::new(target))
}

#[test]
fn one_that_hangs_is_killed_with_all_that_it_started() {
    require_root!();
    let site = Site::new();
    site.write(
        "hook",
        &site.placed(
            "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $! > FOLDER/child.new\n\
             mv FOLDER/child.new FOLDER/child\necho stuck >&2\nwait\nsleep 1000\n",
        ),
    );
    let daemon = site.daemon(&format!("{HOOK}timeout = \"2s\"\n"));
    ban(&daemon, "192.0.2.7");
    wait_until("its child", || site.path("child").exists());
    let child = fs::read_to_string(site.path("child")).expect("a number");
    let child = format!("/proc/{}", child.trim());
    let failed = wait_for(&daemon, "hook", "killed", |status| status["failed"] == 1);
    let error = failed["error"].as_str().expect("an error");
    assert!(
        error.contains("not ended after 2s and was killed: stuck"),
        "{error}"
    );
    let is_dead = || {
        let stat = fs::read_to_string(format!("{child}/stat")).unwrap_or_default();
        // Whoever adopted it may not have cleared it away yet.
        stat.is_empty() || stat.contains(") Z ")
    };
    wait_until("the end of its child", is_dead);
}

#[test]
fn one_that_fails_is_told_with_its_last_words_and_not_run_again() {
    require_root!();
    let site = Site::new();
    site.write(
        "hook",
        &site.placed("#!/bin/sh\necho run >> FOLDER/runs\necho 'no route to mail' >&2\nexit 3\n"),
    );
    let daemon = site.daemon(HOOK);
    ban(&daemon, "192.0.2.7");
    let failed = wait_for(&daemon, "hook", "failed", |status| status["failed"] == 1);
    let error = failed["error"].as_str().expect("an error");
    assert!(
        error.contains("exit status: 3: no route to mail"),
        "{error}"
    );
    assert!(
        daemon.stderr().contains("no route to mail"),
        "{}",
        daemon.stderr()
    );
    assert_eq!(
        (&failed["pending"], &failed["retried"]),
        (&Value::from(0), &Value::from(0))
    );
    fs::remove_file(site.path("hook")).expect("it is there");
    ban(&daemon, "192.0.2.8");
    let failed = wait_for(&daemon, "hook", "failed", |status| status["failed"] == 2);
    let error = failed["error"].as_str().expect("an error");
    assert!(error.contains("cannot run it: No such file"), "{error}");
    let runs = fs::read_to_string(site.path("runs")).expect("its runs");
    assert_eq!(runs, "run\n");
}

#[test]
fn no_more_run_at_once_than_are_allowed_to_and_all_of_them_do() {
    require_root!();
    let site = Site::new();
    site.write(
        "hook",
        &site.placed("#!/bin/sh\necho + >> FOLDER/runs\nsleep 0.2\necho - >> FOLDER/runs\n"),
    );
    let daemon = site.daemon(&format!("{HOOK}causes = [\"import\"]\nparallel = 2\n"));
    let file = list(&site, &addresses(12));
    daemon
        .abuser(&["ban", "import", text(&file), "--for", "1h"])
        .success();
    wait_for(&daemon, "hook", "run", |status| status["sent"] == 12);
    let runs = fs::read_to_string(site.path("runs")).expect("its runs");
    let (mut now, mut most) = (0_i32, 0);
    for line in runs.lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((now, most), (0, 2), "{runs}");
    assert_eq!(status(&daemon, "hook")["pending"], 0);
}
