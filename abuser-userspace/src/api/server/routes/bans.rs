//! Bans.

use axum::{Extension, extract::State};

use super::super::{
    Api,
    answer::{Address, Answer, JsonBody},
    peer::Peer,
};
use crate::{
    api::{
        openapi::refusals,
        types::{self, BanInfo, BanRequest, RemoveRequest},
    },
    daemon::engine::Command,
};

/// All bans in force.
#[utoipa::path(
    get, path = "/v1/bans", tag = "bans", operation_id = "list_bans",
    responses(
        (status = 200, description = "By their number.", body = [BanInfo]),
        refusals::Any,
    ),
)]
pub(super) async fn list(State(api): State<Api>) -> Answer<Vec<BanInfo>> {
    api.ask(Command::Bans).await
}

/// Bans that hold for an address.
#[utoipa::path(
    get, path = "/v1/bans/covering/{address}", tag = "bans", operation_id = "find_bans",
    params(("address" = types::Address, Path, description = "Whom they ban.")),
    responses(
        (status = 200, description = "The longest prefix first; none if it is not banned.", body = [BanInfo]),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn covering(
    State(api): State<Api>,
    Address(address): Address,
) -> Answer<Vec<BanInfo>> {
    api.ask(|reply| Command::Covering(address, reply)).await
}

/// Bans, at once, established connections included.
///
/// All that are asked for or none. Who is banned already is banned anew, for the new time.
#[utoipa::path(
    post, path = "/v1/bans", tag = "bans", operation_id = "add_bans",
    request_body = BanRequest,
    responses(
        (status = 200, description = "The bans, in force and on disk.", body = [BanInfo]),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<BanRequest>,
) -> Answer<Vec<BanInfo>> {
    let by = peer.name().await;
    api.ask(|reply| Command::Ban(request, by, reply)).await
}

/// Lifts bans.
///
/// All that are named or none.
#[utoipa::path(
    delete, path = "/v1/bans", tag = "bans", operation_id = "remove_bans",
    request_body = RemoveRequest,
    responses(
        (status = 200, description = "The bans that were lifted.", body = [BanInfo]),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<RemoveRequest>,
) -> Answer<Vec<BanInfo>> {
    let by = peer.name().await;
    api.ask(|reply| Command::Unban(request, by, reply)).await
}
