//! Somebody who is told: a small HTTP server that keeps what it was sent, and answers as it is told.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::Namespace;

use crate::support::{PATIENCE, parse};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// What tells it from others.
    #[track_caller]
    pub(super) fn id(&self) -> &str {
        self.header("x-abuser-delivery").expect("an id")
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        parse(std::str::from_utf8(&self.body).expect("UTF-8"))
    }

    #[track_caller]
    pub(super) fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().expect("events").clone()
    }
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    /// What the next requests are answered; then all of them 204.
    answers: VecDeque<String>,
    /// Whether requests are read and not answered.
    is_held: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    is_gone: AtomicBool,
}

/// The server, gone when it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// One on a port of the namespace's loopback interface.
    pub(super) fn start(namespace: &Namespace) -> Self {
        Self::start_at(namespace, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(super) fn start_at(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener = namespace
            .run(|| TcpListener::bind(address))
            .expect("a port");
        let address = listener.local_addr().expect("it has one");
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.is_gone.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        let shared = Arc::clone(&shared);
                        thread::spawn(move || serve(stream, &shared));
                    } else {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next requests so: a status line's rest, and headers.
    pub(super) fn answer(&self, answers: &[&str]) {
        let answers = answers.iter().map(|answer| (*answer).to_owned());
        self.lock(|state| state.answers.extend(answers));
    }

    /// Answers nobody until [`Server::release`].
    pub(super) fn hold(&self) {
        self.lock(|state| state.is_held = true);
    }

    pub(super) fn release(&self) {
        self.lock(|state| state.is_held = false);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock(|state| state.requests.clone())
    }

    /// All events of all requests.
    pub(super) fn events(&self) -> Vec<Value> {
        self.requests().iter().flat_map(Request::events).collect()
    }

    /// Waits until there are so many requests.
    #[track_caller]
    pub(super) fn wait_for(&self, count: usize) -> Vec<Request> {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < deadline, "only {requests:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.shared.state.lock().expect("nobody has panicked"));
        self.shared.changed.notify_all();
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_gone.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Answers requests until the other end closes.
fn serve(stream: TcpStream, shared: &Shared) {
    stream.set_nonblocking(false).expect("a socket");
    let mut answers = stream.try_clone().expect("a socket");
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let mut state = shared.state.lock().expect("nobody has panicked");
        state.requests.push(request);
        while state.is_held && !shared.is_gone.load(Ordering::Relaxed) {
            let waited = shared
                .changed
                .wait_timeout(state, Duration::from_millis(50));
            state = waited.expect("nobody has panicked").0;
        }
        if shared.is_gone.load(Ordering::Relaxed) {
            return;
        }
        let answer = state.answers.pop_front();
        drop(state);
        let answer = answer.unwrap_or_else(|| "204 No Content\r\n".to_owned());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let head = head.trim_end();
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    let mut next = |reader: &mut BufReader<TcpStream>| {
        line.clear();
        let count = reader.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    };
    let first = next(reader)?;
    // What is between may speak the older one.
    let is_known = ["POST /hook HTTP/1.1", "POST /hook HTTP/1.0"].contains(&first.as_str());
    assert!(is_known, "{first}");
    let mut headers = Vec::new();
    loop {
        let line = next(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").expect("a header");
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, length)| length.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        headers,
        body,
        at: Instant::now(),
    })
}
