//! Servers that count, clients with a given source, and senders that keep a pace.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{Namespace, context};

/// How often a blocked server looks whether it should stop.
const TICK: Duration = Duration::from_millis(20);

/// Connects to `target` from a given address: a machine may have several.
pub fn connect_from(
    source: IpAddr,
    target: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&target.into(), timeout)?;
    Ok(socket.into())
}

/// Binds a socket, once nobody has the address any more: between fork and exec a child of another test holds
/// a copy of every socket of this process, also of one that was just closed.
fn listen<S>(bind: impl Fn() -> io::Result<S>) -> io::Result<S> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(TICK);
            }
            bound => return bound,
        }
    }
}

/// A TCP server that sends back what it gets.
#[derive(Debug)]
pub struct TcpEcho {
    shared: Arc<TcpCounts>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct TcpCounts {
    stop: AtomicBool,
    accepted: AtomicU64,
    bytes: AtomicU64,
}

impl TcpEcho {
    /// Listens inside the namespace until dropped.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener = namespace
            .run(|| listen(|| TcpListener::bind(address)))
            .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        socket2::SockRef::from(&listener)
            .set_read_timeout(Some(TICK))
            .expect("a receive timeout also bounds accept()");
        let shared = Arc::new(TcpCounts::default());
        let counts = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            while !counts.stop.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    counts.accepted.fetch_add(1, Ordering::Relaxed);
                    let counts = Arc::clone(&counts);
                    thread::spawn(move || echo(stream, &counts));
                }
            }
        });
        Self {
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        join(self.acceptor.take());
    }
}

fn echo(mut stream: TcpStream, counts: &TcpCounts) {
    let _refused = stream.set_read_timeout(Some(TICK));
    let mut buffer = [0; 4096];
    while !counts.stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if would_block(&error) => {}
            Err(_) => return,
        }
    }
}

/// A UDP server that counts datagrams by source.
#[derive(Debug)]
pub struct UdpCounter {
    shared: Arc<UdpCounts>,
    receiver: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct UdpCounts {
    stop: AtomicBool,
    by_source: Mutex<HashMap<IpAddr, u64>>,
}

impl UdpCounter {
    /// Listens inside the namespace until dropped.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = namespace
            .run(|| listen(|| UdpSocket::bind(address)))
            .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let options = socket2::SockRef::from(&socket);
        options
            .set_read_timeout(Some(TICK))
            .expect("a timeout that is not zero");
        // What the limiter passed must not be lost here. The kernel caps it; root may force.
        let _capped = options.set_recv_buffer_size(4 << 20);
        let shared = Arc::new(UdpCounts::default());
        let counts = Arc::clone(&shared);
        let receiver = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !counts.stop.load(Ordering::Relaxed) {
                if let Ok((_, source)) = socket.recv_from(&mut buffer) {
                    let mut by_source = lock(&counts.by_source);
                    *by_source.entry(source.ip()).or_default() += 1;
                }
            }
        });
        Self {
            shared,
            receiver: Some(receiver),
        }
    }

    /// Datagrams received so far.
    pub fn received(&self) -> u64 {
        lock(&self.shared.by_source).values().sum()
    }

    /// Datagrams received so far from one source.
    pub fn received_from(&self, source: IpAddr) -> u64 {
        let by_source = lock(&self.shared.by_source);
        by_source.get(&source).copied().unwrap_or(0)
    }
}

impl Drop for UdpCounter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        join(self.receiver.take());
    }
}

/// Sends `count` datagrams at `per_second` from inside the namespace, from `source`.
pub fn send_udp(
    namespace: &Namespace,
    source: IpAddr,
    target: SocketAddr,
    per_second: f64,
    count: u64,
) -> io::Result<()> {
    namespace.run(|| {
        let socket = UdpSocket::bind((source, 0))
            .map_err(|error| context(&error, format!("cannot send from {source}")))?;
        let mut pace = Pace::per_second(per_second);
        for _ in 0..count {
            pace.wait();
            socket.send_to(b"datagram", target)?;
        }
        Ok(())
    })
}

/// Even steps in time that do not drift: a step that was late makes the next wait shorter.
#[derive(Debug)]
pub struct Pace {
    started: Instant,
    per_second: f64,
    step: u64,
}

impl Pace {
    /// The first step is now.
    pub fn per_second(per_second: f64) -> Self {
        Self {
            started: Instant::now(),
            per_second,
            step: 0,
        }
    }

    /// Sleeps until the next step is due.
    pub fn wait(&mut self) {
        thread::sleep(self.until_due());
        self.step += 1;
    }

    /// Whether the next step is due; if so it counts as taken.
    pub fn is_due(&mut self) -> bool {
        let due = self.until_due().is_zero();
        self.step += u64::from(due);
        due
    }

    fn until_due(&self) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "no sender takes 2^52 steps")]
        let due = Duration::from_secs_f64(self.step as f64 / self.per_second);
        due.saturating_sub(self.started.elapsed())
    }
}

/// Whether an error only says that nothing came within the socket's timeout.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(thread: Option<JoinHandle<()>>) {
    // Its panic was printed where it happened; a second one here would abort.
    let _panicked = thread.map(JoinHandle::join);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wire;

    #[test]
    fn a_pace_neither_drifts_nor_bursts() {
        let started = Instant::now();
        let mut pace = Pace::per_second(200.0);
        for _ in 0..41 {
            pace.wait();
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(200), "{took:?}");
        assert!(took < Duration::from_millis(400), "{took:?}");
    }

    #[test]
    fn servers_count_what_clients_send() {
        crate::require_root!();
        let wire = Wire::new();
        let target = SocketAddr::new(Wire::SERVER_V4, 7);
        let echo = TcpEcho::start(&wire.server, target);
        let mut stream = wire
            .client
            .run(|| connect_from(Wire::CLIENT_V4, target, Duration::from_secs(1)))
            .unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((&answer, echo.accepted(), echo.bytes()), (b"hello", 1, 5));

        let target = SocketAddr::new(Wire::SERVER_V6, 9);
        let counter = UdpCounter::start(&wire.server, target);
        send_udp(&wire.client, Wire::CLIENT_V6, target, 2000.0, 100).unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        while counter.received() < 100 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(counter.received_from(Wire::CLIENT_V6), 100);
    }
}
