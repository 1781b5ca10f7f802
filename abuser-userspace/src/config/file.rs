//! Files on disk: which are read, in which order, and how large they may be.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{draft::Draft, error::ConfigError, source::Source};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads `path`, then `conf.d/*.toml` beside it in the order of their names.
pub(super) fn read_all(path: &Path) -> Result<Draft, ConfigError> {
    let mut draft = Draft::default();
    draft.add(&read(path)?)?;
    for path in drop_ins(path)? {
        draft.add(&read(&path)?)?;
    }
    Ok(draft)
}

fn read(path: &Path) -> Result<std::sync::Arc<Source>, ConfigError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => ConfigError::Dangling {
                path: path.into(),
                target,
            },
            Err(_) => ConfigError::NotFound { path: path.into() },
        },
        ErrorKind::IsADirectory => ConfigError::Directory { path: path.into() },
        _ => ConfigError::Read {
            path: path.into(),
            source,
        },
    };
    // One byte more than allowed tells a file that is too large, whatever its size says.
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.into() });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(path, &text)),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let place = super::source::Place::new(&Source::new(path, &text), offset);
            Err(place.error("the text is not UTF-8 here; save the file as UTF-8"))
        }
    }
}

/// The `conf.d/*.toml` beside `path`, sorted; as for a shell's `*`, not those with a dot in front.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let failed = |source| ConfigError::Read {
        path: directory.clone(),
        source,
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden
            && Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
