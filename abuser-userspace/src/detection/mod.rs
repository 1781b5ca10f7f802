//! From the configuration to a pipeline: what the daemon, `abuser test` and `abuser replay` run
//! is built here, so that it is the same.

mod consequence;

use std::{
    cell::RefCell,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use abuser_detect::{
    condition::Condition,
    filter::{self, Filter},
    parse::{self, Parser},
    pipeline::{Clock, Feed, Pipeline, Reader, Watch},
};
use jiff::tz::TimeZone;

use crate::{
    config::{
        Config, DetectorAction, DetectorConfig, DetectorRule, FAIL2BAN, LineParser, LogSource,
    },
    sources::Kind,
};

pub use consequence::Consequence;

/// Why a configuration makes no pipeline.
#[derive(Debug, thiserror::Error)]
pub enum DetectionError {
    /// A filter of fail2ban cannot be used.
    #[error("{label} \"{name}\" cannot use \"{FAIL2BAN}{filter}\": {error}; {}", remedy(.error, .folder.as_deref()))]
    Filter {
        /// Which kind of table names it.
        label: &'static str,
        /// The name in that table.
        name: String,
        /// The filter as it is named there.
        filter: String,
        /// What is wrong.
        error: Box<filter::Error>,
        /// Where a filter of one's own belongs.
        folder: Option<PathBuf>,
    },
    /// A parser or a condition that the configuration had let pass.
    #[error("\"{name}\": {error}")]
    Setting {
        /// Whose it is.
        name: String,
        /// What is wrong.
        error: String,
    },
}

/// A pipeline, and what its numbers stand for.
pub struct Detection {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The detectors, by their numbers in it.
    pub detectors: Vec<Detector>,
    /// What the files of the filter said that parses a source, by the source's number.
    pub source_filters: Vec<FilterFiles>,
}

/// What the files of filters said when they were read: if two are equal, so are the filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterFiles(u64);

/// What is told of a detector.
#[derive(Clone, Debug)]
pub struct Detector {
    /// What follows from what it finds.
    pub rule: Arc<DetectorRule>,
    /// What it looks for.
    pub kind: &'static str,
    /// The sources that it reads, by name.
    pub sources: Vec<String>,
    /// What the files of its filter said.
    pub filter: FilterFiles,
}

impl Detection {
    /// That of a configuration.
    ///
    /// # Errors
    /// If a filter cannot be read.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, DetectionError> {
        let sources = &config.sources;
        let feeds = sources.iter().map(|source| feed(config, source));
        let feeds = feeds.collect::<Result<Vec<_>, _>>()?;
        let (feeds, source_filters) = feeds.into_iter().unzip();
        let mut watches = Vec::with_capacity(config.detectors.len());
        let mut detectors = Vec::with_capacity(config.detectors.len());
        for detector in &config.detectors {
            let read = read_by(detector, sources);
            let (watch, filter) = watch(config, detector, &read)?;
            watches.push(watch);
            detectors.push(Detector {
                rule: Arc::clone(&detector.rule),
                kind: detector.kind.name(),
                sources: read
                    .iter()
                    .map(|(_, source)| source.name().to_owned())
                    .collect(),
                filter,
            });
        }
        Ok(Self {
            pipeline: Pipeline::new(clock, feeds, watches),
            detectors,
            source_filters,
        })
    }
}

/// Whether a detector reads a source.
pub fn reads(detector: &DetectorConfig, source: &LogSource) -> bool {
    match &detector.sources {
        Some(names) => names.iter().any(|name| name == source.name()),
        None => detector.filter.is_some() || source.parser.is_some(),
    }
}

/// As much of a configuration as reads the sources with these names, whose lines come from files
/// now: those sources, and their detectors.
#[must_use]
pub fn only(config: &Config, names: &[&str]) -> Config {
    let mut part = config.clone();
    part.sources.retain(|source| names.contains(&source.name()));
    for source in &mut part.sources {
        // A line of a journal that was written to a file has a date.
        source.reads.kind = Kind::Files(Vec::new());
    }
    part.detectors
        .retain(|detector| part.sources.iter().any(|source| reads(detector, source)));
    part
}

