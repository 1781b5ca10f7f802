//! HTTP that the daemon itself asks for: one way to make a client, so that time-outs, trust and bounds are
//! the same whomever it talks to.
//!
//! A client follows no redirects and no proxies of the environment: where a secret goes is what the
//! configuration says, and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use reqwest::{Certificate, Client, Identity, Response, header::HeaderValue, redirect};

use crate::files::{self, SecretError};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// The largest file of certificates or with a key that is read, in bytes.
const MAX_PEM: u64 = 4 << 20;

/// What tells one client from another.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long a request may take from its beginning to the end of the answer; `None`: without bound, for
    /// answers that are read as they come.
    pub timeout: Option<Duration>,
    /// Whether it speaks no TLS: then it works also where there are no authorities to believe.
    pub plain: bool,
    /// How long an answer may say nothing.
    pub silence: Option<Duration>,
    /// A file with certificates (PEM) of whom to trust besides those whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What shows who we are: files with the certificates and with the key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The unix socket to connect to, whatever the address says.
    pub unix_socket: Option<PathBuf>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// A file cannot be read.
    #[error(
        "cannot read the certificates in {path}: {source}; name a file with certificates in PEM"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no certificates that can be used: {problem}; write them in PEM")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key is no secret.
    #[error("the key of the certificate: {0}")]
    Key(#[from] SecretError),
    /// All of it together.
    #[error("cannot make a client for HTTP: {0}")]
    Client(String),
}

/// A client that introduces itself as `abuser/VERSION`.
pub fn client(options: &Options) -> Result<Client, OutboundError> {
    install_crypto();
    let Options {
        timeout,
        plain,
        silence,
        ca_file,
        identity,
        unix_socket,
    } = options;
    let mut builder = Client::builder()
        .user_agent(user_agent())
        .connect_timeout(CONNECT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy();
    if let Some(timeout) = timeout {
        builder = builder.timeout(*timeout);
    }
    if let Some(silence) = silence {
        builder = builder.read_timeout(*silence);
    }
    if let Some(path) = ca_file {
        builder = builder.tls_certs_merge(certificates(path)?);
    } else if *plain {
        // The host's authorities are not even looked for.
        builder = builder.tls_certs_only([]);
    }
    if let Some((certificate, key)) = identity {
        builder = builder.identity(self::identity(certificate, key)?);
    }
    if let Some(path) = unix_socket {
        builder = builder.unix_socket(path.as_path());
    }
    builder
        .build()
        .map_err(|error| OutboundError::Client(causes(&error)))
}

/// How a client introduces itself: a name, one slash and a version, which `CrowdSec` insists on.
pub const fn user_agent() -> &'static str {
    concat!("abuser/", env!("CARGO_PKG_VERSION"))
}

/// A header's value that no log shows.
pub fn secret_header(value: &str) -> Result<HeaderValue, OutboundError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| OutboundError::Client("a secret does not fit into a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An answer's body, unless it has more bytes than `most`.
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > most => {
                return Err(format!("the answer has more than {most} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(causes(&error)),
        }
    }
}

/// An error with all that led to it: `reqwest` tells only what it was doing.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// What went wrong and why, without the address, which may be a secret itself.
pub fn explain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut texts: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // Some repeat what is below them.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    if texts.is_empty() {
        return "the request cannot be made".to_owned();
    }
    texts.join(": ")
}

/// The beginning of an answer's body, `most` bytes of it at most; what cannot be read is left out.
///
/// An answer without end costs no more than that, and none more time than the client's bound.
pub async fn read_start(mut response: Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most {
        let Ok(Some(piece)) = response.chunk().await else {
            break;
        };
        let wanted = piece.len().min(most - body.len());
        body.extend(piece.iter().take(wanted));
    }
    body
}

/// How long to leave somebody alone after so many failures in a row (one at least): a second, twice as long
/// each time, up to `longest`. Of that between half and all, as `chance` (from 0 to 1) says, so that those
/// who lost somebody at the same moment come back at different ones.
pub fn backoff(failures: u32, longest: Duration, chance: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let most = Duration::from_secs(doubled.into()).min(longest);
    most.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// Has TLS do its arithmetic with *ring*; to be called before anything connects.
pub fn install_crypto() {
    static PROVIDER: Once = Once::new();
    // Whoever else has installed one has installed it for the whole process.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, OutboundError> {
    let unfit = |problem: String| OutboundError::Unfit {
        path: path.to_owned(),
        problem,
    };
    let found =
        Certificate::from_pem_bundle(&read(path)?).map_err(|error| unfit(causes(&error)))?;
    if found.is_empty() {
        return Err(unfit("there is none in it".to_owned()));
    }
    Ok(found)
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, OutboundError> {
    let mut pem = read(certificate)?;
    pem.push(b'\n');
    pem.extend(files::read_private(key, MAX_PEM)?);
    Identity::from_pem(&pem).map_err(|error| OutboundError::Unfit {
        path: certificate.to_owned(),
        problem: causes(&error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, OutboundError> {
    files::read_bounded(path, MAX_PEM).map_err(|source| OutboundError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn options() -> Options {
        Options {
            timeout: Some(Duration::from_secs(10)),
            ..Options::default()
        }
    }

    /// A server that answers the first request with this, and what it was sent.
    fn answering(answer: &'static [u8]) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut bytes = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..count]);
            }
            // Whoever has read enough closes the connection.
            let _closed = stream.write_all(answer);
            String::from_utf8(request).unwrap()
        });
        (url, server)
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_the_client_says_who_it_is() {
        let answer = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        let (url, server) = answering(answer);
        let response = client(&options()).unwrap().post(url).send().await.unwrap();
        assert_eq!(response.status(), 307);
        let request = server.join().unwrap();
        assert!(request.contains(concat!("user-agent: abuser/", env!("CARGO_PKG_VERSION"))));
    }

    #[tokio::test]
    async fn of_an_answer_without_end_only_the_beginning_is_read() {
        let (url, server) = answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n89abcdef\r\n",
        );
        let response = client(&options()).unwrap().get(url).send().await.unwrap();
        assert_eq!(read_start(response, 10).await, b"0123456789");
        server.join().unwrap();
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_the_address() {
        let error = client(&options())
            .unwrap()
            .get("http://127.0.0.1:1/services/SECRET")
            .send()
            .await
            .unwrap_err();
        let told = explain(&error);
        assert!(told.contains("refused"), "{told}");
        assert!(!told.contains("SECRET"), "{told}");
    }

    #[test]
    fn files_that_hold_no_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let made = |path: &Path| {
            client(&Options {
                ca_file: Some(path.to_owned()),
                ..Options::default()
            })
            .err()
            .map(|error| error.to_string())
        };
        let error = made(&path).unwrap();
        assert!(
            error.contains("cannot read") && error.contains("ca.pem"),
            "{error}"
        );
        fs::write(&path, "nonsense").unwrap();
        let error = made(&path).unwrap();
        assert!(error.contains("holds no certificates"), "{error}");
        assert!(client(&Options::default()).is_ok());
    }

    #[test]
    fn crowdsec_can_read_who_we_are() {
        assert_eq!(user_agent().split('/').count(), 2);
    }
}
