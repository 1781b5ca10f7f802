//! What the kernel's map and the store hold, read past the daemon: the numbers of all bans, in
//! order.

use std::{ffi::OsString, fs, path::Path};

use abuser_common::{
    layout::{Ban, LAYOUT_VERSION, maps},
    prefix::PrefixKey,
};
use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use rusqlite::Connection;
use testkit::Daemon;

/// The kernel's table of bans, as a daemon has pinned it in its folder.
pub(crate) fn ban_table(pin_dir: &Path) -> Result<HashMap<MapData, PrefixKey, Ban>> {
    let path = pin_dir.join(format!("v{LAYOUT_VERSION}")).join(maps::BANS);
    let data = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
    HashMap::try_from(Map::HashMap(data))
        .with_context(|| format!("read {} as the ban table", path.display()))
}

/// The bans of the pinned map.
pub(super) fn in_map(daemon: &Daemon) -> Result<Vec<u64>> {
    let map = ban_table(daemon.pin_dir())?;
    let mut numbers = map
        .iter()
        .map(|entry| entry.map(|(_, ban)| ban.id))
        .collect::<Result<Vec<_>, _>>()
        .context("read the entries of the pinned ban table")?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The bans of the store. The daemon lets nobody else open it, so a copy is read; nothing may be
/// written meanwhile.
pub(super) fn in_store(daemon: &Daemon) -> Result<Vec<u64>> {
    let copy = daemon.store_path().with_file_name("copy.db");
    let numbers = copied(&daemon.store_path(), &copy);
    for suffix in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(with_suffix(&copy, suffix));
    }
    numbers.with_context(|| format!("read a copy of {}", daemon.store_path().display()))
}

fn copied(store: &Path, copy: &Path) -> Result<Vec<u64>> {
    for suffix in ["", "-wal"] {
        fs::copy(with_suffix(store, suffix), with_suffix(copy, suffix))?;
    }
    let store = Connection::open(copy)?;
    let mut select = store.prepare("SELECT id FROM bans ORDER BY id")?;
    let numbers = select.query_map([], |row| row.get::<_, i64>(0))?;
    numbers.map(|number| Ok(u64::try_from(number?)?)).collect()
}

fn with_suffix(path: &Path, suffix: &str) -> OsString {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path
}
