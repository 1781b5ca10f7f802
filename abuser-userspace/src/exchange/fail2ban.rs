//! fail2ban's database: `SQLite`, usually `/var/lib/fail2ban/fail2ban.sqlite3`.
//!
//! Its table `bips` holds the bans that there are, an address and jail once; `bans` holds every
//! ban there was. Databases from before fail2ban 0.11 have only the latter.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::{BadLine, Expiry, Item, Sink, entries};
use crate::{policy::MAX_BAN, store::immutable_uri};

/// How long fail2ban may keep it locked; it writes for milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

const CURRENT: &str = "SELECT ip, jail, timeofban, bantime FROM bips ORDER BY rowid";
/// The columns beside a maximum are those of its row.
const LATEST: &str = "SELECT ip, jail, max(timeofban), bantime FROM bans GROUP BY ip, jail";

pub(super) fn read(path: &Path, now: SystemTime, sink: Sink<'_>) -> io::Result<()> {
    // SQLite says no more than that it cannot open it.
    File::open(path).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                "name fail2ban's database; `fail2ban-client get dbfile` tells where it is"
            }
            io::ErrorKind::PermissionDenied => "read it as root",
            _ => "see that it can be read",
        };
        io::Error::new(
            error.kind(),
            format!(
                "fail2ban's database {} cannot be opened: {error}; {advice}",
                path.display()
            ),
        )
    })?;
    read_bans(path, now, sink).map_err(|error| {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "fail2ban keeps it locked: try again, or read a copy"
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                "it is none or damaged; if it is a list of another kind, say which with --format"
            }
            _ => {
                "see that it is fail2ban's, 0.11 or later: `fail2ban-client get dbfile` tells \
                 where that is"
            }
        };
        io::Error::other(format!(
            "fail2ban's database {} cannot be read: {error}; {advice}",
            path.display()
        ))
    })
}

fn read_bans(path: &Path, now: SystemTime, sink: Sink<'_>) -> rusqlite::Result<()> {
    let connection = open(path)?;
    let is_current = connection.table_exists(None, "bips")?;
    let mut statement = connection.prepare(if is_current { CURRENT } else { LATEST })?;
    let mut rows = statement.query([])?;
    let mut number = 0;
    while let Some(row) = rows.next()? {
        number += 1;
        let ip = text(row, 0);
        if let Some(expires) = expiry(row, now) {
            let reason = format!("fail2ban jail {}", text(row, 1));
            entries(number, &ip, &ip, expires, Some(&reason), sink);
        } else {
            let problem = "the time or length of the ban is not a number of seconds";
            sink(Item::Bad(BadLine::new(number, &ip, problem)));
        }
    }
    Ok(())
}

/// Opens it so that it is not written, and is seen with what fail2ban has changed until now. In
/// WAL mode reading writes beside it; where that cannot be, it is read as it lies there.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(probed);
    match opened {
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) =>
        {
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable_uri(path), flags).and_then(probed)
        }
        opened => opened,
    }
}

/// The connection, if it can read: `SQLite` opens a file only then.
fn probed(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(PATIENCE)?;
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    Ok(connection)
}

/// A column as text, whatever it is.
fn text(row: &Row<'_>, column: usize) -> String {
    let value = row.get_ref(column).ok();
    let bytes = value.and_then(|value| value.as_bytes().ok());
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// When the ban ends; `None` if it does not say in numbers.
fn expiry(row: &Row<'_>, now: SystemTime) -> Option<Expiry> {
    let (begun, length): (i64, i64) = (row.get(2).ok()?, row.get(3).ok()?);
    // fail2ban's -1.
    let Ok(length) = u64::try_from(length) else {
        return Some(Expiry::Never);
    };
    let length = Duration::from_secs(length).min(MAX_BAN);
    let begun = Duration::from_secs(u64::try_from(begun).ok()?);
    let end = UNIX_EPOCH.checked_add(begun)?.checked_add(length)?;
    if end > now {
        Some(Expiry::At(end))
    } else {
        Some(Expiry::In(Duration::ZERO))
    }
}
