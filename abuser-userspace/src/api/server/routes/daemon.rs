//! The daemon itself: how it is, what it would do, and what it is told to.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
};

use super::super::{
    Api,
    answer::{self, Address, Answer, JsonBody},
    peer::Peer,
};
use crate::{
    api::{
        openapi::{self, refusals},
        types::{
            self, DEFAULT_TOP, DetachRequest, Detached, Explanation, LimitStatus, MAX_TOP,
            ObserveRequest, Observing, Reloaded, Status, Top, TopQuery,
        },
    },
    daemon::engine::Command,
};

/// The daemon at a glance.
#[utoipa::path(
    get, path = "/v1/status", tag = "daemon",
    responses((status = 200, description = "How it is.", body = Status), refusals::Any),
)]
pub(super) async fn status(State(api): State<Api>) -> Answer<Status> {
    let Json(status) = api.clone().ask(Command::Status).await?;
    Ok(Json(api.complete(status)))
}

/// Each limit, and what was counted under it.
#[utoipa::path(
    get, path = "/v1/limits", tag = "daemon",
    responses(
        (status = 200, description = "In the order of the configuration.", body = [LimitStatus]),
        refusals::Any,
    ),
)]
pub(super) async fn limits(State(api): State<Api>) -> Answer<Vec<LimitStatus>> {
    api.ask(Command::Limits).await
}

/// The busiest sources.
#[utoipa::path(
    get, path = "/v1/top", tag = "daemon",
    params(TopQuery),
    responses(
        (status = 200, description = "The busiest first.", body = Top),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn top(
    State(api): State<Api>,
    query: Result<Query<TopQuery>, QueryRejection>,
) -> Answer<Top> {
    let Query(TopQuery { limit }) = answer::query(query)?;
    let count = answer::bounded("limit", limit, DEFAULT_TOP, MAX_TOP)?;
    let Json(found) = api.clone().ask(|reply| Command::Top(count, reply)).await?;
    api.ask(|reply| Command::CompleteTop(Box::new(found), reply))
        .await
}

/// Only observes from now on, or enforces again.
///
/// Until the daemon starts again, which begins as it is told then.
#[utoipa::path(
    post, path = "/v1/observe", tag = "daemon",
    request_body = ObserveRequest,
    responses(
        (status = 200, description = "It does.", body = Observing),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn observe(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<ObserveRequest>,
) -> Answer<Observing> {
    let by = peer.name().await;
    api.ask(|reply| Command::Observe(request, by, reply)).await
}

/// What a packet from an address would meet now, and why.
#[utoipa::path(
    get, path = "/v1/explain/{address}", tag = "daemon",
    params(("address" = types::Address, Path, description = "Where the packet comes from.")),
    responses(
        (status = 200, description = "The verdict, and all that it follows from.", body = Explanation),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Address(address): Address,
) -> Answer<Explanation> {
    api.ask(|reply| Command::Explain(address, reply)).await
}

/// Reads the configuration again and puts it in force, without detaching.
///
/// If anything is wrong with it, nothing changes.
#[utoipa::path(
    post, path = "/v1/reload", tag = "daemon",
    responses(
        (status = 200, description = "What that changed.", body = Reloaded),
        refusals::Senseless, refusals::Write, refusals::Any,
    ),
)]
pub(super) async fn reload(State(api): State<Api>) -> Answer<Reloaded> {
    Ok(Json(api.reloader.reload().await?))
}

/// Lets a daemon go on that was started with `--confirm`.
#[utoipa::path(
    post, path = "/v1/confirm", tag = "daemon",
    responses(
        (status = 200, description = "It goes on.", body = inline(types::Null)),
        refusals::Senseless, refusals::Write, refusals::Any,
    ),
)]
pub(super) async fn confirm(State(api): State<Api>) -> Answer<()> {
    api.ask(Command::Confirm).await
}

/// Detaches from interfaces; from all of them, the daemon stops.
#[utoipa::path(
    post, path = "/v1/detach", tag = "daemon",
    request_body = DetachRequest,
    responses(
        (status = 200, description = "What was detached.", body = Detached),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn detach(
    State(api): State<Api>,
    JsonBody(request): JsonBody<DetachRequest>,
) -> Answer<Detached> {
    api.ask_again(|reply| Command::Detach(request.clone(), reply))
        .await
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "daemon", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object), refusals::Any),
)]
pub(super) async fn document() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        openapi::text(),
    )
}
