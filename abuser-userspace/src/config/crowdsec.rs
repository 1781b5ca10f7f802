//! `[crowdsec]`: whose decisions are enforced, and whether own bans are told there.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use abuser_common::layout::BanCause;
use reqwest::Url;

use super::{
    draft::absolute_path,
    duration::parse_duration,
    error::{ConfigError, quote},
    section::{Item, Section},
    shared::{self, SHARED},
    source::Place,
};
use crate::policy::BanTime;

/// How often to ask unless the configuration says so: as `CrowdSec`'s own bouncers.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often one may ask.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Words of a filter at most.
const MAX_WORDS: usize = 64;
/// The longest word of a filter, in bytes.
const MAX_WORD_LENGTH: usize = 200;

/// `[crowdsec]`: a local API of `CrowdSec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrowdsecConfig {
    /// Where it is.
    pub address: CrowdsecAddress,
    /// The file with a bouncer's key; without it, [`CrowdsecConfig::identity`] is there.
    pub api_key_file: Option<PathBuf>,
    /// How often it is asked for what has changed.
    pub interval: Duration,
    /// Only decisions of these origins; empty: of all.
    pub origins: Vec<String>,
    /// Only decisions whose scenario contains one of these; empty: all.
    pub scenarios_containing: Vec<String>,
    /// No decisions whose scenario contains one of these.
    pub scenarios_not_containing: Vec<String>,
    /// Whether it may ban prefixes wider than IPv4 /16 and IPv6 /32.
    pub force: bool,
    /// A file with certificates of whom to trust besides those whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The files with the certificate and the key that show who we are.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether and as whom own bans are pushed.
    pub push: Option<CrowdsecPush>,
}

/// As whom own bans are pushed, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrowdsecPush {
    /// The machine.
    pub machine_id: String,
    /// The file with its password.
    pub password_file: PathBuf,
    /// Bans of these causes.
    pub causes: Vec<BanCause>,
}

#[cfg(test)]
impl CrowdsecConfig {
    /// A local API at a unix socket, and nothing said of it.
    pub fn at(socket: &str) -> Self {
        Self {
            address: CrowdsecAddress::Socket(socket.into()),
            api_key_file: None,
            interval: INTERVAL,
            origins: Vec::new(),
            scenarios_containing: Vec::new(),
            scenarios_not_containing: Vec::new(),
            force: false,
            ca_file: None,
            identity: None,
            push: None,
        }
    }
}

/// Where a local API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrowdsecAddress {
    /// There; the path ends with a slash.
    Url(Url),
    /// At a unix socket.
    Socket(PathBuf),
}

impl fmt::Display for CrowdsecAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => formatter.pad(url.as_str().trim_end_matches('/')),
            Self::Socket(path) => path.display().fmt(formatter),
        }
    }
}

/// What the files read so far say.
#[derive(Debug, Default)]
pub(super) struct CrowdsecDraft {
    /// Where there was one at last.
    place: Option<Place>,
    address: Option<(CrowdsecAddress, Place)>,
    api_key_file: Option<PathBuf>,
    interval: Option<Duration>,
    origins: Vec<String>,
    scenarios_containing: Vec<String>,
    scenarios_not_containing: Vec<String>,
    force: bool,
    ca_file: Option<PathBuf>,
    cert_file: Option<(PathBuf, Place)>,
    key_file: Option<(PathBuf, Place)>,
    push: Option<(bool, Place)>,
    machine_id: Option<(String, Place)>,
    password_file: Option<(PathBuf, Place)>,
    push_causes: Option<(Vec<BanCause>, Place)>,
}

