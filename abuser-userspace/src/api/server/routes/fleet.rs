//! The fleet: how it is, and what takes more rights than a node has.

use axum::{Json, extract::State, http::StatusCode};

use super::super::{
    Api,
    answer::{Answer, Failure, JsonBody},
};
use crate::{
    api::{
        openapi::refusals,
        types::{self, FleetLoginRequest, FleetRevokeRequest, FleetRevoked, FleetStatus},
    },
    config::is_node_name,
    fleet::{AdminError, NO_FLEET},
};

/// The fleet as this node sees it.
#[utoipa::path(
    get, path = "/v1/fleet", tag = "fleet", operation_id = "fleet",
    responses(
        (status = 200, description = "How it is.", body = FleetStatus),
        refusals::Missing, refusals::Any,
    ),
)]
pub(super) async fn show(State(api): State<Api>) -> Answer<FleetStatus> {
    match api.fleet.status() {
        Some(status) => Ok(Json(status)),
        None => Err(Failure::new(StatusCode::NOT_FOUND, NO_FLEET)),
    }
}

/// Makes the bucket that all nodes share, if it is not there.
#[utoipa::path(
    post, path = "/v1/fleet/init", tag = "fleet", operation_id = "init_fleet",
    request_body = FleetLoginRequest,
    responses(
        (status = 200, description = "It is there.", body = inline(types::Null)),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn init(
    State(api): State<Api>,
    JsonBody(login): JsonBody<FleetLoginRequest>,
) -> Answer<()> {
    api.fleet.init(login).await?;
    Ok(Json(()))
}

/// Takes out all that a node has said: its bans and allow entries end everywhere.
///
/// A node that still may write says them again: take its credentials away before.
#[utoipa::path(
    post, path = "/v1/fleet/revoke", tag = "fleet", operation_id = "revoke_node",
    request_body = FleetRevokeRequest,
    responses(
        (status = 200, description = "What was taken out.", body = FleetRevoked),
        refusals::Senseless, refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    JsonBody(request): JsonBody<FleetRevokeRequest>,
) -> Answer<FleetRevoked> {
    let FleetRevokeRequest { node, login } = request;
    if !is_node_name(&node) {
        let error = AdminError::Senseless(format!("{node:?} is not the name of a node"));
        return Err(error.into());
    }
    Ok(Json(api.fleet.revoke(&node, login).await?))
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let status = match error {
            AdminError::Senseless(_) => StatusCode::BAD_REQUEST,
            AdminError::Missing(_) => StatusCode::NOT_FOUND,
        };
        Self::new(status, error.to_string())
    }
}
