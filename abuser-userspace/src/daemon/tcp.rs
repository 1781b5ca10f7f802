//! TCP listeners: there is none unless it is asked for, and none that does more than tell metrics
//! without a token.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::{
    api::server::{Remote, Token},
    config,
};

/// Why nobody can listen for TCP.
#[derive(Debug, thiserror::Error)]
pub(super) enum TcpError {
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

/// Listens as `[api]` says, if it does, for those who know the token.
pub(super) async fn listen(
    api: &config::Api,
    token: Option<Token>,
) -> Result<Option<Remote>, TcpError> {
    let (Some(address), Some(token)) = (api.listen, token) else {
        return Ok(None);
    };
    let listener = bind("[api] listen", address).await?;
    tracing::info!("listening at {address} for those who know the token");
    if api.page {
        tracing::info!("browsers find a page at http://{address}/");
    }
    if let Some(exposure) = api.exposure() {
        tracing::warn!("{exposure}");
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
