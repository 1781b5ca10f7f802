use std::{
    fs,
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _},
    sync::mpsc,
    time::Instant,
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};

use super::{rows::BanNote, rows::from_millis, *};
use crate::policy::Moved;

fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        ..StoreConfig::default()
    }
}

fn key(text: &str) -> PrefixKey {
    changes::key_of(text).unwrap()
}

fn ban(id: u64, source: &str) -> BanRow {
    BanRow {
        id,
        source: key(source),
        created: Some(from_millis(1_700_000_000_123)),
        expires: Some(from_millis(1_900_000_000_456)),
        offences: 5,
        note: Arc::new(BanNote {
            cause: BanCause::Limit,
            subject: Some("api".to_owned()),
            policy: Some("default".to_owned()),
            reason: Some("5 offences".to_owned()),
            by: None,
        }),
    }
}

fn over(ban: BanRow, ended: i64) -> HistoryRow {
    HistoryRow {
        ban,
        ended: from_millis(ended),
        how: "expired".to_owned(),
        hits: 7,
    }
}

fn throttle(source: &str, limit: &str) -> ThrottleRow {
    ThrottleRow {
        source: key(source),
        created: from_millis(1_700_000_000_123),
        expires: Some(from_millis(1_900_000_000_456)),
        note: Arc::new(ThrottleNote {
            limit: limit.into(),
            reason: Some("scans".to_owned()),
            by: None,
        }),
    }
}

/// Writes, and waits until it is acknowledged.
fn write(store: &Store, changes: Vec<Change>) {
    let (done, acknowledged) = mpsc::channel();
    let told = Box::new(move || done.send(()).unwrap());
    store.write(changes, Some(told));
    acknowledged
        .recv_timeout(Duration::from_secs(10))
        .expect("an acknowledgement");
}

fn count(store: &Store, table: &'static str) -> i64 {
    let (reply, answer) = mpsc::channel();
    store.send(Job::Read(Box::new(move |connection| {
        let query = format!("SELECT count(*) FROM {table}");
        let count = connection.map(|c| c.query_row(&query, [], |row| row.get(0)).unwrap());
        reply.send(count).unwrap();
    })));
    answer.recv().unwrap().expect("a store")
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lib/abuser.db");
    let (store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot, Snapshot::default());
    let allowed = AllowRow {
        source: key("192.0.2.0/24"),
        created: from_millis(5),
        reason: Some("office".to_owned()),
        by: Some("root".to_owned()),
    };
    let offender = OffenderRow {
        source: key("2001:db8::/64"),
        policy: "strict".to_owned(),
        bans: 3,
        since: from_millis(77),
        offences: vec![EvidenceRow {
            at: 76,
            text: "drop".to_owned(),
        }],
    };
    let throttled = throttle("203.0.113.7/32", "slow");
    let permanent = BanRow {
        expires: None,
        created: None,
        ..ban(8, "2001:db8::/48")
    };
    write(
        &store,
        vec![
            Change::Ban(ban(7, "203.0.113.7/32")),
            Change::Ban(permanent.clone()),
            Change::Ban(ban(9, "0.0.0.0/0")),
            Change::Allow(allowed.clone()),
            Change::Allow(AllowRow {
                source: key("192.0.2.7/32"),
                ..allowed.clone()
            }),
            Change::Offender(offender.clone()),
            Change::Unban(over(ban(9, "0.0.0.0/0"), 100)),
            Change::Disallow(key("192.0.2.7/32")),
            Change::Throttle(ThrottleRow {
                expires: None,
                ..throttled.clone()
            }),
            Change::Throttle(throttled.clone()),
            Change::Throttle(throttle("203.0.113.7/32", "slower")),
            Change::Unthrottle(key("203.0.113.7/32"), "slower".into()),
        ],
    );
    drop(store);
    let (store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(
        snapshot,
        Snapshot {
            bans: vec![ban(7, "203.0.113.7/32"), permanent],
            allowed: vec![allowed],
            offenders: vec![offender.clone()],
            throttles: vec![throttled],
            positions: Vec::new(),
            // The number of a ban that is over is not given again.
            last_id: 9,
            clocks: None,
        }
    );
    let other = OffenderRow {
        policy: "lenient".to_owned(),
        ..offender
    };
    let source = other.source;
    write(&store, vec![Change::Offender(other)]);
    write(&store, vec![Change::Forget(source, "strict".to_owned())]);
    assert_eq!(count(&store, "offenders WHERE policy = 'lenient'"), 1);
    assert_eq!(count(&store, "offenders"), 1);
    write(&store, vec![Change::Forgive(source)]);
    assert_eq!(count(&store, "offenders"), 0);
}

#[test]
fn positions_are_there_after_a_restart_until_they_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    let position = |inode, offset| PositionRow {
        key: PositionKey {
            source: "web".to_owned(),
            device: u64::MAX,
            inode,
        },
        // Names need not be text.
        path: PathBuf::from(std::ffi::OsString::from_vec(b"/var/log/\xff.log".to_vec())),
        beginning: b"203.0.113.7 \0\xff".to_vec(),
        offset,
        cursor: None,
        at: from_millis(1_700_000_000_123),
    };
    let journal = PositionRow {
        key: PositionKey {
            source: "ssh".to_owned(),
            device: 0,
            inode: 0,
        },
        path: PathBuf::new(),
        beginning: Vec::new(),
        offset: 0,
        cursor: Some("s=1;i=2".to_owned()),
        at: from_millis(5),
    };
    let all = [
        position(7, 10),
        position(8, 20),
        position(7, 1 << 40),
        journal.clone(),
    ];
    write(&store, all.map(Change::Position).into());
    write(&store, vec![Change::PositionGone(position(8, 0).key)]);
    drop(store);
    let (_store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot.positions, [journal, position(7, 1 << 40)]);
}

