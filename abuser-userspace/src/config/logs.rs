//! `[[source]]`: logs that detectors read.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
};

use abuser_detect::parse::{self, ParserError};
use ipnet::IpNet;

use super::{
    draft::absolute_path,
    error::{ConfigError, quote},
    limit, parse_prefix,
    preset::{self, Preset},
    section::{Item, Section},
    source::Place,
};
use crate::sources::{Begin, JournalConfig, Kind, Listen, SourceConfig, SourceError, SyslogConfig};

/// The most sources there can be.
const MAX_SOURCES: usize = 256;
/// The most files, patterns or matches that one source names.
const MAX_NAMED: usize = 64;
/// The prefix that names a filter of fail2ban where a parser is named.
pub(crate) const FAIL2BAN: &str = "fail2ban:";

/// A log that detectors read.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSource {
    /// Its name, by default that of its preset, or of its first file without the ending; where its
    /// lines come from, and where to begin.
    pub reads: SourceConfig,
    /// What makes records of its lines; without one only filters read it.
    pub parser: Option<LineParser>,
    /// Proxies that are believed whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
}

impl LogSource {
    /// The name.
    pub fn name(&self) -> &str {
        &self.reads.name
    }
}

/// What makes records of lines.
#[derive(Clone, Debug, PartialEq)]
pub enum LineParser {
    /// One of ours.
    Builtin {
        /// What the log is written by.
        kind: parse::Kind,
        /// For [`parse::Kind::Regex`]: the expression.
        pattern: Option<String>,
        /// Where fields are, if not where they are looked for anyway.
        fields: BTreeMap<String, String>,
    },
    /// A filter of fail2ban, by its name or path and with its options: `sshd[mode=aggressive]`.
    Filter(String),
}

impl fmt::Display for LineParser {
    /// As in the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { kind, .. } => kind.fmt(formatter),
            Self::Filter(name) => write!(formatter, "{FAIL2BAN}{name}"),
        }
    }
}

/// Reads one `[[source]]`, and the preset that it names.
pub(super) fn read(
    section: &Section<'_>,
    places: &mut HashMap<String, Place>,
) -> Result<(LogSource, Option<Preset>), ConfigError> {
    let kind = kind(section)?;
    let preset = section
        .get("preset")
        .map(|item| item.word(&preset::ALL))
        .transpose()?;
    let (name, place) = match section.get("name") {
        Some(item) => (limit::name(&item, "source")?, item.place),
        None => (
            free_name(default_name(&kind, preset), places),
            section.place.clone(),
        ),
    };
    if let Some(other) = places.get(&name) {
        return Err(place.error(format!(
            "`name` in [[source]]: \"{name}\" is taken by {}; choose another",
            other.describe()
        )));
    }
    let begin = match section.get("from") {
        Some(item) => item.word(&[("end", Begin::End), ("start", Begin::Start)])?,
        None => Begin::End,
    };
    let source = LogSource {
        reads: SourceConfig {
            name: name.clone(),
            kind,
            begin,
        },
        parser: parser(section, preset)?,
        trusted_proxies: match section.get("trusted_proxies") {
            Some(item) => prefixes(&item)?,
            None => Vec::new(),
        },
    };
    if places.len() >= MAX_SOURCES {
        return Err(place.error(format!(
            "this [[source]] is one more than the {MAX_SOURCES} there can be; name more files in one"
        )));
    }
    places.insert(name, place);
    Ok((source, preset))
}

fn kind(section: &Section<'_>) -> Result<Kind, ConfigError> {
    const WHERE: &str = "a [[source]] has exactly one of `files`, `journal`, `syslog` and `stdin`";
    let items = ["files", "journal", "syslog", "stdin"].map(|key| section.get(key));
    let named: Vec<_> = items.iter().flatten().collect();
    let item = match *named {
        [item] => item.clone(),
        [] => {
            return Err(section.place.error(format!(
                "{WHERE}; add for example files = [\"/var/log/nginx/access.log\"]"
            )));
        }
        [_, second, ..] => {
            return Err(second.error(format!("{WHERE}; make two of it, or remove one")));
        }
    };
    let [files, journal, syslog, _] = &items;
    let needs = |key, is_there: bool, other: &str| match section.get(key) {
        Some(item) if !is_there => Err(item.error(format!("it goes with `{other}` only"))),
        _ => Ok(()),
    };
    needs("journal_directory", journal.is_some(), "journal")?;
    needs("syslog_group", syslog.is_some(), "syslog")?;
    let kind = if files.is_some() {
        const EXPECTED: &str = "a list of paths, for example [\"/var/log/auth.log\"]";
        Kind::Files(texts(&item, EXPECTED)?)
    } else if journal.is_some() {
        const EXPECTED: &str = "a list of matches, for example [\"_SYSTEMD_UNIT=ssh.service\"]";
        let directory = section.get("journal_directory");
        Kind::Journal(JournalConfig {
            matches: texts(&item, EXPECTED)?,
            directory: directory
                .map(|item| absolute_path(&item).map(PathBuf::from))
                .transpose()?,
        })
    } else if syslog.is_some() {
        const EXPECTED: &str =
            "the path of a socket such as \"/run/abuser/log.sock\", or \"127.0.0.1:5514\" for UDP";
        let listen = Listen::parse(item.string(EXPECTED)?);
        let group = section.get("syslog_group");
        Kind::Syslog(SyslogConfig {
            listen: listen.map_err(|error| item.error(error))?,
            group: group
                .map(|item| {
                    item.string("the name of a group in quotes")
                        .map(str::to_owned)
                })
                .transpose()?,
        })
    } else if item.boolean()? {
        Kind::Stdin
    } else {
        return Err(item.error("false names no source; remove the [[source]], or write true"));
    };
    let source = SourceConfig {
        name: String::new(),
        kind,
        begin: Begin::End,
    };
    match source.check() {
        Ok(()) => Ok(source.kind),
        Err(SourceError::NoFiles(_)) => {
            Err(item.error("it names no file; add for example \"/var/log/auth.log\""))
        }
        Err(error) => Err(item.error(error)),
    }
}

