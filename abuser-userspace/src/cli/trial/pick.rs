//! What is tested: as much of a configuration as reads one log with one detector.

use std::{path::Path, sync::Arc};

use abuser_detect::detect::threshold;

use crate::{
    cli::{CliError, args::TestArgs, logs, run::DEFAULT_CONFIG},
    config::{
        self, Config, DetectorAction, DetectorConfig, DetectorKind, DetectorRule, FAIL2BAN,
        LogSource,
    },
    detection,
    policy::DEFAULT_POLICY,
    sources::{Begin, Kind, SourceConfig},
};

/// What is tested.
pub(super) struct Trial {
    /// A configuration of one source and one detector.
    pub(super) config: Config,
    /// The configuration that it is part of.
    pub(super) whole: Config,
    /// The detector.
    pub(super) rule: Arc<DetectorRule>,
    /// The source that the log is taken for.
    pub(super) source: String,
    /// What makes records of its lines.
    pub(super) reader: String,
}

pub(super) fn pick(args: &TestArgs) -> Result<Trial, CliError> {
    match filter(&args.detector) {
        Some(filter) => of_filter(filter, args),
        None => of_detector(args),
    }
}

/// The filter that is named, if it is one: told by its prefix, or by being a path.
fn filter(name: &str) -> Option<&str> {
    if let Some(filter) = name.strip_prefix(FAIL2BAN) {
        return Some(filter);
    }
    let path = name.split_once('[').map_or(name, |(path, _)| path);
    let is_path = path.contains('/') || Path::new(path).extension().is_some_and(|it| it == "conf");
    is_path.then_some(name)
}

fn of_detector(args: &TestArgs) -> Result<Trial, CliError> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let whole = config::load(path)?;
    let name = args.detector.as_str();
    let mut all = whole.detectors.iter();
    let detector = all.find(|detector| detector.rule.name == name);
    let Some(detector) = detector.cloned() else {
        let names = whole.detectors.iter();
        let names = names.map(|detector| detector.rule.name.as_str());
        let unknown = logs::unknown("[[detector]]", name, names);
        return Err(CliError::Usage(format!(
            "{unknown}; a filter of fail2ban is named as {FAIL2BAN}NAME or by its path"
        )));
    };
    let source = pick_source(&whole, &detector, args)?.name().to_owned();
    let mut config = detection::only(&whole, &[&source]);
    config.detectors.retain(|other| other.rule == detector.rule);
    let parser = config
        .sources
        .iter()
        .find_map(|source| source.parser.as_ref());
    let reader = match (&detector.filter, parser) {
        (Some(filter), _) => format!("{FAIL2BAN}{filter}"),
        (None, Some(parser)) => parser.to_string(),
        // A detector that has no filter reads no source without a parser.
        (None, None) => String::new(),
    };
    Ok(Trial {
        config,
        whole,
        rule: detector.rule,
        source,
        reader,
    })
}

/// The source that the log is read as.
fn pick_source<'c>(
    config: &'c Config,
    detector: &DetectorConfig,
    args: &TestArgs,
) -> Result<&'c LogSource, CliError> {
    let read = |source: &&LogSource| detection::reads(detector, source);
    let mut sources = config.sources.iter().filter(read);
    if let Some(name) = &args.source {
        let source = logs::source(config, name).ok_or_else(|| logs::no_source(config, name))?;
        if !read(&source) {
            let sources: Vec<_> = sources.map(LogSource::name).collect();
            return Err(CliError::Usage(format!(
                "the detector \"{}\" does not read the source \"{name}\"; it reads {}",
                detector.rule.name,
                sources.join(", ")
            )));
        }
        return Ok(source);
    }
    let of_file = sources
        .clone()
        .find(|source| logs::is_of(source, &args.file));
    let source = of_file.or_else(|| sources.next());
    source.ok_or_else(|| {
        CliError::Usage(format!(
            "the detector \"{}\" reads no source",
            detector.rule.name
        ))
    })
}

fn of_filter(filter: &str, args: &TestArgs) -> Result<Trial, CliError> {
    if args.source.is_some() {
        return Err(CliError::Usage(
            "--source is for detectors; a filter reads lines as they are".to_owned(),
        ));
    }
    let default = Path::new(DEFAULT_CONFIG);
    let whole = match &args.config {
        Some(path) => config::load(path)?,
        None if default.exists() => config::load(default)?,
        None => Config {
            filter_dirs: config::filter_dirs(default),
            ..Config::default()
        },
    };
    let rule = Arc::new(DetectorRule {
        name: args.detector.clone(),
        action: DetectorAction::Ban,
        policy: DEFAULT_POLICY.to_owned(),
        limit: None,
        throttle_for: std::time::Duration::ZERO,
    });
    let mut config = whole.clone();
    config.sources = vec![LogSource {
        reads: SourceConfig {
            name: "log".to_owned(),
            kind: Kind::Files(Vec::new()),
            begin: Begin::Start,
        },
        parser: None,
        trusted_proxies: Vec::new(),
    }];
    config.detectors = vec![DetectorConfig {
        rule: Arc::clone(&rule),
        sources: None,
        filter: Some(filter.to_owned()),
        condition: None,
        kind: DetectorKind::Threshold(threshold::Settings {
            count: config.ban.maxretry,
            within: config.ban.findtime,
            ..threshold::Settings::default()
        }),
    }];
    Ok(Trial {
        config,
        whole,
        rule,
        source: "log".to_owned(),
        reader: format!("{FAIL2BAN}{filter}"),
    })
}
