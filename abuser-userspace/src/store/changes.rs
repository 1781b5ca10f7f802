//! Changes to SQL.

use std::{
    collections::{HashMap, HashSet},
    os::unix::ffi::OsStrExt as _,
    sync::Arc,
    time::SystemTime,
};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use rusqlite::{CachedStatement, Connection, params};

use super::{
    rows::{
        AllowRow, BanRow, ClockRow, EvidenceRow, HistoryRow, OffenderRow, PositionKey, PositionRow,
        ThrottleRow, from_millis, to_millis,
    },
    schema::clocks,
};
use crate::policy::ends::same_end;

/// One change. Those of one call to [`Store::write`](super::Store::write) take effect together.
#[derive(Clone, Debug)]
pub enum Change {
    /// A ban is made or renewed, by its number.
    Ban(BanRow),
    /// What led to it: added to what is there, of which the latest ones are kept.
    Evidence(u64, Vec<EvidenceRow>),
    /// A ban is over.
    Unban(HistoryRow),
    /// A ban is to be forgotten that never was.
    Erase(u64),
    /// An allow entry is made or renewed.
    Allow(AllowRow),
    /// An allow entry goes.
    Disallow(PrefixKey),
    /// What is remembered of an offender.
    Offender(OffenderRow),
    /// An offender is forgotten, under all policies.
    Forgive(PrefixKey),
    /// An offender is forgotten under one policy.
    Forget(PrefixKey, String),
    /// All offenders are.
    ForgetAll,
    /// A source is throttled, or for longer.
    Throttle(ThrottleRow),
    /// A source is not throttled any more by the limit with this name.
    Unthrottle(PrefixKey, Arc<str>),
    /// How far a source was read.
    Position(PositionRow),
    /// There is nothing more to read there.
    PositionGone(PositionKey),
    /// How the clocks stand; all other rows are right by them.
    Clocks(ClockRow),
    /// The wall clock was set and stands so now: all times that were written down by another one go with it,
    /// but for positions in files, which the kernel stamps, and for history. The same one again changes nothing.
    FollowClock(ClockRow),
}

const BAN: &str = "
    INSERT INTO bans (id, source, created, expires, cause, subject, policy, offences, reason, by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (id) DO UPDATE SET source = ?2, created = ?3, expires = ?4, cause = ?5,
        subject = ?6, policy = ?7, offences = ?8, reason = ?9, by = ?10";

const LAST_BAN: &str = "
    INSERT INTO numbers (name, value) VALUES ('last_ban', ?1)
    ON CONFLICT (name) DO UPDATE SET value = max(value, ?1)";

/// The numbers of a [`ClockRow`], by name.
pub(super) const CLOCKS: [&str; 3] = ["boot", "slept_ms", "ahead_ms"];

const HISTORY: &str = "
    INSERT INTO history (ban, source, created, ended, expires, cause, subject, policy, offences,
        reason, by, hits, how)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// Writes changes within a transaction that is under way. `evidence` is how much of it is kept
/// for each ban.
pub(super) fn apply(
    connection: &Connection,
    changes: &[Change],
    evidence: usize,
) -> rusqlite::Result<()> {
    let mut last_id = 0;
    for change in changes {
        match change {
            Change::Ban(ban) => {
                insert_ban(&mut connection.prepare_cached(BAN)?, ban)?;
                last_id = last_id.max(number(ban.id));
            }
            Change::Evidence(ban, rows) => add_evidence(connection, *ban, rows, evidence)?,
            Change::Unban(over) => {
                erase(connection, over.ban.id)?;
                add_history(connection, over)?;
            }
            Change::Erase(ban) => {
                erase(connection, *ban)?;
            }
            Change::Allow(AllowRow {
                source,
                created,
                reason,
                by,
            }) => {
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO allowed (source, created, reason, by)
                         VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![text_of(source), to_millis(*created), reason, by])?;
            }
            Change::Disallow(source) => {
                connection
                    .prepare_cached("DELETE FROM allowed WHERE source = ?1")?
                    .execute([text_of(source)])?;
            }
            Change::Offender(OffenderRow {
                source,
                policy,
                bans,
                since,
                offences,
            }) => {
                let offences = serde_json::to_string(offences).unwrap_or_default();
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO offenders (source, policy, bans, since, offences)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        text_of(source),
                        policy,
                        bans,
                        to_millis(*since),
                        offences
                    ])?;
            }
            Change::Forgive(source) => {
                connection
                    .prepare_cached("DELETE FROM offenders WHERE source = ?1")?
                    .execute([text_of(source)])?;
            }
            Change::Forget(source, policy) => {
                connection
                    .prepare_cached("DELETE FROM offenders WHERE source = ?1 AND policy = ?2")?
                    .execute([&text_of(source), policy])?;
            }
            Change::ForgetAll => {
                connection.execute("DELETE FROM offenders", [])?;
            }
            Change::Throttle(row) => insert_throttle(connection, row)?,
            Change::Unthrottle(source, limit) => {
                connection
                    .prepare_cached("DELETE FROM throttles WHERE source = ?1 AND limited_by = ?2")?
                    .execute([text_of(source).as_str(), limit])?;
            }
            Change::Clocks(row) => set_clocks(connection, *row)?,
            Change::FollowClock(row) => follow_clock(connection, row)?,
            Change::Position(row) => set_position(connection, row)?,
            Change::PositionGone(PositionKey {
                source,
                device,
                inode,
            }) => {
                connection
                    .prepare_cached(
                        "DELETE FROM positions WHERE source = ?1 AND device = ?2 AND inode = ?3",
                    )?
                    .execute(params![source, device.cast_signed(), inode.cast_signed()])?;
            }
        }
    }
    if last_id > 0 {
        connection.prepare_cached(LAST_BAN)?.execute([last_id])?;
    }
    Ok(())
}