#[test]
fn a_second_daemon_is_refused_and_a_newer_schema_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    let error = Store::open(&config(&path)).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(&config(&path)).unwrap_err();
    assert!(
        matches!(error, StoreError::TooNew { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_damaged_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    fs::write(
        &path,
        "this is no database, but long enough to be one ".repeat(100),
    )
    .unwrap();
    let (store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot, Snapshot::default());
    assert_eq!(store.health(), Health::Good);
    let aside = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("abuser.db.damaged-"));
    assert_eq!(aside.count(), 1);
}

#[test]
fn a_store_that_cannot_be_made_acknowledges_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the folder should be: no privilege helps.
    let blocked = folder.path().join("lib");
    fs::write(&blocked, "").unwrap();
    let path = blocked.join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    assert!(matches!(store.health(), Health::Failed { .. }));
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    let revive = || {
        store.revive();
        write(&store, Vec::new());
        store.take_revived()
    };
    assert!(!revive());
    fs::remove_file(&blocked).unwrap();
    assert!(revive(), "it is back, and lacks what was handed over");
    assert!(!revive(), "nothing was lost since");
    assert_eq!(store.health(), Health::Good);
    assert_eq!(count(&store, "bans"), 0);
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    assert_eq!(count(&store, "bans"), 1);
}

#[test]
fn what_a_store_holds_that_comes_late_is_no_surplus_before_the_books_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("a.db"), folder.path().join("away"));
    let (store, _) = Store::open(&config(&path)).unwrap();
    let allowed = AllowRow {
        source: key("192.0.2.8/32"),
        created: from_millis(5),
        reason: None,
        by: None,
    };
    write(
        &store,
        vec![
            Change::Ban(ban(1, "192.0.2.1/32")),
            Change::Throttle(throttle("192.0.2.7/32", "slow")),
            Change::Allow(allowed),
        ],
    );
    drop(store);
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    let (store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot, Snapshot::default());
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    let compare = || {
        store.retain(Vec::new());
        store.compare_allowed(Vec::new());
        store.compare_throttles(Vec::new());
        ["bans", "allowed", "throttles"].map(|table| count(&store, table))
    };
    store.revive();
    assert_eq!(compare(), [1; 3]);
    let found = store.take_found().expect("what it holds");
    assert_eq!(
        (found.bans.len(), found.allowed.len(), found.throttles.len()),
        (1, 1, 1)
    );
    assert_eq!(compare(), [0; 3]);
}

