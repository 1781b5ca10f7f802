//! The daemon is killed amid what takes a while: an import of a long list, and bringing an older store up.

use std::{collections::BTreeSet, fs, process::Stdio, thread, time::Duration};

use testkit::{Daemon, require_root};

use crate::support::{banned_in_kernel, daemon_on_lo, finish_child};

/// How many times the daemon is killed.
const KILLS: u32 = 8;

/// Writes a list with so many addresses beside the configuration.
fn list(daemon: &Daemon, count: u32) -> String {
    let path = daemon.config_path().with_file_name("list");
    let addresses = (0..count).map(|number| std::net::Ipv4Addr::from(0x6440_0000 + number));
    let lines: Vec<_> = addresses.map(|address| address.to_string()).collect();
    fs::write(&path, lines.join("\n")).expect("a list");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_kill_amid_an_import_leaves_map_list_and_store_agreed_and_the_import_can_be_done_again() {
    /// An import of these takes about a second.
    const BANS: u32 = 60_000;
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("[ban]\nbantime = \"1d\"\n");
    let list = list(&daemon, BANS);
    daemon
        .abuser(&["ban", "add", "203.0.113.7", "--reason", "kept"])
        .success();
    let mut random = fastrand::Rng::new();
    let mut before = 1;
    let mut cut_short = 0;
    for kill in 1..=KILLS {
        let mut import = daemon.command(&["ban", "import", &list]);
        import.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = import.spawn().expect("an import");
        thread::sleep(Duration::from_millis(random.u64(..700)));
        daemon.kill();
        let said = finish_child(child, "abuser ban import".to_owned());
        daemon.restart();
        let status = daemon.json(&["status"]);
        let bans = usize::try_from(status["bans"].as_u64().expect("a number")).expect("few");
        let what = format!("kill {kill}: {said}");
        assert_eq!(banned_in_kernel(&daemon).len(), bans, "{what}");
        assert!(bans >= before, "{bans} of {before}: {what}");
        assert_eq!(status["reconciler"]["kernel_repairs"], 0, "{what}");
        before = bans;
        cut_short += usize::from(!said.status.success());
    }
    assert!(cut_short > 0, "no import was cut short");
    daemon.abuser(&["ban", "import", &list]).success();
    let all = usize::try_from(BANS).expect("few") + 1;
    assert_eq!(banned_in_kernel(&daemon).len(), all);
    // And the store has the same: a stop takes them from the kernel.
    daemon.terminate();
    assert!(!daemon.pin_dir().exists());
    daemon.restart();
    assert_eq!(banned_in_kernel(&daemon).len(), all);
    let kept = daemon.json(&["ban", "show", "203.0.113.7"]);
    assert_eq!(kept[0]["reason"], "kept", "{kept}");
}

#[test]
fn a_kill_while_an_older_store_is_brought_up_loses_nothing_of_it() {
    const BANS: u32 = 20_000;
    const MOST_KILLS: u32 = 4 * KILLS;
    const FIRST_PAUSE: Duration = Duration::from_millis(100);
    require_root!();
    let (_namespace, mut daemon) = daemon_on_lo("");
    let list = list(&daemon, BANS);
    daemon.abuser(&["ban", "import", &list]).success();
    daemon.terminate();
    let path = daemon.store_path();
    let older = || {
        let store = rusqlite::Connection::open(&path).expect("the store");
        let undo = "DROP TABLE IF EXISTS throttles; DROP TABLE IF EXISTS positions;
                    PRAGMA application_id = 0; PRAGMA user_version = 1";
        store.execute_batch(undo).expect("an older store");
    };
    let mut pause = FIRST_PAUSE;
    let mut versions = BTreeSet::new();
    for kill in 1..=MOST_KILLS {
        older();
        daemon.start_and_kill(pause);
        let store = rusqlite::Connection::open(daemon.store_path()).expect("the store");
        let count = |query| store.query_row(query, [], |row| row.get::<_, u32>(0));
        let version = count("PRAGMA user_version").expect("a version");
        let tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('throttles', 'positions')";
        // All of it was done, or nothing.
        let expected = if version == 1 { 0 } else { 2 };
        assert_eq!(count(tables), Ok(expected), "kill {kill}, {version}");
        assert_eq!(count("SELECT count(*) FROM bans"), Ok(BANS), "kill {kill}");
        versions.insert(version);
        if kill >= KILLS && versions.len() == 2 {
            break;
        }
        // Towards the moment at which it is done, whenever that is on a machine that does other things beside.
        pause = if version == 1 {
            pause * 5 / 4
        } else {
            pause * 3 / 4
        };
    }
    assert_eq!(
        versions.len(),
        2,
        "none before, or none after: {versions:?}"
    );
    older();
    daemon.restart();
    assert_eq!(daemon.json(&["status"])["bans"], BANS);
}