fn set_clocks(connection: &Connection, row: ClockRow) -> rusqlite::Result<()> {
    let ClockRow {
        boot,
        slept_ms,
        ahead_ms,
    } = row;
    let mut set = connection
        .prepare_cached("INSERT OR REPLACE INTO numbers (name, value) VALUES (?1, ?2)")?;
    for (name, value) in CLOCKS.into_iter().zip([boot, slept_ms, ahead_ms]) {
        set.execute(params![name, value])?;
    }
    Ok(())
}

/// [`Snapshot::step`](super::Snapshot::step) for what is in the database.
fn follow_clock(connection: &Connection, now: &ClockRow) -> rusqlite::Result<()> {
    // A time that there cannot be stays, as does what is none.
    const MOVE: [&str; 5] = [
        "UPDATE bans SET
             created = iif(created + ?1 < 0, created, created + ?1),
             expires = iif(expires + ?1 < 0, expires, expires + ?1)",
        "UPDATE throttles SET
             created = iif(created + ?1 < 0, created, created + ?1),
             expires = iif(expires + ?1 < 0, expires, expires + ?1)",
        "UPDATE allowed SET created = iif(created + ?1 < 0, created, created + ?1)",
        // Offences that cannot be read are none, as for a start; they are no reason to move nothing.
        "UPDATE offenders SET
             since = iif(since + ?1 < 0, since, since + ?1),
             offences = CASE
                 WHEN NOT json_valid(offences) THEN offences
                 WHEN EXISTS (SELECT 1 FROM json_each(offences) WHERE type <> 'object') THEN offences
                 ELSE (
                     SELECT json_group_array(json_set(value, '$.at', value ->> '$.at' + ?1))
                     FROM json_each(offences)
                 )
             END",
        "UPDATE numbers SET value = value + ?1 WHERE name = 'ahead_ms'",
    ];
    // What was written in another boot is right by the wall clock alone.
    let passed = clocks(connection)?.and_then(|before| now.since(&before));
    let stepped = passed.map_or(0, |passed| passed.stepped);
    if stepped != 0 {
        for statement in MOVE {
            connection.execute(statement, [stepped])?;
        }
    }
    Ok(())
}

fn set_position(connection: &Connection, row: &PositionRow) -> rusqlite::Result<()> {
    let PositionRow {
        key: PositionKey {
            source,
            device,
            inode,
        },
        path,
        beginning,
        offset,
        cursor,
        at,
    } = row;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO positions
                 (source, device, inode, path, beginning, offset, cursor, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            source,
            device.cast_signed(),
            inode.cast_signed(),
            path.as_os_str().as_bytes(),
            beginning,
            offset.cast_signed(),
            cursor,
            to_millis(*at)
        ])?;
    Ok(())
}

