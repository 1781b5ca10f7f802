//! A local API as a bouncer asks it, and what it may answer.

use std::{
    io::{self, BufReader, Read},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header::HeaderMap};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

use super::wire::{Answer, Reading};
use crate::{
    config::{CrowdsecAddress, CrowdsecConfig},
    daemon::apart::apart,
    files::{self, SecretError},
    outbound::{self, Options, OutboundError},
};

/// How long an answer may say nothing. A local API gathers all decisions before it says anything.
const SILENCE: Duration = Duration::from_secs(60);
/// How long all decisions may take to come.
const WHOLE: Duration = Duration::from_secs(600);
/// How long any other request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest list of decisions, in bytes: room for four times as many as can be banned.
const MAX_DECISIONS_BYTES: u64 = 2 << 30;
/// The longest other answer, in bytes: room for a page of alerts, each with its evidence.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// How much of an answer that is an error is shown, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// The longest message of a local API that is shown, in characters.
const MAX_MESSAGE: usize = 200;
/// Parts of an answer that may wait to be read.
const PARTS: usize = 8;

/// Why a local API was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LapiError {
    /// There is no client.
    #[error(transparent)]
    Client(#[from] OutboundError),
    /// There is no key, or no password.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nobody answers, or not to the end.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It does not know the key or the password.
    #[error("{status}: {message}; {remedy}")]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// Its words.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It answers something else than success.
    #[error("{status}: {message}")]
    Status {
        /// What it answered.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// It answers nonsense.
    #[error("{0}")]
    Malformed(String),
}

impl LapiError {
    /// Whether it may be because of what was sent, rather than of who sent it, where to, or when.
    pub(super) fn is_about_what_was_sent(&self) -> bool {
        const BAD: [StatusCode; 3] = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        // A local API of old says so of all that it cannot take.
        let is = |status: &StatusCode| {
            BAD.contains(status) || *status == StatusCode::INTERNAL_SERVER_ERROR
        };
        matches!(self, Self::Status { status, .. } if is(status))
    }

    /// Whether it says that something is wrong there.
    pub(super) fn is_of_server(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.is_server_error())
    }
}

/// What to do if a bouncer is refused.
pub(super) const BOUNCER_REMEDY: &str = "is the key in [crowdsec] api_key_file one of `cscli bouncers list`? Make one \
                              with `cscli bouncers add`";

/// A local API, and who we are there as a bouncer.
#[derive(Debug, Clone)]
pub(super) struct Lapi {
    client: Client,
    base: Url,
    headers: HeaderMap,
}

impl Lapi {
    /// Reads the files that the configuration names; nothing is asked yet.
    pub(super) fn new(config: &CrowdsecConfig) -> Result<Self, LapiError> {
        let mut headers = HeaderMap::new();
        if let Some(path) = &config.api_key_file {
            let key = outbound::secret_header(&files::read_line(path)?)?;
            headers.insert("x-api-key", key);
        }
        let (base, unix_socket) = match &config.address {
            CrowdsecAddress::Url(url) => (url.clone(), None),
            CrowdsecAddress::Socket(path) => {
                let url = Url::parse("http://localhost/");
                let url = url.map_err(|error| LapiError::Malformed(error.to_string()))?;
                (url, Some(path.clone()))
            }
        };
        let client = outbound::client(&Options {
            timeout: None,
            plain: base.scheme() == "http",
            silence: Some(SILENCE),
            ca_file: config.ca_file.clone(),
            identity: config.identity.clone(),
            unix_socket,
        })?;
        Ok(Self {
            client,
            base,
            headers,
        })
    }

    /// The same local API without a bouncer's key.
    pub(super) fn anonymous(&self) -> Self {
        Self {
            headers: HeaderMap::new(),
            ..self.clone()
        }
    }

    /// Asks for decisions: for all, or for what has changed since the last time.
    pub(super) async fn decisions(&self, reading: Reading) -> Result<Answer, LapiError> {
        let mut query = reading.filter.query();
        query.extend([
            ("startup", reading.whole.to_string()),
            ("scopes", "ip,range".to_owned()),
            // Else it tells only of the longest decision about a source, and not that one has ended
            // while another holds.
            ("dedup", "false".to_owned()),
        ]);
        let request = self.request(Method::GET, "v1/decisions/stream")?;
        let response = send(request.query(&query), BOUNCER_REMEDY);
        let read = async { read_as_it_comes(response.await?, reading).await };
        match tokio::time::timeout(WHOLE, read).await {
            Ok(answer) => answer,
            Err(_) => Err(LapiError::Unreachable(format!(
                "it takes more than {} seconds",
                WHOLE.as_secs()
            ))),
        }
    }