fn parser(
    section: &Section<'_>,
    preset: Option<Preset>,
) -> Result<Option<LineParser>, ConfigError> {
    let named = section.get("parser");
    let pattern = section.get("pattern");
    let fields = section.get("fields");
    let kind =
        match (&named, preset) {
            (Some(item), _) => {
                let name = item.string("the name of a parser in quotes")?;
                if let Some(filter) = name.strip_prefix(FAIL2BAN) {
                    if let Some(extra) = pattern.or(fields) {
                        return Err(
                            extra.error("a filter of fail2ban takes neither pattern nor fields")
                        );
                    }
                    if filter.trim().is_empty() {
                        return Err(item.error(format!(
                            "{} names no filter; write for example \"{FAIL2BAN}sshd\"",
                            quote(name)
                        )));
                    }
                    return Ok(Some(LineParser::Filter(filter.trim().to_owned())));
                }
                item.word(&parse::Kind::ALL)?
            }
            (None, Some(preset)) => preset.parser(),
            (None, None) => {
                return match pattern.or(fields) {
                    Some(extra) => Err(extra
                        .error("no parser takes it; add parser = \"regex\" or parser = \"json\"")),
                    None => Ok(None),
                };
            }
        };
    let pattern_text = pattern
        .as_ref()
        .map(|item| item.string("a regular expression in quotes"))
        .transpose()?
        .map(str::to_owned);
    let named_fields = match &fields {
        Some(item) => item.named_texts("a table, for example { source = \"client.ip\" }")?,
        None => BTreeMap::new(),
    };
    let settings = parse::Settings {
        pattern: pattern_text.clone(),
        fields: named_fields.clone(),
        ..parse::Settings::new(kind)
    };
    parse::Parser::new(settings).map_err(|error| {
        let place = match error {
            ParserError::Target { .. } | ParserError::Group { .. } | ParserError::Fields(_) => {
                fields
            }
            _ => pattern,
        };
        place.or(named).map_or_else(
            || section.place.error(error.to_string()),
            |item| item.error(&error),
        )
    })?;
    Ok(Some(LineParser::Builtin {
        kind,
        pattern: pattern_text,
        fields: named_fields,
    }))
}

fn texts(item: &Item<'_>, expected: &str) -> Result<Vec<String>, ConfigError> {
    let items = item.list_of_at_most(MAX_NAMED, expected)?;
    let text = |item: &Item<'_>| item.string("text in quotes").map(str::to_owned);
    items.iter().map(text).collect()
}

fn prefixes(item: &Item<'_>) -> Result<Vec<IpNet>, ConfigError> {
    const EXPECTED: &str = "a list of addresses or prefixes, for example [\"10.0.0.0/8\"]";
    let prefix = |item: Item<'_>| {
        let text = item.string("an address or prefix in quotes")?;
        let prefix = parse_prefix(text).map_err(|error| item.error(error))?;
        if prefix.prefix_len() == 0 {
            return Err(item.error(format!(
                "{prefix} is everybody, and nobody is banned who is trusted; name your proxies"
            )));
        }
        Ok(prefix)
    };
    item.list(EXPECTED)?.into_iter().map(prefix).collect()
}

/// What a source is called that has no name.
fn default_name(kind: &Kind, preset: Option<Preset>) -> String {
    if let Some(preset) = preset {
        return preset.name().to_owned();
    }
    let stem = |path: &str| {
        let stem = Path::new(path).file_stem()?.to_str()?;
        limit::is_name(stem).then(|| stem.to_owned())
    };
    match kind {
        Kind::Files(files) => files.first().and_then(|path| stem(path)),
        Kind::Journal(_) => Some("journal".to_owned()),
        Kind::Syslog(_) => Some("syslog".to_owned()),
        Kind::Stdin => Some("stdin".to_owned()),
    }
    .unwrap_or_else(|| "source".to_owned())
}

/// The name, with a number behind it if it is taken.
fn free_name(name: String, places: &HashMap<String, Place>) -> String {
    if !places.contains_key(&name) {
        return name;
    }
    // One of these is free: there are not so many names.
    (2..=MAX_SOURCES + 1)
        .map(|number| format!("{name}-{number}"))
        .find(|numbered| !places.contains_key(numbered))
        .unwrap_or(name)
}
