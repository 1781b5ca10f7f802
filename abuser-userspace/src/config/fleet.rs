//! `[fleet]`: other nodes, and what is shared with them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use abuser_common::layout::BanCause;
use async_nats::ServerAddr;

use super::{
    ban::finite,
    draft::absolute_path,
    error::{ConfigError, quote},
    section::{Item, Section},
    shared::{self, SHARED},
    source::Place,
};

/// The most servers that can be named; the others of a cluster are found through them.
const MAX_SERVERS: usize = 32;
/// The most nodes that a list of them can name.
const MAX_NODES: usize = 256;
/// The longest name of a node or a bucket, in bytes.
const MAX_NAME: usize = 63;
/// The longest time that bans of others can be accepted for: a bucket forgets what is much older.
const MAX_BANTIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// The shortest: what lasts longer is written again twice in this time.
const MIN_BANTIME: Duration = Duration::from_secs(60);

/// Who this node is to the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FleetLogin {
    /// Nobody in particular.
    #[default]
    None,
    /// Who a file of credentials says: a JWT and its seed.
    Credentials(PathBuf),
    /// Who an nkey's seed in a file says.
    Nkey(PathBuf),
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The file with the password.
        file: PathBuf,
    },
}

/// `[fleet]`: what is shared with other nodes, through which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetConfig {
    /// The servers, as URLs.
    pub nats: Vec<String>,
    /// What this node is called; no other one is.
    pub node: String,
    /// The bucket that all nodes share.
    pub bucket: String,
    /// On how many servers the bucket is kept, if this node makes it.
    pub replicas: usize,
    /// Who this node is to the servers.
    pub login: FleetLogin,
    /// Certificates of those who may vouch for servers, instead of this host's.
    pub ca_file: Option<PathBuf>,
    /// This node's own certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Bans of these causes are shared.
    pub share: Vec<BanCause>,
    /// Whether allow entries that somebody made by a command are shared.
    pub share_allow: bool,
    /// Whether allow entries of others are taken.
    pub accept_allow: bool,
    /// From whom bans and allow entries are taken; `None`: from all.
    pub accept: Option<BTreeSet<String>>,
    /// From whom none are.
    pub ignore: BTreeSet<String>,
    /// How long what another node says holds at most after it has said so.
    pub max_bantime: Duration,
    /// The widest IPv4 prefix that is taken from others.
    pub widest_ipv4: u8,
    /// The widest IPv6 prefix that is taken from others.
    pub widest_ipv6: u8,
}

impl FleetConfig {
    /// Whether what a node says counts.
    pub fn accepts(&self, node: &str) -> bool {
        let named = self.accept.as_ref().is_none_or(|some| some.contains(node));
        named && !self.ignore.contains(node)
    }
}

/// What the files read so far say.
#[derive(Debug, Default)]
pub(super) struct FleetDraft {
    place: Option<Place>,
    nats: Vec<String>,
    node: Option<String>,
    bucket: Option<String>,
    replicas: Option<usize>,
    credentials_file: Option<(PathBuf, Place)>,
    nkey_file: Option<(PathBuf, Place)>,
    user: Option<(String, Place)>,
    password_file: Option<(PathBuf, Place)>,
    ca_file: Option<PathBuf>,
    cert_file: Option<(PathBuf, Place)>,
    key_file: Option<(PathBuf, Place)>,
    share: Option<Vec<BanCause>>,
    share_allow: Option<bool>,
    accept_allow: Option<bool>,
    accept: Option<(BTreeSet<String>, Place)>,
    ignore: BTreeSet<String>,
    max_bantime: Option<Duration>,
    widest_ipv4: Option<u8>,
    widest_ipv6: Option<u8>,
}

