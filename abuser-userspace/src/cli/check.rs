//! `abuser check`.

use std::path::Path;

use serde::Serialize;

use super::{CliError, args::CheckArgs, output};
use crate::{
    api::server::Token,
    config::{self, AllowEntry, BlocklistConfig, Config},
    crowdsec,
    dataplane::interfaces::Netlink,
    detection::Detection,
    files, fleet, notify, store,
};
use abuser_detect::pipeline::Clock;

/// What `check --json` prints.
#[derive(Serialize)]
struct Checked {
    config: String,
    interfaces: Vec<String>,
    limits: Vec<String>,
    allow: Vec<String>,
    sources: Vec<String>,
    detectors: Vec<String>,
    notify: Vec<String>,
}

pub(super) async fn check(args: &CheckArgs) -> Result<(), CliError> {
    let CheckArgs { config: path, json } = args;
    let config = config::load(path)?;
    // Filters are files of their own, and only whoever builds them knows what is wrong with them.
    let detection = Detection::new(&config, Clock::Host)?;
    for warning in warnings(&config, path).await {
        output::message(&format!("abuser: warning: {warning}"));
    }
    let checked = Checked {
        config: path.display().to_string(),
        interfaces: config.interfaces,
        limits: config.limits.into_iter().map(|limit| limit.name).collect(),
        allow: config
            .allow
            .into_iter()
            .map(|entry| match entry {
                AllowEntry::Prefix(prefix) => prefix.to_string(),
                AllowEntry::Name(name) => name,
            })
            .collect(),
        sources: config
            .sources
            .iter()
            .map(|source| source.name().to_owned())
            .collect(),
        detectors: detection
            .detectors
            .iter()
            .map(|detector| detector.rule.name.clone())
            .collect(),
        notify: config
            .notify
            .into_iter()
            .map(|notify| notify.name)
            .collect(),
    };
    if *json {
        output::json(&checked)?;
    } else {
        output::line(&format!(
            "{}: fine; interfaces: {}; limits: {}; allow entries: {}; sources: {}; detectors: {}; notify: {}",
            checked.config,
            or_none(&checked.interfaces),
            or_none(&checked.limits),
            checked.allow.len(),
            or_none(&checked.sources),
            or_none(&checked.detectors),
            or_none(&checked.notify),
        ))?;
    }
    Ok(())
}

/// What may keep it from working as it is meant. Files and interfaces may not be there yet, or not on this
/// host, and who checks may be somebody else than who runs it, so none of it is an error.
async fn warnings(config: &Config, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.interfaces.is_empty() {
        warnings.push(format!(
            "{} names no interface, so `abuser run` needs -i: add `interfaces = [\"eth0\"]`",
            path.display()
        ));
    }
    warnings.extend(missing_interfaces(&config.interfaces).await);
    warnings.extend(config.doubts());
    if let Err(error) = Token::of(&config.api) {
        warnings.push(format!("{error}; `abuser run` does not start like this"));
    }
    warnings.extend(config.api.exposure());
    warnings.extend(store::doubt(&config.store));
    warnings.extend(config.blocklists.iter().filter_map(unreadable));
    warnings.extend(config.notify.iter().flat_map(notify::complaints));
    let crowdsec = config.crowdsec.iter().flat_map(crowdsec::problems);
    warnings.extend(crowdsec.map(|problem| format!("[crowdsec]: {problem}")));
    warnings.extend(config.fleet.iter().flat_map(fleet::problems));
    warnings
}

/// Which interfaces this host does not have.
async fn missing_interfaces(names: &[String]) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let netlink = match Netlink::connect() {
        Ok(netlink) => netlink,
        Err(error) => return vec![error.to_string()],
    };
    let mut missing = Vec::new();
    for name in names {
        if let Err(error) = netlink.interface(name).await {
            missing.push(error.to_string());
        }
    }
    missing
}

/// Why a block list could not be read now, if it could not.
fn unreadable(list: &BlocklistConfig) -> Option<String> {
    let error = files::open(&list.path).err()?;
    let BlocklistConfig { name, path, .. } = list;
    Some(format!(
        "block list {name}: cannot read {}: {error}",
        path.display()
    ))
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
