//! nginx's logs as sources, and detectors of whom it refused.

use std::collections::BTreeMap;

use toml::{Table as Map, Value};

use super::{
    super::{Imported, Table, expression::Test, names::Names, paths},
    format::Parser,
    scope::{Site, is_on},
    syntax::Directive,
};

/// Where packages of nginx log unless told otherwise.
const ACCESS_LOG: &str = "/var/log/nginx/access.log";
const ERROR_LOG: &str = "/var/log/nginx/error.log";

/// The status that says nothing but "too many requests". The default, 503, says as well that
/// something behind nginx is down, for which nobody is to be banned.
const TOO_MANY: &str = "429";

/// Levels of the error log, the most severe first.
const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
];

/// The logs that were met.
pub(super) struct Logs<'d> {
    /// `None` if nothing is escaped in them.
    formats: BTreeMap<&'d str, Option<String>>,
    access: BTreeMap<String, AccessLog>,
    error: BTreeMap<String, ErrorLog>,
}

struct AccessLog {
    parser: Parser,
    /// Whether the status that refusals have is told by it.
    tells: bool,
}

/// The name of a detector, what it looks for, what it does, and which logs tell it.
type Told<'a> = (&'a str, &'a str, &'a str, fn(&ErrorLog) -> bool);

/// What an error log tells of.
#[derive(Default)]
struct ErrorLog {
    requests: bool,
    connections: bool,
    dry_run: bool,
}

