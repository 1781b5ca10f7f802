//! A database that was damaged: it is kept aside, what the kernel has is written down anew, and it is told.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{Daemon, require_root};

use crate::{
    http::request,
    support::{Complains as _, Site, daemon_on_lo, wait_until, written},
};

/// A daemon whose bans stay in the kernel when it stops and closes its store.
const PERSIST: &str = "[xdp]\npersist = true\n";

/// The bytes of a page of the database.
const PAGE: u64 = 4096;

/// The databases that lie aside.
fn aside(daemon: &Daemon) -> Vec<PathBuf> {
    let folder = daemon.store_path();
    let entries = fs::read_dir(folder.parent().expect("a folder")).expect("its files");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains(".damaged-") && !name.ends_with("-wal")
    };
    paths.filter(is_aside).collect()
}

/// The bans as a damaged database leaves them: who, under which number, and until when to the minute.
fn bans(daemon: &Daemon) -> Vec<(Value, Value, String)> {
    let list = daemon.json(&["ban", "list"]);
    let list = list.as_array().expect("a list").iter();
    list.map(|ban| {
        let expires = ban["expires"].as_str().unwrap_or("never");
        let minute = expires.get(.."2026-11-24T14:42".len()).unwrap_or(expires);
        (ban["source"].clone(), ban["id"].clone(), minute.to_owned())
    })
    .collect()
}

fn overwrite(path: &Path, at: u64, length: usize) {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    file.write_all_at(&vec![0xa5; length], at)
        .expect("to overwrite it");
}

fn cut(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len(length).expect("to cut it");
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("the file").len()
}

#[test]
fn whatever_damages_the_store_is_kept_told_of_and_takes_no_ban() {
    type Damage = fn(&Path);
    let ways: [(&str, Damage); 4] = [
        ("its header is overwritten", |path| {
            overwrite(path, 0, 100);
        }),
        ("all pages but the first are", |path| {
            let rest = usize::try_from(length(path) - PAGE).expect("a small file");
            overwrite(path, PAGE, rest);
        }),
        ("half of it is cut off", |path| cut(path, length(path) / 2)),
        ("amid a page", |path| cut(path, PAGE * 2 + 1000)),
    ];
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo(PERSIST);
    let ban = ["ban", "add", "203.0.113.7", "--for", "1d", "--reason", "x"];
    daemon.abuser(&ban).success();
    daemon
        .abuser(&["ban", "add", "2001:db8::/48", "--permanent"])
        .success();
    let before = bans(&daemon);
    assert_eq!(before.len(), 2);
    let path = daemon.store_path();
    for (number, (what, damage)) in ways.into_iter().enumerate() {
        daemon.terminate();
        damage(&path);
        let damaged = fs::read(&path).expect("the file");
        let known = aside(&daemon);
        assert_eq!(known.len(), number, "{what}");
        daemon.restart();
        assert_eq!(bans(&daemon), before, "{what}");
        let log = daemon.stderr();
        assert!(log.contains("ERROR") && log.contains("is damaged"), "{log}");
        let new = aside(&daemon);
        let new = new.iter().find(|path| !known.contains(path));
        let new = new.unwrap_or_else(|| panic!("none was kept when {what}"));
        assert_eq!(fs::read(new).expect("the file"), damaged, "{what}");
        let store = daemon.json(&["status"])["store"].clone();
        assert_eq!(store["error"], Value::Null, "{what}");
        let told = store["damaged"].as_array().map(Vec::as_slice);
        let new = Value::from(new.to_str());
        assert_eq!(told, Some([new].as_slice()), "{what}: {store}");
        let said = daemon.abuser(&["status"]).success().stdout;
        assert!(said.contains("WAS DAMAGED"), "{said}");
        let metrics = request(&daemon, "GET", "/metrics", b"").body;
        let counted = "\nabuser_store_damaged_total 1\n";
        assert!(metrics.contains(counted), "{metrics}");
    }
}

#[test]
fn an_empty_store_and_a_log_of_garbage_take_no_ban_either() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo(PERSIST);
    let ban = ["ban", "add", "203.0.113.7", "--for", "1d", "--reason", "x"];
    daemon.abuser(&ban).success();
    let before = bans(&daemon);
    let path = daemon.store_path();
    daemon.terminate();
    fs::write(path.with_extension("db-wal"), vec![0x5a; 40_000]).expect("a log");
    daemon.restart();
    assert_eq!(bans(&daemon), before);
    let shown = daemon.json(&["ban", "show", "203.0.113.7"]);
    assert_eq!(shown[0]["reason"], "x", "the store is as it was");
    daemon.terminate();
    cut(&path, 0);
    daemon.restart();
    assert_eq!(bans(&daemon), before);
    let log = daemon.stderr();
    assert!(log.contains("an empty file"), "{log}");
    assert_eq!(aside(&daemon), Vec::<PathBuf>::new());
}

