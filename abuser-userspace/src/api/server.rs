//! The socket's listening end: HTTP in, commands to the engine, answers out.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        ConnectInfo, DefaultBodyLimit, FromRequest, Path, Query, Request, State,
        connect_info::Connected,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use bytes::Bytes;
use futures_util::stream;
use nix::unistd::{Uid, User};
use serde::de::DeserializeOwned;
use tokio::{
    net::UnixListener,
    sync::{broadcast, mpsc, oneshot},
};

use super::{
    bulk::{self, Exported, JsonLines},
    types::{
        AllowRequest, ApiError, BanRequest, DetachRequest, EventFilter, EventKind, EventRecord,
        ExportQuery, ImportRequest, RemoveRequest,
    },
};
use crate::daemon::{
    clock,
    engine::{Asker, Command, EngineError, Reply},
    reload::Reloader,
};
use crate::exchange::Format;

/// The largest request body, in bytes: some hundred thousand addresses.
const MAX_BODY: usize = 8 << 20;

/// What handlers need.
#[derive(Clone)]
pub struct Api {
    /// Where commands go.
    pub commands: mpsc::Sender<Command>,
    /// Who reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// Where events come from; weak, so that streams end when the engine does.
    pub events: broadcast::WeakSender<Arc<EventRecord>>,
}

/// Serves until the other end of `stopped` is dropped and all requests are answered.
pub async fn serve(listener: UnixListener, api: Api, stopped: oneshot::Receiver<Infallible>) {
    let router = Router::new()
        .route(
            "/v1/status",
            get(|State(api): State<Api>| api.ask(Command::Status)),
        )
        .route(
            "/v1/limits",
            get(|State(api): State<Api>| api.ask(Command::Limits)),
        )
        .route(
            "/v1/bans",
            get(|State(api): State<Api>| bulk::stream(api, Command::BanPage, JsonLines::default()))
                .post(
                    |State(api): State<Api>,
                     ConnectInfo(peer): ConnectInfo<Peer>,
                     JsonBody(request): JsonBody<BanRequest>| {
                        api.ask(move |reply| Command::Ban(request, peer.name(), reply))
                    },
                )
                .delete(
                    |State(api): State<Api>,
                     ConnectInfo(peer): ConnectInfo<Peer>,
                     JsonBody(request): JsonBody<RemoveRequest>| {
                        unban(api, peer.name(), request)
                    },
                ),
        )
        .route(
            "/v1/bans/import",
            post(
                |State(api): State<Api>,
                 ConnectInfo(peer): ConnectInfo<Peer>,
                 JsonBody(request): JsonBody<ImportRequest>| {
                    api.ask(move |reply| Command::Import(request, peer.name(), reply))
                },
            ),
        )
        .route("/v1/bans/export", get(export))
        .route("/v1/bans/covering/{address}", get(covering))
        .route("/v1/explain/{address}", get(explain))
        .route(
            "/v1/allow",
            get(|State(api): State<Api>| api.ask(Command::AllowList))
                .post(
                    |State(api): State<Api>,
                     ConnectInfo(peer): ConnectInfo<Peer>,
                     JsonBody(request): JsonBody<AllowRequest>| {
                        api.ask(move |reply| Command::Allow(request, peer.name(), reply))
                    },
                )
                .delete(
                    |State(api): State<Api>, JsonBody(request): JsonBody<RemoveRequest>| {
                        api.ask(|reply| Command::Disallow(request, reply))
                    },
                ),
        )
        .route("/v1/events", get(events))
        .route(
            "/v1/detach",
            post(
                |State(api): State<Api>, JsonBody(request): JsonBody<DetachRequest>| {
                    api.ask(|reply| Command::Detach(request, reply))
                },
            ),
        )
        .route("/v1/reload", post(reload))
        .route(
            "/v1/confirm",
            post(|State(api): State<Api>| api.ask(Command::Confirm)),
        )
        .method_not_allowed_fallback(|| async {
            failure(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource has no such method",
            )
        })
        .fallback(|| async { failure(StatusCode::NOT_FOUND, "there is no such resource") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api);
    let service = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async {
        let _dropped = stopped.await;
    });
    if let Err(error) = server.await {
        tracing::error!(%error, "the API stopped");
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
struct Peer {
    /// The user, unless the kernel did not say.
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            uid: credentials.map(|credentials| credentials.uid()),
        }
    }
}

impl Peer {
    /// The user's name, or number if it has none.
    fn name(self) -> Asker {
        let Some(uid) = self.uid else {
            return "somebody".into();
        };
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(|| format!("user {uid}"), |user| user.name)
            .into()
    }
}

