//! What is asked of the store.

use abuser_common::prefix::PrefixKey;
use rusqlite::{Connection, params};

use super::{
    changes::text_of,
    rows::{EvidenceRow, HistoryRow, from_millis},
    schema,
};

/// The latest `count` bans of exactly these prefixes that are over, the latest first.
pub fn history(
    connection: &Connection,
    sources: &[PrefixKey],
    count: usize,
) -> rusqlite::Result<Vec<HistoryRow>> {
    let mut select = connection.prepare_cached(
        "SELECT ban, source, created, expires, cause, subject, policy, offences, reason, by,
                ended, how, hits, seq
         FROM history WHERE source = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let mut notes = schema::Notes::default();
    let mut found = Vec::new();
    for source in sources {
        let mut rows = select.query(params![text_of(source), limit])?;
        while let Some(row) = rows.next()? {
            let Some(ban) = schema::ban(row, &mut notes)? else {
                continue;
            };
            let over = HistoryRow {
                ban,
                ended: from_millis(row.get(10)?),
                how: row.get(11)?,
                hits: u64::try_from(row.get::<_, i64>(12)?).unwrap_or_default(),
            };
            found.push((row.get::<_, i64>(13)?, over));
        }
    }
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    Ok(found
        .into_iter()
        .take(count)
        .map(|(_, over)| over)
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
