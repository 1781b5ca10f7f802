//! How long requests take, by what is asked for.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};

use super::Api;

/// Takes note of a request when there is the head of its answer.
pub(super) async fn time(State(api): State<Api>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    // What is asked for is anything; what it is matched by is known.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    api.latencies.answered(
        method.as_str(),
        route.as_ref().map(MatchedPath::as_str),
        response.status().as_u16(),
        begun.elapsed(),
    );
    response
}
