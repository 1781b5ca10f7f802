//! What several of these tests need: a wire that needs no ARP, senders, and waiting.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{
    Daemon, LineStream, Namespace, Wire,
    traffic::{Pace, UdpCounter},
};

/// The port of the servers here.
pub(crate) const PORT: u16 = 7;
/// A client besides [`Wire::CLIENT_V4`], once [`Wire::add_client`] has made it.
pub(crate) const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

/// How long a condition may take that is true within milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A wire whose client knows the server's hardware address, and a second client on it.
///
/// Address resolution would hold back the first packets, and solicitations of neighbours
/// are packets, too, that a limit or a ban meets.
pub(crate) fn wire() -> Wire {
    let wire = Wire::new();
    equip(&wire);
    wire
}

/// Lays a new cable in place of one that was cut, as [`wire`] made it.
pub(crate) fn lay_again(wire: &mut Wire) {
    wire.lay();
    equip(wire);
}

fn equip(wire: &Wire) {
    wire.add_client(&format!("{OTHER_V4}/24"));
    for server in [Wire::SERVER_V4, Wire::SERVER_V6] {
        know(wire, server);
    }
}

/// Tells the client the hardware address behind one of the server's addresses.
pub(crate) fn know(wire: &Wire, server: IpAddr) {
    wire.client_end
        .set_neighbour(server, wire.server_end.mac())
        .unwrap_or_else(|error| panic!("{error}"));
}

/// A configuration for the server's end of the wire.
pub(crate) fn config(tables: &str) -> String {
    format!("interfaces = [\"veth-server\"]\n{tables}")
}

/// The server's [`PORT`] in the family of `client`.
pub(crate) fn server_for(client: IpAddr) -> SocketAddr {
    let server = if client.is_ipv4() {
        Wire::SERVER_V4
    } else {
        Wire::SERVER_V6
    };
    SocketAddr::new(server, PORT)
}

/// A server that counts datagrams at the server's IPv4 address.
pub(crate) fn udp_v4(wire: &Wire) -> UdpCounter {
    UdpCounter::start(&wire.server, server_for(Wire::CLIENT_V4))
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        testkit::comes_true(testkit::guest::patience(PATIENCE), condition),
        "not within {PATIENCE:?}: {what}"
    );
}

