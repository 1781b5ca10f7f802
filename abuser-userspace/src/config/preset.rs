//! Presets: a parser and detectors that go with it, so that a source takes three lines.
//!
//! Detectors of a preset are ordinary ones, in `presets/*.toml`. A `[[detector]]` with the name of
//! one takes its place.

use std::{path::Path, sync::Arc};

use abuser_detect::parse::Kind;

use super::source::Source;

/// What a source's lines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    Nginx,
    NginxError,
    Apache,
    Caddy,
    Traefik,
    Haproxy,
    Envoy,
    Api,
    Sshd,
}

/// All of them by name.
pub(super) const ALL: [(&str, Preset); 9] = [
    ("nginx", Preset::Nginx),
    ("nginx-error", Preset::NginxError),
    ("apache", Preset::Apache),
    ("caddy", Preset::Caddy),
    ("traefik", Preset::Traefik),
    ("haproxy", Preset::Haproxy),
    ("envoy", Preset::Envoy),
    ("api", Preset::Api),
    ("sshd", Preset::Sshd),
];

/// What OpenSSH logs of who could not log in. The client chooses the user, so that takes as much
/// as it can: the address is the last one.
const SSHD: &str = concat!(
    r"^(?:(?<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) )?",
    r"(?:\S+ )?sshd(?:-session)?(?:\[\d+\])?: (?:error: PAM: )?",
    r"(?:Failed (?:password|publickey|keyboard-interactive/pam) for (?:invalid user )?",
    r"|Authentication failure for (?:illegal user )?",
    r"|Connection (?:closed|reset) by (?:authenticating|invalid) user )",
    r"(?<user>.*) (?:from )?(?<ip>\d+(?:\.\d+){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+)",
    r"(?: port \d+)?(?: ssh2)?(?: \[preauth\])?(?:: \S+ \S+)?$",
);

impl Preset {
    /// The name in the configuration.
    pub(super) fn name(self) -> &'static str {
        let named = ALL.iter().find(|(_, preset)| *preset == self);
        named.map_or("", |(name, _)| name)
    }

    /// The parser of its sources.
    pub(super) fn parser(self) -> Kind {
        match self {
            Self::Nginx => Kind::NginxCombined,
            Self::NginxError => Kind::NginxError,
            Self::Apache => Kind::ApacheCombined,
            Self::Caddy => Kind::CaddyJson,
            Self::Traefik => Kind::TraefikJson,
            Self::Haproxy => Kind::HaproxyHttp,
            Self::Envoy => Kind::EnvoyJson,
            Self::Api => Kind::Json,
            Self::Sshd => Kind::Regex,
        }
    }

    /// The pattern of its parser, if that takes one.
    pub(super) fn pattern(self) -> Option<&'static str> {
        (self == Self::Sshd).then_some(SSHD)
    }

    /// Its detectors, as files.
    pub(super) fn detectors(self) -> Vec<Arc<Source>> {
        const WEB: (&str, &str) = ("web.toml", include_str!("presets/web.toml"));
        const PAGES: (&str, &str) = ("pages.toml", include_str!("presets/pages.toml"));
        const ERRORS: (&str, &str) = ("errors.toml", include_str!("presets/errors.toml"));
        const API: (&str, &str) = ("api.toml", include_str!("presets/api.toml"));
        const SSHD: (&str, &str) = ("sshd.toml", include_str!("presets/sshd.toml"));
        let files: &[(&str, &str)] = match self {
            Self::NginxError => &[ERRORS],
            Self::Sshd => &[SSHD],
            Self::Api => &[WEB, API],
            _ => &[WEB, PAGES],
        };
        let file = |(name, text): &(&str, &str)| Source::new(Path::new(name), text);
        files.iter().map(file).collect()
    }
}
