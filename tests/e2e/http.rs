//! HTTP by hand, for requests that no client would send.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::Value;
use testkit::Daemon;

use crate::support::{PATIENCE, parse};

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The error, which must have some words.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let error = parse(&self.body)["error"].as_str().map(str::to_owned);
        let error = error.unwrap_or_else(|| panic!("{} {}", self.status, self.body));
        assert!(error.len() > 5, "{error}");
        error
    }

    /// Asserts a status, and that the error has these words.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, phrases: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.head, self.body);
        let error = self.error();
        for phrase in phrases {
            assert!(error.contains(phrase), "no {phrase:?} in {error:?}");
        }
    }

    /// The body, which must be JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}{}", self.head, self.body);
        parse(&self.body)
    }
}

/// Connects to the daemon's socket.
pub(crate) fn connect(daemon: &Daemon) -> UnixStream {
    connect_for(daemon, PATIENCE)
}

/// [`connect`] for an answer that may take this long.
pub(crate) fn connect_for(daemon: &Daemon, patience: Duration) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("connecting to the daemon");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    stream.set_write_timeout(Some(patience)).expect("a timeout");
    stream
}

/// Connects over TCP, from where the caller's thread is.
pub(crate) fn connect_tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connecting to the daemon");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends bytes and reads until the other end closes.
#[track_caller]
pub(crate) fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // An answer may come before all was sent.
    let _early = stream.write_all(request);
    read(stream)
}

/// Reads an answer until the other end closes.
#[track_caller]
pub(crate) fn read(mut stream: impl Read) -> Answer {
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("no answer but {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// A request with `headers`, each on a line, after which the other end is to close.
pub(crate) fn message(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: abuser\r\nconnection: close\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request over the socket.
#[track_caller]
pub(crate) fn request(daemon: &Daemon, method: &str, path: &str, body: &[u8]) -> Answer {
    exchange(connect(daemon), &message(method, path, "", body))
}