#[test]
fn a_read_only_database_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b%.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    drop(store);
    let snapshot = schema::read_only(&path).expect("a readable database");
    assert_eq!(snapshot.bans, [ban(7, "203.0.113.7/32")]);
    assert_eq!(schema::read_only(&folder.path().join("none")), None);
}

#[test]
fn a_read_only_database_is_read_as_a_crash_left_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    let crashed = folder.path().join("crashed.db");
    for suffix in ["", "-wal"] {
        let from = folder.path().join(format!("abuser.db{suffix}"));
        fs::copy(from, folder.path().join(format!("crashed.db{suffix}"))).unwrap();
    }
    let snapshot = schema::read_only(&crashed).expect("a readable database");
    assert_eq!(snapshot.bans, [ban(7, "203.0.113.7/32")]);
}

#[test]
fn a_start_writes_nothing_so_a_full_disk_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    drop(Store::open(&config(&path)).unwrap());
    let (_store, _) = Store::open(&config(&path)).unwrap();
    let log = fs::metadata(folder.path().join("abuser.db-wal"));
    assert_eq!(log.map_or(0, |log| log.len()), 0);
}

#[test]
fn a_failed_transaction_leaves_nothing_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    store.send(Job::Read(Box::new(|connection| {
        let connection = connection.unwrap();
        connection.execute_batch("DROP TABLE allowed").unwrap();
    })));
    write(
        &store,
        vec![
            Change::Ban(ban(7, "203.0.113.7/32")),
            Change::Disallow(key("192.0.2.7/32")),
        ],
    );
    assert!(matches!(store.health(), Health::Failed { .. }));
    drop(store);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let bans: i64 = connection
        .query_row("SELECT count(*) FROM bans", [], |row| row.get(0))
        .unwrap();
    assert_eq!(bans, 0);
}

#[test]
fn a_comparison_repairs_what_differs_and_counts_it() {
    let (store, _) = Store::open(&config(Path::new(IN_MEMORY))).unwrap();
    let bans: Vec<_> = (1..=5)
        .map(|id| ban(id, &format!("203.0.113.{id}/32")))
        .collect();
    write(&store, bans.iter().cloned().map(Change::Ban).collect());
    store.compare(bans.clone());
    assert_eq!(count(&store, "bans"), 5);
    assert_eq!(store.repairs(), 0);
    store.send(Job::Read(Box::new(|connection| {
        connection
            .unwrap()
            .execute_batch(
                "DELETE FROM bans WHERE id = 1;
                 UPDATE bans SET source = '203.0.113.99/32' WHERE id = 2;
                 UPDATE bans SET expires = NULL WHERE id = 3;
                 UPDATE bans SET expires = expires - 2001 WHERE id = 4;
                 UPDATE bans SET expires = expires + 2000 WHERE id = 5;",
            )
            .unwrap();
    })));
    store.compare(bans);
    assert_eq!(count(&store, "bans WHERE source LIKE '203.0.113._/32'"), 5);
    assert_eq!(count(&store, "bans WHERE expires IS NULL"), 0);
    assert_eq!(store.repairs(), 4);
}

#[test]
fn throttles_are_made_as_the_books_have_them() {
    let (store, _) = Store::open(&config(Path::new(IN_MEMORY))).unwrap();
    let [right, longer, missing, surplus] =
        ["slow", "longer", "missing", "surplus"].map(|limit| throttle("203.0.113.7/32", limit));
    let there = [&right, &longer, &surplus];
    write(
        &store,
        there.map(|row| Change::Throttle(row.clone())).into(),
    );
    let longer = ThrottleRow {
        expires: None,
        ..longer
    };
    store.compare_throttles(vec![right, longer, missing]);
    assert_eq!(count(&store, "throttles"), 3);
    assert_eq!(count(&store, "throttles WHERE limited_by = 'surplus'"), 0);
    assert_eq!(count(&store, "throttles WHERE expires IS NULL"), 1);
    assert_eq!(store.repairs(), 3);
}

