//! A configuration in the making: file after file is written over it.

use std::{collections::HashMap, sync::Arc};

use abuser_common::layout::MAX_LIMITS;
use toml::{Spanned, de::DeTable};

use super::{
    Config, Dispatcher, Mode, allow, api, ban, blocklist, crowdsec, detector,
    error::{ConfigError, quote},
    fleet,
    limit::{self, Scope},
    logs, metrics, notify,
    preset::Preset,
    section::{self, Item, Section},
    security,
    source::{Place, Source},
    store,
};
use crate::{
    policy::{BanPolicy, DEFAULT_POLICY},
    sources,
};

/// The longest name of an interface, in bytes (`IFNAMSIZ - 1` of the kernel).
const MAX_INTERFACE_LENGTH: usize = 15;

/// The most policies beside the default one.
const MAX_POLICIES: usize = 64;

/// What the files read so far say, and where they say what must go together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    config: Config,
    limit_names: HashMap<String, Place>,
    /// The policies that limits name, and where they do.
    named: Vec<(String, Place)>,
    ban: ban::PolicyDraft,
    policies: Vec<(String, Place, ban::PolicyDraft)>,
    blocklist_names: HashMap<String, Place>,
    crowdsec: crowdsec::CrowdsecDraft,
    source_names: HashMap<String, Place>,
    detectors: detector::Drafts,
    api: api::Wants,
    /// Where `[metrics]` says to listen, if it does.
    metrics_listen: Option<Place>,
    fleet: fleet::FleetDraft,
    notify: notify::Drafts,
}

impl Draft {
    /// Adds a file: its scalars replace earlier ones, its lists are appended.
    pub(super) fn add(&mut self, source: &Arc<Source>) -> Result<(), ConfigError> {
        let table = table(source)?;
        let top = Section::new(
            source,
            &section::TOP,
            table.get_ref(),
            Place::new(source, 0),
        )?;
        self.interfaces(&top)?;
        if let Some(item) = top.get("xdp") {
            self.xdp(&item.section(&section::XDP, "a table: [xdp]")?)?;
        }
        if let Some(item) = top.get("api") {
            let section = item.section(&section::API, "a table: [api]")?;
            api::read(&section, &mut self.config.api, &mut self.api)?;
        }
        if let Some(item) = top.get("metrics") {
            let section = item.section(&section::METRICS, "a table: [metrics]")?;
            metrics::read(&section, &mut self.config.metrics, &mut self.metrics_listen)?;
        }
        if let Some(item) = top.get("allow") {
            let section = item.section(&section::ALLOW, "a table: [allow]")?;
            allow::read(&section, &mut self.config)?;
        }
        if let Some(item) = top.get("limit") {
            self.limits(&item)?;
        }
        if let Some(item) = top.get("ban") {
            let section = item.section(&section::BAN, "a table: [ban]")?;
            ban::read(&section, &mut self.ban)?;
        }
        if let Some(item) = top.get("policy") {
            self.policies(&item)?;
        }
        if let Some(item) = top.get("blocklist") {
            self.blocklists(&item)?;
        }
        if let Some(item) = top.get("crowdsec") {
            let section = item.section(&section::CROWDSEC, "a table: [crowdsec]")?;
            crowdsec::read(&section, &mut self.crowdsec)?;
        }
        if let Some(item) = top.get("source") {
            self.sources(&item)?;
        }
        if let Some(item) = top.get("detector") {
            self.detectors(&item)?;
        }
        if let Some(item) = top.get("notify") {
            self.notify(&item)?;
        }
        if let Some(item) = top.get("store") {
            let section = item.section(&section::STORE, "a table: [store]")?;
            store::read(&section, &mut self.config.store)?;
        }
        if let Some(item) = top.get("security") {
            let section = item.section(&section::SECURITY, "a table: [security]")?;
            security::read(&section, &mut self.config.security)?;
        }
        if let Some(item) = top.get("fleet") {
            let section = item.section(&section::FLEET, "a table: [fleet]")?;
            fleet::read(&section, &mut self.fleet)?;
        }
        Ok(())
    }