/// Reads `[crowdsec]` over what is in `draft`.
pub(super) fn read(section: &Section<'_>, draft: &mut CrowdsecDraft) -> Result<(), ConfigError> {
    draft.place = Some(section.place.clone());
    if let Some(item) = section.get("url") {
        draft.address = Some((address(&item)?, item.place));
    }
    if let Some(item) = section.get("interval") {
        draft.interval = Some(interval(&item)?);
    }
    for (key, words) in [
        ("origins", &mut draft.origins),
        ("scenarios_containing", &mut draft.scenarios_containing),
        (
            "scenarios_not_containing",
            &mut draft.scenarios_not_containing,
        ),
    ] {
        if let Some(item) = section.get(key) {
            self::words(&item, words)?;
        }
    }
    if let Some(item) = section.get("force") {
        draft.force = item.boolean()?;
    }
    for (key, file) in [
        ("api_key_file", &mut draft.api_key_file),
        ("ca_file", &mut draft.ca_file),
    ] {
        if let Some(item) = section.get(key) {
            *file = Some(absolute_path(&item)?.into());
        }
    }
    for (key, file) in [
        ("cert_file", &mut draft.cert_file),
        ("key_file", &mut draft.key_file),
        ("password_file", &mut draft.password_file),
    ] {
        if let Some(item) = section.get(key) {
            *file = Some((Path::new(absolute_path(&item)?).into(), item.place));
        }
    }
    if let Some(item) = section.get("push") {
        draft.push = Some((item.boolean()?, item.place));
    }
    if let Some(item) = section.get("machine_id") {
        let machine = word(
            &item,
            "the name of a machine, in quotes, as `cscli machines list` shows it",
        )?;
        draft.machine_id = Some((machine, item.place));
    }
    if let Some(item) = section.get("push_causes") {
        draft.push_causes = Some((causes(&item)?, item.place));
    }
    Ok(())
}

impl CrowdsecDraft {
    /// What all files together say, if they say anything.
    pub(super) fn finish(self) -> Result<Option<CrowdsecConfig>, ConfigError> {
        let Some(place) = self.place else {
            return Ok(None);
        };
        let Some((address, url_place)) = self.address else {
            return Err(place.error(
                "`url` is missing in [crowdsec]; add for example url = \"http://127.0.0.1:8080\"",
            ));
        };
        let identity = match (self.cert_file, self.key_file) {
            (Some((certificate, _)), Some((key, _))) => Some((certificate, key)),
            (Some((_, place)), None) => {
                return Err(place.error(
                    "`cert_file` in [crowdsec] without `key_file`; add key_file = \
                     \"/etc/abuser/crowdsec.key\"",
                ));
            }
            (None, Some((_, place))) => {
                return Err(place.error(
                    "`key_file` in [crowdsec] without `cert_file`; for the key of a bouncer write \
                     `api_key_file` instead",
                ));
            }
            (None, None) => None,
        };
        let is_tls = matches!(&address, CrowdsecAddress::Url(url) if url.scheme() == "https");
        if !is_tls && (identity.is_some() || self.ca_file.is_some()) {
            return Err(url_place.error(
                "`url` in [crowdsec] is not https, so `ca_file`, `cert_file` and `key_file` have no \
                 effect; write https:// or leave them out",
            ));
        }
        if self.api_key_file.is_none() && identity.is_none() {
            return Err(place.error(
                "`api_key_file` is missing in [crowdsec]: write the key there, as in `(umask 077; cscli \
                 bouncers add abuser -o raw > /etc/abuser/crowdsec.key)`, and add api_key_file = \
                 \"/etc/abuser/crowdsec.key\"",
            ));
        }
        let push = match &self.push {
            Some((true, place)) => {
                let (machine_id, password_file) = (self.machine_id, self.password_file);
                Some(push(place, machine_id, password_file, self.push_causes)?)
            }
            // Who says so may keep the rest for later.
            Some((false, _)) => None,
            None => {
                let machine_id = self.machine_id.map(|(_, place)| place);
                let password_file = self.password_file.map(|(_, place)| place);
                let causes = self.push_causes.map(|(_, place)| place);
                without_effect("machine_id", machine_id)?;
                without_effect("password_file", password_file)?;
                without_effect("push_causes", causes)?;
                None
            }
        };
        Ok(Some(CrowdsecConfig {
            address,
            api_key_file: self.api_key_file,
            interval: self.interval.unwrap_or(INTERVAL),
            origins: self.origins,
            scenarios_containing: self.scenarios_containing,
            scenarios_not_containing: self.scenarios_not_containing,
            force: self.force,
            ca_file: self.ca_file,
            identity,
            push,
        }))
    }
}

