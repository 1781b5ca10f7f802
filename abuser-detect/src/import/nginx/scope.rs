//! What is in force where: nginx's rules of inheritance.
//!
//! A directive of a level is inherited by the levels in it. Those that can stand several times
//! (`limit_req`, `limit_conn`, `access_log`, `error_log`) are inherited together, and only if the
//! inner level has none of its own.

use super::syntax::Directive;

/// What is in force at a level.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope<'d> {
    pub(super) limit_req: Vec<&'d Directive>,
    pub(super) limit_conn: Vec<&'d Directive>,
    pub(super) access_log: Vec<&'d Directive>,
    pub(super) error_log: Vec<&'d Directive>,
    pub(super) limit_req_status: Option<&'d Directive>,
    pub(super) limit_conn_status: Option<&'d Directive>,
    pub(super) limit_req_log_level: Option<&'d Directive>,
    pub(super) limit_conn_log_level: Option<&'d Directive>,
    pub(super) limit_req_dry_run: Option<&'d Directive>,
    pub(super) limit_conn_dry_run: Option<&'d Directive>,
    pub(super) set_real_ip_from: Option<&'d Directive>,
}

impl<'d> Scope<'d> {
    /// What is in force in a block with these directives.
    pub(super) fn within(&self, directives: &'d [Directive]) -> Self {
        let several = |name: &str, outer: &Vec<&'d Directive>| -> Vec<&'d Directive> {
            let own: Vec<_> = directives.iter().filter(|d| d.name == name).collect();
            if own.is_empty() { outer.clone() } else { own }
        };
        let one = |name: &str, outer: Option<&'d Directive>| {
            directives.iter().rfind(|d| d.name == name).or(outer)
        };
        Self {
            limit_req: several("limit_req", &self.limit_req),
            limit_conn: several("limit_conn", &self.limit_conn),
            access_log: several("access_log", &self.access_log),
            error_log: several("error_log", &self.error_log),
            limit_req_status: one("limit_req_status", self.limit_req_status),
            limit_conn_status: one("limit_conn_status", self.limit_conn_status),
            limit_req_log_level: one("limit_req_log_level", self.limit_req_log_level),
            limit_conn_log_level: one("limit_conn_log_level", self.limit_conn_log_level),
            limit_req_dry_run: one("limit_req_dry_run", self.limit_req_dry_run),
            limit_conn_dry_run: one("limit_conn_dry_run", self.limit_conn_dry_run),
            set_real_ip_from: one("set_real_ip_from", self.set_real_ip_from),
        }
    }

    /// Whether `limit_req` only says what it would do.
    pub(super) fn is_dry_run(&self) -> bool {
        is_on(self.limit_req_dry_run)
    }
}

pub(super) fn is_on(directive: Option<&Directive>) -> bool {
    directive.is_some_and(|directive| directive.argument(0) == Some("on"))
}

/// A server, or a location of one, and what is in force there.
#[derive(Debug)]
pub(super) struct Site<'d> {
    /// `location /api/`; `None` for all of a server.
    pub(super) location: Option<String>,
    /// The server's `listen` directives; `None` if no server is in sight.
    pub(super) listen: Option<Vec<&'d Directive>>,
    pub(super) scope: Scope<'d>,
}

/// What is found on a walk through the blocks.
#[derive(Debug, Default)]
pub(super) struct Walk<'d> {
    /// `limit_req_zone`, `limit_conn_zone`, and the `map` and `geo` blocks that make their keys.
    pub(super) zones: Vec<&'d Directive>,
    pub(super) formats: Vec<&'d Directive>,
    pub(super) sites: Vec<Site<'d>>,
}

impl<'d> Walk<'d> {
    /// Walks through a block `http`, or through a file that is included in one.
    pub(super) fn http(&mut self, directives: &'d [Directive], scope: &Scope<'d>) {
        let mut has_server = false;
        for directive in directives {
            match directive.name.as_str() {
                "limit_req_zone" | "limit_conn_zone" | "map" | "geo" => self.zones.push(directive),
                "log_format" => self.formats.push(directive),
                "server" if directive.block.is_some() => {
                    has_server = true;
                    let listen = directive.children().iter().filter(|d| d.name == "listen");
                    self.level(
                        directive.children(),
                        scope,
                        None,
                        Some(&listen.collect::<Vec<_>>()),
                    );
                }
                _ => {}
            }
        }
        if !has_server {
            self.level(directives, scope, None, None);
        }
    }

    fn level(
        &mut self,
        directives: &'d [Directive],
        outer: &Scope<'d>,
        location: Option<&str>,
        listen: Option<&[&'d Directive]>,
    ) {
        let scope = outer.within(directives);
        for directive in directives {
            let name = match directive.name.as_str() {
                "location" => directive.written(),
                "if" | "limit_except" => location.unwrap_or(&directive.name).to_owned(),
                _ => continue,
            };
            self.level(directive.children(), &scope, Some(&name), listen);
        }
        self.sites.push(Site {
            location: location.map(str::to_owned),
            listen: listen.map(<[_]>::to_vec),
            scope,
        });
    }
}