#[test]
fn an_older_database_gets_what_it_lacks_and_is_read_even_where_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    drop(store);
    for older in [
        "DROP TABLE throttles; DROP TABLE positions; PRAGMA user_version = 1;",
        "DROP TABLE positions; PRAGMA user_version = 2;",
    ] {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(older).unwrap();
        drop(connection);
        let snapshot = schema::read_only(&path).expect("what it holds");
        assert_eq!((snapshot.bans.len(), snapshot.positions.len()), (1, 0));
        let (store, snapshot) = Store::open(&config(&path)).unwrap();
        assert_eq!(snapshot.bans, [ban(7, "203.0.113.7/32")]);
        let row = throttle("203.0.113.7/32", "slow");
        write(&store, vec![Change::Throttle(row)]);
        assert_eq!(store.health(), Health::Good);
        assert_eq!(count(&store, "throttles"), 1);
        assert_eq!(count(&store, "positions"), 0);
    }
}

#[test]
fn rows_that_nobody_made_are_found_and_deleted() {
    let (store, _) = Store::open(&config(Path::new(IN_MEMORY))).unwrap();
    let allowed = |source: &str| AllowRow {
        source: key(source),
        created: from_millis(5),
        reason: None,
        by: None,
    };
    let mut changes: Vec<_> = (1..=5)
        .map(|id| Change::Ban(ban(id, &format!("203.0.113.{id}/32"))))
        .collect();
    changes.extend(["192.0.2.1/32", "192.0.2.2/32"].map(|source| Change::Allow(allowed(source))));
    write(&store, changes);
    let surplus = |expected| {
        store.count(expected);
        write(&store, Vec::new());
        store.take_surplus()
    };
    assert!(!surplus(5));
    assert!(surplus(3));
    store.retain(vec![4, 2, 9, 1]);
    assert_eq!(count(&store, "bans WHERE id IN (1, 2, 4)"), 3);
    assert_eq!(count(&store, "bans"), 3);
    assert_eq!(store.repairs(), 2);
    let expected = ["192.0.2.2/32", "192.0.2.3/32"].map(allowed);
    store.compare_allowed(expected.into());
    assert_eq!(count(&store, "allowed WHERE source > '192.0.2.1/32'"), 2);
    assert_eq!(count(&store, "allowed"), 2);
    assert_eq!(store.repairs(), 4);
}

#[test]
fn what_was_is_told_latest_first_and_what_led_to_it_in_order() {
    let (store, _) = Store::open(&config(Path::new(IN_MEMORY))).unwrap();
    let evidence = |at| EvidenceRow {
        at,
        text: format!("event {at}"),
    };
    let mut changes = vec![Change::Evidence(2, vec![evidence(7), evidence(5)])];
    for (id, source) in [
        (1, "203.0.113.7/32"),
        (2, "203.0.113.0/24"),
        (3, "203.0.113.8/32"),
        (4, "203.0.113.7/32"),
    ] {
        changes.push(Change::Unban(over(ban(id, source), 1000)));
    }
    write(&store, changes);
    let (reply, answer) = mpsc::channel();
    store.query(move |connection| {
        let connection = connection.unwrap();
        let sources = ["203.0.113.7/32", "203.0.113.0/24"].map(key);
        let told = |count| {
            let past = queries::history(connection, &sources, count).unwrap();
            past.iter().map(|past| past.ban.id).collect::<Vec<_>>()
        };
        let evidence = queries::evidence(connection, 2).unwrap();
        reply.send((told(10), told(2), evidence)).unwrap();
    });
    let (all, two, found) = answer.recv().unwrap();
    assert_eq!((all, two), (vec![4, 2, 1], vec![4, 2]));
    assert_eq!(found, [evidence(5), evidence(7)]);
}