    /// The configuration, after the checks that only all files together allow.
    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        let Self {
            mut config,
            named,
            ban,
            policies,
            api: wants,
            metrics_listen,
            crowdsec,
            detectors,
            fleet,
            notify,
            ..
        } = self;
        api::finish(&config.api, &wants)?;
        metrics::finish(&config.metrics, &config.api, metrics_listen.as_ref())?;
        config.fleet = fleet.finish()?;
        config.crowdsec = crowdsec.finish()?;
        config.ban = ban.finish(DEFAULT_POLICY, &BanPolicy::default(), "in [ban]")?;
        for (name, _, draft) in policies {
            let policy = draft.finish(&name, &config.ban, "in [[policy]]")?;
            config.policies.push(policy);
        }
        let known = || config.policies.iter().map(|policy| policy.name.as_str());
        if let Some((name, place)) = named
            .iter()
            .find(|(name, _)| name != DEFAULT_POLICY && !known().any(|known| known == name))
        {
            return Err(section::not_there(
                place,
                "policy",
                "[[limit]]",
                "[[policy]]",
                name,
                known(),
            ));
        }
        let all_policies = config.all_policies();
        config.detectors = detectors.finish(&detector::Known {
            sources: config
                .sources
                .iter()
                .map(|source| (source.name(), source.parser.is_some()))
                .collect(),
            policies: all_policies.iter().collect(),
            throttle_limits: config
                .limits
                .iter()
                .filter(|limit| limit.only == Scope::Throttled)
                .map(|limit| limit.name.as_str())
                .collect(),
        })?;
        config.notify = notify.finish(&config)?;
        Ok(config)
    }

    fn notify(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[notify]]";
        for item in item.tables(EXPECTED)? {
            self.notify
                .add(&item.section(&section::NOTIFY, EXPECTED)?)?;
        }
        Ok(())
    }

    fn sources(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[source]]";
        for item in item.tables(EXPECTED)? {
            let section = item.section(&section::SOURCE, EXPECTED)?;
            let (source, preset) = logs::read(&section, &mut self.source_names)?;
            for file in preset.into_iter().flat_map(Preset::detectors) {
                // A test sees to it that those are fine.
                let table = table(&file)?;
                let top =
                    Section::new(&file, &section::TOP, table.get_ref(), Place::new(&file, 0))?;
                for item in top
                    .get("detector")
                    .map_or(Ok(Vec::new()), |item| item.tables(EXPECTED))?
                {
                    let detector = item.section(&section::DETECTOR, EXPECTED)?;
                    self.detectors.add(&detector, Some(source.name()))?;
                }
            }
            self.config.sources.push(source);
            sources::config::check(self.config.sources.iter().map(|source| &source.reads))
                .map_err(|error| section.place.error(error.to_string()))?;
        }
        Ok(())
    }

    fn detectors(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[detector]]";
        for item in item.tables(EXPECTED)? {
            let section = item.section(&section::DETECTOR, EXPECTED)?;
            self.detectors.add(&section, None)?;
        }
        Ok(())
    }

    fn blocklists(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[blocklist]]";
        for item in item.tables(EXPECTED)? {
            let section = item.section(&section::BLOCKLIST, EXPECTED)?;
            let lists = &mut self.config.blocklists;
            blocklist::read(&section, &mut self.blocklist_names, lists)?;
        }
        Ok(())
    }

    fn policies(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[policy]]";
        for item in item.tables(EXPECTED)? {
            let section = item.section(&section::POLICY, EXPECTED)?;
            if self.policies.len() >= MAX_POLICIES {
                return Err(section.place.error(format!(
                    "this [[policy]] is one more than the {MAX_POLICIES} there can be; remove one"
                )));
            }
            let named = section.require("name", "\"strict\"")?;
            let name = limit::name(&named, "policy")?;
            if name == DEFAULT_POLICY {
                return Err(named.error("\"default\" is what [ban] says; choose another"));
            }
            if let Some((_, other, _)) = self.policies.iter().find(|(known, ..)| *known == name) {
                return Err(named.error(format!(
                    "\"{name}\" is taken by {}; choose another",
                    other.describe()
                )));
            }
            let mut draft = ban::PolicyDraft::default();
            ban::read(&section, &mut draft)?;
            self.policies.push((name, named.place, draft));
        }
        Ok(())
    }

    fn interfaces(&mut self, top: &Section<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "a list of names, for example [\"eth0\"]";
        let Some(item) = top.get("interfaces") else {
            return Ok(());
        };
        for item in item.list(EXPECTED)? {
            let name = item.string("the name of an interface, in quotes")?;
            if !is_interface_name(name) {
                return Err(item.error(format!(
                    "{} cannot be the name of an interface; write 1 to {MAX_INTERFACE_LENGTH} \
                     bytes without /, : or spaces, as `ip link` shows it",
                    quote(name)
                )));
            }
            // Naming one twice is no harm, attaching to it twice would fail.
            if !self.config.interfaces.iter().any(|known| known == name) {
                self.config.interfaces.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn xdp(&mut self, section: &Section<'_>) -> Result<(), ConfigError> {
        if let Some(item) = section.get("mode") {
            self.config.xdp.mode = item.word(&Mode::WORDS)?;
        }
        if let Some(item) = section.get("pin_dir") {
            self.config.xdp.pin_dir = absolute_path(&item)?.into();
        }
        if let Some(item) = section.get("persist") {
            self.config.xdp.persist = item.boolean()?;
        }
        if let Some(item) = section.get("dispatcher") {
            self.config.xdp.dispatcher = item.word(&Dispatcher::WORDS)?;
        }
        if let Some(item) = section.get("priority") {
            self.config.xdp.priority = item.integer(0..=u32::MAX)?;
        }
        Ok(())
    }

    fn limits(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "tables with double brackets: [[limit]]";
        for item in item.tables(EXPECTED)? {
            let section = item.section(&section::LIMIT, EXPECTED)?;
            if u32::try_from(self.config.limits.len()).unwrap_or(u32::MAX) >= MAX_LIMITS {
                return Err(section.place.error(format!(
                    "this [[limit]] is one more than the {MAX_LIMITS} there can be; \
                     remove one, or merge some by listing their ports together"
                )));
            }
            let limit = limit::read(&section)?;
            let place = section
                .get("name")
                .map_or(section.place.clone(), |name| name.place);
            if let Some(other) = self.limit_names.get(&limit.name) {
                return Err(place.error(format!(
                    "`name` in [[limit]]: \"{}\" is taken by {}; choose another",
                    limit.name,
                    other.describe()
                )));
            }
            self.limit_names.insert(limit.name.clone(), place);
            if let Some(item) = section.get("policy") {
                self.named.push((limit.policy.clone(), item.place));
            }
            self.config.limits.push(limit);
        }
        Ok(())
    }
}

/// A file's tables.
fn table(source: &Arc<Source>) -> Result<Spanned<DeTable<'_>>, ConfigError> {
    DeTable::parse(source.text()).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', "; ");
        let hint = if message.contains("duplicate") {
            "remove one of the two"
        } else {
            "texts such as \"60/m\" need quotes, lists need [ ]"
        };
        Place::new(source, offset).error(format!("not TOML: {message}; {hint}"))
    })
}

/// The value as a path from the root.
pub(super) fn absolute_path<'t>(item: &Item<'t>) -> Result<&'t str, ConfigError> {
    let path = item.string("a path in quotes")?;
    if path.starts_with('/') && !path.contains('\0') {
        Ok(path)
    } else {
        Err(item.error(format!(
            "{} is not an absolute path; write one that starts with /",
            quote(path)
        )))
    }
}

/// Whether the kernel would accept the name (`dev_valid_name` in net/core/dev.c).
fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_LENGTH).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}
