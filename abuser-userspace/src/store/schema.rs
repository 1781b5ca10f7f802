//! The tables, their versions, and opening the file.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::{
    IN_MEMORY, StoreError,
    changes::{CLOCKS, cause_of, key_of},
    rows::{
        AllowRow, BanNote, BanRow, ClockRow, OffenderRow, PositionKey, PositionRow, Snapshot,
        ThrottleNote, ThrottleRow, from_millis, to_millis,
    },
};
use crate::locks::Holder;

/// Each takes the database from the version that is its index to the next one. What is
/// released stays as it is.
const MIGRATIONS: [&str; 3] = [FIRST, THROTTLES, POSITIONS];

const FIRST: &str = "
    CREATE TABLE bans (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        created INTEGER,
        expires INTEGER,
        cause TEXT NOT NULL,
        subject TEXT,
        policy TEXT,
        offences INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        by TEXT
    );
    CREATE TABLE history (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        ban INTEGER NOT NULL,
        source TEXT NOT NULL,
        created INTEGER,
        ended INTEGER NOT NULL,
        expires INTEGER,
        cause TEXT NOT NULL,
        subject TEXT,
        policy TEXT,
        offences INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        by TEXT,
        hits INTEGER NOT NULL,
        how TEXT NOT NULL
    );
    CREATE INDEX history_by_source ON history (source, seq);
    CREATE TABLE evidence (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        ban INTEGER NOT NULL,
        at INTEGER NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX evidence_by_ban ON evidence (ban, seq);
    CREATE TABLE offenders (
        source TEXT NOT NULL,
        policy TEXT NOT NULL,
        bans INTEGER NOT NULL,
        since INTEGER NOT NULL,
        offences TEXT NOT NULL,
        PRIMARY KEY (source, policy)
    ) WITHOUT ROWID;
    CREATE TABLE allowed (
        source TEXT PRIMARY KEY,
        created INTEGER NOT NULL,
        reason TEXT,
        by TEXT
    ) WITHOUT ROWID;
    CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

const THROTTLES: &str = "
    CREATE TABLE throttles (
        source TEXT NOT NULL,
        limited_by TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        reason TEXT,
        by TEXT,
        PRIMARY KEY (source, limited_by)
    ) WITHOUT ROWID;
";

const POSITIONS: &str = "
    CREATE TABLE positions (
        source TEXT NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        path BLOB NOT NULL,
        beginning BLOB NOT NULL,
        offset INTEGER NOT NULL,
        cursor TEXT,
        at INTEGER NOT NULL,
        PRIMARY KEY (source, device, inode)
    ) WITHOUT ROWID;
";

/// By which a database is known as one of abuser's: "abus". One that was made before there was this number
/// is known by its tables.
const APPLICATION_ID: i64 = 0x6162_7573;

/// How many damaged databases may lie beside the store. None is ever deleted, and a disk that damages what
/// it is given would be filled with them.
const MAX_ASIDE: usize = 8;

/// The version of the schema that has kept positions first.
const POSITIONS_SINCE: i64 = 3;

/// Why the file was not opened.
pub(super) enum OpenError {
    /// It is not to be touched.
    Unusable(StoreError),
    /// It cannot be used now.
    Failed(String),
}

/// A database that was opened.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// What it holds, if it was to be read.
    pub(super) snapshot: Snapshot,
    /// Where the one was moved that was there and is damaged.
    pub(super) aside: Option<PathBuf>,
}

/// What a database is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To read what it holds, and to write if that can be.
    Start,
    /// To write again after that failed, and not if that fails still: a database on a full disk can be opened.
    Write,
    /// The same, and to read what it holds.
    WriteAndRead,
}

/// Opens the database and reads it. One that is damaged is moved aside.
pub(super) fn open(path: &Path, purpose: Purpose) -> Result<Opened, OpenError> {
    match try_open(path, purpose) {
        Err(Trouble::Damaged(error)) => begin_anew(path, &error, purpose),
        result => result.map_err(|trouble| trouble.into_error(path)),
    }
}

/// Moves a database aside that is damaged, as `error` says, and begins a new one.
pub(super) fn begin_anew(path: &Path, error: &str, purpose: Purpose) -> Result<Opened, OpenError> {
    let failed = |error: io::Error| OpenError::Failed(error.to_string());
    let beside = damaged(path).map_err(failed)?;
    if beside >= MAX_ASIDE {
        return Err(OpenError::Failed(format!(
            "it is damaged ({error}), and {beside} damaged ones lie beside it already: look for what is wrong \
             with the disk, and move those away"
        )));
    }
    let aside = aside(path);
    tracing::error!(
        path = %path.display(),
        aside = %aside.display(),
        "the store is damaged ({error}); it is moved aside and a new one begun. Bans that the kernel still \
         holds are kept; history, evidence and what was known of offenders are in the damaged one"
    );
    set_aside(path, &aside).map_err(failed)?;
    let opened = try_open(path, purpose).map_err(|trouble| trouble.into_error(path))?;
    Ok(Opened {
        aside: Some(aside),
        ..opened
    })
}

