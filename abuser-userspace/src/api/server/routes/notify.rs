//! Who is notified of events.

use axum::{Json, extract::State};

use super::super::{
    Api,
    answer::{Answer, JsonBody},
};
use crate::{
    api::{
        openapi::refusals,
        types::{NotifyTest, NotifyTestRequest},
    },
    daemon::engine::EngineError,
};

/// Tells a `[[notify]]` of a sample event, at once, and says what came of it.
#[utoipa::path(
    post, path = "/v1/notify/test", tag = "notify", operation_id = "test_notify",
    request_body = NotifyTestRequest,
    responses(
        (status = 200, description = "What came of it.", body = NotifyTest),
        refusals::Missing, refusals::Write, refusals::Body, refusals::Any,
    ),
)]
pub(super) async fn test(
    State(api): State<Api>,
    JsonBody(request): JsonBody<NotifyTestRequest>,
) -> Answer<NotifyTest> {
    let tested = api.notify.test(&request.name).await;
    Ok(Json(tested.map_err(EngineError::NotFound)?))
}
