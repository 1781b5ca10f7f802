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
            Self::Sshd => Kind::Sshd,
        }
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
