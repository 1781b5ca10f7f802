//! What outlives the daemon, whatever ended it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Daemon, require_root};

use crate::support::{Complains as _, daemon_on_lo, wait_until};

/// A ban as it has to be the same after a restart.
fn lasting(ban: &Value) -> Value {
    let mut ban = ban.clone();
    let object = ban.as_object_mut().expect("a ban");
    object.remove("remaining_seconds");
    // To the millisecond it is told by clocks that drift apart.
    for time in ["expires", "created"] {
        if let Some(Value::String(time)) = object.get_mut(time) {
            time.truncate("2026-11-24T14:42".len());
        }
    }
    ban
}

fn lists(daemon: &Daemon) -> (Vec<Value>, Value) {
    let bans = daemon.json(&["ban", "list"]);
    let bans = bans.as_array().expect("a list").iter().map(lasting);
    (bans.collect(), daemon.json(&["allow", "list"]))
}

#[test]
fn bans_and_allow_entries_outlive_a_crash_a_stop_and_a_detach() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("[allow]\naddresses = [\"10.0.0.0/8\"]\n");
    daemon
        .abuser(&[
            "ban",
            "add",
            "203.0.113.7",
            "--for",
            "1d",
            "--reason",
            "why",
        ])
        .success();
    daemon
        .abuser(&["ban", "add", "2001:db8::/48", "--permanent"])
        .success();
    daemon.abuser(&["ban", "add", "203.0.113.8"]).success();
    daemon.abuser(&["ban", "remove", "203.0.113.8"]).success();
    daemon
        .abuser(&["allow", "add", "192.0.2.0/24", "--reason", "office"])
        .success();
    daemon.abuser(&["allow", "add", "192.0.3.0/24"]).success();
    daemon
        .abuser(&["allow", "remove", "192.0.3.0/24"])
        .success();
    let before = lists(&daemon);
    assert_eq!(before.0.len(), 2);
    for end in ["SIGKILL", "SIGTERM", "detach"] {
        match end {
            "SIGKILL" => drop(daemon.kill()),
            "SIGTERM" => drop(daemon.terminate()),
            _ => {
                daemon.abuser(&["detach"]).success();
                daemon.terminate();
            }
        }
        daemon.restart();
        assert_eq!(lists(&daemon), before, "after {end}");
    }
    // The number of a ban that is over is not given again.
    let next = daemon.json(&["ban", "add", "203.0.113.9"]);
    assert_eq!(next[0]["id"], 4);
    assert_eq!(daemon.json(&["status"])["reconciler"]["kernel_repairs"], 0);
}

#[test]
fn a_ban_that_ends_while_no_daemon_runs_has_ended() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    daemon
        .abuser(&["ban", "add", "203.0.113.7", "--for", "1s"])
        .success();
    daemon
        .abuser(&["ban", "add", "203.0.113.8", "--for", "1h"])
        .success();
    daemon.kill();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    daemon.restart();
    let bans = daemon.json(&["ban", "list"]);
    assert_eq!(bans.as_array().map(Vec::len), Some(1));
    assert_eq!(bans[0]["source"], "203.0.113.8/32");
    daemon.terminate();
    let store = rusqlite::Connection::open(daemon.store_path()).unwrap();
    let over: (String, String) = store
        .query_row("SELECT source, how FROM history", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(over, ("203.0.113.7/32".into(), "expired".into()));
}

#[test]
fn a_store_that_cannot_be_written_costs_only_the_copy() {
    require_root!();
    // A folder that no privilege can write to: a file stands in its place.
    let (_namespace, mut daemon) = daemon_on_lo("");
    daemon.terminate();
    let config = daemon.config_path();
    let blocked = daemon.store_path().with_file_name("blocked");
    fs::write(&blocked, "").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("abuser.db", "blocked/abuser.db");
    fs::write(&config, text).unwrap();
    daemon.restart();
    assert!(
        daemon.stderr().contains("cannot write to the store"),
        "{}",
        daemon.stderr()
    );
    let status = daemon.json(&["status"]);
    assert!(status["store"]["error"].is_string(), "{status}");
    assert!(status["store"]["failed"].is_string(), "{status}");
    let said = daemon.abuser(&["status"]).success();
    assert!(said.stdout.contains("NOT WRITTEN"), "{said}");
    for command in [
        ["ban", "add", "203.0.113.7"],
        ["allow", "add", "192.0.2.1"],
        ["ban", "add", "203.0.113.8"],
        ["ban", "remove", "203.0.113.8"],
    ] {
        let said = daemon.abuser(&command).success();
        assert!(said.stderr.contains("NOT ON DISK"), "{said}");
    }
    let before = lists(&daemon);
    // Bans outlive a crash: the kernel holds them.
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.json(&["ban", "list"])[0]["source"], "203.0.113.7/32");
    let allowed = daemon.json(&["allow", "list"]);
    assert_eq!(allowed[0]["source"], before.1[0]["source"]);
}

