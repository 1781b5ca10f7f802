//! Requests that the daemon makes itself: one way to be a client of HTTP, with bounds.
//!
//! TLS is rustls with *ring*; whom it believes are the host's certificate authorities and, if a
//! configuration says so, those of a file. Nothing of the environment changes where requests go,
//! and no answer sends them elsewhere: a redirect is an answer like any other.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use reqwest::{Certificate, Client, Response, redirect};

/// How long a connection may take to be there, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// The largest file of certificates that is read, in bytes.
const MAX_CERTIFICATES: u64 = 4 << 20;

/// What a client is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long a request may take, from the connection to the end of the answer.
    pub timeout: Duration,
    /// Whether it speaks TLS. One that does not works also where there are no authorities to believe.
    pub tls: bool,
    /// A file with certificates in PEM: authorities to believe besides those of the host.
    pub ca_file: Option<PathBuf>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The file with certificates cannot be read.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds none.
    #[error(
        "{} holds no certificate: write the authority's there, from `-----BEGIN CERTIFICATE-----` on",
        path.display()
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// A client that says it is `abuser/VERSION`. It keeps connections for further requests.
///
/// # Errors
///
/// See [`OutboundError`].
pub fn client(options: &ClientOptions) -> Result<Client, OutboundError> {
    static PROVIDER: Once = Once::new();
    // Whoever else has installed one has installed it for the whole process.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut builder = Client::builder()
        .user_agent(concat!("abuser/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT.min(options.timeout))
        .timeout(options.timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy();
    if let Some(path) = &options.ca_file {
        builder = builder.tls_certs_merge(certificates(path)?);
    } else if !options.tls {
        // The host's authorities are not even looked for.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|error| OutboundError::Tls(explain(&error)))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, OutboundError> {
    let none = || OutboundError::NoCertificate { path: path.into() };
    let failed = |source| OutboundError::Read {
        path: path.into(),
        source,
    };
    let pem = crate::files::read_bounded(path, MAX_CERTIFICATES).map_err(failed)?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| none())?;
    if certificates.is_empty() {
        return Err(none());
    }
    Ok(certificates)
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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn options() -> ClientOptions {
        ClientOptions {
            timeout: Duration::from_secs(10),
            tls: false,
            ca_file: None,
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
    fn a_file_without_certificates_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let with_file = ClientOptions {
            ca_file: Some(path.clone()),
            ..options()
        };
        let error = client(&with_file).unwrap_err();
        assert!(matches!(error, OutboundError::Read { .. }), "{error}");
        std::fs::write(&path, "no certificate").unwrap();
        let error = client(&with_file).unwrap_err();
        assert!(error.to_string().contains("ca.pem holds no"), "{error}");
    }
}
