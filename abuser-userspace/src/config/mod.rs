//! The configuration: `/etc/abuser/abuser.toml`, then `conf.d/*.toml` beside it.
//!
//! A firewall that misreads its configuration either locks people out or lets attackers
//! in, so nothing is guessed: unknown keys, values out of range and settings that
//! contradict each other are errors, each with file, line, column and what to do about it.
//! What [`load`] returns needs no further checks, except for what only the system knows:
//! whether interfaces exist and names resolve.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `file` | which files are read, and how large they may be |
//! | `draft` | how files are laid over each other |
//! | `section`, `source` | tables, keys, values, and their places |
//! | `limit`, `ports`, `rate` | `[[limit]]` |
//! | `ban`, `duration` | `[ban]`, `[[policy]]` |
//! | `blocklist` | `[[blocklist]]` |
//! | `crowdsec` | `[crowdsec]` |
//! | `logs` | `[[source]]` |
//! | `detector` | `[[detector]]` |
//! | `preset` | parsers and detectors that come by name |
//! | `notify` | `[[notify]]` |
//! | `shared` | which bans others can be told of |
//! | `store` | `[store]` |
//! | `fleet` | `[fleet]` |
//! | `security` | `[security]` |
//! | `api` | `[api]` |
//! | `metrics` | `[metrics]` |
//! | `allow`, `prefix` | `[allow]` |
//! | `doubts` | what is probably a mistake |

mod allow;
mod api;
mod ban;
mod blocklist;
mod crowdsec;
mod detector;
mod doubts;
mod draft;
mod duration;
mod error;
mod file;
mod fleet;
mod limit;
mod logs;
mod metrics;
mod notify;
mod ports;
mod prefix;
mod preset;
mod rate;
mod section;
mod security;
mod shared;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnet::IpNet;

use crate::{policy::BanPolicy, store::StoreConfig};

pub use allow::AllowEntry;
pub use api::{Api, ReadOnly};
pub use blocklist::BlocklistConfig;
pub use crowdsec::{CrowdsecAddress, CrowdsecConfig, CrowdsecPush};
pub use detector::{DetectorAction, DetectorConfig, DetectorKind, DetectorRule};
pub use duration::{DurationError, parse_duration};
pub use error::ConfigError;
pub use file::MAX_FILE_BYTES;
pub use fleet::{FleetConfig, FleetLogin, is_node_name};
pub use limit::{Action, LimitConfig, MAX_NAME_LENGTH, Protocol, Scope};
pub(crate) use logs::FAIL2BAN;
pub use logs::{LineParser, LogSource};
pub use metrics::Metrics;
pub use notify::{
    CommandConfig, NotifyConfig, NotifyFilter, NotifyTarget, WebhookConfig, WebhookUrl,
};
pub use prefix::{PrefixError, normalise, parse_prefix};
pub use rate::{RateError, RateSpec};
pub(crate) use section::nearest;
pub use security::{Sandbox, Security};

/// All settings. [`Config::default`] is that of an empty file: no interfaces, no limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Interfaces to attach to, each once; may be empty.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub xdp: Xdp,
    /// Where to listen for commands, and to whom.
    pub api: Api,
    /// Where to tell metrics besides.
    pub metrics: Metrics,
    /// Sources that are never dropped.
    pub allow: Vec<AllowEntry>,
    /// Whether to allow also this host's own addresses, its gateways and resolvers, and the
    /// other end of the SSH session that the daemon was started from.
    pub allow_automatic: Automatic,
    /// Limits, at most [`abuser_common::layout::MAX_LIMITS`], in the order of the files.
    pub limits: Vec<LimitConfig>,
    /// Who is banned, and for how long, unless a limit names another policy.
    pub ban: BanPolicy,
    /// The policies that limits name; none has the name of `ban`.
    pub policies: Vec<BanPolicy>,
    /// Files that name whom to ban.
    pub blocklists: Vec<BlocklistConfig>,
    /// The local API of `CrowdSec` whose decisions are enforced.
    pub crowdsec: Option<CrowdsecConfig>,
    /// Logs that detectors read.
    pub sources: Vec<LogSource>,
    /// What in them is abuse, and what follows from it.
    pub detectors: Vec<DetectorConfig>,
    /// Who is notified of events.
    pub notify: Vec<NotifyConfig>,
    /// Folders with filters of fail2ban; the first one that has a filter counts.
    pub filter_dirs: Vec<PathBuf>,
    /// What outlives the daemon, and where it is kept.
    pub store: StoreConfig,
    /// The fleet that this node is in, if it is in one.
    pub fleet: Option<FleetConfig>,
    /// What the daemon gives up once it runs.
    pub security: Security,
}

/// Whether what this host must not lock out is allowed without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Automatic(pub bool);

impl Default for Automatic {
    fn default() -> Self {
        Self(true)
    }
}

impl Config {
    /// All policies, the default one first.
    pub fn all_policies(&self) -> Vec<BanPolicy> {
        let mut all = vec![self.ban.clone()];
        all.extend(self.policies.iter().cloned());
        all
    }