#[test]
fn a_store_that_is_damaged_at_work_is_begun_anew_with_all_bans() {
    /// So many that not all of them are in `SQLite`'s cache.
    const BANS: u32 = 60_000;
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let list = daemon.config_path().with_file_name("list");
    let address = |number: u32| std::net::Ipv4Addr::from(0x6440_0000 + number).to_string();
    let lines: Vec<_> = (0..BANS).map(address).collect();
    fs::write(&list, lines.join("\n")).expect("a list");
    let import = [
        "ban",
        "import",
        list.to_str().expect("UTF-8"),
        "--reason",
        "long enough that the database becomes larger than what is kept of it in memory",
    ];
    daemon.abuser(&import).success();
    let path = daemon.store_path();
    let rest = usize::try_from(length(&path) - PAGE).expect("a small file");
    overwrite(&path, PAGE, rest);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut removed = 0;
    let store = loop {
        let source = address((removed * 997) % BANS);
        daemon.abuser(&["ban", "remove", &source]).success();
        removed += 1;
        let store = daemon.json(&["status"])["store"].clone();
        if store["damaged"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            break store;
        }
        assert!(Instant::now() < deadline, "{store}");
    };
    assert_eq!(store["error"], Value::Null);
    let log = daemon.stderr();
    assert!(log.contains("cannot write to the store"), "{log}");
    assert_eq!(aside(&daemon).len(), 1);
    let left = BANS - removed;
    assert_eq!(daemon.json(&["status"])["bans"], left);
    // A stop takes all from the kernel, so what is there then is from the new one.
    wait_until("all is written", || written(&path, "bans") == Some(left));
    daemon.terminate();
    daemon.restart();
    assert_eq!(daemon.json(&["status"])["bans"], left);
}

#[test]
fn a_store_that_is_deleted_replaced_or_overwritten_at_work_is_noticed_by_the_next_change_and_written_anew()
 {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let path = daemon.store_path();
    let copy = path.with_file_name("copy.db");
    let faults: [(&str, &dyn Fn()); 4] = [
        ("deleted", &|| fs::remove_file(&path).expect("to delete it")),
        ("another file", &|| {
            fs::copy(&path, &copy).expect("a copy");
            fs::rename(&copy, &path).expect("to put it there");
        }),
        ("head", &|| cut(&path, 0)),
        ("head", &|| {
            let all = usize::try_from(length(&path)).expect("a small file");
            overwrite(&path, 0, all);
        }),
    ];
    daemon.abuser(&["ban", "add", "203.0.113.0"]).success();
    for (number, (said, fault)) in (1..).zip(faults) {
        fault();
        let source = format!("203.0.113.{number}");
        daemon
            .abuser(&["ban", "add", &source, "--reason", "kept"])
            .success();
        wait_until("what was done to it is told", || {
            daemon.stderr().contains(said)
        });
        wait_until("all is written", || {
            written(&path, "bans") == Some(number + 1)
        });
        assert_eq!(daemon.json(&["status"])["store"]["error"], Value::Null);
        // A stop takes all from the kernel: what is there then is from the store.
        daemon.terminate();
        daemon.restart();
        assert_eq!(daemon.json(&["status"])["bans"], number + 1, "{said}");
        let shown = daemon.json(&["ban", "show", &source]);
        assert_eq!(shown[0]["reason"], "kept", "{said}");
    }
}

#[test]
fn eight_damaged_stores_are_kept_and_a_ninth_is_left_in_its_place() {
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo(PERSIST);
    daemon.abuser(&["ban", "add", "203.0.113.7"]).success();
    let before = bans(&daemon);
    daemon.terminate();
    let path = daemon.store_path();
    for number in 0..8 {
        let name = format!("abuser.db.damaged-{number}");
        fs::write(path.with_file_name(name), "an old one").expect("a file");
    }
    overwrite(&path, 0, 100);
    let damaged = fs::read(&path).expect("the file");
    daemon.restart();
    assert_eq!(bans(&daemon), before);
    assert_eq!(aside(&daemon).len(), 8);
    assert_eq!(fs::read(&path).expect("the file"), damaged);
    let store = daemon.json(&["status"])["store"].clone();
    let error = store["error"].as_str().unwrap_or_default();
    assert!(error.contains("8 damaged ones lie beside it"), "{store}");
    // Somebody moves one away, and it goes on by itself.
    fs::remove_file(path.with_file_name("abuser.db.damaged-3")).expect("to move one away");
    wait_until("it is moved aside", || {
        daemon.json(&["status"])["store"]["error"].is_null()
    });
    assert_eq!(aside(&daemon).len(), 8);
    assert_eq!(bans(&daemon), before);
}

#[test]
fn another_program_s_database_is_refused_and_left_alone() {
    require_root!();
    let site = Site::new();
    let config = site.config();
    let path = site.path("abuser.db");
    let database = rusqlite::Connection::open(&path).expect("a database");
    let table = database.execute_batch("CREATE TABLE fail2banDb (version)");
    table.expect("a table");
    drop(database);
    let before = fs::read(&path).expect("the file");
    site.run(&config, &[])
        .complains(2, &["a database of another program", "[store] path"]);
    assert_eq!(fs::read(&path).expect("the file"), before);
    site.assert_untouched();
}
