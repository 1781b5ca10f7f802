//! Who asks what: a function for each request, with its description.
//!
//! The router and the document of them are made of the same list, so a request that is not
//! described cannot be made.

mod allow;
mod bans;
mod daemon;
mod detection;
pub(super) mod events;
mod fleet;
mod metrics;
mod notify;
mod offences;
mod throttles;

use axum::middleware::from_fn;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, bounds};
use crate::api::openapi;

/// All requests there are.
pub(in crate::api) fn all() -> OpenApiRouter<Api> {
    // Each has an end, so that their number and time can be bounded.
    let answers = OpenApiRouter::new()
        .routes(routes!(daemon::status))
        .routes(routes!(daemon::limits))
        .routes(routes!(daemon::top))
        .routes(routes!(daemon::explain))
        .routes(routes!(daemon::observe))
        .routes(routes!(daemon::reload))
        .routes(routes!(daemon::confirm))
        .routes(routes!(daemon::detach))
        .routes(routes!(daemon::document))
        .routes(routes!(bans::list, bans::add, bans::remove))
        .routes(routes!(bans::covering))
        .routes(routes!(bans::latest))
        .routes(routes!(bans::import))
        .routes(routes!(bans::export))
        .routes(routes!(offences::report))
        .routes(routes!(detection::show))
        .routes(routes!(metrics::show))
        .routes(routes!(notify::test))
        .routes(routes!(allow::list, allow::add, allow::remove))
        .routes(routes!(fleet::show))
        .routes(routes!(fleet::init))
        .routes(routes!(fleet::revoke))
        .routes(routes!(throttles::list, throttles::add, throttles::remove))
        .route_layer(from_fn(bounds::bound_answers));
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(answers)
        .routes(routes!(events::follow))
}

/// What whoever may do nothing else can ask for.
pub(in crate::api) fn metrics_alone() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(metrics::show))
        .route_layer(from_fn(bounds::bound_answers))
}
