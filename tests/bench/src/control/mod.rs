//! The control plane: bans by the million, by commands, over restarts, and what they take.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`million`] | a daemon with a million bans, which most scenarios share |
//! | [`mod@restart`] | starts with a million bans, while a banned source sends |
//! | [`listing`] | export and list |
//! | [`calls`] | bans by single requests |
//! | [`watch`] | `abuser top` in a terminal |
//! | [`records`] | what the map and the store hold, read past the daemon |
//! | [`connection`] | a connection to the socket |
//! | [`process`] | memory, descriptors and threads of a process |

mod calls;
mod connection;
mod listing;
mod million;
mod process;
mod records;
mod restart;
mod watch;

use anyhow::Result;

use self::million::Million;
pub(crate) use self::{
    connection::Connection, million::settled, process::Process, records::ban_table,
};
use crate::scenario::{Measured, Scenario};

/// What scenarios share, made when the first of them wants it.
#[derive(Default)]
pub(crate) struct Shared(Option<Million>);

impl Shared {
    /// Ends the daemon that scenarios share.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Measures with the daemon that scenarios share; after a failure there is a new one.
    pub(crate) fn measure(
        &mut self,
        measure: impl FnOnce(&mut Million) -> Result<Measured>,
    ) -> Result<Measured> {
        let mut million = match self.0.take() {
            Some(million) => million,
            None => Million::start()?,
        };
        let measured = measure(&mut million)?;
        self.0 = Some(million);
        Ok(measured)
    }
}

/// `memory-rest`.
pub(crate) fn memory_rest(million: &Million) -> Measured {
    let rest = million.rest;
    Measured {
        value: megabytes(rest.own()),
        also: vec![("rss_megabytes", megabytes(rest.resident))],
        ..Measured::default()
    }
}

/// `import`.
pub(crate) fn import(million: &mut Million) -> Result<Measured> {
    let imported = million.imported()?;
    Ok(Measured {
        value: imported.seconds,
        also: vec![("daemon_cpu_seconds", imported.cpu_seconds)],
        ..Measured::default()
    })
}

/// `memory-ban`: the larger of what a ban takes after the import and after a restart.
pub(crate) fn memory_ban(million: &mut Million) -> Result<Measured> {
    let after_import = million.imported()?.memory;
    let after_restart = million.restarted()?.memory;
    let rest = million.rest.own();
    #[expect(clippy::cast_precision_loss, reason = "sizes here are below 2^52")]
    let [imported, restarted] = [after_import, after_restart].map(|memory| {
        let more = memory.own().saturating_sub(rest);
        more as f64 / million::PREFIXES as f64
    });
    Ok(Measured {
        value: imported.max(restarted),
        also: vec![
            ("after_import", imported),
            ("after_restart", restarted),
            ("rss_megabytes", megabytes(after_import.resident)),
        ],
        ..Measured::default()
    })
}

/// `restart`.
pub(crate) fn restart(million: &mut Million) -> Result<Measured> {
    let restarted = million.restarted()?;
    let from_store = million.started_from_store()?;
    Ok(Measured {
        value: restarted.seconds,
        also: vec![
            ("cpu_seconds", restarted.cpu_seconds),
            ("peak_rss_megabytes", megabytes(restarted.peak)),
            ("from_store_seconds", from_store.seconds),
            ("from_store_attached_seconds", from_store.attached_seconds),
        ],
        ..Measured::default()
    })
}

/// `export`.
pub(crate) fn export(million: &mut Million) -> Result<Measured> {
    million.imported()?;
    listing::export(million)
}

/// `list-memory`.
pub(crate) fn list_memory(million: &mut Million) -> Result<Measured> {
    million.imported()?;
    listing::memory(million)
}

/// `api-bans`.
pub(crate) fn api_bans() -> Result<Measured> {
    calls::measure()
}

/// `top`.
pub(crate) fn top() -> Result<Measured> {
    watch::measure()
}

/// Whether a scenario goes on with the shared daemon.
pub(crate) const fn shares(scenario: Scenario) -> bool {
    matches!(
        scenario,
        Scenario::MemoryRest
            | Scenario::Import
            | Scenario::Export
            | Scenario::ListMemory
            | Scenario::Restart
            | Scenario::MemoryBan
    )
}

/// Bytes as millions of them.
#[expect(clippy::cast_precision_loss, reason = "sizes here are below 2^52")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