/// Waits until no datagram has come for a while, then says how many `source` sent.
///
/// A packet crosses a veth within the call that sends it; what is waited for is only the
/// receiving thread.
#[track_caller]
pub(crate) fn settled(counter: &UdpCounter, source: IpAddr) -> u64 {
    const QUIET: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + testkit::guest::patience(PATIENCE);
    let (mut seen, mut since) = (counter.received_from(source), Instant::now());
    while since.elapsed() < QUIET {
        assert!(
            Instant::now() < deadline,
            "datagrams from {source} keep arriving: {seen} so far"
        );
        thread::sleep(Duration::from_millis(5));
        let now = counter.received_from(source);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

/// Sends that many datagrams, 2000 a second, and says how many of them arrived.
#[track_caller]
pub(crate) fn deliver(wire: &Wire, counter: &UdpCounter, source: IpAddr, count: u64) -> u64 {
    deliver_to(wire, counter, source, server_for(source), count)
}

/// [`deliver`] to another address than the usual one.
#[track_caller]
pub(crate) fn deliver_to(
    wire: &Wire,
    counter: &UdpCounter,
    source: IpAddr,
    target: SocketAddr,
    count: u64,
) -> u64 {
    let before = counter.received_from(source);
    testkit::traffic::send_udp(&wire.client, source, target, 2000.0, count)
        .unwrap_or_else(|error| panic!("sending from {source} to {target}: {error}"));
    settled(counter, source) - before
}

/// What a [`flood`] was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flooded {
    /// Datagrams handed to the kernel.
    pub(crate) sent: u64,
    /// From before the first to after the last.
    pub(crate) elapsed: Duration,
}

/// Sends datagrams at about `per_second`, in handfuls, for `duration`.
pub(crate) fn flood(
    client: &Namespace,
    source: IpAddr,
    per_second: f64,
    duration: Duration,
) -> Flooded {
    const HANDFUL: u64 = 10;
    client.run(|| {
        let socket = UdpSocket::bind((source, 0)).expect("the source is an address of the client");
        socket
            .connect(server_for(source))
            .expect("the server is on the wire");
        #[expect(clippy::cast_precision_loss, reason = "a handful is exact")]
        let mut pace = Pace::per_second(per_second / HANDFUL as f64);
        let started = Instant::now();
        let mut sent = 0;
        while started.elapsed() < duration {
            pace.wait();
            for _ in 0..HANDFUL {
                sent += u64::from(socket.send(b"flood").is_ok());
            }
        }
        Flooded {
            sent,
            elapsed: started.elapsed(),
        }
    })
}

/// Asserts that a count is within 2% of what a limit admits in that time: `burst + 1` at
/// once, then `rate` a second.
#[track_caller]
pub(crate) fn assert_limited(arrived: u64, rate: f64, burst: f64, elapsed: Duration) {
    let expected = burst + 1.0 + rate * elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
    let ratio = arrived as f64 / expected;
    assert!(
        (0.98..=1.02).contains(&ratio),
        "{arrived} arrived where the limit admits {expected:.1} in {elapsed:?}: {ratio:.4}"
    );
}

/// A client that goes on sending datagrams, answered or not, until this is dropped.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Sender {
    /// Sends so many a second, fewer in a guest.
    pub(crate) fn start(wire: &Wire, source: IpAddr, per_second: f64) -> Self {
        let per_second = testkit::guest::per_second(per_second);
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = wire.client.spawn(move || {
            let socket =
                UdpSocket::bind((source, 0)).expect("the source is an address of the client");
            let mut pace = Pace::per_second(per_second);
            while !ours.stop.load(Ordering::Relaxed) {
                pace.wait();
                if socket.send_to(b"again", server_for(source)).is_ok() {
                    ours.sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Waits until that many more have been sent.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let goal = self.sent() + more;
        eventually("the sender goes on", || self.sent() >= goal);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Its panic was printed where it happened; a second one here would abort.
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// A connection to an echo server.
pub(crate) struct Talk(TcpStream);

impl Talk {
    /// Connects from `source` to the server's [`PORT`].
    pub(crate) fn try_open(wire: &Wire, source: IpAddr, patience: Duration) -> io::Result<Self> {
        wire.client
            .run(|| testkit::traffic::connect_from(source, server_for(source), patience))
            .map(Self)
    }

    /// [`Talk::try_open`] where it has to work.
    #[track_caller]
    pub(crate) fn open(wire: &Wire, source: IpAddr) -> Self {
        Self::try_open(wire, source, PATIENCE)
            .unwrap_or_else(|error| panic!("connecting from {source}: {error}"))
    }

    /// Says something.
    pub(crate) fn say(&mut self, words: &[u8]) {
        self.0
            .write_all(words)
            .expect("the kernel takes it, the network or not");
    }

    /// Whether the echo of `words` comes in time.
    pub(crate) fn hears(&mut self, words: &[u8], patience: Duration) -> bool {
        self.0
            .set_read_timeout(Some(patience))
            .expect("a timeout that is not zero");
        let mut answer = vec![0; words.len()];
        self.0.read_exact(&mut answer).is_ok() && answer == words
    }

    /// Asserts that the server answers.
    #[track_caller]
    pub(crate) fn works(&mut self) {
        self.say(b"hello");
        assert!(self.hears(b"hello", PATIENCE), "the server does not answer");
    }
}

/// A daemon that is stopped with SIGSTOP for as long as this lives.
pub(crate) struct Frozen<'d>(&'d Daemon);

impl<'d> Frozen<'d> {
    pub(crate) fn new(daemon: &'d Daemon) -> Self {
        daemon.signal(nix::sys::signal::Signal::SIGSTOP);
        Self(daemon)
    }
}

impl Deref for Frozen<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.0
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.signal(nix::sys::signal::Signal::SIGCONT);
    }
}

/// A number at `pointer` (RFC 6901) of what a command printed.
#[track_caller]
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no number at {pointer} of {value:#}"))
}

/// Packets that `abuser status` counts under `outcome`.
#[track_caller]
pub(crate) fn outcome(daemon: &Daemon, outcome: &str) -> u64 {
    number(
        &daemon.json(&["status"]),
        &format!("/outcomes/{outcome}/packets"),
    )
}

/// The sources that `abuser ban list` shows.
#[track_caller]
pub(crate) fn banned(daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["ban", "list"]);
    list.as_array()
        .unwrap_or_else(|| panic!("not a list: {list:#}"))
        .iter()
        .map(|ban| ban["source"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The events of a daemon, from now on.
pub(crate) struct Events(LineStream);

/// Follows `abuser events --json`; what happens after this returns is in it.
#[track_caller]
pub(crate) fn listen(daemon: &Daemon) -> Events {
    // An address that no client has.
    const MARK: &str = "203.0.113.254";
    let events = Events(daemon.stream(&["events", "--json"]));
    // Nothing says that the stream is open, except what comes out of it.
    eventually("the event stream is open", || {
        daemon.abuser(&["ban", "add", MARK]).success();
        events.0.next_line(Duration::from_millis(100)).is_some()
    });
    daemon.abuser(&["ban", "remove", MARK]).success();
    while events.next()["kind"] != "unban" {}
    events
}

impl Events {
    /// The next event.
    #[track_caller]
    pub(crate) fn next(&self) -> Value {
        let line = self
            .0
            .next_line(PATIENCE)
            .unwrap_or_else(|| panic!("no event within {PATIENCE:?}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}
