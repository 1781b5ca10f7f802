//! The stream of events. It has no end, so its number is bounded instead of its time.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast;

use super::super::{
    Api,
    answer::{self, Failure},
    peer::Peer,
    stall::MayRest,
};
use crate::{
    api::{
        openapi::refusals,
        types::{EventFilter, EventKind, EventRecord},
    },
    daemon::clock,
};

/// Follows drops, bans and unbans.
///
/// An event a line, until either side hangs up. A reader that is too slow misses some, and is told
/// how many by an event of the kind `missed`, which every filter lets through.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "follow_events",
    params(EventFilter),
    responses(
        (
            status = 200, description = "NDJSON: an event a line, without end.",
            body = EventRecord, content_type = "application/x-ndjson",
        ),
        refusals::Senseless, refusals::Any,
    ),
)]
pub(super) async fn follow(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Extension(may_rest): Extension<MayRest>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(filter) = answer::query(filter)?;
    let room = peer.share().stream()?;
    let events = api.events.upgrade().ok_or_else(Failure::stopping)?;
    let receiver = events.subscribe();
    drop(events);
    may_rest.allow();
    let lines = stream::unfold((receiver, filter, room), |state| async move {
        let (mut receiver, filter, room) = state;
        let line = next_line(&mut receiver, &filter).await?;
        Some((Ok::<_, Infallible>(line), (receiver, filter, room)))
    });
    let content = (header::CONTENT_TYPE, "application/x-ndjson");
    Ok(([content], Body::from_stream(lines)).into_response())
}

/// The next wanted event as a line; `None` when the daemon stops.
async fn next_line(
    receiver: &mut broadcast::Receiver<Arc<EventRecord>>,
    filter: &EventFilter,
) -> Option<Bytes> {
    loop {
        let event = match receiver.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(count)) => Arc::new(missed(count)),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        if filter.matches(&event) {
            let mut line = serde_json::to_vec(&*event).ok()?;
            line.push(b'\n');
            return Some(line.into());
        }
    }
}

/// The event that stands for `count` events which a slow reader missed.
pub fn missed(count: u64) -> EventRecord {
    EventRecord {
        drops: Some(count),
        reason: Some("this reader was too slow".to_owned()),
        ..EventRecord::new(EventKind::Missed, clock::now())
    }
}