#[test]
fn history_is_bounded_even_if_there_is_always_something_to_write() {
    let config = StoreConfig {
        path: PathBuf::from(IN_MEMORY),
        history_max: 50,
        ..StoreConfig::default()
    };
    let (store, _) = Store::open(&config).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut written = 0;
    loop {
        written += 1;
        let ended = rows::to_millis(SystemTime::now());
        write(
            &store,
            vec![Change::Unban(over(ban(written, "203.0.113.9/32"), ended))],
        );
        if written >= 500 && count(&store, "history") < 450 {
            return;
        }
        assert!(Instant::now() < deadline, "{written} and none forgotten");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn evidence_and_history_are_bounded() {
    let config = StoreConfig {
        path: PathBuf::from(IN_MEMORY),
        evidence: 3,
        history: Duration::from_secs(1_000_000_000),
        history_max: 2,
    };
    let (store, _) = Store::open(&config).unwrap();
    let rows = |range: std::ops::Range<i64>| -> Vec<_> {
        range
            .map(|at| EvidenceRow {
                at,
                text: format!("event {at}"),
            })
            .collect()
    };
    let mut changes = vec![
        Change::Ban(ban(1, "203.0.113.1/32")),
        Change::Evidence(1, rows(0..2)),
        Change::Evidence(1, rows(2..5)),
    ];
    let recent = rows::to_millis(SystemTime::now());
    for (id, ended) in [(2, recent), (3, recent), (4, 0), (5, recent), (6, recent)] {
        changes.push(Change::Evidence(id, rows(0..1)));
        changes.push(Change::Unban(over(ban(id, "203.0.113.9/32"), ended)));
    }
    write(&store, changes);
    assert_eq!(count(&store, "evidence WHERE ban = 1 AND at >= 2"), 3);
    assert_eq!(count(&store, "evidence WHERE ban = 1"), 3);
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(&store, "history") > 2 && Instant::now() < deadline {
        // Longer than the thread takes for idleness.
        std::thread::sleep(Duration::from_millis(1_200));
    }
    assert_eq!(count(&store, "history WHERE ban IN (5, 6)"), 2);
    assert_eq!(count(&store, "history"), 2);
    assert_eq!(count(&store, "evidence"), 5);
}

#[test]
fn nobody_waits_for_a_thread_that_has_ended() {
    let (store, _) = Store::open(&config(Path::new(IN_MEMORY))).unwrap();
    store.query(|_| panic!("as a defect would"));
    while store.thread.as_ref().is_some_and(|t| !t.is_finished()) {
        std::thread::yield_now();
    }
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    assert!(matches!(store.health(), Health::Failed { .. }));
    let (reply, answer) = mpsc::channel();
    store.query(move |connection| reply.send(connection.is_none()).unwrap());
    assert_eq!(answer.recv(), Ok(true));
}

#[test]
fn the_last_folder_is_made_and_a_mistake_in_the_path_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lib/abuser.db");
    assert_eq!(doubt(&config(&path)), None);
    let (store, _) = Store::open(&config(&path)).unwrap();
    assert_eq!(store.health(), Health::Good);
    write(&store, vec![Change::Ban(ban(7, "203.0.113.7/32"))]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mistaken = folder.path().join("nope/lib/abuser.db");
    assert!(doubt(&config(&mistaken)).unwrap().contains("nope,"));
    let (store, _) = Store::open(&config(&mistaken)).unwrap();
    let Health::Failed { error, .. } = store.health() else {
        panic!("it is made");
    };
    assert!(error.contains("cannot make its folder"), "{error}");
    assert!(!folder.path().join("nope").exists());
}

#[test]
fn how_the_clocks_stood_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let clocks = ClockRow {
        boot: -7,
        slept_ms: 1 << 40,
        ahead_ms: -3,
    };
    let (store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot.clocks, None);
    write(&store, vec![Change::Clocks(ClockRow { boot: 1, ..clocks })]);
    write(&store, vec![Change::Clocks(clocks)]);
    drop(store);
    let (_store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot.clocks, Some(clocks));
}

/// How the clocks stood.
const STOOD: ClockRow = ClockRow {
    boot: -7,
    slept_ms: 5,
    ahead_ms: 1_000,
};

#[test]
fn all_rows_follow_a_clock_that_is_set_once_and_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let open = || Store::open(&config(&path)).unwrap();
    let evidence = |at: i64, text: &str| EvidenceRow {
        at,
        text: text.to_owned(),
    };
    let offender = |policy: &str, offences| OffenderRow {
        source: key("192.0.2.9/32"),
        policy: policy.to_owned(),
        bans: 2,
        since: from_millis(9_000_000),
        offences,
    };
    let offences = vec![
        evidence(17_000_000, "a \"line\": {\"at\": 1}"),
        evidence(18_000_000, ""),
    ];
    let changes = vec![
        Change::Ban(ban(1, "192.0.2.1/32")),
        Change::Ban(BanRow {
            created: None,
            expires: None,
            ..ban(2, "192.0.2.2/32")
        }),
        Change::Throttle(ThrottleRow {
            // Before 1970 there is nothing.
            created: from_millis(500),
            ..throttle("192.0.2.7/32", "slow")
        }),
        Change::Allow(AllowRow {
            source: key("192.0.2.8/32"),
            created: from_millis(90_000_000),
            reason: None,
            by: None,
        }),
        Change::Offender(offender("default", offences)),
        Change::Offender(offender("other", Vec::new())),
        Change::Clocks(STOOD),
    ];
    let (store, _) = open();
    write(&store, changes);
    drop(store);
    for stepped in [-7_200_000, 3_600_000, 1] {
        let (store, mut expected) = open();
        expected.step(Moved(stepped));
        let set = ClockRow {
            ahead_ms: expected.clocks.unwrap().ahead_ms + stepped,
            ..STOOD
        };
        expected.clocks = Some(set);
        // Again, and with what another boot wrote: nothing.
        for row in [set, set, ClockRow { boot: 1, ..STOOD }] {
            write(&store, vec![Change::FollowClock(row)]);
        }
        drop(store);
        let (_store, snapshot) = open();
        assert_eq!(snapshot, expected, "{stepped}");
    }
}