/// Makes the rows of these bans as given; how many differed.
pub(super) fn compare(connection: &Connection, rows: &[BanRow]) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT source, expires FROM bans WHERE id = ?1")?;
    let mut repairs = 0;
    let mut last_id = 0;
    for ban in rows {
        let stored = select.query_row([number(ban.id)], |row| {
            let source = row.get_ref(0)?.as_str().unwrap_or_default();
            Ok((key_of(source), row.get::<_, Option<i64>>(1)?))
        });
        let right = match stored {
            Ok((source, expires)) => {
                source == Some(ban.source) && same_end(expires.map(from_millis), ban.expires)
            }
            Err(rusqlite::Error::QueryReturnedNoRows) => false,
            Err(error) => return Err(error),
        };
        if !right {
            insert_ban(&mut connection.prepare_cached(BAN)?, ban)?;
            repairs += 1;
            last_id = last_id.max(number(ban.id));
        }
    }
    if last_id > 0 {
        connection.prepare_cached(LAST_BAN)?.execute([last_id])?;
    }
    Ok(repairs)
}

/// How many bans there are.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<usize> {
    let count: i64 = connection.query_row("SELECT count(*) FROM bans", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Deletes the bans that have none of these numbers, which are in order; how many.
pub(super) fn retain(connection: &Connection, ids: &[u64]) -> rusqlite::Result<u64> {
    let mut select = connection.prepare("SELECT id FROM bans")?;
    let stored = select.query_map([], |row| row.get::<_, i64>(0))?;
    let mut surplus = Vec::new();
    for id in stored {
        let id = id?;
        let known = u64::try_from(id).is_ok_and(|id| ids.binary_search(&id).is_ok());
        if !known {
            surplus.push(id);
        }
    }
    let mut delete = connection.prepare("DELETE FROM bans WHERE id = ?1")?;
    for id in &surplus {
        delete.execute([id])?;
    }
    Ok(surplus.len() as u64)
}

/// Makes the allow entries these; how many differed.
pub(super) fn compare_allowed(connection: &Connection, rows: &[AllowRow]) -> rusqlite::Result<u64> {
    let mut select = connection.prepare("SELECT source FROM allowed")?;
    let stored = select.query_map([], |row| row.get::<_, String>(0))?;
    let stored = stored.collect::<rusqlite::Result<HashSet<_>>>()?;
    let expected: HashMap<_, _> = rows.iter().map(|row| (text_of(&row.source), row)).collect();
    let mut changes = Vec::new();
    for (source, row) in &expected {
        if !stored.contains(source) {
            changes.push(Change::Allow((*row).clone()));
        }
    }
    let mut repairs = changes.len() as u64;
    apply(connection, &changes, 0)?;
    for source in stored
        .iter()
        .filter(|source| !expected.contains_key(*source))
    {
        connection.execute("DELETE FROM allowed WHERE source = ?1", [source])?;
        repairs += 1;
    }
    Ok(repairs)
}

/// Makes the throttles these; how many differed.
pub(super) fn compare_throttles(
    connection: &Connection,
    rows: &[ThrottleRow],
) -> rusqlite::Result<u64> {
    let mut stored = HashMap::new();
    let mut select = connection.prepare("SELECT source, limited_by, expires FROM throttles")?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let names: (String, String) = (row.get(0)?, row.get(1)?);
        stored.insert(names, row.get::<_, Option<i64>>(2)?.map(from_millis));
    }
    let mut repairs = 0;
    for row in rows {
        let names = (text_of(&row.source), row.note.limit.to_string());
        let right = stored.remove(&names);
        if right.is_none_or(|expires| !same_end(expires, row.expires)) {
            insert_throttle(connection, row)?;
            repairs += 1;
        }
    }
    for (source, limit) in stored.into_keys() {
        connection
            .prepare_cached("DELETE FROM throttles WHERE source = ?1 AND limited_by = ?2")?
            .execute([source, limit])?;
        repairs += 1;
    }
    Ok(repairs)
}