impl Api {
    /// Sends a command and waits for its answer.
    async fn ask<T>(self, command: impl FnOnce(Reply<T>) -> Command) -> Response
    where
        T: serde::Serialize,
    {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return stopping();
        }
        answer
            .await
            .map_or_else(|_| stopping(), |result| respond(result))
    }
}

fn respond<T: serde::Serialize>(result: Result<T, EngineError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => failed(&error),
    }
}

/// What the engine says when it does not do as it is asked.
pub(super) fn failed(error: &EngineError) -> Response {
    let status = match error {
        EngineError::Refused(_) => StatusCode::BAD_REQUEST,
        EngineError::NotFound(_) => StatusCode::NOT_FOUND,
        EngineError::Dataplane(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failure(status, &error.to_string())
}

/// All bans are removed a page at a time, as they are listed.
async fn unban(api: Api, by: Asker, request: RemoveRequest) -> Response {
    if request.all && request.sources.is_empty() {
        let command = move |after, reply| Command::UnbanPage(after, Arc::clone(&by), reply);
        return bulk::stream(api, command, JsonLines::default()).await;
    }
    api.ask(move |reply| Command::Unban(request, by, reply))
        .await
}

async fn export(
    State(api): State<Api>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Response {
    let ExportQuery { format } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    let format = format.parse::<Format>();
    let format = format.map_err(|error| EngineError::Refused(error.to_string()));
    match format.and_then(Exported::new) {
        Ok(listing) => bulk::stream(api, Command::BanPage, listing).await,
        Err(error) => failed(&error),
    }
}

async fn reload(State(api): State<Api>) -> Response {
    respond(api.reloader.reload().await)
}

async fn covering(
    State(api): State<Api>,
    address: Result<Path<String>, PathRejection>,
) -> Response {
    match parse_address(address) {
        Ok(address) => api.ask(|reply| Command::Covering(address, reply)).await,
        Err(refusal) => refusal,
    }
}

async fn explain(State(api): State<Api>, address: Result<Path<String>, PathRejection>) -> Response {
    match parse_address(address) {
        Ok(address) => api.ask(|reply| Command::Explain(address, reply)).await,
        Err(refusal) => refusal,
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn parse_address(address: Result<Path<String>, PathRejection>) -> Result<IpAddr, Response> {
    match address {
        Ok(Path(address)) => address.parse().map_err(|_| {
            let message = format!("{address:?} is not an IP address");
            failure(StatusCode::BAD_REQUEST, &message)
        }),
        Err(rejection) => Err(failure(rejection.status(), &rejection.body_text())),
    }
}

async fn events(
    State(api): State<Api>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Response {
    let filter = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return failure(rejection.status(), &rejection.body_text()),
    };
    let Some(events) = api.events.upgrade() else {
        return stopping();
    };
    let receiver = events.subscribe();
    drop(events);
    let lines = stream::unfold((receiver, filter), |(mut receiver, filter)| async move {
        let line = next_line(&mut receiver, &filter).await?;
        Some((Ok::<_, Infallible>(line), (receiver, filter)))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// The next wanted event as a line; `None` when the daemon stops.
async fn next_line(
    receiver: &mut broadcast::Receiver<Arc<EventRecord>>,
    filter: &EventFilter,
) -> Option<Bytes> {
    loop {
        let event = match receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => Arc::new(missed(count)),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        if filter.matches(&event) {
            let mut line = serde_json::to_vec(&*event).ok()?;
            line.push(b'\n');
            return Some(line.into());
        }
    }
}

/// The event that stands for `count` events which a slow reader missed.
pub fn missed(count: u64) -> EventRecord {
    EventRecord {
        time: clock::now(),
        kind: EventKind::Missed,
        interface: None,
        source: None,
        protocol: None,
        port: None,
        limit: None,
        ban: None,
        drops: Some(count),
        verified: None,
        bytes: None,
        expires: None,
        reason: Some("this reader was too slow".to_owned()),
    }
}

pub(super) fn stopping() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping")
}

fn failure(status: StatusCode, error: &str) -> Response {
    let error = ApiError {
        error: error.to_owned(),
    };
    (status, Json(error)).into_response()
}

/// A JSON body whose errors are [`ApiError`]s.
struct JsonBody<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        Json::<T>::from_request(request, state)
            .await
            .map(|Json(body)| Self(body))
            .map_err(|rejection: JsonRejection| failure(rejection.status(), &rejection.body_text()))
    }
}
