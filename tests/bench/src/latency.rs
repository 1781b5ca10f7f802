//! From an offence to its enforced ban, by the real daemon, while the flood goes on.
//!
//! The offender's packets are part of the flood: one of many frames is its own. The first
//! is within its limit, the second is the offence. Of those that follow, every other one is
//! a probe, which no limit stops: a socket behind the filter gets it until the ban holds. So
//! all is measured from outside. Kernel time says when each frame was made; the ban was
//! enforced between the last probe that got through and the next one.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use testkit::Wire;

use crate::{
    flood::AbuserEnd,
    programs::{Offender, RANDOM_SOURCES},
    scenario::Measured,
    statistics::{median, percentile},
    subject,
    wire::RECEIVER,
};

/// Offences; two and a half of them are above the 99th percentile.
const OFFENDERS: u32 = 250;
/// Offenders come from here on: the range for benchmarks (RFC 2544).
const FIRST_OFFENDER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The frame that is the offence.
const OFFENCE: u32 = 1;
/// From one probe to the next.
const NEXT_PROBE: u32 = 2;
/// With none of so many frames getting through, the ban holds.
const SILENCE: u32 = 64;
/// How long to wait for a probe before looking how far the offender has come.
const WAIT: Duration = Duration::from_millis(2);
/// The flood runs this long before the first offence.
const RUN_UP: Duration = Duration::from_millis(500);
/// Where probes go to.
const PROBE_PORT: u16 = 10;

/// Lets probes through to a socket, ahead of the rule that drops the flood.
const LET_PROBES_THROUGH: &str = "insert rule ip bench sink udp dport 10 accept";

/// Offenders one after another, under the flood.
pub(crate) fn measure() -> Result<Measured> {
    let mut end = AbuserEnd::start(RANDOM_SOURCES, &subject::offender_config(RECEIVER))?;
    end.flood.nft(LET_PROBES_THROUGH)?;
    let probes = end.flood.wire.server.run(listen)?;
    let mut background = end.flood.send_on();
    thread::sleep(RUN_UP);
    let mut latencies = Vec::new();
    for number in 0..OFFENDERS {
        ensure!(
            !background.has_ended(),
            "the flood ended before the offenders did"
        );
        let address = Ipv4Addr::from_bits(FIRST_OFFENDER.to_bits() + number);
        end.flood.offender.replace(address)?;
        latencies.push(latency_ms(address, &end.flood.offender, &probes)?);
    }
    end.flood.offender.retire()?;
    background.stop()?;

    let bans = end.daemon.try_json(&["ban", "list"])?;
    let banned = bans.as_array().map_or(0, Vec::len);
    ensure!(
        u32::try_from(banned) == Ok(OFFENDERS),
        "of {OFFENDERS} offenders only {banned} were banned"
    );
    Ok(Measured {
        value: percentile(&latencies, 99),
        reference: None,
        also: vec![("p50_ms", median(&latencies))],
        ..Measured::default()
    })
}

/// A socket that gets the probes.
fn listen() -> Result<UdpSocket> {
    let address = SocketAddr::from((Wire::SERVER_V4, PROBE_PORT));
    let socket = UdpSocket::bind(address).with_context(|| format!("listen on {address}"))?;
    let timeout = socket.set_read_timeout(Some(WAIT));
    timeout.context("set a timeout for probes")?;
    Ok(socket)
}

/// From the offence to the first probe that the ban stopped, in milliseconds.
fn latency_ms(address: Ipv4Addr, offender: &Offender, probes: &UdpSocket) -> Result<f64> {
    let mut first_stopped = OFFENCE + 1;
    loop {
        match receive(probes)? {
            Some((source, number)) if source == address => first_stopped = number + NEXT_PROBE,
            None if offender.made(first_stopped + SILENCE)?.is_some() => break,
            // A straggler of an earlier offender, or a probe still under way.
            Some(_) | None => {}
        }
    }
    let offence = offender.made(OFFENCE)?;
    let stopped = offender.made(first_stopped)?;
    let (offence, stopped) = offence.zip(stopped).context("an offender sent nothing")?;
    Ok(stopped.saturating_sub(offence).as_secs_f64() * 1e3)
}

/// Whose probe it was, and its number; `None` if none came.
fn receive(probes: &UdpSocket) -> Result<Option<(Ipv4Addr, u32)>> {
    let mut number = [0; 4];
    match probes.recv_from(&mut number) {
        Ok((_, SocketAddr::V4(from))) => Ok(Some((*from.ip(), u32::from_be_bytes(number)))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("receive a probe"),
    }
}
