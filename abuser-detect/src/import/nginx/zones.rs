//! Zones of `limit_req` as limits.
//!
//! A zone is one table of sources, whichever servers and locations use it, so it becomes one
//! limit, on the ports of all of these.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::{
    super::{Imported, Place, Table, names::Names},
    scope::Site,
    syntax::Directive,
};

/// Where HTTP is unless a server says otherwise.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// What is known of the zones and of where they are used.
pub(super) struct Zones<'d> {
    by_name: BTreeMap<&'d str, Zone<'d>>,
    /// In the order in which they are defined.
    order: Vec<&'d str>,
    /// The variables that `map` and `geo` make, and where.
    made: BTreeMap<&'d str, &'d Directive>,
}

struct Zone<'d> {
    place: &'d Place,
    key: &'d str,
    rate: &'d str,
    uses: Vec<Use<'d>>,
}

/// A `limit_req` in force somewhere.
struct Use<'d> {
    directive: &'d Directive,
    burst: u64,
    is_dry_run: bool,
    location: Option<String>,
    ports: BTreeSet<u16>,
    /// Why no limit in the kernel can stand for it.
    obstacle: Option<(&'d Place, String, &'static str)>,
}

impl<'d> Zones<'d> {
    /// Reads the zones' definitions.
    pub(super) fn new(definitions: &[&'d Directive], imported: &mut Imported) -> Self {
        let mut all = Self {
            by_name: BTreeMap::new(),
            order: Vec::new(),
            made: BTreeMap::new(),
        };
        for definition in definitions {
            match definition.name.as_str() {
                "limit_req_zone" => all.define(definition, imported),
                // Its other argument is the variable it reads.
                "map" | "geo" => {
                    if let Some(variable) = definition.arguments.last() {
                        all.made.insert(variable, definition);
                    }
                }
                _ => {}
            }
        }
        all
    }

    fn define(&mut self, definition: &'d Directive, imported: &mut Imported) {
        let place = &definition.place;
        let (Some(key), Some(zone)) = (definition.argument(0), definition.option("zone")) else {
            imported.note(
                place,
                definition.written(),
                "a zone has a key and zone=NAME:SIZE; nginx would not take it either",
            );
            return;
        };
        let name = zone.split(':').next().unwrap_or(zone);
        // nginx's default.
        let rate = definition.option("rate").unwrap_or("1r/s");
        let known = self.by_name.insert(
            name,
            Zone {
                place,
                key,
                rate,
                uses: Vec::new(),
            },
        );
        if known.is_none() {
            self.order.push(name);
        }
    }

    /// Takes note of what limits a site.
    pub(super) fn add(&mut self, site: &Site<'d>, imported: &mut Imported) {
        for directive in &site.scope.limit_conn {
            imported.note(
                &directive.place,
                directive.written(),
                "the kernel counts new connections, not those that are open; whom nginx refuses \
                 for it is found in its logs",
            );
        }
        for directive in &site.scope.limit_req {
            let name = directive.option("zone").unwrap_or_default();
            let Some(zone) = self.by_name.get_mut(name) else {
                imported.note(
                    &directive.place,
                    directive.written(),
                    format!(
                        "no limit_req_zone with the name {name:?} is in the files that were read; \
                         import the nginx.conf that includes all of them"
                    ),
                );
                continue;
            };
            let burst = match directive.option("burst").map(str::parse) {
                None => 0,
                Some(Ok(burst)) => burst,
                Some(Err(_)) => {
                    imported.note(&directive.place, directive.written(), "burst is no number");
                    continue;
                }
            };
            let has = |word: &str| directive.arguments.iter().any(|argument| argument == word);
            if burst > 0 && !has("nodelay") {
                imported.note(
                    &directive.place,
                    directive.written(),
                    "what is over the rate and within the burst is not delayed here, it passes at \
                     once",
                );
            }
            let (ports, obstacle) = ports(site, directive, imported);
            zone.uses.push(Use {
                directive,
                burst,
                is_dry_run: site.scope.is_dry_run(),
                location: site.location.clone(),
                ports,
                obstacle,
            });
        }
    }

    /// Makes limits of the zones.
    pub(super) fn finish(self, imported: &mut Imported) {
        let mut names = Names::default();
        for name in &self.order {
            let Some(zone) = self.by_name.get(name) else {
                continue;
            };
            if let Some(table) = self.limit(name, zone, &mut names, imported) {
                imported.tables.push(table);
            }
        }
    }

    fn limit(
        &self,
        name: &str,
        zone: &Zone<'d>,
        names: &mut Names,
        imported: &mut Imported,
    ) -> Option<Table> {
        let what = format!("limit_req_zone {} zone={name}", zone.key);
        let mut skip = |why: String| {
            imported.note(zone.place, what.clone(), why);
            None
        };
        if zone.uses.is_empty() {
            return skip("no limit_req uses it".to_owned());
        }
        if let Some(why) = self.foreign_key(zone.key) {
            return skip(why);
        }
        let Some(rate) = rate(zone.rate) else {
            return skip(format!(
                "rate={} is none that nginx knows; it is a number with r/s or r/m",
                zone.rate
            ));
        };
        // What is only tried must not be enforced because something else is.
        let enforced: Vec<_> = zone.uses.iter().filter(|used| !used.is_dry_run).collect();
        let is_dry_run = enforced.is_empty();
        let uses: Vec<_> = if is_dry_run {
            zone.uses.iter().collect()
        } else {
            enforced
        };
        let ports: BTreeSet<u16> = uses.iter().flat_map(|used| &used.ports).copied().collect();
        for used in &uses {
            if let Some((place, what, why)) = &used.obstacle {
                imported.note(place, what.clone(), *why);
            }
        }
        if ports.is_empty() {
            return None;
        }
        let burst = uses.iter().map(|used| used.burst).max().unwrap_or(0);
        for used in &uses {
            if used.burst < burst {
                imported.note(
                    &used.directive.place,
                    used.directive.written(),
                    format!(
                        "the zone's limit has the largest of its bursts, {burst}: a connection does \
                         not tell for which location it is"
                    ),
                );
            }
            // One that is inherited from the server holds for all of it.
            let is_of_server = uses.iter().any(|other| {
                other.location.is_none() && std::ptr::eq(other.directive, used.directive)
            });
            if let (Some(location), false) = (&used.location, is_dry_run || is_of_server) {
                imported.note(
                    &used.directive.place,
                    format!("{} in {location}", used.directive.written()),
                    "the limit holds for all connections to these ports, because the kernel does \
                     not see paths; if that is too strict, write action = \"observe\" in it and \
                     leave it to the detectors",
                );
            }
        }
        let mut table = Table::repeated("limit")
            .comment(format!("{}: {what} rate={}", zone.place, zone.rate))
            .comment("New connections of each source; IPv6 by /64, where nginx takes the address.")
            .with("name", names.take(name))
            .with("protocol", "tcp")
            .with(
                "ports",
                Value::Array(
                    ports
                        .into_iter()
                        .map(|port| Value::from(i64::from(port)))
                        .collect(),
                ),
            )
            .with("count", "connections")
            .with("rate", rate)
            .with("burst", i64::try_from(burst).unwrap_or(i64::MAX));
        if is_dry_run {
            table = table.with_comment("action", "observe", "limit_req_dry_run on");
        }
        Some(table)
    }

    /// Why the kernel cannot count by this key; `None` if it can.
    fn foreign_key(&self, key: &str) -> Option<String> {
        let variable = match key.strip_prefix("${").and_then(|key| key.strip_suffix('}')) {
            Some(name) => format!("${name}"),
            None => key.to_owned(),
        };
        if matches!(variable.as_str(), "$binary_remote_addr" | "$remote_addr") {
            return None;
        }
        let why = if let Some(made) = self.made.get(variable.as_str()) {
            format!(
                "{variable} comes from `{}` at {}, and the kernel knows addresses only; for \
                 addresses that it exempts use [allow] and write the [[limit]] by hand",
                made.written(),
                made.place
            )
        } else if variable.contains("remote_addr") {
            "the kernel counts by address alone, which would be stricter for who uses several of \
             these at once; write the [[limit]] by hand if that is what you want"
                .to_owned()
        } else {
            format!("the kernel counts by address, and does not see {variable}")
        };
        Some(format!("{why}; whom nginx refuses is found in its logs"))
    }
}

/// `60r/m` as our `60/m`.
fn rate(text: &str) -> Option<String> {
    let (count, unit) = text.split_once("r/")?;
    let count: u32 = count.parse().ok()?;
    (count > 0 && matches!(unit, "s" | "m")).then(|| format!("{count}/{unit}"))
}

/// The ports at which the kernel can limit who comes to a site, and what is in the way.
fn ports<'d>(
    site: &Site<'d>,
    limit: &'d Directive,
    imported: &mut Imported,
) -> (BTreeSet<u16>, Option<(&'d Place, String, &'static str)>) {
    if let Some(directive) = site.scope.set_real_ip_from {
        let why = "clients come through a proxy here, which the kernel would limit in their place; \
                   whom nginx refuses is found in its logs, and banning them helps only where they \
                   connect themselves";
        return (
            BTreeSet::new(),
            Some((&directive.place, directive.written(), why)),
        );
    }
    let Some(listen) = &site.listen else {
        imported.note(
            &limit.place,
            limit.written(),
            "no server with `listen` is in the files that were read; its limit is on ports 80 and \
             443",
        );
        return (USUAL_PORTS.into(), None);
    };
    if listen.is_empty() {
        return ([80].into(), None);
    }
    let mut ports = BTreeSet::new();
    let mut obstacle = None;
    for directive in listen {
        let address = directive.argument(0).unwrap_or_default();
        let skip = if directive.arguments.iter().any(|word| word == "quic") {
            Some(
                "QUIC has no connections that the kernel could count; write a [[limit]] with \
                  protocol = \"udp\" and count = \"packets\" for it",
            )
        } else if is_local(address) {
            Some(
                "what comes from this host itself passes no network card; if a proxy in front of \
                  it passes on the address, its own logs tell more",
            )
        } else if let Some(port) = port(address) {
            ports.insert(port);
            None
        } else {
            Some("that is no address and port")
        };
        if let Some(why) = skip {
            obstacle = Some((&directive.place, directive.written(), why));
        }
    }
    (ports, obstacle)
}

/// Whether only the host itself can reach this.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    address.starts_with("unix:")
        || address.starts_with("[::1]")
        || host.starts_with("127.")
        || host == "localhost"
}

/// The port of `80`, `*:80`, `192.0.2.1:80`, `[::]:80`, `192.0.2.1`.
fn port(address: &str) -> Option<u16> {
    if let Ok(port) = address.parse::<u16>() {
        return (port > 0).then_some(port);
    }
    let after = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.1,
        None => address
            .find(':')
            .map_or("", |at| address.get(at..).unwrap_or("")),
    };
    match after.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => (after.is_empty() && !address.is_empty()).then_some(80),
    }
}
