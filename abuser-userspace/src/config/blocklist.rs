//! `[[blocklist]]`: files that name whom to ban.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{draft::absolute_path, error::ConfigError, limit, section::Section, source::Place};
use crate::exchange::Format;

/// The most block lists there can be.
const MAX_BLOCKLISTS: usize = 64;

/// A file that names whom to ban. It is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocklistConfig {
    /// What it is called, by default as its file without the ending.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it is written in; `None`: what it looks like.
    pub format: Option<Format>,
    /// Whether one bad line makes it as bad as a file that cannot be read.
    pub strict: bool,
    /// Whether it may ban prefixes wider than IPv4 /16 and IPv6 /32.
    pub force: bool,
}

/// Reads one `[[blocklist]]` and adds it to those of before; `places` is where their names are.
pub(super) fn read(
    section: &Section<'_>,
    places: &mut HashMap<String, Place>,
    lists: &mut Vec<BlocklistConfig>,
) -> Result<(), ConfigError> {
    if lists.len() >= MAX_BLOCKLISTS {
        return Err(section.place.error(format!(
            "this [[blocklist]] is one more than the {MAX_BLOCKLISTS} there can be; remove one"
        )));
    }
    let item = section.require("path", "\"/etc/abuser/blocklist.txt\"")?;
    let path = PathBuf::from(absolute_path(&item)?);
    let (name, place) = match section.get("name") {
        Some(item) => (limit::name(&item, "block list")?, item.place),
        None => match stem(&path) {
            Some(name) => (name.to_owned(), item.place.clone()),
            None => {
                return Err(item.error(
                    "such a file's name cannot name a block list; add for example name = \"spam\"",
                ));
            }
        },
    };
    if let Some(other) = places.get(&name) {
        return Err(place.error(format!(
            "the name \"{name}\" of this [[blocklist]] is taken by {}; give one of them another \
             `name`",
            other.describe()
        )));
    }
    let format = section
        .get("format")
        .map(|item| item.word(&Format::ALL))
        .transpose()?;
    let flag = |key| section.get(key).map_or(Ok(false), |item| item.boolean());
    let list = BlocklistConfig {
        name: name.clone(),
        path,
        format,
        strict: flag("strict")?,
        force: flag("force")?,
    };
    places.insert(name, place);
    lists.push(list);
    Ok(())
}

/// A file's name without its ending, if that can be a name here.
fn stem(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?.to_str()?;
    limit::is_name(stem).then_some(stem)
}