/// What a database holds that cannot be written, if it can be read.
pub(super) fn read_only(path: &Path) -> Option<Snapshot> {
    read_with_log(path).or_else(|| read_immutable(path))
}

/// What was written last is in a log beside the database, which can only be read together with
/// it where one can write: in memory.
fn read_with_log(path: &Path) -> Option<Snapshot> {
    const IN_MEMORY: [&str; 2] = ["/dev/shm", "/run"];
    let log = beside(path, "-wal");
    if fs::metadata(&log).ok()?.len() == 0 {
        return None;
    }
    IN_MEMORY.into_iter().find_map(|folder| {
        let name = format!("abuser-{}-{}", std::process::id(), fastrand::u64(..));
        let folder = Path::new(folder).join(name);
        DirBuilder::new().mode(0o700).create(&folder).ok()?;
        let copy = folder.join("abuser.db");
        let copied = fs::copy(path, &copy).and_then(|_| fs::copy(&log, beside(&copy, "-wal")));
        let snapshot = copied
            .ok()
            .and_then(|_| read(&Connection::open(&copy).ok()?).ok());
        let _left = fs::remove_dir_all(&folder);
        snapshot
    })
}

fn read_immutable(path: &Path) -> Option<Snapshot> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(immutable_uri(path), flags).ok()?;
    read(&connection).ok()
}

/// The URI of a database that nobody writes: otherwise, reading may need to write beside it.
pub(crate) fn immutable_uri(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes().iter();
    let escaped: String = bytes
        .map(|byte| match byte {
            b'/' | b'.' | b'_' | b'-' => char::from(*byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("file:{escaped}?immutable=1")
}

enum Trouble {
    Damaged(String),
    Busy,
    TooNew(i64),
    Foreign,
    Failed(String),
}

impl Trouble {
    fn into_error(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Damaged(error) | Self::Failed(error) => OpenError::Failed(error),
            Self::Busy => OpenError::Unusable(StoreError::InUse {
                holder: Holder::of(&path),
                path,
            }),
            Self::Foreign => OpenError::Unusable(StoreError::Foreign { path }),
            Self::TooNew(found) => OpenError::Unusable(StoreError::TooNew {
                path,
                found,
                known: known(),
            }),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            _ if is_damage(&error) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Whether an error says that the database is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn try_open(path: &Path, purpose: Purpose) -> Result<Opened, Trouble> {
    // Nobody leaves such a file: somebody cut it off, or a disk was full when it was begun.
    let is_empty = fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    let mut connection = if path == Path::new(IN_MEMORY) {
        Connection::open_in_memory()?
    } else {
        refuse_foreign(path)?;
        make_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags)?
    };
    identify(&connection)?;
    prepare(&connection)?;
    migrate(&mut connection)?;
    if is_empty {
        tracing::warn!(
            path = %path.display(),
            "the store was an empty file, as a disk that was full leaves it: a new one is begun. Whatever it \
             held is lost; bans that the kernel still holds are kept"
        );
    }
    if purpose != Purpose::Start {
        probe(&connection)?;
    }
    let snapshot = match purpose {
        Purpose::Write => Snapshot::default(),
        Purpose::Start | Purpose::WriteAndRead => read(&connection)?,
    };
    Ok(Opened {
        connection,
        snapshot,
        aside: None,
    })
}

/// Refuses a database of another program before anything of it is touched, its mode and its log included.
fn refuse_foreign(path: &Path) -> Result<(), Trouble> {
    let Ok(mut address) = url::Url::from_file_path(path) else {
        return Ok(());
    };
    // Neither locked nor recovered: what its log has is not seen, and is looked at once more when it is opened.
    address.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // What else is wrong with it is told by who opens it.
    let Ok(connection) = Connection::open_with_flags(address.as_str(), flags) else {
        return Ok(());
    };
    match identify(&connection) {
        Err(Trouble::Foreign) => Err(Trouble::Foreign),
        _ => Ok(()),
    }
}

/// Sees to it that there is a file, and that nobody else can read what `SQLite` has there and beside it: it
/// holds lines of logs. What `SQLite` makes beside it has the file's mode.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        // A mistake in a longer path would begin a second store, and all bans would seem gone.
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(io::Error::new(
                error.kind(),
                format!("cannot make its folder {}: {error}", folder.display()),
            )),
        })?;
    }
    if !path.try_exists()? {
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match new {
            Ok(_file) => {
                tracing::info!(path = %path.display(), "a new store, without any bans, is begun");
            }
            // A link to a file that is not there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        // A disk that is read-only can still be read.
        if mode & 0o077 != 0
            && let Err(error) = fs::set_permissions(&path, Permissions::from_mode(mode & 0o700))
        {
            tracing::warn!(
                path = %path.display(),
                "others can read the store (mode {mode:o}), and that cannot be changed: {error}"
            );
        }
    }
    Ok(())
}

/// The way of working: one writer that nobody shares the file with, and every commit on disk.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -4096;
         PRAGMA temp_store = MEMORY;
         BEGIN EXCLUSIVE; COMMIT;",
    )
}

fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Sees to it that a database is one of ours, before anything in it is changed. Returns its schema's version.
fn identify(connection: &Connection) -> Result<i64, Trouble> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    let is_ours = match number("PRAGMA application_id")? {
        APPLICATION_ID => true,
        0 if version == 0 => number("SELECT count(*) FROM sqlite_master")? == 0,
        0 => number("SELECT count(*) FROM sqlite_master WHERE name IN ('bans', 'offenders')")? == 2,
        _ => false,
    };
    if !is_ours {
        return Err(Trouble::Foreign);
    }
    if version > known() {
        return Err(Trouble::TooNew(version));
    }
    Ok(version)
}

fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let version = identify(connection)?;
    let done = usize::try_from(version)
        .map_err(|_| Trouble::Damaged(format!("its schema's version is {version}")))?;
    // A disk that is full can still be read.
    if version == known() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known())?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

fn read(connection: &Connection) -> rusqlite::Result<Snapshot> {
    let mut notes = Notes::default();
    let mut statement = connection.prepare(
        "SELECT id, source, created, expires, cause, subject, policy, offences, reason, by
         FROM bans",
    )?;
    let bans = statement
        .query_map([], |row| ban(row, &mut notes))?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement = connection.prepare("SELECT source, created, reason, by FROM allowed")?;
    let allowed = statement
        .query_map([], |row| {
            Ok(key(row, 0)?.map(|source| AllowRow {
                source,
                created: from_millis(row.get(1).unwrap_or_default()),
                reason: row.get(2).unwrap_or_default(),
                by: row.get(3).unwrap_or_default(),
            }))
        })?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement =
        connection.prepare("SELECT source, policy, bans, since, offences FROM offenders")?;
    let offenders = statement
        .query_map([], offender)?
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let throttles = if has_throttles(connection)? {
        let mut statement = connection
            .prepare("SELECT source, limited_by, created, expires, reason, by FROM throttles")?;
        statement
            .query_map([], throttle)?
            .filter_map(Result::transpose)
            .collect::<rusqlite::Result<Vec<_>>>()?
    } else {
        Vec::new()
    };
    let positions = positions(connection)?;
    let last_id: i64 = connection.query_row(
        "SELECT max(ifnull((SELECT value FROM numbers WHERE name = 'last_ban'), 0),
                    ifnull((SELECT max(id) FROM bans), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(Snapshot {
        bans,
        allowed,
        offenders,
        throttles,
        positions,
        last_id: u64::try_from(last_id).unwrap_or_default(),
        clocks: clocks(connection)?,
    })
}

/// How the clocks stood; `None` if nobody wrote it down.
pub(super) fn clocks(connection: &Connection) -> rusqlite::Result<Option<ClockRow>> {
    let mut select = connection.prepare("SELECT value FROM numbers WHERE name = ?1")?;
    let mut numbers = [0; CLOCKS.len()];
    for (number, name) in numbers.iter_mut().zip(CLOCKS) {
        match select.query_row([name], |row| row.get(0)) {
            Ok(value) => *number = value,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let [boot, slept_ms, ahead_ms] = numbers;
    Ok(Some(ClockRow {
        boot,
        slept_ms,
        ahead_ms,
    }))
}

/// The kept positions; none if the database is one of an older version that cannot be brought
/// to this one, because it cannot be written.
fn positions(connection: &Connection) -> rusqlite::Result<Vec<PositionRow>> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version < POSITIONS_SINCE {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(
        "SELECT source, device, inode, path, beginning, offset, cursor, at FROM positions",
    )?;
    let rows = statement.query_map([], |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(PositionRow {
            key: PositionKey {
                source: row.get(0)?,
                device: number(1)?,
                inode: number(2)?,
            },
            path: OsString::from_vec(row.get(3)?).into(),
            beginning: row.get(4)?,
            offset: number(5)?,
            cursor: row.get(6)?,
            at: from_millis(row.get(7)?),
        })
    })?;
    rows.collect()
}

/// Notes that occur again and again are kept once.
#[derive(Default)]
pub(super) struct Notes {
    known: HashSet<Arc<BanNote>>,
    /// That of the row before: bans of one command lie together.
    last: Option<Arc<BanNote>>,
}

impl Notes {
    /// The note in a row's columns; see [`ban`].
    fn of(&mut self, row: &Row<'_>, cause: BanCause) -> rusqlite::Result<Arc<BanNote>> {
        let text = |column| -> rusqlite::Result<_> { Ok(row.get_ref(column)?.as_str_or_null()?) };
        let texts = [text(5)?, text(6)?, text(8)?, text(9)?];
        if let Some(last) = self.last.as_ref().filter(|last| says(last, cause, texts)) {
            return Ok(Arc::clone(last));
        }
        let [subject, policy, reason, by] = texts.map(|text| text.map(str::to_owned));
        let note = BanNote {
            cause,
            subject,
            policy,
            reason,
            by,
        };
        let note = if let Some(known) = self.known.get(&note) {
            Arc::clone(known)
        } else {
            let note = Arc::new(note);
            self.known.insert(Arc::clone(&note));
            note
        };
        Ok(Arc::clone(self.last.insert(note)))
    }
}

/// Whether a note says this.
fn says(note: &BanNote, cause: BanCause, [subject, policy, reason, by]: [Option<&str>; 4]) -> bool {
    note.cause == cause
        && note.subject.as_deref() == subject
        && note.policy.as_deref() == policy
        && note.reason.as_deref() == reason
        && note.by.as_deref() == by
}

/// A ban, from the columns `id, source, created, expires, cause, subject, policy, offences,
/// reason, by`. A row whose source or cause cannot be read was not written by abuser, and is left out.
pub(super) fn ban(row: &Row<'_>, notes: &mut Notes) -> rusqlite::Result<Option<BanRow>> {
    let cause = cause_of(row.get_ref(4)?.as_str().unwrap_or_default());
    let (Some(source), Some(cause)) = (key(row, 1)?, cause) else {
        return Ok(None);
    };
    let time = |index| -> rusqlite::Result<Option<SystemTime>> {
        Ok(row.get::<_, Option<i64>>(index)?.map(from_millis))
    };
    Ok(Some(BanRow {
        id: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
        source,
        created: time(2)?,
        expires: time(3)?,
        offences: row.get(7)?,
        note: notes.of(row, cause)?,
    }))
}

fn offender(row: &Row<'_>) -> rusqlite::Result<Option<OffenderRow>> {
    let offences: String = row.get(4)?;
    let Some(source) = key(row, 0)? else {
        return Ok(None);
    };
    Ok(Some(OffenderRow {
        source,
        policy: row.get(1)?,
        bans: row.get(2)?,
        since: from_millis(row.get(3)?),
        offences: serde_json::from_str(&offences).unwrap_or_default(),
    }))
}

/// Whether there is a table of throttles: not in an older database that cannot be written.
fn has_throttles(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'throttles'",
        [],
        |row| row.get(0),
    )
}

fn throttle(row: &Row<'_>) -> rusqlite::Result<Option<ThrottleRow>> {
    let Some(source) = key(row, 0)? else {
        return Ok(None);
    };
    let note = ThrottleNote {
        limit: row.get::<_, String>(1)?.into(),
        reason: row.get(4)?,
        by: row.get(5)?,
    };
    Ok(Some(ThrottleRow {
        source,
        created: from_millis(row.get(2)?),
        expires: row.get::<_, Option<i64>>(3)?.map(from_millis),
        note: Arc::new(note),
    }))
}

fn key(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<PrefixKey>> {
    let source = row.get_ref(index)?.as_str().unwrap_or_default();
    let key = key_of(source);
    if key.is_none() {
        tracing::warn!(
            source,
            "the store has a row whose source is no prefix; it is left out"
        );
    }
    Ok(key)
}

/// Writes something, so that it is known whether the disk takes it.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO numbers (name, value) VALUES ('revived', ?1)",
        [to_millis(SystemTime::now())],
    )?;
    Ok(())
}

/// How many damaged databases lie beside this one.
fn damaged(path: &Path) -> io::Result<usize> {
    let mut start = path.file_name().unwrap_or_default().to_owned();
    start.push(DAMAGED);
    let mut count = 0;
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        let rest = name.as_bytes().strip_prefix(start.as_bytes());
        // Not what belongs to one, as its log does.
        let is_number = |rest: &[u8]| rest.iter().all(u8::is_ascii_digit);
        count += usize::from(rest.is_some_and(is_number));
    }
    Ok(count)
}

/// Between a database's name and the time when it was moved aside.
const DAMAGED: &str = ".damaged-";

/// Where a damaged database goes.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{DAMAGED}{}", to_millis(SystemTime::now())));
    name.into()
}

/// Moves the database and what belongs to it.
fn set_aside(path: &Path, aside: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The file whose name goes on after that of the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