#[test]
fn a_store_that_is_there_only_after_the_start_is_taken_in() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    daemon
        .abuser(&[
            "ban",
            "add",
            "203.0.113.7",
            "203.0.113.8",
            "--reason",
            "old",
        ])
        .success();
    daemon.abuser(&["allow", "add", "192.0.2.1"]).success();
    daemon.terminate();
    // As if its file system were not mounted yet: nothing can be opened there.
    let (store, away) = (
        daemon.store_path(),
        daemon.store_path().with_extension("away"),
    );
    fs::rename(&store, &away).unwrap();
    fs::create_dir(&store).unwrap();
    daemon.restart();
    assert!(daemon.json(&["status"])["store"]["error"].is_string());
    assert_eq!(daemon.json(&["ban", "list"]), json!([]));
    // Its number is that of a ban in the store.
    daemon.abuser(&["ban", "add", "203.0.113.9"]).success();
    fs::remove_dir(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    let all = ["203.0.113.7/32", "203.0.113.8/32", "203.0.113.9/32"];
    let deadline = Instant::now() + Duration::from_secs(90);
    while sources(&daemon) != all {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            daemon.json(&["ban", "list"])
        );
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        daemon.json(&["ban", "show", "203.0.113.8"])[0]["reason"],
        "old"
    );
    assert_eq!(daemon.json(&["allow", "list"])[0]["source"], "192.0.2.1/32");
    // And now the store has all of it, and each number once.
    daemon.terminate();
    daemon.restart();
    assert_eq!(sources(&daemon), all);
    assert_eq!(daemon.json(&["allow", "list"])[0]["source"], "192.0.2.1/32");
    let list = daemon.json(&["ban", "list"]);
    let ids: BTreeSet<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| ban["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), 3, "{list}");
    // Those that were numbers 1 and 2 have new ones: what is written down about old ones is not theirs.
    for source in ["203.0.113.7", "203.0.113.8"] {
        let taken_in = daemon.json(&["ban", "show", source])[0]["id"].as_u64();
        assert!(taken_in > Some(2), "{list}");
    }
}

fn sources(daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["ban", "list"]);
    let bans = list.as_array().expect("a list").iter();
    bans.map(|ban| ban["source"].as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn two_daemons_do_not_share_a_store() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo("");
    let site = crate::support::Site::new();
    let config = site.config();
    let text = fs::read_to_string(&config).unwrap();
    let own = site.path("abuser.db");
    let text = text.replace(
        &*own.to_string_lossy(),
        &daemon.store_path().to_string_lossy(),
    );
    fs::write(&config, text).unwrap();
    let first = format!("is in use by process {}", daemon.pid());
    site.run(&config, &[])
        .complains(1, &[&first, "[store] path"]);
    site.assert_untouched();
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
}

#[test]
fn what_led_to_a_ban_is_written_down_with_it() {
    require_root!();
    let (namespace, mut daemon) = daemon_on_lo(
        "[[limit]]\nname = \"tight\"\nprotocol = \"udp\"\nrate = \"1/h\"\npolicy = \"quick\"\n\
         [[policy]]\nname = \"quick\"\nmaxretry = 1\nrequire_verified = false\nbantime = \"1h\"\n",
    );
    let from = "127.0.0.66".parse().unwrap();
    let to = "127.0.0.1:9".parse().unwrap();
    testkit::traffic::send_udp(&namespace, from, to, 1000.0, 3).unwrap();
    wait_until("the ban", || daemon.json(&["ban", "list"]) != json!([]));
    let ban = daemon.json(&["ban", "list"])[0].clone();
    assert_eq!(
        (&ban["source"], &ban["cause"], &ban["policy"]),
        (&"127.0.0.66/32".into(), &"limit".into(), &"quick".into())
    );
    daemon.terminate();
    let store = rusqlite::Connection::open(daemon.store_path()).unwrap();
    let evidence: String = store
        .query_row("SELECT text FROM evidence WHERE ban = ?1", [1], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(evidence, "drop lo udp/9 limit tight 1 packet");
    let offender: (String, u32) = store
        .query_row("SELECT policy, bans FROM offenders", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(offender, ("quick".into(), 1));
    drop(store);
    // Who is let off by hand has done nothing, also after a restart.
    daemon.restart();
    daemon.abuser(&["ban", "remove", "127.0.0.66"]).success();
    daemon.terminate();
    let store = rusqlite::Connection::open(daemon.store_path()).unwrap();
    let offenders: u32 = store
        .query_row("SELECT count(*) FROM offenders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(offenders, 0);
}

#[test]
fn a_new_store_is_told_of_and_nobody_else_can_read_it() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let begun = |daemon: &Daemon| daemon.stderr().matches("a new store").count();
    assert_eq!(begun(&daemon), 1, "{}", daemon.stderr());
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    let path = daemon.store_path();
    for suffix in ["", "-wal"] {
        let file = format!("{}{suffix}", path.display());
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    // One that an earlier version, or a copy, has left open.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
    daemon.terminate();
    daemon.restart();
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(begun(&daemon), 0, "{}", daemon.stderr());
    assert_eq!(sources(&daemon), ["203.0.113.7/32"]);
    // Nor what a crash has left beside it.
    let log = format!("{}-wal", path.display());
    daemon.abuser(&["ban", "add", "203.0.113.8"]).success();
    daemon.kill();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).expect("its mode");
    daemon.restart();
    let mode = fs::metadata(&log).expect("a log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
