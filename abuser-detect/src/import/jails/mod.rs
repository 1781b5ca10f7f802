//! fail2ban's jails as sources, detectors and policies.
//!
//! The files are read in fail2ban's order, `jail.conf`, `jail.d/*.conf`, `jail.local`,
//! `jail.d/*.local`, with what they include. Filters are not copied: a detector reads them where
//! they are, by the reader of `filter`, which also resolves the references in jails.

mod numbers;
mod places;
mod rest;
#[cfg(test)]
mod tests;
mod words;

use std::{collections::BTreeMap, io, path::Path};

use self::{
    numbers::{Numbers, Policies},
    places::Places,
    words::journal_matches,
};
use super::{
    Files, ImportError, Imported, MAX_FILE_BYTES, Place, Reader, Table, names::Names, paths,
};
use crate::filter::{
    self, Filter,
    ini::Ini,
    options::{self, Definition},
};

/// Where fail2ban is, and where its filters are found by name.
const HOME: &str = "/etc/fail2ban";

/// The version that files may ask for.
const VERSION: &str = "1.1.0";

/// What a jail may say in the place of its filter.
const OF_FILTER: [&str; 6] = [
    "failregex",
    "ignoreregex",
    "prefregex",
    "maxlines",
    "datepattern",
    "journalmatch",
];

/// Imports the jails of a folder such as `/etc/fail2ban` that are enabled.
///
/// `is_time` tells whether a policy takes a text such as `1d 12h` for a time; what it does not take is not
/// written, and noted.
pub fn fail2ban(
    files: &dyn Files,
    folder: &Path,
    is_time: fn(&str) -> bool,
) -> Result<Imported, ImportError> {
    let mut reader = Reader::new(files);
    let mut paths = vec![folder.join("jail.conf")];
    paths.extend(reader.matching(&folder.join("jail.d/*.conf"))?);
    paths.push(folder.join("jail.local"));
    paths.extend(reader.matching(&folder.join("jail.d/*.local"))?);
    let read = |path: &Path| read(files, path);
    let (ini, found) = Ini::load(&paths, &read).map_err(ImportError::Jails)?;
    if found.is_empty() {
        return Err(ImportError::Read {
            file: folder.join("jail.conf"),
            error: io::ErrorKind::NotFound.into(),
        });
    }
    let mut places = Places::default();
    for path in &found {
        places.add(path, &reader.text(path)?);
    }
    let mut import = Import {
        files,
        is_time,
        folder,
        ini: &ini,
        places: &places,
        imported: Imported::default(),
        names: Names::default(),
        source_names: Names::default(),
        sources: BTreeMap::new(),
        policies: Policies::default(),
        allow: Vec::new(),
        tables: Vec::new(),
        detectors: Vec::new(),
    };
    for (name, place) in places.jails() {
        let jail = Jail::new(&import, name, place);
        match jail.get("enabled") {
            Ok(Some(enabled)) if is_true(&enabled) => {}
            Ok(_) => continue,
            Err(why) => {
                import.left_out(&jail, &why);
                continue;
            }
        }
        if let Err(why) = import.jail(&jail) {
            import.left_out(&jail, &why);
        }
    }
    Ok(import.finish())
}

/// The text of a file; `None` if it is not there.
fn read(files: &dyn Files, path: &Path) -> io::Result<Option<String>> {
    match files.read(path) {
        Ok(bytes) if bytes.len() > MAX_FILE_BYTES => {
            Err(io::Error::other("it is larger than any configuration"))
        }
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As fail2ban reads it.
fn is_true(text: &str) -> bool {
    matches!(
        text.trim().to_ascii_lowercase().as_str(),
        "1" | "on" | "true" | "yes"
    )
}

/// What is being made of the jails.
struct Import<'a> {
    files: &'a dyn Files,
    is_time: fn(&str) -> bool,
    folder: &'a Path,
    ini: &'a Ini,
    places: &'a Places,
    imported: Imported,
    /// Names of detectors, and of sources.
    names: Names,
    source_names: Names,
    /// The names of sources, by what they read.
    sources: BTreeMap<Log, String>,
    policies: Policies,
    allow: Vec<String>,
    /// Sources.
    tables: Vec<Table>,
    detectors: Vec<Table>,
}

/// Something that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Log {
    /// Files by a pattern, and whether only what is new.
    Files(String, bool),
    /// The journal, by matches.
    Journal(Vec<String>),
}

/// A section that is a jail.
struct Jail<'a> {
    name: &'a str,
    place: &'a Place,
    ini: &'a Ini,
    places: &'a Places,
    /// What fail2ban adds to each section.
    vars: BTreeMap<String, String>,
}

impl<'a> Jail<'a> {
    fn new(import: &Import<'a>, name: &'a str, place: &'a Place) -> Self {
        let folder = import.folder.display().to_string();
        let vars = [
            ("__name__", name),
            ("fail2ban_version", VERSION),
            ("fail2ban_confpath", &folder),
        ];
        Self {
            name,
            place,
            ini: import.ini,
            places: import.places,
            vars: vars
                .map(|(name, value)| (name.to_owned(), value.replace('%', "%%")))
                .into(),
        }
    }

