//! What goes to the engine, and what comes back: answers and errors of one form.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{
    Api,
    bounds::{BODY_TIME, MAX_BODY},
};
use crate::{
    api::types::{ApiError, SecurityStatus, Status},
    daemon::engine::{self, Command, EngineError, Reply},
};

/// What a request comes to.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let error = error.into();
        Self { status, error }
    }

    /// The daemon has no engine any more.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping")
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let status = match error {
            EngineError::Refused(_) => StatusCode::BAD_REQUEST,
            EngineError::NotFound(_) => StatusCode::NOT_FOUND,
            EngineError::Dataplane(_) | EngineError::Partly { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, error } = self;
        (status, Json(ApiError { error })).into_response()
    }
}

impl Api {
    /// Sends a command and waits for its answer.
    pub(super) async fn ask<T>(self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(Failure::stopping());
        }
        let answer = answer.await.map_err(|_| Failure::stopping())?;
        Ok(Json(answer?))
    }

    /// The same, patiently: the engine answers at once that somebody else's lock is in the way.
    pub(super) async fn ask_again<T>(self, command: impl FnMut(Reply<T>) -> Command) -> Answer<T> {
        let answer = engine::ask_again(&self.commands, command).await;
        Ok(Json(answer.ok_or_else(Failure::stopping)??))
    }

    /// What the engine tells of the daemon, with what those tell who go on beside it.
    pub(super) fn complete(&self, status: Status) -> Status {
        Status {
            crowdsec: self.crowdsec.status(),
            fleet: self.fleet.status(),
            notify: self.notify.status(),
            security: SecurityStatus::clone(&self.security),
            ..status
        }
    }
}

/// What a query says, if it makes sense.
pub(super) fn query<T>(read: Result<Query<T>, QueryRejection>) -> Result<Query<T>, Failure> {
    read.map_err(|refused| Failure::new(refused.status(), refused.body_text()))
}

/// A number of a query that is from 1 to `most`; `usual` if it was not said.
pub(super) fn bounded(
    name: &str,
    value: Option<usize>,
    usual: usize,
    most: usize,
) -> Result<usize, Failure> {
    match value.unwrap_or(usual) {
        number if (1..=most).contains(&number) => Ok(number),
        number => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            format!("{name} is {number}; ask for 1 to {most}"),
        )),
    }
}

/// A JSON body that came in time.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = Json::<T>::from_request(request, state);
        match tokio::time::timeout(BODY_TIME, read).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(refuse_body(&rejection)),
            Err(_) => Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not come within {BODY_TIME:?}; send it faster, or in parts"),
            )),
        }
    }
}

fn refuse_body(rejection: &JsonRejection) -> Failure {
    let status = rejection.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let error = format!("the body is larger than {MAX_BODY} bytes; send it in parts");
        return Failure::new(status, error);
    }
    let error = match rejection {
        JsonRejection::MissingJsonContentType(_) => {
            "say that the body is JSON: send `Content-Type: application/json`".to_owned()
        }
        JsonRejection::JsonSyntaxError(error) => {
            format!("the body is not JSON: {}", innermost(error))
        }
        JsonRejection::JsonDataError(error) => format!(
            "the body is not as /v1/openapi.json has it: {}",
            innermost(error)
        ),
        other => other.body_text(),
    };
    Failure::new(status, error)
}

/// What an error is about in the end, without what libraries say around it.
fn innermost(error: &dyn std::error::Error) -> String {
    let last = std::iter::successors(Some(error), |error| error.source()).last();
    last.map_or_else(String::new, ToString::to_string)
}

/// The IP address that a path ends with.
pub(super) struct Address(pub(super) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
        text.parse().map(Self).map_err(|_| {
            let error = format!("{text:?} is not an IP address");
            Failure::new(StatusCode::BAD_REQUEST, error)
        })
    }
}