#[test]
fn offences_that_cannot_be_read_keep_no_row_from_following_a_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    let (store, _) = Store::open(&config(&path)).unwrap();
    let offender = |source: &str| OffenderRow {
        source: key(source),
        policy: "default".to_owned(),
        bans: 2,
        since: from_millis(9_000_000),
        offences: Vec::new(),
    };
    write(
        &store,
        vec![
            Change::Ban(ban(1, "192.0.2.1/32")),
            Change::Offender(offender("192.0.2.2/32")),
            Change::Offender(offender("192.0.2.3/32")),
            Change::Clocks(STOOD),
        ],
    );
    drop(store);
    // As a disk or somebody with sqlite3 leaves them.
    let database = rusqlite::Connection::open(&path).unwrap();
    let spoil = "UPDATE offenders SET offences = CASE source
                     WHEN '192.0.2.2/32' THEN '[{\"at\": 1, ' ELSE '[\"no\", 5, null]' END";
    assert_eq!(database.execute(spoil, []).unwrap(), 2);
    drop(database);
    let (store, mut expected) = Store::open(&config(&path)).unwrap();
    let set = ClockRow {
        ahead_ms: 3_601_000,
        ..STOOD
    };
    expected.step(Moved(3_600_000));
    expected.clocks = Some(set);
    write(&store, vec![Change::FollowClock(set)]);
    assert_eq!(store.health(), Health::Good);
    drop(store);
    let (_store, snapshot) = Store::open(&config(&path)).unwrap();
    assert_eq!(snapshot, expected);
}

#[test]
fn what_is_not_ours_is_left_as_it_is_to_the_byte_and_an_older_one_of_ours_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abuser.db");
    for statements in [
        "PRAGMA application_id = 7; CREATE TABLE bans (jail, ip)",
        "CREATE TABLE fail2banDb (version)",
        "CREATE TABLE bans (a); PRAGMA user_version = 3",
        "CREATE TABLE bans (a); CREATE TABLE offenders (a); PRAGMA user_version = 99",
    ] {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(statements).unwrap();
        drop(database);
        let shared = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&path, shared).unwrap();
        let before = fs::read(&path).unwrap();
        let error = Store::open(&config(&path)).unwrap_err();
        let is_newer = statements.contains("99");
        assert_eq!(matches!(error, StoreError::TooNew { .. }), is_newer);
        assert_eq!(matches!(error, StoreError::Foreign { .. }), !is_newer);
        assert_eq!(fs::read(&path).unwrap(), before, "{statements}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if is_newer { 0o600 } else { 0o644 }, "{statements}");
        fs::remove_file(&path).unwrap();
    }
    drop(Store::open(&config(&path)).unwrap());
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("PRAGMA application_id = 0").unwrap();
    drop(database);
    let (store, _) = Store::open(&config(&path)).unwrap();
    assert_eq!(store.health(), Health::Good);
}
