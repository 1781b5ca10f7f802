//! Throttles: stricter limits for some sources, for a while.

use axum::{Extension, extract::State, response::Response};

use super::super::{
    Api,
    answer::{Answer, Failure, JsonBody},
    pages::{self, JsonLines},
    peer::Peer,
};
use crate::{
    api::{
        openapi::refusals,
        types::{ThrottleInfo, ThrottleRequest, UnthrottleRequest},
    },
    daemon::engine::Command,
};

/// All who are throttled.
#[utoipa::path(
    get, path = "/v1/throttles", tag = "throttles", operation_id = "list_throttles",
    responses(
        (status = 200, description = "By their sources, an element of the array a line.", body = [ThrottleInfo]),
        refusals::Any,
    ),
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Response, Failure> {
    pages::stream(api, Command::ThrottlePage, JsonLines::default()).await
}

/// Throttles: a limit that applies to throttled sources only applies to these for a while.
///
/// All that are asked for or none. Who is throttled by the limit already, and for at least as long,
/// stays so.
#[utoipa::path(
    post, path = "/v1/throttles", tag = "throttles", operation_id = "add_throttles",
    request_body = ThrottleRequest,
    responses(
        (status = 200, description = "The throttles, in force and on disk.", body = [ThrottleInfo]),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<ThrottleRequest>,
) -> Answer<Vec<ThrottleInfo>> {
    let by = peer.name().await;
    api.ask(|reply| Command::Throttle(request, by, reply)).await
}

/// Ends throttles.
///
/// All that are named or none.
#[utoipa::path(
    delete, path = "/v1/throttles", tag = "throttles", operation_id = "remove_throttles",
    request_body = UnthrottleRequest,
    responses(
        (status = 200, description = "The throttles that were ended.", body = [ThrottleInfo]),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<UnthrottleRequest>,
) -> Answer<Vec<ThrottleInfo>> {
    let by = peer.name().await;
    api.ask(|reply| Command::Unthrottle(request, by, reply))
        .await
}