    /// The value of an option with all that it refers to; the error says what cannot be had.
    fn get(&self, option: &str) -> Result<Option<String>, String> {
        let value = self.ini.get(self.name, option, &self.vars);
        value.map_err(|error| format!("`{option}`: {}", error.0))
    }

    /// Where an option stands.
    fn at(&self, option: &str) -> &'a Place {
        self.places.option(self.name, option).unwrap_or(self.place)
    }
}

impl Import<'_> {
    fn left_out(&mut self, jail: &Jail<'_>, why: &str) {
        let what = format!("[{}]", jail.name);
        self.imported
            .note(jail.place, what, format!("left out: {why}"));
    }

    /// Makes a jail's detector; the error says why there is none.
    fn jail(&mut self, jail: &Jail<'_>) -> Result<(), String> {
        let filter = jail.get("filter")?.unwrap_or_default();
        if filter.trim().is_empty() {
            return Err("it has no filter".to_owned());
        }
        let (filter, given) = options::split(&filter).map_err(|error| error.to_string())?;
        if lets_in(jail) {
            return Err("its action lets those in that it finds, and does not ban them".to_owned());
        }
        let mut jail_vars = Jail {
            vars: jail.vars.clone(),
            ..*jail
        };
        let definition = self.definition(&filter, &given)?;
        // What a jail says of its filter may refer to what the filter says.
        for option in OF_FILTER {
            let value = definition
                .get(option)
                .unwrap_or_default()
                .replace('%', "%%");
            jail_vars.vars.insert(format!("known/{option}"), value);
        }
        let jail = &jail_vars;
        let mut given = given;
        for option in OF_FILTER {
            if let Some(value) = jail.get(option)?.filter(|value| !value.trim().is_empty()) {
                given.retain(|(name, _)| name != option);
                given.push((option.to_owned(), value));
            }
        }
        let definition = self.definition(&filter, &given)?;
        let logs = self.logs(jail, &definition)?;
        // Matches are the source's business.
        given.retain(|(name, _)| name != "journalmatch");
        let given = self.needed(&filter, given)?;
        self.check_filter(&filter, &given)?;
        let filter = self.filter_name(&filter, &given)?;
        let numbers = Numbers::read(jail, self.is_time, &mut self.imported)?;
        let sources: Vec<_> = logs
            .into_iter()
            .map(|log| self.source(log, jail.name))
            .collect();
        let name = self.names.take(jail.name);
        // Without the command that spares some it would ban these, too.
        let spares = jail.get("ignorecommand")?.unwrap_or_default();
        let spares = !spares.trim().is_empty();
        let mut table = Table::repeated("detector")
            .comment(format!("{}: [{}]", jail.place, jail.name))
            .with("name", name.as_str())
            .with("sources", sources)
            .with("filter", filter);
        table = if spares {
            table.with_comment(
                "action",
                "alert",
                "not \"ban\", for want of its ignorecommand",
            )
        } else {
            table.with("action", "ban")
        };
        if let Some(count) = numbers.large_maxretry() {
            table = table.with("count", count);
        }
        let shared = self.policies.add(numbers, jail.name, self.detectors.len());
        if shared && !is_true(&jail.get("bantime.overalljails")?.unwrap_or_default()) {
            self.imported.note(
                jail.at("bantime.increment"),
                format!("[{}] bantime.overalljails = false", jail.name),
                "jails with the same numbers have one policy, and earlier bans by any of them count",
            );
        }
        self.detectors.push(table);
        self.rest(jail)
    }

    fn definition(&self, filter: &str, given: &[(String, String)]) -> Result<Definition, String> {
        let files = self.files;
        let read = |path: &Path| read(files, path);
        options::load(filter, &[self.folder.join("filter.d")], given, false, &read)
            .map_err(|error| error.to_string())
    }

    /// Makes sure that the filter can be used here.
    fn check_filter(&self, filter: &str, given: &[(String, String)]) -> Result<(), String> {
        let files = self.files;
        let read = |path: &Path| read(files, path);
        let options = filter::Options {
            options: given.to_vec(),
            ..filter::Options::default()
        };
        let folders = [self.folder.join("filter.d")];
        let loaded = Filter::load(filter, &folders, &options, &read);
        loaded.map(drop).map_err(|error| error.to_string())
    }

    /// The options without which the filter would be another one.
    fn needed(
        &self,
        filter: &str,
        given: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, String> {
        let says = |given: &[(String, String)]| -> Result<Vec<Option<String>>, String> {
            let definition = self.definition(filter, given)?;
            let values = OF_FILTER
                .iter()
                .map(|option| definition.get(option).map(str::to_owned));
            Ok(values.collect())
        };
        let full = says(&given)?;
        let mut needed = given;
        for number in (0..needed.len()).rev() {
            let mut fewer = needed.clone();
            fewer.remove(number);
            if says(&fewer).is_ok_and(|said| said == full) {
                needed = fewer;
            }
        }
        Ok(needed)
    }

    /// `fail2ban:sshd[mode=aggressive]`.
    fn filter_name(&self, filter: &str, given: &[(String, String)]) -> Result<String, String> {
        let mut name = if self.folder == Path::new(HOME) || filter.contains('/') {
            format!("fail2ban:{filter}")
        } else {
            let path = self.folder.join("filter.d").join(format!("{filter}.conf"));
            format!("fail2ban:{}", path.display())
        };
        let mut options = Vec::new();
        for (option, value) in given {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
            let quote = ['"', '\'']
                .into_iter()
                .find(|quote| !value.contains(*quote));
            options.push(match quote {
                _ if !value.is_empty() && value.chars().all(is_plain) => {
                    format!("{option}={value}")
                }
                Some(quote) => format!("{option}={quote}{value}{quote}"),
                None => {
                    return Err(format!(
                        "its `{option}` has both kinds of quotes, which the options of a filter \
                         cannot have; write it into {filter}.local"
                    ));
                }
            });
        }
        if !options.is_empty() {
            name.extend(["[", &options.join(", "), "]"]);
        }
        Ok(name)
    }

    /// What a jail reads.
    fn logs(&mut self, jail: &Jail<'_>, definition: &Definition) -> Result<Vec<Log>, String> {
        let backend = jail.get("backend")?.unwrap_or_default();
        let matches = journal_matches(definition.get("journalmatch").unwrap_or_default())?;
        if backend.trim().starts_with("systemd") {
            return match matches {
                Some(matches) => Ok(vec![Log::Journal(matches)]),
                None => Err(
                    "its filter has no journalmatch, so the whole journal would be read; write \
                     journalmatch into the jail"
                        .to_owned(),
                ),
            };
        }
        let logpath = jail.get("logpath")?.unwrap_or_default();
        let mut logs = Vec::new();
        for line in logpath
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let (path, word) = line.rsplit_once(' ').unwrap_or((line, "head"));
            let path = path.trim();
            if !path.starts_with('/') {
                return Err(format!("its logpath {path:?} does not begin with /"));
            }
            let log = Log::Files(paths::of_python(path), word == "tail");
            if !logs.contains(&log) {
                logs.push(log);
            }
        }
        let exists = |log: &Log| match log {
            Log::Files(pattern, _) => self
                .files
                .matching(Path::new(pattern))
                .is_ok_and(|found| !found.is_empty()),
            Log::Journal(_) => true,
        };
        let may_switch = backend.trim().is_empty() || backend.trim().starts_with("auto");
        if let Some(matches) = matches.filter(|_| may_switch && !logs.iter().any(exists)) {
            self.imported.note(
                jail.at("logpath"),
                format!("[{}] backend = auto", jail.name),
                "there is no such log here now, so it is the journal that is read, as fail2ban \
                 would do",
            );
            return Ok(vec![Log::Journal(matches)]);
        }
        if logs.is_empty() {
            return Err("it has no logpath".to_owned());
        }
        Ok(logs)
    }

    /// The name of the source that reads a log.
    fn source(&mut self, log: Log, jail: &str) -> String {
        if let Some(name) = self.sources.get(&log) {
            return name.clone();
        }
        let table = Table::repeated("source");
        let (name, table) = match &log {
            Log::Files(path, is_tail) => {
                let name = self.source_names.take_log(path);
                let table = table
                    .with("name", name.as_str())
                    .with("files", vec![path.clone()]);
                // fail2ban looks back as far as findtime unless told `tail`.
                let table = if *is_tail {
                    table
                } else {
                    table.with("from", "start")
                };
                (name, table)
            }
            Log::Journal(matches) => {
                let name = self.source_names.take_with(jail, "journal");
                let table = table
                    .with("name", name.as_str())
                    .with("journal", matches.clone());
                (name, table)
            }
        };
        self.tables.push(table);
        self.sources.insert(log, name.clone());
        name
    }

    fn finish(self) -> Imported {
        let Self {
            mut imported,
            policies,
            allow,
            tables,
            detectors,
            ..
        } = self;
        if !allow.is_empty() {
            imported.tables.push(
                Table::single("allow")
                    .comment("ignoreip: these are never banned nor limited by anything.")
                    .with("addresses", allow),
            );
        }
        let detectors = policies.finish(detectors, &mut imported.tables);
        imported.tables.extend(tables);
        imported.tables.extend(detectors);
        imported.settle();
        imported
    }
}

/// Whether the jail's rule is an exception, as that of `pass2allow-ftp` is.
fn lets_in(jail: &Jail<'_>) -> bool {
    let value = jail.get("blocktype").ok().flatten().unwrap_or_default();
    let lets_in = |word: &str| ["return", "accept"].contains(&word.trim().to_lowercase().as_str());
    let action = jail.get("action").ok().flatten().unwrap_or_default();
    let mut given = action.split("blocktype=").skip(1);
    lets_in(&value)
        || given.any(|rest| {
            lets_in(
                rest.split([',', ']'])
                    .next()
                    .unwrap_or_default()
                    .trim_matches('"'),
            )
        })
}
