//! How large, how long and how many: what keeps a client from taking more than its share.
//!
//! Local users who may change something, those who may only read, and whoever comes over TCP each
//! have a share of their own. So nobody who may only read keeps root from the daemon, and nobody
//! without a token does either.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};
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

/// How much of an answer is sent at once, in bytes.
const PIECE: usize = 64 << 10;

/// Connections at once, in each share.
const CONNECTIONS: usize = 256;
/// Streams of events at once, in each share.
const STREAMS: usize = 64;
/// Requests at once of those who may change something; more wait.
const REQUESTS: usize = 32;
/// Requests at once of those who may only read: an answer can have tens of megabytes, and work that
/// anybody can ask for is not to take the processor from enforcement.
const READ_ONLY_REQUESTS: usize = 4;

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
        // Whoever hangs up leaves work behind, which counts until it is done: half a reload would
        // be worse, and a status looks through tables that have millions of entries.
        let work = async move { until_sent(next.run(request).await, held) };
        tokio::spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request to the API failed");
            let error = "the daemon made a mistake; its log says which";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
        })
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
        Body::new(Holding {
            body,
            rest: Bytes::new(),
            _held: held,
        })
    })
}

/// A body that holds a place as long as not nearly all of it is sent. It comes in pieces, because
/// what is taken from it is out of its sight, and may be in memory as long as its reader likes.
struct Holding {
    body: Body,
    /// What is left of the frame that came last.
    rest: Bytes,
    _held: OwnedSemaphorePermit,
}

impl HttpBody for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn pieces(body: Body) -> (Vec<usize>, Option<u64>, usize) {
        let requests = Arc::new(Semaphore::new(1));
        let held = room(&requests).unwrap();
        let mut body = until_sent(Response::new(body), held).into_body();
        let size = body.size_hint().exact();
        let mut lengths = Vec::new();
        while let Some(frame) = body.frame().await {
            assert_eq!(requests.available_permits(), 0);
            lengths.push(frame.unwrap().into_data().unwrap().len());
        }
        drop(body);
        (lengths, size, requests.available_permits())
    }

    #[tokio::test]
    async fn an_answer_holds_its_place_until_its_last_piece_is_taken() {
        let body = vec![7; 2 * PIECE + 1];
        let (lengths, size, free) = pieces(body.into()).await;
        assert_eq!(lengths, [PIECE, PIECE, 1]);
        assert_eq!((size, free), (u64::try_from(2 * PIECE + 1).ok(), 1));
        assert_eq!(pieces(Body::empty()).await, (vec![], Some(0), 1));
    }
}
