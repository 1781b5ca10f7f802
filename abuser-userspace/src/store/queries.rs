//! What is asked of the store.

use abuser_common::prefix::PrefixKey;
use rusqlite::{Connection, params};

use super::{changes::text_of, rows::EvidenceRow};

/// A ban that is over, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastBan {
    /// Its number.
    pub ban: u64,
    /// Whom it banned.
    pub source: String,
    /// When it was made, in milliseconds since 1970, if that is known.
    pub created: Option<i64>,
    /// When it ended.
    pub ended: i64,
    /// `expired`, or how else.
    pub how: String,
    /// What made it.
    pub cause: String,
    /// Why.
    pub reason: Option<String>,
    /// Who asked for it, if somebody did.
    pub by: Option<String>,
    /// Packets that met it.
    pub hits: u64,
}

/// The latest `count` bans of exactly these prefixes that are over, the latest first.
pub fn history(
    connection: &Connection,
    sources: &[PrefixKey],
    count: usize,
) -> rusqlite::Result<Vec<PastBan>> {
    let mut select = connection.prepare_cached(
        "SELECT seq, ban, source, created, ended, how, cause, reason, by, hits FROM history
         WHERE source = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let mut found = Vec::new();
    for source in sources {
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = select.query_map(params![text_of(source), limit], |row| {
            let past = PastBan {
                ban: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
                source: row.get(2)?,
                created: row.get(3)?,
                ended: row.get(4)?,
                how: row.get(5)?,
                cause: row.get(6)?,
                reason: row.get(7)?,
                by: row.get(8)?,
                hits: u64::try_from(row.get::<_, i64>(9)?).unwrap_or_default(),
            };
            Ok((row.get::<_, i64>(0)?, past))
        })?;
        for row in rows {
            found.push(row?);
        }
    }
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    Ok(found
        .into_iter()
        .take(count)
        .map(|(_, past)| past)
        .collect())
}

/// What led to a ban, the oldest first.
pub fn evidence(connection: &Connection, ban: u64) -> rusqlite::Result<Vec<EvidenceRow>> {
    let mut select = connection
        .prepare_cached("SELECT at, text FROM evidence WHERE ban = ?1 ORDER BY at, seq")?;
    let rows = select.query_map([i64::try_from(ban).unwrap_or(i64::MAX)], |row| {
        Ok(EvidenceRow {
            at: row.get(0)?,
            text: row.get(1)?,
        })
    })?;
    rows.collect()
}