fn insert_throttle(connection: &Connection, row: &ThrottleRow) -> rusqlite::Result<()> {
    let ThrottleRow {
        source,
        created,
        expires,
        note,
    } = row;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO throttles (source, limited_by, created, expires, reason, by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            text_of(source),
            &*note.limit,
            to_millis(*created),
            expires.map(to_millis),
            note.reason,
            note.by
        ])?;
    Ok(())
}

fn insert_ban(statement: &mut CachedStatement<'_>, ban: &BanRow) -> rusqlite::Result<()> {
    let BanRow {
        id,
        source,
        created,
        expires,
        offences,
        note,
    } = ban;
    statement.execute(params![
        number(*id),
        text_of(source),
        created.map(to_millis),
        expires.map(to_millis),
        note.cause.name(),
        note.subject,
        note.policy,
        offences,
        note.reason,
        note.by
    ])?;
    Ok(())
}

fn erase(connection: &Connection, ban: u64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached("DELETE FROM bans WHERE id = ?1")?
        .execute([number(ban)])
}

fn add_history(connection: &Connection, over: &HistoryRow) -> rusqlite::Result<()> {
    let HistoryRow {
        ban,
        ended,
        how,
        hits,
    } = over;
    connection.prepare_cached(HISTORY)?.execute(params![
        number(ban.id),
        text_of(&ban.source),
        ban.created.map(to_millis),
        to_millis(*ended),
        ban.expires.map(to_millis),
        ban.note.cause.name(),
        ban.note.subject,
        ban.note.policy,
        ban.offences,
        ban.note.reason,
        ban.note.by,
        number(*hits),
        how
    ])?;
    Ok(())
}

fn add_evidence(
    connection: &Connection,
    ban: u64,
    rows: &[EvidenceRow],
    kept: usize,
) -> rusqlite::Result<()> {
    let kept = i64::try_from(kept).unwrap_or(i64::MAX);
    let mut insert =
        connection.prepare_cached("INSERT INTO evidence (ban, at, text) VALUES (?1, ?2, ?3)")?;
    for EvidenceRow { at, text } in rows {
        insert.execute(params![number(ban), at, text])?;
    }
    connection
        .prepare_cached(
            "DELETE FROM evidence WHERE ban = ?1 AND seq NOT IN
             (SELECT seq FROM evidence WHERE ban = ?1 ORDER BY seq DESC LIMIT ?2)",
        )?
        .execute([number(ban), kept])?;
    Ok(())
}

/// Forgets what is older than `oldest` or beyond the latest `kept`, some of it at a time;
/// whether there may be more.
pub(super) fn trim(
    connection: &Connection,
    oldest: SystemTime,
    kept: u64,
) -> rusqlite::Result<bool> {
    const AT_ONCE: usize = 2_000;
    let trimmed = connection
        .prepare_cached(
            "DELETE FROM history WHERE seq IN (SELECT seq FROM history
             WHERE ended < ?1 OR seq <= (SELECT max(seq) FROM history) - ?2 LIMIT ?3)",
        )?
        .execute(params![
            to_millis(oldest),
            number(kept),
            number(AT_ONCE as u64)
        ])?;
    // It goes through all that is left, so once is enough.
    if trimmed < AT_ONCE {
        connection.execute(
            "DELETE FROM evidence WHERE ban NOT IN (SELECT id FROM bans)
             AND ban NOT IN (SELECT ban FROM history)",
            [],
        )?;
    }
    Ok(trimmed >= AT_ONCE)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A prefix as people write it, so that the database can be read by them.
pub(super) fn text_of(key: &PrefixKey) -> String {
    key.address()
        .map_or_else(String::new, |address| format!("{address}/{}", key.length))
}

/// The reverse of [`text_of`].
pub(super) fn key_of(text: &str) -> Option<PrefixKey> {
    let (address, length) = text.split_once('/')?;
    let address: std::net::IpAddr = address.parse().ok()?;
    let key = PrefixKey::new(address, length.parse().ok()?)?;
    // Bits beyond the length would make another prefix of it.
    (key.address() == Some(address)).then_some(key)
}

/// The cause with this name.
pub(super) fn cause_of(name: &str) -> Option<BanCause> {
    BanCause::ALL.into_iter().find(|cause| cause.name() == name)
}
