//! What must hold for any configuration of nginx's or fail2ban's and any rules of Snort's.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use abuser::config::{self, parse_duration};
use abuser_detect::import::{Files, ImportError, Imported, Rules, fail2ban, nginx, snort};

/// A line between a file and the next one.
const NEXT: &str = "\n----\n";

/// Imports bytes as what the first of them says.
///
/// # Panics
///
/// If what comes of it is no configuration, is another one the next time, or a note or an error points
/// nowhere.
pub fn import(bytes: &[u8]) {
    let [what, bytes @ ..] = bytes else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let names: &[&str] = match what % 3 {
        0 => &["/n/nginx.conf", "/n/conf.d/a.conf", "/n/conf.d/b.conf"],
        1 => &["/r/a.rules", "/r/b.rules"],
        _ => &[
            "/f/jail.conf",
            "/f/jail.local",
            "/f/filter.d/sshd.conf",
            "/f/jail.d/a.conf",
        ],
    };
    let parts = text.splitn(names.len(), NEXT).map(str::to_owned);
    let files = Memory(names.iter().map(PathBuf::from).zip(parts).collect());
    let action = ["alert", "throttle", "ban"][usize::from(what / 3 % 3)];
    let read = || match what % 3 {
        0 => nginx(&files, Path::new("/n/nginx.conf"), action),
        1 => {
            let paths: Vec<_> = files.0.keys().map(PathBuf::as_path).collect();
            let action = (what & 128 != 0).then_some(action);
            let log = "/var/log/nginx/access.log";
            snort(&files, &paths, Rules { action, log })
        }
        _ => fail2ban(&files, Path::new("/f"), |text| parse_duration(text).is_ok()),
    };
    match (read(), read()) {
        (Ok(imported), Ok(again)) => {
            assert_eq!(imported, again, "read twice");
            accepted(&files, &imported);
        }
        (Err(error), Err(again)) => {
            assert_eq!(error.to_string(), again.to_string(), "read twice");
            if let ImportError::Syntax { place, message } = &error {
                assert!(!message.is_empty());
                files.has(&place.file, place.line);
            }
        }
        (one, other) => panic!("read twice: {one:?} and {other:?}"),
    }
}

fn accepted(files: &Memory, imported: &Imported) {
    let text = imported.to_toml();
    if let Err(error) = config::parse(&text, Path::new("imported.toml")) {
        panic!("{error}\n{text}");
    }
    for note in &imported.notes {
        assert!(!note.what.is_empty() && !note.why.is_empty(), "{note:?}");
        files.has(&note.place.file, note.place.line);
    }
}

/// Files that exist only here.
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    /// There is such a line, or it is about the whole file.
    fn has(&self, file: &Path, line: usize) {
        let lines = self.0.get(file).map_or(0, |text| text.split('\n').count());
        assert!(line <= lines, "{}:{line} of {lines}", file.display());
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).map(|text| text.clone().into_bytes());
        text.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.to_string_lossy();
        let (before, after) = pattern.split_once('*').unwrap_or((&pattern, ""));
        let fits = |path: &&PathBuf| {
            let path = path.to_string_lossy();
            path.starts_with(before)
                && path.ends_with(after)
                && path.len() >= before.len() + after.len()
        };
        Ok(self.0.keys().filter(fits).cloned().collect())
    }
}
