//! Bans by single requests: as many connections as a busy host has programs that ban, each with
//! one request under way, and one source in each request.

use std::{
    net::Ipv4Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use testkit::{Daemon, Namespace};

use super::{connection::Connection, records};
use crate::{
    scenario::Measured,
    statistics::{median, percentile},
    subject,
};

/// Threads that call.
const CALLERS: u32 = 2;
/// Connections of each; it asks on all of them before it reads the first answer.
const CONNECTIONS: u32 = 32;
/// How long they call.
const TIME: Duration = Duration::from_secs(10);
/// The sources of one caller begin here, those of the next one so many later.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const SOURCES: u32 = 1 << 20;

/// Calls for ten seconds.
pub(super) fn measure() -> Result<Measured> {
    let namespace = Namespace::new()?;
    let binary = testkit::abuser_binary()?;
    let config = subject::generic_config("lo", subject::NO_MATCH);
    let mut daemon = Daemon::try_start(&binary, &namespace, &config)
        .context("start abuser for bans by single requests")?;
    let socket = daemon.socket();
    let begun = Instant::now();
    let calls = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| scope.spawn(move || call(socket, caller)))
            .collect();
        let mut calls = Vec::new();
        for caller in callers {
            let ended = caller.join();
            calls.extend(ended.map_err(|_| anyhow!("a thread that calls panicked"))??);
        }
        Ok::<_, anyhow::Error>(calls)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let told = daemon.try_json(&["status"])?["bans"].clone();
    ensure!(
        told == calls.len(),
        "of {} acknowledged bans `abuser status` tells {told}",
        calls.len()
    );
    daemon.kill();
    let stored = records::in_store(&daemon)?.len();
    ensure!(
        stored == calls.len(),
        "of {} acknowledged bans the store of a killed daemon holds {stored}",
        calls.len()
    );
    #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
    let value = calls.len() as f64 / seconds;
    Ok(Measured {
        value,
        also: vec![
            ("p50_ms", median(&calls)),
            ("p99_ms", percentile(&calls, 99)),
        ],
        ..Measured::default()
    })
}

/// Calls on all connections again and again; how long each call took, in milliseconds.
fn call(socket: &Path, caller: u32) -> Result<Vec<f64>> {
    let mut connections = (0..CONNECTIONS)
        .map(|_| Connection::open(socket))
        .collect::<Result<Vec<_>>>()?;
    let mut source = FIRST_SOURCE.to_bits() + caller * SOURCES;
    let mut calls = Vec::new();
    let mut asked = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        asked.clear();
        for connection in &mut connections {
            asked.push(Instant::now());
            connection.ask_to_ban(Ipv4Addr::from_bits(source), None)?;
            source += 1;
        }
        for (connection, asked) in connections.iter_mut().zip(&asked) {
            connection.acknowledged()?;
            calls.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(calls)
}
