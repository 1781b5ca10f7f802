//! What Prometheus scrapes.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};

use super::super::{Api, answer::Failure};
use crate::{
    api::openapi::refusals,
    daemon::engine::Command,
    metrics::{self, Format, Process, Readings},
};

/// Metrics, as Prometheus reads them.
///
/// In `OpenMetrics`, unless `Accept` would rather have `text/plain`, which is the older format.
/// docs/METRICS.md describes each.
#[utoipa::path(
    get, path = "/metrics", tag = "daemon", operation_id = "metrics",
    responses(
        (
            status = 200, description = "A sample a line.",
            content(
                (String = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
                (String = "text/plain; version=0.0.4; charset=utf-8"),
            ),
        ),
        refusals::Any,
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Failure> {
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|accept| accept.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    let Json(mut engine) = api.clone().ask(Command::Metrics).await?;
    engine.status = api.complete(engine.status);
    // The engine, which has this thread too, does not wait for it.
    let written = tokio::task::spawn_blocking(move || {
        let readings = Readings {
            engine,
            detection: api.detection.status(),
            process: Process::read(),
        };
        metrics::write(readings, &api.latencies, format).map_err(|error| error.to_string())
    });
    let written = written.await.map_err(|error| error.to_string()).flatten();
    let page = written.map_err(|error| {
        let error = format!("cannot write the metrics down: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], page))
}
