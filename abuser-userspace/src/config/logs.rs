//! `[[source]]`: logs that detectors read.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use abuser_detect::parse::{self, Kind, ParserError};
use ipnet::IpNet;

use super::{
    draft::absolute_path,
    error::{ConfigError, quote},
    limit, parse_prefix,
    preset::{self, Preset},
    section::{Item, Section},
    source::Place,
};

/// The most sources there can be.
const MAX_SOURCES: usize = 256;
/// The most files, patterns or matches that one source names.
const MAX_NAMED: usize = 64;
/// The prefix that names a filter of fail2ban where a parser is named.
pub(super) const FAIL2BAN: &str = "fail2ban:";

/// A log that detectors read.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSource {
    /// The name, by default that of its preset, or of its first file without the ending.
    pub name: String,
    /// Where its lines come from.
    pub origin: Origin,
    /// Where to begin with a file that was never read.
    pub from: From,
    /// What makes records of its lines; without one only filters read it.
    pub parser: Option<LineParser>,
    /// Proxies that are believed whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where the lines of a source come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Files, by path or pattern.
    Files(Vec<String>),
    /// The journal: entries that match, as `journalctl` takes matches; all without one.
    Journal(Vec<String>),
    /// A datagram socket that this daemon listens on, as syslog daemons do.
    SyslogSocket(PathBuf),
    /// UDP on a loopback address.
    SyslogUdp(SocketAddr),
    /// The daemon's standard input.
    Stdin,
}

/// Where to begin with a file that was never read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// Behind its last line.
    #[default]
    End,
    /// At its first line.
    Start,
}

