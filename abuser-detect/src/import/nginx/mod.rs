//! nginx's `limit_req` as limits in the kernel, and its logs as offences.
//!
//! nginx counts requests, the kernel sees connections. A zone becomes a `[[limit]]` on new
//! connections with its rate and burst, which mean the same in both (`excess` in nginx's
//! `ngx_http_limit_req_module.c`). What is sent on connections that are open already is still
//! counted by nginx: whom it refuses is in its access log (the status) and in its error log
//! (`limiting requests, excess: …`), and each refusal is an offence.

mod format;
mod logs;
mod scope;
mod syntax;
#[cfg(test)]
mod tests;
mod zones;

use std::path::Path;

use self::{
    logs::Logs,
    scope::{Scope, Walk},
    syntax::Directive,
    zones::Zones,
};
use super::{Files, ImportError, Imported, Reader, names::Names};

/// Imports `path`, which may be a whole nginx.conf or a part of one, and what it includes.
///
/// `action` is what detectors do about who is refused again and again: `ban`, `throttle` or
/// `alert`.
pub fn nginx(files: &dyn Files, path: &Path, action: &str) -> Result<Imported, ImportError> {
    let mut reader = Reader::new(files);
    let directives = syntax::read(&mut reader, path)?;
    let mut imported = Imported::default();
    let main = Scope::default().within(&directives);
    let mut walk = Walk::default();
    let blocks: Vec<&Directive> = directives.iter().filter(|d| d.name == "http").collect();
    if blocks.is_empty() {
        walk.http(&directives, &main);
    }
    for http in blocks {
        walk.http(http.children(), &main.within(http.children()));
    }
    let Walk {
        zones: definitions,
        formats,
        sites,
    } = walk;
    let mut zones = Zones::new(&definitions, &mut imported);
    let mut logs = Logs::new(&formats);
    for site in &sites {
        zones.add(site, &mut imported);
        logs.add(site, &mut imported);
    }
    zones.finish(&mut imported);
    logs.finish(action, &mut Names::default(), &mut imported);
    imported.limit_throttles();
    imported.settle();
    Ok(imported)
}
