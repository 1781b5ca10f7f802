//! Starts with a million bans: after a kill, while a banned source sends and none of it may
//! arrive; and from the store alone.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use testkit::Wire;

use super::{
    million::{Million, settled},
    process::{Memory, Process},
};

/// Where datagrams go to.
const PORT: u16 = 10;
/// From one datagram to the next.
const PACE: Duration = Duration::from_micros(500);
/// How long a datagram may take that is let through.
const WAIT: Duration = Duration::from_millis(200);

/// A start after a kill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restarted {
    /// Until `abuser status` answers.
    pub(super) seconds: f64,
    /// How long the daemon kept CPUs busy until then.
    pub(super) cpu_seconds: f64,
    /// The most memory meanwhile.
    pub(super) peak: u64,
    /// The daemon's memory when it had settled.
    pub(super) memory: Memory,
}

/// A start that finds nothing in the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromStore {
    /// Until `abuser status` answers.
    pub(super) seconds: f64,
    /// Until the interface is protected, and so every ban in force.
    pub(super) attached_seconds: f64,
}

/// Kills the daemon and starts it again.
pub(super) fn after_kill(million: &mut Million) -> Result<Restarted> {
    let source = Wire::CLIENT_V4.to_string();
    let cable = Cable::new(&million.wire)?;
    ensure!(
        cable.lets_through()?,
        "a datagram did not arrive, though its source is not banned"
    );
    million
        .daemon
        .try_json(&["ban", "add", "--permanent", &source])?;
    ensure!(
        !cable.lets_through()?,
        "a datagram arrived, though its source is banned"
    );
    let sending = cable.send_on(&million.wire)?;
    million.daemon.kill();
    let begun = Instant::now();
    million.daemon.try_restart()?;
    let seconds = begun.elapsed().as_secs_f64();
    let process = Process(million.daemon.pid());
    let cpu_seconds = process.cpu_seconds()?;
    let peak = process.peak().unwrap_or_default();
    let sent = sending.stop()?;
    let arrived = cable.take_all()?;
    ensure!(
        sent > 1000,
        "only {sent} datagrams were sent over the restart, too few to say anything"
    );
    ensure!(
        arrived == 0,
        "{arrived} of {sent} datagrams from a banned source arrived over the restart"
    );
    million.daemon.try_json(&["ban", "remove", &source])?;
    ensure!(
        cable.lets_through()?,
        "a datagram did not arrive after the restart, though its source is not banned any more"
    );
    let memory = settled(process)?;
    million.check()?;
    Ok(Restarted {
        seconds,
        cpu_seconds,
        peak,
        memory,
    })
}

/// Stops the daemon, which takes everything out of the kernel, and starts it again.
pub(super) fn from_store(million: &mut Million) -> Result<FromStore> {
    million.daemon.terminate();
    let end = million.wire.server_end.clone();
    ensure!(
        end.xdp()?.is_none(),
        "a daemon that was stopped left its program on the interface"
    );
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&stop);
    let watch = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            if end.xdp()?.is_some() {
                return Ok(Some(begun.elapsed()));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    });
    let started = million.daemon.try_restart();
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let attached: std::io::Result<_> = watch
        .join()
        .map_err(|_| anyhow!("the thread that watches the interface panicked"))?;
    started?;
    let attached = attached.context("ask whether the interface has a program")?;
    let attached = attached.context("the daemon answers, but its program is not attached")?;
    million.check()?;
    Ok(FromStore {
        seconds,
        attached_seconds: attached.as_secs_f64(),
    })
}

/// A client that sends and a server that counts what arrives.
struct Cable {
    client: UdpSocket,
    server: UdpSocket,
}

impl Cable {
    fn new(wire: &Wire) -> Result<Self> {
        let to = SocketAddr::from((Wire::SERVER_V4, PORT));
        let server = wire.server.run(|| UdpSocket::bind(to));
        let server = server.with_context(|| format!("listen on {to}"))?;
        server
            .set_read_timeout(Some(WAIT))
            .context("set a timeout")?;
        let client = wire.client.run(|| {
            let client = UdpSocket::bind((Wire::CLIENT_V4, 0))?;
            client.connect(to)?;
            Ok::<_, std::io::Error>(client)
        });
        let client = client.with_context(|| format!("make a socket that sends to {to}"))?;
        Ok(Self { client, server })
    }

    /// Whether one of a few datagrams arrives.
    fn lets_through(&self) -> Result<bool> {
        for _ in 0..3 {
            self.client.send(b"probe").context("send a datagram")?;
        }
        Ok(self.take_all()? > 0)
    }

    /// How many have arrived, until none does for a while.
    fn take_all(&self) -> Result<u64> {
        let mut buffer = [0; 16];
        let mut arrived = 0;
        loop {
            match self.server.recv(&mut buffer) {
                Ok(_) => arrived += 1,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(arrived);
                }
                Err(error) => return Err(error).context("receive a datagram"),
            }
        }
    }

    /// Sends at a steady pace until that is stopped.
    fn send_on(&self, wire: &Wire) -> Result<Sending> {
        let client = self.client.try_clone().context("duplicate a socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = wire.client.spawn(move || {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                client.send(b"flood").context("send a datagram")?;
                sent += 1;
                thread::sleep(PACE);
            }
            Ok(sent)
        });
        Ok(Sending { stop, thread })
    }
}

/// Datagrams under way.
struct Sending {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<u64>>,
}

impl Sending {
    /// Ends it; how many were sent.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join();
        sent.map_err(|_| anyhow!("the thread that sends panicked"))?
    }
}