/// Reads `[fleet]` over what is in `draft`.
pub(super) fn read(section: &Section<'_>, draft: &mut FleetDraft) -> Result<(), ConfigError> {
    draft.place.get_or_insert_with(|| section.place.clone());
    if let Some(item) = section.get("nats") {
        servers(&item, &mut draft.nats)?;
    }
    if let Some(item) = section.get("node") {
        draft.node = Some(name(&item, "a node")?);
    }
    if let Some(item) = section.get("bucket") {
        draft.bucket = Some(name(&item, "a bucket")?);
    }
    if let Some(item) = section.get("replicas") {
        draft.replicas = Some(item.integer(1..=5)?);
    }
    for (key, to) in [
        ("credentials_file", &mut draft.credentials_file),
        ("nkey_file", &mut draft.nkey_file),
        ("password_file", &mut draft.password_file),
        ("cert_file", &mut draft.cert_file),
        ("key_file", &mut draft.key_file),
    ] {
        if let Some(item) = section.get(key) {
            *to = Some((Path::new(absolute_path(&item)?).to_owned(), item.place));
        }
    }
    if let Some(item) = section.get("user") {
        let user = item.string("a name in quotes")?;
        if user.is_empty() {
            return Err(item.error("a user has a name; leave it out if there is none"));
        }
        draft.user = Some((user.to_owned(), item.place));
    }
    if let Some(item) = section.get("ca_file") {
        draft.ca_file = Some(absolute_path(&item)?.into());
    }
    if let Some(item) = section.get("share") {
        let causes = item.list("a list of causes, for example [\"limit\", \"manual\"]")?;
        let causes = causes.iter().map(|item| item.word(&SHARED));
        let share = draft.share.get_or_insert_default();
        for cause in causes.collect::<Result<Vec<_>, _>>()? {
            if !share.contains(&cause) {
                share.push(cause);
            }
        }
    }
    for (key, to) in [
        ("share_allow", &mut draft.share_allow),
        ("accept_allow", &mut draft.accept_allow),
    ] {
        if let Some(item) = section.get(key) {
            *to = Some(item.boolean()?);
        }
    }
    if let Some(item) = section.get("accept") {
        let accept = draft
            .accept
            .get_or_insert_with(|| (BTreeSet::new(), item.place.clone()));
        accept.0.extend(nodes(&item)?);
    }
    if let Some(item) = section.get("ignore") {
        draft.ignore.extend(nodes(&item)?);
    }
    if let Some(item) = section.get("max_bantime") {
        let time = finite(
            &item,
            "write how long bans of others are accepted for, such as \"7d\"",
        )?;
        if !(MIN_BANTIME..=MAX_BANTIME).contains(&time) {
            return Err(item.error("it must be from \"1m\" to \"30d\""));
        }
        draft.max_bantime = Some(time);
    }
    if let Some(item) = section.get("widest_ipv4") {
        draft.widest_ipv4 = Some(item.integer(8..=32)?);
    }
    if let Some(item) = section.get("widest_ipv6") {
        draft.widest_ipv6 = Some(item.integer(19..=128)?);
    }
    Ok(())
}

impl FleetDraft {
    /// The fleet, if there is one, after the checks that only all files together allow.
    pub(super) fn finish(self) -> Result<Option<FleetConfig>, ConfigError> {
        let Some(place) = self.place.clone() else {
            return Ok(None);
        };
        if self.nats.is_empty() {
            return Err(place.error(
                "`nats` is missing in [fleet]; add for example nats = [\"nats://127.0.0.1:4222\"]",
            ));
        }
        if let Some((accept, place)) = &self.accept
            && let Some(both) = accept.intersection(&self.ignore).next()
        {
            return Err(place.error(format!(
                "`accept` in [fleet]: \"{both}\" is in `ignore`, too; take it out of one of them"
            )));
        }
        let node = match &self.node {
            Some(node) => node.clone(),
            None => host_name().ok_or_else(|| {
                place.error(format!(
                    "`node` is missing in [fleet], and this host's name cannot stand for it; add for \
                     example node = \"web-1\" (1 to {MAX_NAME} letters, digits, - and _)"
                ))
            })?,
        };
        let login = self.login()?;
        let certificate = together(("cert_file", self.cert_file), ("key_file", self.key_file))?;
        let share = self.share.unwrap_or_else(shared::by_default);
        Ok(Some(FleetConfig {
            nats: self.nats,
            node,
            bucket: self.bucket.unwrap_or_else(|| "abuser".to_owned()),
            replicas: self.replicas.unwrap_or(3),
            login,
            ca_file: self.ca_file,
            certificate,
            share,
            share_allow: self.share_allow.unwrap_or(true),
            accept_allow: self.accept_allow.unwrap_or(true),
            accept: self.accept.map(|(accept, _)| accept),
            ignore: self.ignore,
            max_bantime: self
                .max_bantime
                .unwrap_or(Duration::from_secs(7 * 24 * 3600)),
            widest_ipv4: self.widest_ipv4.unwrap_or(24),
            widest_ipv6: self.widest_ipv6.unwrap_or(48),
        }))
    }