impl<'d> Logs<'d> {
    pub(super) fn new(formats: &[&'d Directive]) -> Self {
        let formats = formats.iter().filter_map(|directive| {
            let (name, mut parts) = directive.arguments.split_first()?;
            let escape = parts.first().filter(|part| part.starts_with("escape="));
            if escape.is_some() {
                parts = parts.get(1..)?;
            }
            let is_escaped = escape.is_none_or(|escape| escape != "escape=none");
            Some((name.as_str(), is_escaped.then(|| parts.concat())))
        });
        Self {
            formats: formats.collect(),
            access: BTreeMap::new(),
            error: BTreeMap::new(),
        }
    }

    /// Takes note of where a site tells whom it refused.
    pub(super) fn add(&mut self, site: &Site<'d>, imported: &mut Imported) {
        let scope = &site.scope;
        let (requests, connections) = (!scope.limit_req.is_empty(), !scope.limit_conn.is_empty());
        let enforced = [
            (
                requests && !scope.is_dry_run(),
                scope.limit_req_status,
                "limit_req",
            ),
            (
                connections && !is_on(scope.limit_conn_dry_run),
                scope.limit_conn_status,
                "limit_conn",
            ),
        ];
        let mut tells = false;
        for (_, directive, name) in enforced.iter().filter(|(is_enforced, ..)| *is_enforced) {
            match directive {
                Some(directive) if directive.argument(0) == Some(TOO_MANY) => tells = true,
                Some(directive) => imported.note(
                    &directive.place,
                    directive.written(),
                    "only 429 in the access log counts as an offence, because other statuses are \
                     sent for other reasons, too; the error log still tells",
                ),
                None => {
                    let limits = [&scope.limit_req, &scope.limit_conn];
                    let begins = |limit: &&&Directive| limit.name == *name;
                    if let Some(limit) = limits.into_iter().flatten().find(begins) {
                        imported.note(
                            &limit.place,
                            format!("{name}_status is not set"),
                            format!(
                                "nginx answers 503, which it also does for other reasons, so only \
                                 the error log counts; with `{name}_status 429;` the access log \
                                 would, too"
                            ),
                        );
                    }
                }
            }
        }
        if requests || connections {
            self.add_access(site, tells, imported);
            self.add_errors(site, requests, connections, imported);
        }
    }

    fn add_access(&mut self, site: &Site<'d>, tells: bool, imported: &mut Imported) {
        if site.scope.access_log.is_empty() {
            self.insert_access(ACCESS_LOG, Parser::Combined, tells);
        }
        for directive in &site.scope.access_log {
            let Some(path) = directive.argument(0).filter(|path| *path != "off") else {
                continue;
            };
            let compressed = directive
                .arguments
                .iter()
                .any(|a| a == "gzip" || a.starts_with("gzip="));
            if let Some(why) = unreadable(path).or(compressed.then_some(COMPRESSED)) {
                imported.note(&directive.place, directive.written(), why);
                continue;
            }
            let name = directive.argument(1).filter(|name| !name.contains('='));
            let parser = match name {
                None | Some("combined") => Ok(Parser::Combined),
                Some(name) => match self.formats.get(name) {
                    Some(Some(format)) => Parser::of(format),
                    Some(None) => Err("with escape=none clients can forge lines of it"),
                    None => Err("its log_format is not in the files that were read"),
                },
            };
            match parser {
                Ok(parser) => self.insert_access(path, parser, tells),
                Err(why) => {
                    imported.note(&directive.place, directive.written(), why);
                    continue;
                }
            }
            if directive.option("if").is_some() {
                imported.note(
                    &directive.place,
                    directive.written(),
                    "what nginx does not log for this condition, nobody finds there",
                );
            }
        }
    }

    fn insert_access(&mut self, path: &str, parser: Parser, tells: bool) {
        let entry = self.access.entry(path.to_owned());
        entry
            .and_modify(|log| log.tells |= tells)
            .or_insert(AccessLog { parser, tells });
    }

    fn add_errors(
        &mut self,
        site: &Site<'d>,
        requests: bool,
        connections: bool,
        imported: &mut Imported,
    ) {
        let scope = &site.scope;
        let default = (ERROR_LOG, "error", None);
        let mut logs: Vec<_> = scope
            .error_log
            .iter()
            .map(|directive| {
                let path = directive.argument(0).unwrap_or_default();
                let level = directive.argument(1).unwrap_or("error");
                (path, level, Some(*directive))
            })
            .collect();
        if logs.is_empty() {
            logs.push(default);
        }
        for (path, level, directive) in logs {
            if let (Some(why), Some(directive)) = (unreadable(path), directive) {
                imported.note(&directive.place, directive.written(), why);
                continue;
            }
            let mut has = |wanted: bool, log_level: Option<&Directive>| {
                if !wanted {
                    return false;
                }
                let written = log_level.and_then(|d| d.argument(0)).unwrap_or("error");
                if severity(written) <= severity(level) {
                    return true;
                }
                if let Some(log_level) = log_level.or(directive) {
                    imported.note(
                        &log_level.place,
                        log_level.written(),
                        format!("refusals are not written to {path}, which takes {level} only"),
                    );
                }
                false
            };
            let requests = has(requests, scope.limit_req_log_level);
            let connections = has(connections, scope.limit_conn_log_level);
            if !requests && !connections {
                continue;
            }
            let log = self.error.entry(path.to_owned()).or_default();
            log.dry_run |= requests && scope.is_dry_run();
            log.requests |= requests && !scope.is_dry_run();
            log.connections |= connections && !is_on(scope.limit_conn_dry_run);
        }
    }

    /// Makes sources and detectors of them.
    pub(super) fn finish(self, action: &str, names: &mut Names, imported: &mut Imported) {
        let Self { access, error, .. } = self;
        let (mut tell, mut detectors) = (Vec::new(), Vec::new());
        for (path, log) in access {
            let name = names.take_log(&path);
            let mut table = Table::repeated("source")
                .with("name", name.as_str())
                .with("files", vec![paths::literal(&path)]);
            table = match log.parser {
                Parser::Combined => table.with("parser", "nginx-combined"),
                Parser::Json(fields) => {
                    let fields = fields
                        .into_iter()
                        .map(|(n, p)| (n.to_owned(), Value::from(p)));
                    table
                        .with("parser", "json")
                        .with("fields", fields.collect::<Map>())
                }
                Parser::Regex(pattern, fields) => {
                    let fields = fields.into_iter().map(|n| (n.to_owned(), Value::from(n)));
                    table
                        .with("parser", "regex")
                        .with("pattern", pattern)
                        .with("fields", fields.collect::<Map>())
                }
            };
            imported.tables.push(table);
            if log.tells {
                tell.push(name);
            }
        }
        if !tell.is_empty() {
            detectors.push(
                Table::repeated("detector")
                    .comment(
                        "Whom limit_req refuses again and again: maxretry and findtime of [ban].",
                    )
                    .with("name", "nginx-429")
                    .with("sources", tell)
                    .with("where", Test::Status(429).written())
                    .with("action", action),
            );
        }
        // What is written of each, and what is to be done about it.
        let kinds: [Told<'_>; 3] = [
            (
                "nginx-limit-req",
                "limiting requests, excess: ",
                action,
                |log| log.requests,
            ),
            (
                "nginx-limit-conn",
                "limiting connections by zone",
                action,
                |log| log.connections,
            ),
            (
                "nginx-dry-run",
                "limiting requests, dry run, excess: ",
                "alert",
                |log| log.dry_run,
            ),
        ];
        let mut told: [Vec<String>; 3] = Default::default();
        for (path, log) in error {
            let name = names.take_log(&path);
            for ((.., is_told), told) in kinds.iter().zip(&mut told) {
                if is_told(&log) {
                    told.push(name.clone());
                }
            }
            imported.tables.push(
                Table::repeated("source")
                    .with("name", name)
                    .with("files", vec![paths::literal(&path)])
                    .with("parser", "nginx-error"),
            );
        }
        for ((name, text, action, _), sources) in kinds.into_iter().zip(told) {
            if !sources.is_empty() {
                detectors.push(
                    Table::repeated("detector")
                        .with("name", name)
                        .with("sources", sources)
                        .with(
                            "where",
                            Test::Contains("message".to_owned(), text.to_owned()).written(),
                        )
                        .with("action", action),
                );
            }
        }
        imported.tables.append(&mut detectors);
    }
}

const COMPRESSED: &str = "it is compressed while it is written, so it cannot be followed";

/// Why a log cannot be read.
fn unreadable(path: &str) -> Option<&'static str> {
    if path.starts_with("syslog:") {
        Some(
            "it goes to a syslog server; a [[source]] with syslog = \"127.0.0.1:5514\" can be that \
             server, or one with the files or the journal that yours writes",
        )
    } else if path == "stderr" || path.starts_with("memory:") {
        Some("it is not written to a file; if the journal has it, write a [[source]] with journal")
    } else if path.contains('$') {
        Some(
            "its name is made of variables; write a [[source]] with a pattern such as \"/var/log/nginx/*.log\"",
        )
    } else if path == "/dev/null" {
        Some("what is written there is lost")
    } else if path.starts_with("/dev/") {
        Some("that is a device; if the journal has it, write a [[source]] with journal")
    } else if !path.starts_with('/') {
        Some(
            "the name is relative to a folder that is built into nginx (`nginx -V`, --prefix); write a [[source]] with the whole path",
        )
    } else {
        None
    }
}

/// How severe a level is, the most severe least. What is none is as nginx's default.
fn severity(level: &str) -> usize {
    const DEFAULT: usize = 3;
    let place = LEVELS.iter().position(|known| *known == level);
    place.unwrap_or(DEFAULT)
}
