//! fail2ban's database.

use std::{fs, path::Path};

use rusqlite::Connection;

use super::*;
use crate::exchange::fail2ban;

/// What fail2ban 1.0.2 creates, less its indexes.
const BANS: &str = "
    CREATE TABLE fail2banDb(version INTEGER);
    CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
    CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL,
        bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON,
        FOREIGN KEY(jail) REFERENCES jails(name));
    INSERT INTO fail2banDb VALUES(4);
    INSERT INTO jails VALUES('sshd', 1);
    INSERT INTO jails VALUES('nginx', 1);";
const BIPS: &str = "
    CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL,
        bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON,
        PRIMARY KEY(ip, jail), FOREIGN KEY(jail) REFERENCES jails(name));";

/// [`now`] is 1767225600.
const ROWS: &str = "
    INSERT INTO bips VALUES('192.0.2.1', 'sshd', 1767225500, 600, 1, X'7b7d');
    INSERT INTO bips VALUES('192.0.2.2', 'sshd', 1767225500, -1, 1, X'7b7d');
    INSERT INTO bips VALUES('192.0.2.1', 'nginx', 1767225500, 3600, 2, X'7b7d');
    INSERT INTO bips VALUES('2001:db8::1', 'sshd', 1767224600, 600, 1, X'7b7d');
    INSERT INTO bips VALUES('2001:db8::2', 'sshd', 1767225000, 600, 1, X'7b7d');
    INSERT INTO bips VALUES('198.51.100.0/24', 'sshd', 1767225600, 600, 1, X'7b7d');";

fn items(path: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let mut sink = |mut item| {
        if let Item::Entry(entry) = &mut item {
            entry.number = 0;
        }
        items.push(item);
    };
    fail2ban::read(path, now(), &mut sink).unwrap();
    items
}

fn error(path: &Path) -> String {
    fail2ban::read(path, now(), &mut |_| {})
        .unwrap_err()
        .to_string()
}

fn database(path: &Path, sql: &[&str]) -> Connection {
    let connection = Connection::open(path).unwrap();
    for sql in sql {
        connection.execute_batch(sql).unwrap();
    }
    connection
}

#[test]
fn bans_that_there_are_come_with_jail_and_end() {
    let folder = tempfile::tempdir().unwrap();
    // Names that mean something in a URI.
    let path = folder.path().join("fail2ban ?x#%20.sqlite3");
    let connection = database(&path, &[BANS, BIPS, ROWS]);
    // One that is over, and not in `bips` any more.
    let over = "INSERT INTO bans VALUES('sshd', '192.0.2.99', 1767225500, 600, 1, NULL)";
    connection.execute_batch(over).unwrap();
    assert_eq!(Format::detect(&fs::read(&path).unwrap()), Format::Fail2ban);
    assert_eq!(
        items(&path),
        [
            entry(
                "192.0.2.1/32",
                at("2026-01-01T00:08:20Z"),
                Some("fail2ban jail sshd")
            ),
            entry("192.0.2.2/32", Expiry::Never, Some("fail2ban jail sshd")),
            entry(
                "192.0.2.1/32",
                at("2026-01-01T00:58:20Z"),
                Some("fail2ban jail nginx")
            ),
            Item::Expired,
            // Over at this very moment.
            Item::Expired,
            entry(
                "198.51.100.0/24",
                at("2026-01-01T00:10:00Z"),
                Some("fail2ban jail sshd")
            ),
        ]
    );
}

#[test]
fn where_only_history_is_the_last_of_an_address_and_jail_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sqlite3");
    drop(database(
        &path,
        &[
            BANS,
            "INSERT INTO bans VALUES('sshd', '192.0.2.1', 1767225500, 600, 2, NULL);
             INSERT INTO bans VALUES('sshd', '192.0.2.1', 1767220000, 99999999, 1, NULL);
             INSERT INTO bans VALUES('nginx', '192.0.2.1', 1767220000, 60, 1, NULL);
             INSERT INTO bans VALUES('sshd', '192.0.2.2', 1767220000, 99999999, 1, NULL);
             INSERT INTO bans VALUES('sshd', '192.0.2.2', 1767225500, 600, 2, NULL);",
        ],
    ));
    assert_eq!(
        items(&path),
        [
            Item::Expired,
            entry(
                "192.0.2.1/32",
                at("2026-01-01T00:08:20Z"),
                Some("fail2ban jail sshd")
            ),
            entry(
                "192.0.2.2/32",
                at("2026-01-01T00:08:20Z"),
                Some("fail2ban jail sshd"),
            ),
        ]
    );
}

#[test]
fn rows_that_are_none_cost_only_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sqlite3");
    drop(database(
        &path,
        &[
            BANS,
            BIPS,
            "INSERT INTO bips VALUES('host.example', 'sshd', 1767225500, 600, 1, NULL);
             INSERT INTO bips VALUES(X'ff', 'sshd', 1767225500, 600, 1, NULL);
             INSERT INTO bips VALUES('192.0.2.1', 'sshd', 'x', 600, 1, NULL);
             INSERT INTO bips VALUES('192.0.2.2', 'sshd', -1, 600, 1, NULL);
             INSERT INTO bips VALUES('192.0.2.3', 'sshd', 9223372036854775807, 600, 1, NULL);
             INSERT INTO bips VALUES('192.0.2.4', 'sshd', 1767225500, 9223372036854775807, 1, NULL);",
        ],
    ));
    let found: Vec<_> = items(&path).iter().map(short).collect();
    assert!(
        found[0].contains("1: \"host.example\" is not an IP address"),
        "{found:?}"
    );
    assert!(found[1].starts_with("2: "), "{found:?}");
    let problem = "the time or length of the ban is not a number of seconds";
    assert_eq!(
        found[2..],
        [
            format!("3: {problem}"),
            format!("4: {problem}"),
            format!("5: {problem}"),
            "192.0.2.4/32".to_owned(),
        ]
    );
}

#[test]
fn it_is_read_while_fail2ban_writes_and_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sqlite3");
    let connection = database(&path, &["PRAGMA journal_mode = WAL", BANS, BIPS, ROWS]);
    let before = fs::read(&path).unwrap();
    // What is only in the log beside it is seen as well.
    assert_eq!(items(&path).len(), 6);
    assert_eq!(fs::read(&path).unwrap(), before);
    connection
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM bips;")
        .unwrap();
    assert_eq!(items(&path).len(), 6);
}

#[test]
fn it_is_read_where_nothing_can_be_written() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sqlite3");
    drop(database(
        &path,
        &["PRAGMA journal_mode = WAL", BANS, BIPS, ROWS],
    ));
    // To root, this is no obstacle, and the test says less.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(items(&path).len(), 6);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_error_names_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sqlite3");
    let missing = error(&path);
    assert!(missing.contains(&path.display().to_string()), "{missing}");
    assert!(
        missing.contains("`fail2ban-client get dbfile` tells where it is"),
        "{missing}"
    );

    fs::write(&path, "192.0.2.1\n".repeat(200)).unwrap();
    let other = error(&path);
    assert!(other.contains(&path.display().to_string()), "{other}");
    assert!(other.contains("say which with --format"), "{other}");

    fs::remove_file(&path).unwrap();
    drop(database(&path, &["CREATE TABLE x(y)"]));
    let strange = error(&path);
    assert!(strange.contains("no such table: bans"), "{strange}");
    assert!(strange.contains("0.11 or later"), "{strange}");

    let stream = read(Format::Fail2ban, &mut &b""[..], &mut |_| {}).unwrap_err();
    assert!(stream.to_string().contains("from a file"), "{stream}");
}
