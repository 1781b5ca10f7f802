//! The two clients: one that behaves and counts what it gets, one that does not.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use testkit::{
    Namespace,
    traffic::{Pace, connect_from},
};

use super::server::BODY;

/// How long the good client waits for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One HTTP request over an open connection; an error unless the whole answer comes.
pub(super) fn get(stream: &mut TcpStream, keep_alive: bool) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: demo\r\nConnection: {connection}\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(BODY.as_bytes()) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend(&buffer[..length]),
        }
    }
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("the answer is not 200 OK"))
    }
}

/// A connection of its own for one request.
pub(super) fn fetch(source: IpAddr, server: SocketAddr, patience: Duration) -> io::Result<()> {
    let mut stream = connect_from(source, server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    get(&mut stream, false)
}

/// What the good client has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) served: u64,
    pub(super) slowest: Duration,
    pub(super) last_error: Option<String>,
}

/// A client that fetches a page at an even pace, one connection each.
pub(super) struct GoodClient {
    started: Instant,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    worker: Option<JoinHandle<()>>,
}

impl GoodClient {
    pub(super) fn start(
        namespace: &Namespace,
        source: IpAddr,
        server: SocketAddr,
        per_second: f64,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let worker = namespace.spawn({
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            move || {
                let mut pace = Pace::per_second(per_second);
                while !stop.load(Ordering::Relaxed) {
                    pace.wait();
                    let began = Instant::now();
                    let result = fetch(source, server, PATIENCE);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.sent += 1;
                    tally.slowest = tally.slowest.max(began.elapsed());
                    match result {
                        Ok(()) => tally.served += 1,
                        Err(error) => tally.last_error = Some(error.to_string()),
                    }
                }
            }
        });
        Self {
            started: Instant::now(),
            stop,
            tally,
            worker: Some(worker),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the client; what it saw, and for how long it ran.
    pub(super) fn finish(mut self) -> (Tally, Duration) {
        self.join();
        (self.tally(), self.started.elapsed())
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _panicked = self.worker.take().map(JoinHandle::join);
    }
}

impl Drop for GoodClient {
    fn drop(&mut self) {
        self.join();
    }
}

/// Many connections a second; it neither waits long nor reads the answers.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    attempts: Arc<AtomicU64>,
    connected: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

impl Flood {
    const WORKERS: u32 = 10;
    /// A connection that the card drops never answers: give up before the next is due.
    const PATIENCE: Duration = Duration::from_millis(40);

    pub(super) fn start(
        namespace: &Namespace,
        source: IpAddr,
        server: SocketAddr,
        per_second: f64,
    ) -> Self {
        let mut flood = Self {
            stop: Arc::default(),
            attempts: Arc::default(),
            connected: Arc::default(),
            workers: Vec::new(),
        };
        for _ in 0..Self::WORKERS {
            let stop = Arc::clone(&flood.stop);
            let attempts = Arc::clone(&flood.attempts);
            let connected = Arc::clone(&flood.connected);
            flood.workers.push(namespace.spawn(move || {
                let mut pace = Pace::per_second(per_second / f64::from(Self::WORKERS));
                while !stop.load(Ordering::Relaxed) {
                    pace.wait();
                    attempts.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut stream) = connect_from(source, server, Self::PATIENCE) {
                        connected.fetch_add(1, Ordering::Relaxed);
                        let _ignored = stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n");
                    }
                }
            }));
        }
        flood
    }

    /// Connections tried so far.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Connections that the server accepted so far.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _panicked = worker.join();
        }
    }
}
