//! From a listener to requests: who connects gets a task, if there is room.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Extension, Router, response::IntoResponse as _, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower_layer::Layer as _;

use super::{
    answer::Failure,
    bounds::{HEAD_TIME, MAX_HEAD, STALL_TIME},
    peer::Peer,
    stall::Watched,
};

/// How long somebody for whom there is no room may take to hear so.
const GOODBYE: Duration = Duration::from_secs(1);
/// How many of them are told at once; more are hung up on.
const GOODBYES: usize = 64;

/// The connections of one listener.
pub(super) struct Connections<F> {
    router: Router,
    /// Who is at the other end of a stream.
    identify: F,
    goodbyes: Arc<Semaphore>,
    http: http1::Builder,
}

impl<F> Connections<F> {
    /// Whose requests the router answers, which finds the [`Peer`] among their extensions.
    pub(super) fn new<I, A>(router: Router, identify: F) -> Self
    where
        F: Fn(&I, &A) -> Peer,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD);
        Self {
            router,
            identify,
            goodbyes: Arc::new(Semaphore::new(GOODBYES)),
            http,
        }
    }

    /// Takes connections until `stopped`, and ends when they have.
    pub(super) async fn serve<L>(self, mut listener: L, stopped: impl Future)
    where
        L: Listener,
        F: Fn(&L::Io, &L::Addr) -> Peer,
    {
        let graceful = GracefulShutdown::new();
        tokio::pin!(stopped);
        loop {
            let (stream, address) = tokio::select! {
                connection = listener.accept() => connection,
                _ = &mut stopped => break,
            };
            let peer = (self.identify)(&stream, &address);
            match peer.share().connection() {
                Ok(room) => self.attend(stream, peer, room, &graceful),
                Err(failure) => self.send_away(stream, failure),
            }
        }
        // Nobody else is to wait for an answer that does not come.
        drop(listener);
        graceful.shutdown().await;
    }

    fn attend<I>(
        &self,
        stream: I,
        peer: Peer,
        room: OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, rest) = Watched::new(stream, STALL_TIME);
        let service = Extension(rest).layer(Extension(peer).layer(self.router.clone()));
        let connection = self
            .http
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _room = room;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API broke off");
            }
        });
    }

    /// Tells somebody that there is no room. It is an answer to a request: clients take no other.
    fn send_away<I>(&self, stream: I, failure: Failure)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(room) = Arc::clone(&self.goodbyes).try_acquire_owned() else {
            return;
        };
        let mut http = self.http.clone();
        http.keep_alive(false);
        let response = std::sync::Mutex::new(Some(failure.into_response()));
        tokio::spawn(async move {
            let _room = room;
            let service = service_fn(|_: hyper::Request<Incoming>| {
                let response = response
                    .lock()
                    .ok()
                    .and_then(|mut response| response.take());
                async { Ok::<_, Infallible>(response.unwrap_or_default()) }
            });
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let _told = tokio::time::timeout(GOODBYE, connection).await;
        });
    }
}
