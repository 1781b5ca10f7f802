//! Bans.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::super::{
    Api,
    answer::{self, Address, Answer, Failure, JsonBody},
    latest,
    pages::{self, Exported, JsonLines},
    peer::Peer,
};
use crate::{
    api::{
        openapi::refusals,
        types::{
            self, BanInfo, BanRequest, BansQuery, ExportQuery, ImportRequest, Imported, LatestBans,
            LatestQuery, RemoveRequest,
        },
    },
    daemon::engine::Command,
    exchange::Format,
};

/// Bans of one answer at most that is not all of them.
const MAX_BANS: usize = 1000;

/// All bans in force, or some of them.
#[utoipa::path(
    get, path = "/v1/bans", tag = "bans", operation_id = "list_bans",
    params(BansQuery),
    responses(
        (status = 200, description = "By their sources, an element of the array a line.", body = [BanInfo]),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<BansQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(BansQuery { limit, order }) = answer::query(query)?;
    if limit.is_none() && order.is_none() {
        return pages::stream(api, Command::BanPage, JsonLines::default()).await;
    }
    let count = answer::bounded("limit", limit, MAX_BANS, MAX_BANS)?;
    let order = order.unwrap_or_default();
    let command = move |_, reply| Command::SomeBans(order, count, reply);
    pages::stream(api, command, JsonLines::default()).await
}

/// The latest bans in force, or those of them that are looked for.
#[utoipa::path(
    get, path = "/v1/bans/latest", tag = "bans", operation_id = "list_latest_bans",
    params(LatestQuery),
    responses(
        (status = 200, description = "The latest first.", body = LatestBans),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn latest(
    State(api): State<Api>,
    query: Result<Query<LatestQuery>, QueryRejection>,
) -> Answer<LatestBans> {
    let Query(query) = answer::query(query)?;
    latest::find(api, &query).await
}

/// All bans in force, in a format that other programs read.
#[utoipa::path(
    get, path = "/v1/bans/export", tag = "bans", operation_id = "export_bans",
    params(ExportQuery),
    responses(
        (status = 200, description = "By their sources.", body = String, content_type = "text/plain"),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn export(
    State(api): State<Api>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(ExportQuery { format }) = answer::query(query)?;
    let senseless = |error: String| Failure::new(StatusCode::BAD_REQUEST, error);
    let format: Format = format
        .parse()
        .map_err(|error: crate::exchange::FormatError| senseless(error.to_string()))?;
    let listing = Exported::new(format).map_err(|error| senseless(error.to_string()))?;
    pages::stream(api, Command::BanPage, listing).await
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

/// Bans by the thousand, each for itself.
///
/// What cannot be banned is refused and told; the rest is banned. Who is banned already, and for at
/// least as long, stays so.
#[utoipa::path(
    post, path = "/v1/bans/import", tag = "bans", operation_id = "import_bans",
    request_body = ImportRequest,
    responses(
        (status = 200, description = "What became of them, in force and on disk.", body = Imported),
        refusals::Senseless, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn import(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    JsonBody(request): JsonBody<ImportRequest>,
) -> Answer<Imported> {
    let by = peer.name().await;
    api.ask(|reply| Command::Import(request, by, reply)).await
}

/// Lifts bans.
///
/// All that are named or none; or all there are, but for what block lists name.
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
) -> Result<Response, Failure> {
    let by = peer.name().await;
    if request.all && request.sources.is_empty() {
        let command = move |after, reply| Command::UnbanPage(after, Arc::clone(&by), reply);
        return pages::stream(api, command, JsonLines::default()).await;
    }
    let removed: Json<Vec<BanInfo>> = api.ask(|reply| Command::Unban(request, by, reply)).await?;
    Ok(removed.into_response())
}
