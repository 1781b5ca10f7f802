//! The listening end: HTTP in, commands to the engine, answers out.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `routes` | who asks what: one function a request, with its description |
//! | `answer` | commands to the engine, bodies, and what answers and errors look like |
//! | `pages` | answers about all bans, streamed |
//! | `timing` | how long requests take |
//! | `latest` | the latest bans, and those that are looked for |
//! | `page` | what browsers get |
//! | `peer` | who is at the other end, and what he may do |
//! | `token` | what stands in for a user over TCP |
//! | `bounds` | how much, how long and how many |
//! | `connections` | from a listener to requests |
//! | `stall` | connections whose reader has stopped reading |
//!
//! To add a request, write its function in `routes` with `#[utoipa::path]` and name it in
//! `routes::all`; a test says how to renew the document. All methods but safe ones (GET) are for
//! those who may change something, without a further word.

mod answer;
mod bounds;
mod connections;
mod latest;
mod page;
mod pages;
mod peer;
pub(super) mod routes;
mod stall;
mod timing;
mod token;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
};
use futures_util::FutureExt as _;
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot},
};
use utoipa_axum::router::OpenApiRouter;

use self::{
    answer::Failure,
    bounds::{MAX_BODY, Share},
    connections::Connections,
    peer::Peer,
};
use super::types::{EventRecord, SecurityStatus};
use crate::{
    crowdsec,
    daemon::{detection::DetectionHandle, engine::Command, reload::Reloader, socket::Socket},
    fleet::FleetHandle,
    metrics::Latencies,
    notify::NotifyHandle,
};

pub use self::{
    peer::Access,
    routes::events::missed,
    token::{Token, TokenError},
};

/// What handlers need.
#[derive(Clone)]
pub struct Api {
    /// Where commands go.
    pub commands: mpsc::Sender<Command>,
    /// Who reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// Where events come from; weak, so that streams end when the engine does.
    pub events: broadcast::WeakSender<Arc<EventRecord>>,
    /// Who reads logs.
    pub detection: Arc<DetectionHandle>,
    /// Where it is noted how long things take.
    pub latencies: Arc<Latencies>,
    /// Who takes part in the fleet.
    pub fleet: Arc<FleetHandle>,
    /// Who notifies others.
    pub notify: Arc<NotifyHandle>,
    /// How it stands with `CrowdSec`.
    pub crowdsec: crowdsec::Monitor,
    /// What the daemon has given up.
    pub security: Arc<SecurityStatus>,
}

/// Where to listen, and to whom.
pub struct Listeners {
    /// The unix socket.
    pub unix: Socket,
    /// Who may do what over it.
    pub access: Access,
    /// The TCP socket, if there is one.
    pub tcp: Option<Remote>,
    /// Where metrics are told to whoever asks, and nothing else.
    pub metrics: Option<TcpListener>,
}

/// Where to listen for TCP.
pub struct Remote {
    /// The socket.
    pub listener: TcpListener,
    /// What whoever asks for something must know.
    pub token: Token,
    /// Whether browsers get a page, which asks for it.
    pub page: bool,
}

/// Serves until the other end of `stopped` is dropped and all requests are answered.
pub async fn serve(listeners: Listeners, api: Api, stopped: oneshot::Receiver<Infallible>) {
    // Whoever is answered finds that logs are followed.
    api.detection.followed().await;
    let Listeners {
        unix,
        access,
        tcp,
        metrics,
    } = listeners;
    let stopped = stopped.map(|_dropped| ()).shared();
    let timed = from_fn_with_state(api.clone(), timing::time);
    let metrics_alone = router(routes::metrics_alone(), api.clone()).layer(timed.clone());
    let router = router(routes::all(), api);
    let remote = async {
        if let Some(Remote {
            listener,
            token,
            page,
        }) = tcp
        {
            let router = router.clone();
            let token = from_fn_with_state(Arc::new(token), token::require);
            // Who is turned away is counted, too.
            let mut router = router.layer(token).layer(timed.clone());
            if page {
                // It needs no token: a browser that is sent somewhere brings none.
                router = page::beside(router);
            }
            let share = Share::for_writers();
            Connections::new(router, move |_: &_, address: &std::net::SocketAddr| {
                Peer::remote(address.ip(), &share)
            })
            .serve(listener, stopped.clone())
            .await;
        }
    };
    let scrapes = async {
        if let Some(listener) = metrics {
            let share = Share::for_readers();
            Connections::new(metrics_alone, move |_: &_, _: &std::net::SocketAddr| {
                Peer::scraper(&share)
            })
            .serve(listener, stopped.clone())
            .await;
        }
    };
    let (writers, readers) = (Share::for_writers(), Share::for_readers());
    let local = Connections::new(
        router.clone().layer(timed.clone()),
        move |stream: &_, _: &_| Peer::local(stream, &access, &writers, &readers),
    );
    tokio::join!(local.serve(unix, stopped.clone()), remote, scrapes);
}

fn router(requests: OpenApiRouter<Api>, api: Api) -> Router {
    let (router, _document) = requests.split_for_parts();
    router
        .method_not_allowed_fallback(no_such_method)
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "there is no such resource") })
        .layer(from_fn(peer::require_rights))
        .layer(from_fn(stall::forbid_rest))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

async fn no_such_method() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this resource has no such method",
    )
}
