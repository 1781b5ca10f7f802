//! `[api]`: where to listen for commands, and to whom.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    draft::absolute_path,
    error::{ConfigError, quote},
    section::{Item, Section},
    source::Place,
};

/// The longest name of a group, in bytes (`LOGIN_NAME_MAX` of Linux, less its 0).
const MAX_GROUP_LENGTH: usize = 255;

/// `[api]`: where to listen for commands, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// The group that may talk to the daemon besides root; without it [`Api::DEFAULT_GROUP`] if
    /// there is one.
    pub group: Option<String>,
    /// Who may read what the daemon knows, and change nothing.
    pub read_only: ReadOnly,
    /// Where to listen for TCP, if anywhere; then [`Api::token_file`] is there.
    pub listen: Option<SocketAddr>,
    /// The file with what peers over TCP must know.
    pub token_file: Option<PathBuf>,
    /// Whether browsers get a page there; then [`Api::listen`] is there.
    pub page: bool,
}

impl Api {
    /// The group that may talk to the daemon unless another is named.
    pub const DEFAULT_GROUP: &str = "abuser";
}

impl Default for Api {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/abuser/abuser.sock"),
            group: None,
            read_only: ReadOnly::None,
            listen: None,
            token_file: None,
            page: false,
        }
    }
}

/// Who may read what the daemon knows, besides those who may also change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// Nobody.
    #[default]
    None,
    /// Every user of this host.
    Everyone,
}

impl ReadOnly {
    const WORDS: [(&'static str, Self); 2] = [("none", Self::None), ("everyone", Self::Everyone)];
}

/// Where `[api]` last said what wants something else to go with it.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// `listen`.
    listen: Option<Place>,
    /// `page = true`.
    page: Option<Place>,
}

/// Reads `[api]` over what is in `api`, and notes in `wants` what [`finish`] is to check.
pub(super) fn read(
    section: &Section<'_>,
    api: &mut Api,
    wants: &mut Wants,
) -> Result<(), ConfigError> {
    if let Some(item) = section.get("socket") {
        api.socket = absolute_path(&item)?.into();
    }
    if let Some(item) = section.get("group") {
        api.group = Some(group(&item)?);
    }
    if let Some(item) = section.get("read_only") {
        api.read_only = item.word(&ReadOnly::WORDS)?;
    }
    if let Some(item) = section.get("listen") {
        api.listen = Some(address(&item)?);
        wants.listen = Some(item.place);
    }
    if let Some(item) = section.get("token_file") {
        api.token_file = Some(Path::new(absolute_path(&item)?).into());
    }
    if let Some(item) = section.get("page") {
        api.page = item.boolean()?;
        wants.page = api.page.then_some(item.place);
    }
    Ok(())
}

/// Checks what all files together say.
pub(super) fn finish(api: &Api, wants: &Wants) -> Result<(), ConfigError> {
    match (&wants.listen, &wants.page) {
        (Some(place), _) if api.token_file.is_none() => Err(place.error(
            "`listen` in [api] without `token_file`: whoever reaches the port could ban and detach; \
             add token_file = \"/etc/abuser/token\", and write a token there, as in \
             `(umask 077; openssl rand -hex 32 > /etc/abuser/token)`",
        )),
        (None, Some(place)) => Err(place.error(
            "`page` in [api] without `listen`: browsers come over TCP; add \
             listen = \"127.0.0.1:9090\" and token_file = \"/etc/abuser/token\"",
        )),
        _ => Ok(()),
    }
}

fn group(item: &Item<'_>) -> Result<String, ConfigError> {
    let name = item.string("the name of a group, in quotes")?;
    let fits = (1..=MAX_GROUP_LENGTH).contains(&name.len())
        && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control());
    if fits {
        Ok(name.to_owned())
    } else {
        Err(item.error(format!(
            "{} cannot be the name of a group; write one that `getent group` shows",
            quote(name)
        )))
    }
}

/// The value as an address to listen at.
pub(super) fn address(item: &Item<'_>) -> Result<SocketAddr, ConfigError> {
    let text = item.string("an address and a port, in quotes")?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(item.error(format!(
            "{} is not an address with a port; write for example \"127.0.0.1:9090\" or \
             \"[::1]:9090\"",
            quote(text)
        ))),
    }
}
