//! The allow list: who is never dropped.

use axum::{Extension, extract::State};

use super::super::{
    Api,
    answer::{Answer, JsonBody},
    peer::Peer,
};
use crate::{
    api::{
        openapi::refusals,
        types::{AllowInfo, AllowRequest, RemoveRequest},
    },
    daemon::engine::Command,
};

/// All entries of the allow list.
#[utoipa::path(
    get, path = "/v1/allow", tag = "allow", operation_id = "list_allow_entries",
    responses(
        (status = 200, description = "Those of the configuration and automatic ones included.", body = [AllowInfo]),
        refusals::Any,
    ),
)]
pub(super) async fn list(State(api): State<Api>) -> Answer<Vec<AllowInfo>> {
    api.ask(Command::AllowList).await
}

/// Allows, whatever limits and bans say.
///
/// All that are asked for or none.
#[utoipa::path(
    post, path = "/v1/allow", tag = "allow", operation_id = "add_allow_entries",
    request_body = AllowRequest,
    responses(
        (status = 200, description = "The entries, in force and on disk.", body = [AllowInfo]),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<AllowRequest>,
) -> Answer<Vec<AllowInfo>> {
    let by = peer.name().await;
    api.ask(|reply| Command::Allow(request, by, reply)).await
}

/// Removes entries that were made by command.
///
/// All that are named or none; `all` is for bans only.
#[utoipa::path(
    delete, path = "/v1/allow", tag = "allow", operation_id = "remove_allow_entries",
    request_body = RemoveRequest,
    responses(
        (status = 200, description = "The entries that were removed.", body = [AllowInfo]),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    JsonBody(request): JsonBody<RemoveRequest>,
) -> Answer<Vec<AllowInfo>> {
    api.ask(|reply| Command::Disallow(request, reply)).await
}