    /// Tells how the bouncer is used; `false` if the local API is too old to be told.
    pub(super) async fn tell_usage(&self, usage: &impl Serialize) -> Result<bool, LapiError> {
        let request = self.request(Method::POST, "v1/usage-metrics")?;
        let response = send(request.timeout(TIMEOUT).json(usage), BOUNCER_REMEDY).await;
        match response {
            Ok(_) => Ok(true),
            Err(LapiError::Status {
                status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A request for what lies there below the base.
    pub(super) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, LapiError> {
        let url = self.base.join(path);
        let url = url.map_err(|error| LapiError::Malformed(error.to_string()))?;
        let request = self.client.request(method, url);
        Ok(request.headers(self.headers.clone()))
    }
}

/// Sends a request that is answered with JSON.
pub(super) async fn ask<T: DeserializeOwned + Send + 'static>(
    request: RequestBuilder,
    remedy: &'static str,
) -> Result<T, LapiError> {
    let response = send(request.timeout(TIMEOUT), remedy).await?;
    let body = outbound::body(response, MAX_ANSWER_BYTES).await;
    let body = body.map_err(LapiError::Unreachable)?;
    let parsed = apart(move || serde_json::from_slice(&body)).await;
    parsed.map_err(|error| LapiError::Malformed(format!("its answer makes no sense: {error}")))
}

/// Sends a request; an answer other than success is an error.
pub(super) async fn send(
    request: RequestBuilder,
    remedy: &'static str,
) -> Result<Response, LapiError> {
    let response = request.send().await;
    let response = response.map_err(|error| LapiError::Unreachable(outbound::causes(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = outbound::body(response, MAX_ERROR_BYTES).await;
    let message = message(status, &body.unwrap_or_default());
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => LapiError::Refused {
            status,
            message,
            remedy,
        },
        _ => LapiError::Status { status, message },
    })
}

/// What a local API says of its error.
fn message(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    if status.is_redirection() {
        return "it sends elsewhere, where no key is sent to; write the address it has into [crowdsec] url"
            .to_owned();
    }
    let message = serde_json::from_slice::<Message>(body).map(|body| body.message);
    let message = message.unwrap_or_else(|_| "it does not say why".to_owned());
    let message = message.chars().filter(|c| !c.is_control());
    message.take(MAX_MESSAGE).collect()
}

/// Reads decisions on another thread while they come.
async fn read_as_it_comes(mut response: Response, reading: Reading) -> Result<Answer, LapiError> {
    let (parts, received) = mpsc::channel(PARTS);
    let parsed = tokio::task::spawn_blocking(move || {
        let parts = Parts {
            received,
            part: Bytes::new(),
        };
        // One that is cut off there is no list.
        reading.read(BufReader::new(parts).take(MAX_DECISIONS_BYTES))
    });
    let mut broken = None;
    loop {
        let part = match response.chunk().await {
            Ok(Some(part)) => Ok(part),
            Ok(None) => break,
            Err(error) => {
                let error = outbound::causes(&error);
                broken = Some(error.clone());
                Err(io::Error::other(error))
            }
        };
        // Who reads has had enough if something is wrong.
        if parts.send(part).await.is_err() || broken.is_some() {
            break;
        }
    }
    drop(parts);
    let parsed = parsed.await.map_err(|error| error.to_string()).flatten();
    match (broken, parsed) {
        (Some(error), _) => Err(LapiError::Unreachable(error)),
        (None, parsed) => parsed.map_err(LapiError::Malformed),
    }
}

/// What has come of an answer.
struct Parts {
    received: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.received.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        if let Some(buffer) = buffer.get_mut(..length) {
            self.part.copy_to_slice(buffer);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_local_api_says_of_an_error_is_told_within_bounds() {
        let said = |body: &str| message(StatusCode::FORBIDDEN, body.as_bytes());
        assert_eq!(
            said("{\"message\":\"access forbidden\"}"),
            "access forbidden"
        );
        assert_eq!(said("<html>"), "it does not say why");
        let long = format!("{{\"message\":\"{}\"}}", "x\\n".repeat(500));
        assert_eq!(said(&long).chars().count(), MAX_MESSAGE);
        assert!(message(StatusCode::FOUND, b"").contains("[crowdsec] url"));
    }
}