/// What makes records of lines.
#[derive(Clone, Debug, PartialEq)]
pub enum LineParser {
    /// One of ours.
    Builtin {
        /// What the log is written by.
        kind: Kind,
        /// For [`Kind::Regex`]: the expression.
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
    let origin = origin(section)?;
    let preset = section
        .get("preset")
        .map(|item| item.word(&preset::ALL))
        .transpose()?;
    let (name, place) = match section.get("name") {
        Some(item) => (limit::name(&item, "source")?, item.place),
        None => (free_name(default_name(&origin, preset), places), section.place.clone()),
    };
    if let Some(other) = places.get(&name) {
        return Err(place.error(format!(
            "`name` in [[source]]: \"{name}\" is taken by {}; choose another",
            other.describe()
        )));
    }
    let trusted_proxies = match section.get("trusted_proxies") {
        Some(item) => prefixes(&item)?,
        None => Vec::new(),
    };
    let source = LogSource {
        from: match section.get("from") {
            Some(item) => item.word(&[("end", From::End), ("start", From::Start)])?,
            None => From::End,
        },
        parser: parser(section, preset)?,
        name: name.clone(),
        origin,
        trusted_proxies,
    };
    if places.len() >= MAX_SOURCES {
        return Err(place.error(format!(
            "this [[source]] is one more than the {MAX_SOURCES} there can be; name more files in one"
        )));
    }
    places.insert(name, place);
    Ok((source, preset))
}

fn origin(section: &Section<'_>) -> Result<Origin, ConfigError> {
    const WHERE: &str = "a [[source]] has exactly one of `files`, `journal`, `syslog` and `stdin`";
    let items = ["files", "journal", "syslog", "stdin"].map(|key| section.get(key));
    let mut named = items.iter().flatten();
    let (first, second) = (named.next(), named.next());
    if let Some(second) = second {
        return Err(second.error(format!("{WHERE}; make two of it, or remove one")));
    }
    if first.is_none() {
        return Err(section.place.error(format!(
            "{WHERE}; add for example files = [\"/var/log/nginx/access.log\"]"
        )));
    }
    let [files, journal, syslog, stdin] = items;
    if let Some(item) = files {
        let files = texts(&item, "a list of paths, for example [\"/var/log/auth.log\"]", |item| {
            absolute_path(item).map(str::to_owned)
        })?;
        return if files.is_empty() {
            Err(item.error("it names no file; add for example \"/var/log/auth.log\""))
        } else {
            Ok(Origin::Files(files))
        };
    }
    if let Some(item) = journal {
        const EXPECTED: &str = "a list of matches, for example [\"_SYSTEMD_UNIT=ssh.service\"]";
        return Ok(Origin::Journal(texts(&item, EXPECTED, |item| {
            let text = item.string("a match in quotes")?;
            let is_match = text == "+" || text.split_once('=').is_some_and(|(key, _)| is_field(key));
            if is_match {
                Ok(text.to_owned())
            } else {
                Err(item.error(format!(
                    "{} is no match; write FIELD=value, as `journalctl` takes it",
                    quote(text)
                )))
            }
        })?));
    }
    if let Some(item) = syslog {
        return syslog_origin(&item);
    }
    let item = stdin.ok_or_else(|| section.place.error(WHERE))?;
    if item.boolean()? {
        Ok(Origin::Stdin)
    } else {
        Err(item.error("false names no source; remove the [[source]], or write true"))
    }
}

fn syslog_origin(item: &Item<'_>) -> Result<Origin, ConfigError> {
    const EXPECTED: &str =
        "the path of a socket such as \"/run/abuser/log.sock\", or \"127.0.0.1:5514\" for UDP";
    let text = item.string(EXPECTED)?;
    if text.starts_with('/') {
        return Ok(Origin::SyslogSocket(absolute_path(item)?.into()));
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| item.error(format!("{} is not {EXPECTED}", quote(text))))?;
    if address.ip().is_loopback() {
        Ok(Origin::SyslogUdp(address))
    } else {
        Err(item.error(format!(
            "{address} is not a loopback address: whoever can send to it could have anybody banned; \
             have the syslog daemon of this host pass on what others send"
        )))
    }
}

/// Whether it is the name of a journal field (systemd.journal-fields(7)).
fn is_field(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn parser(
    section: &Section<'_>,
    preset: Option<Preset>,
) -> Result<Option<LineParser>, ConfigError> {
    let named = section.get("parser");
    let pattern = section.get("pattern");
    let fields = section.get("fields");
    let kind = match (&named, preset) {
        (Some(item), _) => {
            let name = item.string("the name of a parser in quotes")?;
            if let Some(filter) = name.strip_prefix(FAIL2BAN) {
                if let Some(extra) = pattern.or(fields) {
                    return Err(extra.error("a filter of fail2ban takes neither pattern nor fields"));
                }
                return Ok(Some(LineParser::Filter(filter.to_owned())));
            }
            item.word(&Kind::ALL)?
        }
        (None, Some(preset)) => preset.parser(),
        (None, None) => {
            return match pattern.or(fields) {
                Some(extra) => Err(extra.error(
                    "no parser takes it; add parser = \"regex\" or parser = \"json\"",
                )),
                None => Ok(None),
            };
        }
    };
    let pattern_text = match &pattern {
        Some(item) => Some(item.string("a regular expression in quotes")?.to_owned()),
        None => preset
            .filter(|_| named.is_none())
            .and_then(Preset::pattern)
            .map(str::to_owned),
    };
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
            ParserError::Target { .. } | ParserError::Group { .. } | ParserError::Fields(_) => fields,
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

fn texts(
    item: &Item<'_>,
    expected: &str,
    read: impl Fn(&Item<'_>) -> Result<String, ConfigError>,
) -> Result<Vec<String>, ConfigError> {
    let items = item.list(expected)?;
    if let Some(extra) = items.get(MAX_NAMED) {
        return Err(extra.error(format!("this is one more than the {MAX_NAMED} there can be")));
    }
    items.iter().map(read).collect()
}

fn prefixes(item: &Item<'_>) -> Result<Vec<IpNet>, ConfigError> {
    const EXPECTED: &str = "a list of addresses or prefixes, for example [\"10.0.0.0/8\"]";
    let prefix = |item: Item<'_>| {
        let text = item.string("an address or prefix in quotes")?;
        parse_prefix(text).map_err(|error| item.error(error))
    };
    item.list(EXPECTED)?.into_iter().map(prefix).collect()
}

/// What a source is called that has no name.
fn default_name(origin: &Origin, preset: Option<Preset>) -> String {
    if let Some(preset) = preset {
        return preset.name().to_owned();
    }
    let stem = |path: &str| {
        let stem = Path::new(path).file_stem()?.to_str()?;
        limit::is_name(stem).then(|| stem.to_owned())
    };
    match origin {
        Origin::Files(files) => files.first().and_then(|path| stem(path)),
        Origin::Journal(_) => Some("journal".to_owned()),
        Origin::SyslogSocket(_) | Origin::SyslogUdp(_) => Some("syslog".to_owned()),
        Origin::Stdin => Some("stdin".to_owned()),
    }
    .unwrap_or_else(|| "source".to_owned())
}

/// The name, with a number behind it if it is taken.
fn free_name(name: String, places: &HashMap<String, Place>) -> String {
    if !places.contains_key(&name) {
        return name;
    }
    (2..)
        .map(|number| format!("{name}-{number}"))
        .find(|numbered| !places.contains_key(numbered))
        .unwrap_or(name)
}