    /// The proxies that any source trusts, each once. Nobody is banned together with one, wherever it
    /// was met: that would cut off all whom it speaks for.
    pub fn trusted_proxies(&self) -> Vec<IpNet> {
        let sources = self.sources.iter();
        let proxies = sources.flat_map(|source| &source.trusted_proxies);
        let proxies: BTreeSet<_> = proxies.copied().collect();
        proxies.into_iter().collect()
    }

    /// The configuration where there is no file, as for `abuser run -i eth0`: the example
    /// that is shipped as `deploy/abuser.toml`.
    pub fn builtin() -> Self {
        // A test sees to it that the example is fine.
        parse(EXAMPLE, Path::new("the built-in configuration")).unwrap_or_default()
    }
}

/// The example configuration.
const EXAMPLE: &str = include_str!("../../../deploy/abuser.toml");

/// `[xdp]`: how to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Where in the kernel the program runs.
    pub mode: Mode,
    /// The directory in a BPF file system that maps and links are pinned under.
    pub pin_dir: PathBuf,
    /// Whether the program stays on its interfaces when the daemon is stopped by a signal, so
    /// that a restart leaves no gap.
    pub persist: bool,
    /// What to do where other XDP programs are called by a dispatcher of libxdp.
    pub dispatcher: Dispatcher,
    /// The place among them: whoever has the lower number is called first.
    pub priority: u32,
}

/// How to get onto an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Where in the kernel.
    pub mode: Mode,
    /// Together with others, or not.
    pub dispatcher: Dispatcher,
    /// The place among them.
    pub priority: u32,
}

impl Xdp {
    /// How to get onto an interface.
    pub fn how(&self) -> How {
        let Self {
            mode,
            dispatcher,
            priority,
            ..
        } = *self;
        How {
            mode,
            dispatcher,
            priority,
        }
    }
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            pin_dir: PathBuf::from("/sys/fs/bpf/abuser"),
            persist: false,
            dispatcher: Dispatcher::Join,
            priority: 10,
        }
    }
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver if it can, else [`Mode::Generic`].
    #[default]
    Auto,
    /// In the driver, before the kernel allocates a socket buffer.
    Driver,
    /// In the network stack: slower, works with every driver.
    Generic,
}

impl Mode {
    const WORDS: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("driver", Self::Driver),
        ("generic", Self::Generic),
    ];
}

/// What to do about dispatchers of libxdp, which call several XDP programs on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatcher {
    /// Join the one that is on an interface; be the one program where there is none.
    #[default]
    Join,
    /// Join the one that is on an interface; make one where there is none, so that others can
    /// come later.
    Always,
    /// Refuse an interface that has one, as if it were any other program.
    Never,
}

impl Dispatcher {
    const WORDS: [(&'static str, Self); 3] = [
        ("join", Self::Join),
        ("always", Self::Always),
        ("never", Self::Never),
    ];
}

impl Mode {
    /// Whether the program may run in generic mode, or in the driver, as the case may be.
    pub fn allows(self, generic: bool) -> bool {
        match self {
            Self::Auto => true,
            Self::Driver => !generic,
            Self::Generic => generic,
        }
    }
}

impl fmt::Display for Mode {
    /// As in the file: `auto`, `driver` or `generic`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Auto => "auto",
            Self::Driver => "driver",
            Self::Generic => "generic",
        })
    }
}

/// A text that names no [`Mode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a mode; write auto, driver or generic", error::quote(.0))]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        Self::WORDS
            .into_iter()
            .find(|(word, _)| *word == text)
            .map(|(_, mode)| mode)
            .ok_or_else(|| ModeError(text.to_owned()))
    }
}

/// Where fail2ban has its filters.
const FAIL2BAN_FILTERS: &str = "/etc/fail2ban/filter.d";

/// Reads the file at `path`, then `conf.d/*.toml` beside it in the order of their names.
///
/// Of a setting that occurs twice the later one holds; lists are appended to.
///
/// # Errors
///
/// See [`ConfigError`]; the first thing that is wrong is reported.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let mut config = file::read_all(path)?.finish()?;
    config.filter_dirs = filter_dirs(path);
    Ok(config)
}

/// Where filters of fail2ban are for a configuration at `path`: beside it, and where fail2ban has them.
pub fn filter_dirs(path: &Path) -> Vec<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new("")).join("filter.d");
    vec![beside, PathBuf::from(FAIL2BAN_FILTERS)]
}

/// Reads `text` as a single file; `path` is what errors call it.
///
/// # Errors
///
/// See [`ConfigError`].
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    parse_all([(path, text)])
}

/// Reads texts as files that are laid over each other, as [`load`] does; each with what errors call it.
///
/// # Errors
///
/// See [`ConfigError`].
pub fn parse_all<'a>(
    files: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Result<Config, ConfigError> {
    let mut draft = draft::Draft::default();
    for (path, text) in files {
        draft.add(&source::Source::new(path, text))?;
    }
    draft.finish()
}
