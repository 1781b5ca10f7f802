//! Two clients that send all the while: one that is banned, and one that is not.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow};
use testkit::{
    Wire,
    traffic::{Pace, UdpCounter},
};

use super::stage::{BANNED, CLEAN, OPEN_PORT};

/// Datagrams in a second of the banned one: whatever gap there is, one falls into it.
const BANNED_RATE: f64 = 2_000.0;
/// The same of the other.
const CLEAN_RATE: f64 = 100.0;

/// Both, and the server that they send to.
#[derive(Debug)]
pub(super) struct Clients {
    server: UdpCounter,
    banned: Sender,
    clean: Sender,
}

/// Datagrams so far.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Datagrams {
    pub(super) banned_sent: u64,
    pub(super) banned_arrived: u64,
    pub(super) clean_sent: u64,
    pub(super) clean_arrived: u64,
}

impl Clients {
    /// They begin to send; the one must be banned already.
    pub(super) fn start(wire: &Wire) -> Result<Self> {
        let to = SocketAddr::from((Wire::SERVER_V4, OPEN_PORT));
        Ok(Self {
            server: UdpCounter::start(&wire.server, to),
            banned: Sender::start(wire, BANNED, to, BANNED_RATE)?,
            clean: Sender::start(wire, CLEAN, to, CLEAN_RATE)?,
        })
    }

    /// What they have sent and what of it has arrived.
    pub(super) fn datagrams(&self) -> Datagrams {
        Datagrams {
            banned_sent: self.banned.sent(),
            banned_arrived: self.server.received_from(BANNED),
            clean_sent: self.clean.sent(),
            clean_arrived: self.server.received_from(CLEAN),
        }
    }

    /// They send no more.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.banned.stop()?;
        self.clean.stop()
    }
}

/// Sends at a steady pace until it is stopped or dropped.
#[derive(Debug)]
struct Sender {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sender {
    fn start(wire: &Wire, from: IpAddr, to: SocketAddr, per_second: f64) -> Result<Self> {
        let socket = wire.client.run(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.connect(to)?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.with_context(|| format!("make a socket from {from} to {to}"))?;
        let (sent, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, is_over) = (Arc::clone(&sent), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut pace = Pace::per_second(per_second);
            while !is_over.load(Ordering::Relaxed) {
                pace.wait();
                let length = socket.send(b"datagram");
                length.with_context(|| format!("send a datagram from {from} to {to}"))?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self {
            sent,
            over,
            thread: Some(thread),
        })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(&mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(result) => result.map_err(|_| anyhow!("a thread that sends panicked"))?,
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Whoever wants to know what went wrong has called `stop`.
        let _failed = self.stop();
    }
}