/// What `push = true`, which stands at `place`, takes.
fn push(
    place: &Place,
    machine_id: Option<(String, Place)>,
    password_file: Option<(PathBuf, Place)>,
    causes: Option<(Vec<BanCause>, Place)>,
) -> Result<CrowdsecPush, ConfigError> {
    let (Some((machine_id, _)), Some((password_file, _))) = (machine_id, password_file) else {
        return Err(place.error(
            "`push` in [crowdsec] takes `machine_id` and `password_file`; make a machine with `cscli \
             machines add`, write its password into a file that nobody else can read, and add machine_id \
             = \"abuser\" and password_file = \"/etc/abuser/crowdsec.password\"",
        ));
    };
    Ok(CrowdsecPush {
        machine_id,
        password_file,
        causes: causes.map_or_else(shared::by_default, |(causes, _)| causes),
    })
}

/// Refuses a key that is there and does nothing.
fn without_effect(key: &str, place: Option<Place>) -> Result<(), ConfigError> {
    place.map_or(Ok(()), |place| {
        Err(place.error(format!(
            "`{key}` in [crowdsec] has no effect without `push`; add push = true, or leave it out"
        )))
    })
}

fn address(item: &Item<'_>) -> Result<CrowdsecAddress, ConfigError> {
    const EXPECTED: &str = "the address of a local API, such as \"http://127.0.0.1:8080\", or the path of \
                            its unix socket";
    let text = item.string(EXPECTED)?;
    if text.starts_with('/') {
        return Ok(CrowdsecAddress::Socket(absolute_path(item)?.into()));
    }
    let problem =
        |problem: &str| item.error(format!("{}: {problem}; write {EXPECTED}", quote(text)));
    let mut url = Url::parse(text).map_err(|error| problem(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(problem("its scheme is not http or https"));
    }
    if !url.has_host() {
        return Err(problem("it has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("a key or password does not belong here"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(problem("it has a query or a fragment"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    // People copy it from what shows whole requests.
    if url.path().ends_with("/v1/") {
        return Err(problem("leave out the v1 at its end"));
    }
    Ok(CrowdsecAddress::Url(url))
}

fn interval(item: &Item<'_>) -> Result<Duration, ConfigError> {
    let text = item.string("a time, such as \"10s\"")?;
    let (shortest, longest) = INTERVALS;
    match parse_duration(text).map_err(|error| item.error(error))? {
        BanTime::For(time) if (shortest..=longest).contains(&time) => Ok(time),
        _ => Err(item.error(format!(
            "{} is not from 1s to 1h; write for example \"10s\"",
            quote(text)
        ))),
    }
}

fn words(item: &Item<'_>, words: &mut Vec<String>) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a list of words, such as [\"cscli\", \"crowdsec\"]";
    for item in item.list_of_at_most(MAX_WORDS, EXPECTED)? {
        let word = word(&item, "a word in quotes")?;
        if word.contains(',') {
            return Err(item.error("a comma divides words; write each for itself in quotes"));
        }
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(())
}

fn word(item: &Item<'_>, expected: &str) -> Result<String, ConfigError> {
    let word = item.string(expected)?;
    let fits = (1..=MAX_WORD_LENGTH).contains(&word.len()) && !word.contains(char::is_control);
    if fits {
        Ok(word.to_owned())
    } else {
        Err(item.error(format!(
            "{} is empty, too long or has control characters; expected {expected}",
            quote(word)
        )))
    }
}

fn causes(item: &Item<'_>) -> Result<Vec<BanCause>, ConfigError> {
    let mut found = Vec::new();
    for item in item.list("a list of causes, such as [\"limit\", \"detector\"]")? {
        let cause = item.word(&SHARED)?;
        if !found.contains(&cause) {
            found.push(cause);
        }
    }
    if found.is_empty() {
        return Err(item.error("no ban has none of the causes; name some, or write push = false"));
    }
    Ok(found)
}
