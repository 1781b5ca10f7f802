//! How large, how long and how many: what keeps a client from taking more than its share.
//!
//! Local users who may change something, those who may only read, and whoever comes over TCP each
//! have a share of their own. So nobody who may only read keeps root from the daemon, and nobody
//! without a token does either.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{answer::Failure, peer::Peer};

/// The largest request body, in bytes: some hundred thousand addresses.
pub(super) const MAX_BODY: usize = 8 << 20;
/// The largest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// How long a connection may take until the head of its next request is there.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a body may take.
pub(super) const BODY_TIME: Duration = Duration::from_secs(15);
/// How long an answer may take from the head of the request on; less than the patience of
/// [`crate::api::client`], so that people read why.
const ANSWER_TIME: Duration = Duration::from_secs(25);
/// How long a reader may take none of an answer. Readers of events may rest.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);

/// Connections at once, in each share.
const CONNECTIONS: usize = 256;
/// Streams of events at once, in each share.
const STREAMS: usize = 64;
/// Requests at once of those who may change something; more wait.
const REQUESTS: usize = 64;
/// Requests at once of those who may only read: an answer can have tens of megabytes.
const READ_ONLY_REQUESTS: usize = 8;

/// What one kind of peers may hold at once.
#[derive(Debug, Clone)]
pub(super) struct Share {
    connections: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Share {
    /// For those who may change something.
    pub(super) fn for_writers() -> Self {
        Self::new(REQUESTS)
    }

    /// For those who may only read.
    pub(super) fn for_readers() -> Self {
        Self::new(READ_ONLY_REQUESTS)
    }

    fn new(requests: usize) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            requests: Arc::new(Semaphore::new(requests)),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// Room for a connection, until it is dropped.
    pub(super) fn connection(&self) -> Result<OwnedSemaphorePermit, Failure> {
        room(&self.connections).ok_or_else(|| {
            busy(format!(
                "there are {CONNECTIONS} connections already; close some, or try again in a while"
            ))
        })
    }

    /// Room for a stream of events, until it is dropped.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        room(&self.streams).ok_or_else(|| {
            busy(format!(
                "{STREAMS} readers follow the events already; end one of them"
            ))
        })
    }
}

fn room(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_owned().ok()
}

fn busy(error: String) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// Bounds how many requests are answered at once, from their head to the last byte of the answer,
/// and how long each may take.
pub(super) async fn bound_answers(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let requests = Arc::clone(&peer.share().requests);
    let answer = async {
        let Ok(held) = requests.acquire_owned().await else {
            return Failure::stopping().into_response();
        };
        until_sent(next.run(request).await, held)
    };
    tokio::time::timeout(ANSWER_TIME, answer)
        .await
        .unwrap_or_else(|_| {
            busy(format!(
                "no answer within {ANSWER_TIME:?}; what was asked for may be done all the same"
            ))
            .into_response()
        })
}

/// Holds on to `held` until the last of the body is sent.
fn until_sent(response: Response, held: OwnedSemaphorePermit) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &held;
            frame
        }))
    })
}
