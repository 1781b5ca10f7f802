//! The allow list as configured: prefixes, and names that the daemon resolves.

use abuser_detect::dns_name::{ends_in_a_number, is_dns_name};
use ipnet::IpNet;

use super::{
    Automatic, Config,
    error::{ConfigError, quote},
    prefix::parse_prefix,
    section::{Item, Section},
};

/// A source that is never dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowEntry {
    /// An address or a network.
    Prefix(IpNet),
    /// A DNS name, in lower case and without a dot at its end.
    Name(String),
}

/// Reads `[allow]`; its addresses are added to those of earlier files.
pub(super) fn read(section: &Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    const EXPECTED: &str = "a list of addresses, prefixes and names, \
                            for example [\"10.0.0.0/8\", \"monitoring.example.com\"]";
    if let Some(addresses) = section.get("addresses") {
        for item in addresses.list(EXPECTED)? {
            config.allow.push(entry(&item)?);
        }
    }
    if let Some(item) = section.get("automatic") {
        config.allow_automatic = Automatic(item.boolean()?);
    }
    Ok(())
}

fn entry(item: &Item<'_>) -> Result<AllowEntry, ConfigError> {
    let text = item.string("an address, a prefix or a name, in quotes")?;
    if looks_like_an_address(text) {
        return parse_prefix(text)
            .map(AllowEntry::Prefix)
            .map_err(|error| item.error(error));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if is_dns_name(name) {
        return Ok(AllowEntry::Name(name.to_ascii_lowercase()));
    }
    Err(item.error(format!(
        "{} is neither an IP address nor a DNS name; write for example \"192.0.2.7\", \
         \"10.0.0.0/8\" or \"monitoring.example.com\"",
        quote(text)
    )))
}

/// Whether an error about an address would help more than one about a name: no name has a `:` or `/`.
fn looks_like_an_address(text: &str) -> bool {
    text.contains([':', '/']) || ends_in_a_number(text)
}