    fn login(&self) -> Result<FleetLogin, ConfigError> {
        let password = together(
            ("user", self.user.clone()),
            ("password_file", self.password_file.clone()),
        )?;
        let password = password.map(|(user, file)| FleetLogin::Password { user, file });
        let logins = [
            (
                &self.credentials_file,
                FleetLogin::Credentials as fn(PathBuf) -> FleetLogin,
            ),
            (&self.nkey_file, FleetLogin::Nkey),
        ];
        let files = logins.into_iter().filter_map(|(file, make)| {
            let (file, place) = file.as_ref()?;
            Some((make(file.clone()), place))
        });
        let place = self.user.as_ref().map(|(_, place)| place);
        let mut all = files.chain(password.zip(place));
        let login = all.next();
        if let Some((_, place)) = all.next() {
            return Err(place.error(
                "[fleet] has two ways to log in; leave one of credentials_file, nkey_file, and user \
                 with password_file",
            ));
        }
        Ok(login.map(|(login, _)| login).unwrap_or_default())
    }
}

/// Two keys of which none makes sense without the other.
fn together<A, B>(
    (one, a): (&str, Option<(A, Place)>),
    (other, b): (&str, Option<(B, Place)>),
) -> Result<Option<(A, B)>, ConfigError> {
    let missing = |place: &Place, there: &str, missing: &str| {
        place.error(format!(
            "`{there}` in [fleet] without `{missing}`; add that, too"
        ))
    };
    match (a, b) {
        (Some((a, _)), Some((b, _))) => Ok(Some((a, b))),
        (Some((_, place)), None) => Err(missing(&place, one, other)),
        (None, Some((_, place))) => Err(missing(&place, other, one)),
        (None, None) => Ok(None),
    }
}

fn servers(item: &Item<'_>, servers: &mut Vec<String>) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a list of URLs, for example [\"nats://127.0.0.1:4222\"]";
    for item in item.list_of_at_most(MAX_SERVERS, EXPECTED)? {
        let url = item.string("a URL in quotes")?;
        let parsed = url.parse::<ServerAddr>().ok();
        let scheme = ["nats://", "tls://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let Some(address) = parsed.filter(|address| scheme && !address.host().is_empty()) else {
            return Err(item.error(format!(
                "{} is not a URL of a NATS server; write for example \"nats://192.0.2.1:4222\" or \
                 \"tls://nats.example.com:4222\"",
                quote(url)
            )));
        };
        if address.has_user_pass() || url.contains('@') {
            return Err(item.error(
                "a password does not belong into a URL; write user and password_file instead",
            ));
        }
        if !servers.iter().any(|known| known == url) {
            servers.push(url.to_owned());
        }
    }
    Ok(())
}

fn nodes(item: &Item<'_>) -> Result<Vec<String>, ConfigError> {
    let nodes = item.list_of_at_most(MAX_NODES, "a list of nodes, for example [\"web-2\"]")?;
    nodes.iter().map(|item| name(item, "a node")).collect()
}

fn name(item: &Item<'_>, what: &str) -> Result<String, ConfigError> {
    let name = item.string("a name in quotes")?;
    if is_node_name(name) {
        Ok(name.to_owned())
    } else {
        Err(item.error(format!(
            "{} cannot be the name of {what}; write 1 to {MAX_NAME} letters, digits, - and _",
            quote(name)
        )))
    }
}

/// Whether something can be the name of a node: a part of a subject of NATS.
pub fn is_node_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// This host's name up to its first dot, if that can be a node's.
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let name = name.split('.').next()?;
    is_node_name(name).then(|| name.to_owned())
}
