//! TCP listeners: there is none unless it is asked for, and none that does more than tell metrics
//! without a token.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::{
    api::server::{Remote, Token, TokenError},
    config,
};

/// Why nobody can listen for TCP.
#[derive(Debug, thiserror::Error)]
pub(super) enum TcpError {
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The configuration has no token; it says so itself where it is read.
    #[error("[api] listen needs a token; add token_file = \"/etc/abuser/token\"")]
    NoToken,
    /// The system refused.
    #[error(
        "cannot listen at {address}: {source}; set {setting} to another address, or leave it out"
    )]
    Bind {
        /// What says where.
        setting: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Listens as `[api]` says, if it does.
pub(super) async fn listen(api: &config::Api) -> Result<Option<Remote>, TcpError> {
    let Some(address) = api.listen else {
        return Ok(None);
    };
    let token = Token::read(api.token_file.as_deref().ok_or(TcpError::NoToken)?)?;
    let listener = bind("[api] listen", address).await?;
    tracing::info!("listening at {address} for those who know the token");
    if api.page {
        tracing::info!("browsers find a page at http://{address}/");
    }
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "whoever is on the way to {address} can read the token: it is plain HTTP; set [api] \
             listen to a loopback address, and put a proxy with TLS in front"
        );
    }
    Ok(Some(Remote {
        listener,
        token,
        page: api.page,
    }))
}

/// Listens for scrapes as `[metrics]` says, if it does.
pub(super) async fn listen_for_metrics(
    metrics: &config::Metrics,
) -> Result<Option<TcpListener>, TcpError> {
    let Some(address) = metrics.listen else {
        return Ok(None);
    };
    let listener = bind("[metrics] listen", address).await?;
    tracing::info!("metrics are at http://{address}/metrics");
    Ok(Some(listener))
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, TcpError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| TcpError::Bind {
        setting,
        address,
        source,
    })
}