/// What tells when each line of a source happened before it is read; `None` if nothing does.
///
/// # Errors
/// If a filter of fail2ban cannot be read.
pub fn dating(config: &Config, source: &LogSource) -> Result<Option<Reader>, DetectionError> {
    if let Some(reader) = feed(config, source)?.0.reader {
        return Ok(Some(reader));
    }
    let mut readers = config.detectors.iter();
    let filter = readers.find_map(|detector| {
        let filter = detector.filter.as_ref()?;
        reads(detector, source).then_some((filter, &detector.rule.name))
    });
    let loaded = filter.map(|(filter, name)| load(config, filter, source, "[[detector]]", name));
    Ok(loaded
        .transpose()?
        .map(|(filter, _)| Reader::Filter(Box::new(filter))))
}

/// The sources that a detector reads, with their numbers.
fn read_by<'s>(detector: &DetectorConfig, sources: &'s [LogSource]) -> Vec<(usize, &'s LogSource)> {
    let sources = sources.iter().enumerate();
    sources
        .filter(|(_, source)| reads(detector, source))
        .collect()
}

fn feed(config: &Config, source: &LogSource) -> Result<(Feed, FilterFiles), DetectionError> {
    let mut files = FilterFiles::default();
    let reader = match &source.parser {
        None => None,
        Some(LineParser::Filter(name)) => {
            let filter;
            (filter, files) = load(config, name, source, "[[source]]", source.name())?;
            Some(Reader::Filter(Box::new(filter)))
        }
        Some(LineParser::Builtin {
            kind,
            pattern,
            fields,
        }) => {
            let parser = Parser::new(parse::Settings {
                kind: *kind,
                pattern: pattern.clone(),
                fields: fields.clone(),
                trusted_proxies: source.trusted_proxies.clone(),
                zone: TimeZone::system(),
            });
            let parser = parser.map_err(|error| DetectionError::Setting {
                name: source.name().to_owned(),
                error: error.to_string(),
            })?;
            Some(Reader::Parser(Box::new(parser)))
        }
    };
    Ok((Feed { reader }, files))
}

fn watch(
    config: &Config,
    detector: &DetectorConfig,
    read: &[(usize, &LogSource)],
) -> Result<(Watch, FilterFiles), DetectionError> {
    let name = &detector.rule.name;
    let condition = detector.condition.as_deref().map(str::parse::<Condition>);
    let condition = condition
        .transpose()
        .map_err(|error| DetectionError::Setting {
            name: name.clone(),
            error: error.to_string(),
        })?;
    let mut filters = Vec::new();
    let mut files = FilterFiles::default();
    for (_, source) in read {
        if let Some(named) = &detector.filter {
            let filter;
            (filter, files) = load(config, named, source, "[[detector]]", name)?;
            filters.push(filter);
        }
    }
    let watch = Watch {
        feeds: read.iter().map(|(number, _)| *number).collect(),
        filters,
        condition,
        // Only bans have evidence, if any is kept.
        evidence: detector.rule.action == DetectorAction::Ban && config.store.evidence > 0,
        detector: detector.kind.build(),
    };
    Ok((watch, files))
}

/// Loads a filter for the lines of a source.
fn load(
    config: &Config,
    filter: &str,
    source: &LogSource,
    label: &'static str,
    name: &str,
) -> Result<(Filter, FilterFiles), DetectionError> {
    let options = filter::Options {
        journal: matches!(source.reads.kind, Kind::Journal(_) | Kind::Syslog(_)),
        zone: TimeZone::system(),
        ..filter::Options::default()
    };
    let said = RefCell::new(DefaultHasher::new());
    let read = |path: &Path| {
        let text = read_file(path)?;
        (path, &text).hash(&mut *said.borrow_mut());
        Ok(text)
    };
    match Filter::load(filter, &config.filter_dirs, &options, &read) {
        Ok(filter) => Ok((filter, FilterFiles(said.into_inner().finish()))),
        Err(error) => Err(DetectionError::Filter {
            label,
            name: name.to_owned(),
            filter: filter.to_owned(),
            error: Box::new(error),
            folder: config.filter_dirs.first().cloned(),
        }),
    }
}

/// What to do about a filter that cannot be used.
fn remedy(error: &filter::Error, folder: Option<&Path>) -> String {
    match (error, folder) {
        (filter::Error::NotFound { .. }, Some(folder)) => format!(
            "install fail2ban's filters, or put the file into {}",
            folder.display()
        ),
        (filter::Error::NotFound { .. }, None) => "name one that is there".to_owned(),
        (filter::Error::Options { .. }, _) => "mend the name".to_owned(),
        (filter::Error::Read { .. }, _) => "mend that, or name another filter".to_owned(),
        _ => "mend the file, or name another filter".to_owned(),
    }
}

/// Reads a file of a filter; fail2ban's are text in no encoding that is told.
fn read_file(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
