//! Logs and detectors.

use axum::{Json, extract::State};

use super::super::{Api, answer::Answer};
use crate::api::{openapi::refusals, types::Detection};

/// Logs that are read, and what detectors make of them.
#[utoipa::path(
    get, path = "/v1/detection", tag = "detection", operation_id = "show_detection",
    responses(
        (status = 200, description = "As it was a second ago at most.", body = Detection),
        refusals::Any,
    ),
)]
pub(super) async fn show(State(api): State<Api>) -> Answer<Detection> {
    Ok(Json(api.detection.status()))
}
