//! Clients that send so many packets and no more: whoever counts them can be compared.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Socket, Type};

/// What a client sends.
#[derive(Clone)]
pub(crate) struct Traffic {
    kind: Kind,
    pub(crate) source: Ipv4Addr,
    pub(crate) port: u16,
    /// So many at once, and a little more than a second later so many.
    bursts: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Connections, of which those that are answered remain open.
    Connect,
    /// Datagrams.
    Send,
}

/// More than the second in which a source has one event, and less than the one after which a
/// SYN is sent again has left of it.
const BETWEEN_BURSTS: Duration = Duration::from_millis(1150);
/// How long a connection may take over a wire that is in the same kernel.
const HANDSHAKE: Duration = Duration::from_millis(200);

/// A source that was looked up while its first connection was made, and not found, is looked up
/// again after a second.
const UNTIL_LOOKED_UP: Duration = Duration::from_millis(1100);

impl Traffic {
    /// Reads `connect 203.0.113.66 22 11 20`; nothing if it is not like that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let kind = match words.next()? {
            "connect" => Kind::Connect,
            "send" => Kind::Send,
            _ => return None,
        };
        Some(Self {
            kind,
            source: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
            bursts: words.map(|word| word.parse().ok()).collect::<Option<_>>()?,
        })
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.kind, Kind::Connect)
    }

    /// Sends it from the calling thread; the connections that came about.
    pub(crate) fn send_to(&self, server: Ipv4Addr) -> Vec<TcpStream> {
        stay_on_one_cpu();
        let target = SocketAddr::V4(SocketAddrV4::new(server, self.port));
        let mut open = Vec::new();
        for (number, burst) in self.bursts.iter().enumerate() {
            if number > 0 {
                thread::sleep(BETWEEN_BURSTS);
            }
            match self.kind {
                Kind::Connect => open.extend(connect(self.source, target, *burst)),
                Kind::Send => send(self.source, target, *burst),
            }
        }
        open
    }
}

/// Each CPU tells of its own drops.
fn stay_on_one_cpu() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("a thread has CPUs");
    let mut first = CpuSet::new();
    let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    first
        .set(cpu.expect("a thread has a CPU"))
        .and_then(|()| sched_setaffinity(this, &first))
        .expect("one of the CPUs that we may use");
}

fn connect(source: Ipv4Addr, target: SocketAddr, count: usize) -> Vec<TcpStream> {
    let tried: Vec<_> = (0..count)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket can be so");
            let own = SocketAddrV4::new(source, 0);
            socket.bind(&own.into()).expect("an address of the client");
            let _in_progress = socket.connect(&target.into());
            TcpStream::from(socket)
        })
        .collect();
    thread::sleep(HANDSHAKE);
    // What was not answered is closed before it is asked for again.
    let answered = tried
        .into_iter()
        .filter(|stream| stream.peer_addr().is_ok());
    let mut open: Vec<_> = answered.collect();
    if !open.is_empty() {
        thread::sleep(UNTIL_LOOKED_UP);
    }
    for stream in &mut open {
        let _told = stream.write_all(b"\n");
    }
    open
}

fn send(source: Ipv4Addr, target: SocketAddr, count: usize) {
    let socket = UdpSocket::bind((source, 0)).expect("an address of the client");
    for _ in 0..count {
        socket
            .send_to(b"datagram", target)
            .expect("the kernel takes it");
    }
}
