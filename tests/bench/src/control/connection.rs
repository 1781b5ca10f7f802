//! A connection to the daemon's socket that costs next to nothing, so that a figure is the
//! daemon's and not the client's: requests are bytes, and of an answer only the status is read.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// How long an answer may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    answers: BufReader<UnixStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        let timeout = stream.set_read_timeout(Some(PATIENCE));
        timeout.context("set a timeout for answers")?;
        Ok(Self {
            answers: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Asks to ban an address for some seconds, or for good.
    pub(crate) fn ask_to_ban(&mut self, address: Ipv4Addr, seconds: Option<u64>) -> Result<()> {
        self.ask_to_ban_all(&[address], seconds)
    }

    /// [`Connection::ask_to_ban`] for several at once.
    pub(crate) fn ask_to_ban_all(
        &mut self,
        addresses: &[Ipv4Addr],
        seconds: Option<u64>,
    ) -> Result<()> {
        let sources = addresses.iter().map(|address| format!(r#""{address}/32""#));
        let sources = sources.collect::<Vec<_>>().join(",");
        let duration = seconds.map_or_else(
            || r#""permanent""#.to_owned(),
            |seconds| format!(r#"{{"seconds":{seconds}}}"#),
        );
        self.ask(
            "POST",
            &format!(r#"{{"sources":[{sources}],"duration":{duration}}}"#),
        )
    }

    /// Asks to end the ban of an address.
    pub(crate) fn ask_to_unban(&mut self, address: Ipv4Addr) -> Result<()> {
        self.ask("DELETE", &format!(r#"{{"sources":["{address}/32"]}}"#))
    }

    fn ask(&mut self, method: &str, body: &str) -> Result<()> {
        let request = format!(
            "{method} /v1/bans HTTP/1.1\r\nhost: abuser\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let written = self.answers.get_mut().write_all(request.as_bytes());
        written.with_context(|| format!("send `{method} /v1/bans` with {body}"))
    }

    /// Asks for what is at this path; the body of the answer.
    pub(crate) fn get(&mut self, path: &str) -> Result<&str> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: abuser\r\n\r\n");
        let written = self.answers.get_mut().write_all(request.as_bytes());
        written.with_context(|| format!("send `GET {path}`"))?;
        self.acknowledged()
            .with_context(|| format!("ask for `GET {path}`"))?;
        std::str::from_utf8(&self.body).with_context(|| format!("read what {path} is as text"))
    }

    /// Waits for the answer to the last request; the error has the daemon's words.
    pub(crate) fn acknowledged(&mut self) -> Result<()> {
        let (mut status, mut length) = (0_u16, 0_usize);
        loop {
            self.line.clear();
            let read = self.answers.read_line(&mut self.line);
            let read = read.context("read the daemon's answer")?;
            ensure!(
                read > 0,
                "the daemon closed the connection before it answered"
            );
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest
                    .get(..3)
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0);
            } else if let Some(value) = length_of(line) {
                length = value;
            }
        }
        self.body.resize(length, 0);
        let read = self.answers.read_exact(&mut self.body);
        read.context("read the body of the daemon's answer")?;
        ensure!(
            status == 200,
            "the daemon answered {status}: {}",
            String::from_utf8_lossy(&self.body)
        );
        Ok(())
    }
}

/// The length of the body, if this header says it.
fn length_of(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    let named = name.eq_ignore_ascii_case("content-length");
    named.then(|| value.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_length_of_a_body_is_found_however_it_is_written() {
        assert_eq!(length_of("Content-Length: 12"), Some(12));
        assert_eq!(length_of("content-length:7"), Some(7));
        assert_eq!(length_of("content-type: 7"), None);
    }

    #[test]
    fn answers_are_taken_one_by_one_and_an_error_keeps_its_words() {
        let folder = std::env::temp_dir().join(format!("abuser-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("connection.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut connection = Connection::open(&socket).unwrap();
        let (mut daemon, _) = listener.accept().unwrap();
        daemon
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[1]\
                  HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno",
            )
            .unwrap();
        connection.acknowledged().unwrap();
        let error = connection.acknowledged().unwrap_err().to_string();
        assert_eq!(error, "the daemon answered 400: no");
        drop(daemon);
        assert!(connection.acknowledged().is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
