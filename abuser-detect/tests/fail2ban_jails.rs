//! fail2ban's own jails, all of them, with each enabled.
//!
//! Its files are under the GPL and no part of this repository: without a copy there is nothing to
//! run, and the test says how to get one.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use abuser_detect::{
    filter::{Filter, Options},
    import::{Files, Imported, fail2ban},
};

/// The jail that does not ban whom it finds, but lets them in.
const LETS_IN: &str = "pass2allow-ftp";

/// The folder with `jail.conf`, in a source tree or as it is installed.
fn folder() -> Option<PathBuf> {
    let Some(tree) = std::env::var_os("ABUSER_FAIL2BAN").map(PathBuf::from) else {
        eprintln!(
            "not run: set ABUSER_FAIL2BAN to a copy of fail2ban's source tree \
             (git clone https://github.com/fail2ban/fail2ban) or of /etc/fail2ban"
        );
        return None;
    };
    let config = tree.join("config");
    Some(if config.is_dir() { config } else { tree })
}

/// The files of a folder, with a `jail.local` of the test's.
struct Overlay {
    folder: PathBuf,
    local: String,
}

impl Files for Overlay {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.folder.join("jail.local") {
            return Ok(self.local.clone().into_bytes());
        }
        fs::read(path)
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let (folder, name) = (
            pattern.parent(),
            pattern.file_name().and_then(|name| name.to_str()),
        );
        let (Some(folder), Some(end)) = (folder, name.and_then(|name| name.strip_prefix('*')))
        else {
            // The logs of jails are not there.
            return Ok(Vec::new());
        };
        if !folder.starts_with(&self.folder) {
            return Ok(Vec::new());
        }
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(Vec::new());
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.retain(|path| path.to_string_lossy().ends_with(end));
        paths.sort();
        Ok(paths)
    }
}

fn import(folder: &Path, local: &str) -> Imported {
    let files = Overlay {
        folder: folder.to_owned(),
        local: local.to_owned(),
    };
    fail2ban(&files, folder, |_| true).unwrap_or_else(|error| panic!("{error}"))
}

/// The sections of `jail.conf` that are jails.
fn jails(folder: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join("jail.conf")).expect("jail.conf is text");
    let sections = text.lines().filter_map(|line| {
        let name = line.strip_prefix('[')?.split(']').next()?;
        (!matches!(name, "DEFAULT" | "INCLUDES")).then(|| name.to_owned())
    });
    sections.collect()
}

fn names(imported: &Imported) -> BTreeSet<String> {
    let detectors = imported
        .tables
        .iter()
        .filter(|table| table.name == "detector");
    let names = detectors.filter_map(|table| table.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[test]
fn every_jail_is_carried_over_and_its_filter_loads() {
    let Some(folder) = folder() else { return };
    let imported = import(&folder, "[DEFAULT]\nenabled = true\n");
    let document: toml::Table = imported.to_toml().parse().expect("valid TOML");
    let jails = jails(&folder);
    assert!(jails.len() > 80, "{jails:?}");
    let mut expected = jails.clone();
    expected.remove(LETS_IN);
    assert_eq!(names(&imported), expected, "{:#?}", imported.notes);
    let left_out: Vec<_> = imported
        .notes
        .iter()
        .filter(|note| note.why.starts_with("left out"))
        .collect();
    assert_eq!(left_out.len(), 1, "{left_out:#?}");
    for detector in document["detector"].as_array().expect("detectors") {
        let filter = detector["filter"].as_str().expect("a filter");
        let filter = filter.strip_prefix("fail2ban:").expect("one of fail2ban");
        let folders = [folder.join("filter.d")];
        if let Err(error) = Filter::load(filter, &folders, &Options::default(), &read) {
            panic!("{filter}: {error}");
        }
    }
    let sources = document["source"].as_array().expect("sources");
    let mut told: Vec<_> = sources
        .iter()
        .filter_map(|source| source["name"].as_str())
        .collect();
    told.sort_unstable();
    for detector in document["detector"].as_array().expect("detectors") {
        for source in detector["sources"].as_array().expect("sources") {
            assert!(
                told.binary_search(&source.as_str().expect("a name"))
                    .is_ok()
            );
        }
    }
    eprintln!(
        "{} jails, {} sources, {} notes",
        jails.len(),
        told.len(),
        imported.notes.len()
    );
}

#[test]
fn each_jail_is_carried_over_alone() {
    let Some(folder) = folder() else { return };
    let jails = jails(&folder);
    for jail in jails.iter().filter(|jail| *jail != LETS_IN) {
        let mut local = String::new();
        for other in &jails {
            local.extend(["[", other, "]\nenabled = "]);
            local.push_str(if other == jail { "true\n" } else { "false\n" });
        }
        let imported = import(&folder, &local);
        assert_eq!(
            names(&imported),
            BTreeSet::from([jail.clone()]),
            "{:#?}",
            imported.notes
        );
    }
}
