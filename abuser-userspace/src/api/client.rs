//! The socket's connecting end: what the command line talks through.

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, client::conn::http1::SendRequest, header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{
    is_too_long,
    types::{ApiError, EventFilter, EventRecord, RemoveRequest},
};

/// The largest answer that is read, in bytes; a full ban table takes a tenth of it.
const MAX_ANSWER: usize = 512 << 20;

/// How long the daemon may take to answer; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no abuser runs here: {path} {problem}; start it with `sudo abuser run -i INTERFACE`, or name its socket with --socket"
    )]
    NoDaemon {
        /// The socket.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The socket may not be opened.
    #[error("not permitted to talk to abuser at {path}; use sudo, or join the group `abuser`")]
    NotPermitted {
        /// The socket.
        path: String,
    },
    /// The socket could not be used.
    #[error("cannot talk to abuser at {path}: {source}")]
    Io {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("the conversation with abuser broke off: {0}")]
    Broken(String),
    /// It takes no connections.
    #[error(
        "abuser at {path} takes no connections: so many wait that there is no room for one more; it is busy, or \
         stopped: look at its log, or restart it"
    )]
    Full {
        /// The socket.
        path: String,
    },
    /// The daemon does not answer.
    #[error("abuser does not answer within {0:?}; look at its log, or restart it")]
    Silent(Duration),
    /// The daemon said no.
    #[error("{error}")]
    Refused {
        /// Whether it is the request, or what it relies on, that is wrong.
        is_senseless: bool,
        /// Why.
        error: String,
    },
}

impl ClientError {
    fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection to the daemon.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the daemon's socket.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).await.map_err(|source| {
            let problem = match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "is not there",
                // The kernel refuses a connection to any file.
                io::ErrorKind::ConnectionRefused if !is_socket(path) => "is not a socket",
                io::ErrorKind::ConnectionRefused => "is a socket that nobody listens on",
                io::ErrorKind::WouldBlock => {
                    return ClientError::Full {
                        path: path.display().to_string(),
                    };
                }
                _ if is_too_long(path) => "is longer than the 107 bytes a socket's path can have",
                io::ErrorKind::PermissionDenied => {
                    return ClientError::NotPermitted {
                        path: path.display().to_string(),
                    };
                }
                _ => {
                    return ClientError::Io {
                        path: path.display().to_string(),
                        source,
                    };
                }
            };
            ClientError::NoDaemon {
                path: path.display().to_string(),
                problem,
            }
        })?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::broken)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// `GET`s a resource.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// `POST`s a request.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::broken)?;
        self.exchange(Method::POST, path, body.into()).await
    }

    /// `DELETE`s what a request names.
    pub async fn delete<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::broken)?;
        self.exchange(Method::DELETE, path, body.into()).await
    }

    /// Follows the events.
    pub async fn events(self, filter: &EventFilter) -> Result<Lines, ClientError> {
        let query = serde_urlencoded::to_string(filter).map_err(ClientError::broken)?;
        let path = format!("/v1/events?{query}");
        let lines = self.stream(Method::GET, &path, Bytes::new()).await?;
        // Where nothing happens there is nothing to tell.
        Ok(Lines {
            patience: None,
            ..lines
        })
    }

    /// `GET`s something that comes bit by bit.
    pub async fn read(self, path: &str) -> Result<Lines, ClientError> {
        self.stream(Method::GET, path, Bytes::new()).await
    }

    /// Removes all bans; the answer comes bit by bit.
    pub async fn remove_all_bans(self) -> Result<Lines, ClientError> {
        let request = RemoveRequest {
            sources: Vec::new(),
            all: true,
        };
        let body = serde_json::to_vec(&request).map_err(ClientError::broken)?;
        self.stream(Method::DELETE, "/v1/bans", body.into()).await
    }

    async fn stream(
        mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Lines, ClientError> {
        let response = self.send(method, path, body).await?;
        Ok(Lines {
            body: response.into_body(),
            patience: Some(PATIENCE),
            pending: BytesMut::new(),
            _connection: self,
        })
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body).await?;
        let answer = read(response).await?;
        serde_json::from_slice(&answer).map_err(ClientError::broken)
    }

    /// Sends a request; an answer that is an error becomes one.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "abuser")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(ClientError::broken)?;
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request))
            .await
            .map_err(|_| ClientError::Silent(PATIENCE))?
            .map_err(ClientError::broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = read(response).await?;
        Err(ClientError::Refused {
            is_senseless: status == StatusCode::BAD_REQUEST,
            error: serde_json::from_slice(&answer).map_or_else(
                |_| format!("abuser answered {status}"),
                |ApiError { error }| error,
            ),
        })
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

async fn read(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let mut body = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(part) = next_part(&mut body, Some(PATIENCE)).await? {
        if answer.len() + part.len() > MAX_ANSWER {
            return Err(ClientError::broken("the answer is too long"));
        }
        answer.extend_from_slice(&part);
    }
    Ok(answer.freeze())
}

/// The next part of an answer as it comes, which may take so long; `None` at the end.
async fn next_part(
    body: &mut Incoming,
    patience: Option<Duration>,
) -> Result<Option<Bytes>, ClientError> {
    loop {
        let frame = match patience {
            Some(patience) => tokio::time::timeout(patience, body.frame())
                .await
                .map_err(|_| ClientError::Silent(patience))?,
            None => body.frame().await,
        };
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(ClientError::broken(error)),
            None => return Ok(None),
        }
    }
}

/// An answer that comes bit by bit.
pub struct Lines {
    body: Incoming,
    /// How long the next part may take.
    patience: Option<Duration>,
    pending: BytesMut,
    _connection: Client,
}

impl Lines {
    /// The next part as it comes; `None` at the end.
    pub async fn next_part(&mut self) -> Result<Option<Bytes>, ClientError> {
        next_part(&mut self.body, self.patience).await
    }

    /// The next line without its end; `None` at the end.
    pub async fn next_line(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(end + 1);
                let line = str::from_utf8(&line).map_err(ClientError::broken)?;
                return Ok(Some(line.trim_end().to_owned()));
            }
            match self.next_part().await? {
                Some(data) => self.pending.extend_from_slice(&data),
                None => return Ok(None),
            }
        }
    }

    /// The next event with the line it came as; `None` when the daemon stops.
    pub async fn next_event(&mut self) -> Result<Option<(EventRecord, String)>, ClientError> {
        let Some(line) = self.next_line().await? else {
            return Ok(None);
        };
        let event = serde_json::from_str(&line).map_err(ClientError::broken)?;
        Ok(Some((event, line)))
    }

    /// The next element of an array that has one a line; `None` at the end.
    pub async fn next_element<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        while let Some(line) = self.next_line().await? {
            let line = line.strip_suffix(',').unwrap_or(&line);
            if !matches!(line, "[" | "]" | "[]" | "") {
                return serde_json::from_str(line).map_err(ClientError::broken);
            }
        }
        Ok(None)
    }
}
