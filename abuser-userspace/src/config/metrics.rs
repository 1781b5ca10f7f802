//! `[metrics]`: where to tell metrics, besides where the API listens.

use std::net::SocketAddr;

use super::{
    api::{self, Api},
    error::ConfigError,
    section::Section,
    source::Place,
};

/// `[metrics]`: where to tell metrics. They are always told over the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// A loopback address where `/metrics` is told to whoever asks, and nothing else.
    pub listen: Option<SocketAddr>,
}

/// Reads `[metrics]` over what is in `metrics`; `listens` is where it last said `listen`.
pub(super) fn read(
    section: &Section<'_>,
    metrics: &mut Metrics,
    listens: &mut Option<Place>,
) -> Result<(), ConfigError> {
    let Some(item) = section.get("listen") else {
        return Ok(());
    };
    let address = api::address(&item)?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(item.error(format!(
            "{address} is no loopback address, and whoever reaches it could read everything there; \
             write for example \"127.0.0.1:9842\", or have metrics scraped from [api] listen, which \
             wants a token"
        )));
    }
    metrics.listen = Some(address);
    *listens = Some(item.place);
    Ok(())
}

/// Checks what all files together say.
pub(super) fn finish(
    metrics: &Metrics,
    api: &Api,
    listens: Option<&Place>,
) -> Result<(), ConfigError> {
    match listens {
        Some(place) if metrics.listen.is_some() && metrics.listen == api.listen => Err(place.error(
            "`listen` in [metrics] is that of [api], too; choose another port, or leave it out: \
             metrics are told there as well",
        )),
        _ => Ok(()),
    }
}
