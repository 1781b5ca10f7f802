//! From an offence to its enforced ban, by the real daemon, while the flood goes on.
//!
//! An offender sends a packet within its limit, one over it, and goes on sending. All that
//! is measured is seen from outside: the sender notes the kernel's clock before each packet;
//! afterwards the daemon says how many packets met each ban. The veth keeps their order, so
//! the first packet that the ban dropped is known, and with it when it was sent. A packet
//! that the flood crowded out on its way only makes the figure worse.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};
use testkit::Wire;

use crate::{
    flood::AbuserEnd,
    programs::RANDOM_SOURCES,
    scenario::Measured,
    statistics::{median, percentile},
    subject::{self, OFFENCE_PORT},
    wire::RECEIVER,
};

/// Offences; two and a half of them are above the 99th percentile.
const OFFENDERS: u32 = 250;
/// Offenders come from here on: the range for benchmarks (RFC 2544).
const FIRST_OFFENDER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Packets of each, and the pause between them. The kernel makes it some 50 µs longer.
const PACKETS: usize = 150;
const PAUSE: Duration = Duration::from_micros(50);
/// The packet that goes over the limit.
const OFFENCE: usize = 1;
/// The flood runs this long before the first offence.
const RUN_UP: Duration = Duration::from_millis(500);

/// Offenders one after another, under the flood.
pub(crate) fn measure() -> Result<Measured> {
    let end = AbuserEnd::start(RANDOM_SOURCES, &subject::offender_config(RECEIVER))?;
    let background = end.flood.send_on();
    thread::sleep(RUN_UP);
    let offenders: Vec<_> = (0..OFFENDERS)
        .map(|number| Ipv4Addr::from_bits(FIRST_OFFENDER.to_bits() + number))
        .collect();
    let mut sent = Vec::new();
    for offender in &offenders {
        sent.push(end.flood.wire.client.run(|| offend(*offender))?);
    }
    ensure!(
        !background.has_ended(),
        "the flood ended before the offenders did"
    );
    background.stop()?;

    let hits = hits(&end)?;
    let latencies: Vec<f64> = offenders
        .iter()
        .zip(&sent)
        .map(|(offender, sent)| latency_ms(sent, hits.get(offender).copied().unwrap_or(0)))
        .collect();
    let banned = offenders.iter().filter(|one| hits.contains_key(*one));
    ensure!(
        banned.count() == offenders.len(),
        "of {OFFENDERS} offenders only {} were banned",
        hits.len()
    );
    Ok(Measured {
        value: percentile(&latencies, 99),
        reference: None,
        median: Some(median(&latencies)),
    })
}

/// Sends as one offender; when each packet was handed to the kernel.
fn offend(offender: Ipv4Addr) -> Result<Vec<Instant>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("make a UDP socket")?;
    // The address is nobody's: an interface with hundreds of them would be slow to make.
    socket
        .set_ip_transparent_v4(true)
        .context("make a socket transparent")?;
    socket
        .bind(&SocketAddr::from((offender, 0)).into())
        .with_context(|| format!("bind to {offender}"))?;
    let socket = UdpSocket::from(socket);
    let target = SocketAddr::new(Wire::SERVER_V4, OFFENCE_PORT);
    let mut sent = Vec::with_capacity(PACKETS);
    for _ in 0..PACKETS {
        sent.push(Instant::now());
        socket
            .send_to(b"offence", target)
            .with_context(|| format!("send from {offender} to {target}"))?;
        thread::sleep(PAUSE);
    }
    Ok(sent)
}

/// How many packets met the ban of each offender.
fn hits(end: &AbuserEnd) -> Result<HashMap<Ipv4Addr, usize>> {
    let bans = end.daemon.try_json(&["ban", "list"])?;
    let bans = bans.as_array();
    let bans = bans.context("`abuser ban list --json` is not an array")?;
    Ok(bans
        .iter()
        .filter_map(|ban| {
            let source = ban["source"].as_str()?.strip_suffix("/32")?;
            let hits = usize::try_from(ban["hits"].as_u64()?).ok()?;
            Some((source.parse().ok()?, hits))
        })
        .collect())
}

/// From the offence to the first packet that the ban dropped: the last `hits` ones are
/// its. With none, the ban came after the last packet, and the figure is at least that.
fn latency_ms(sent: &[Instant], hits: usize) -> f64 {
    let first_dropped = sent.len().saturating_sub(hits.max(1));
    match (sent.get(OFFENCE), sent.get(first_dropped)) {
        (Some(offence), Some(dropped)) => dropped.duration_since(*offence).as_secs_f64() * 1e3,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_that_met_the_ban_are_the_last_ones() {
        let start = Instant::now();
        let sent: Vec<_> = (0..10)
            .map(|number| start + Duration::from_millis(number))
            .collect();
        assert_eq!(latency_ms(&sent, 8).to_string(), "1");
        assert_eq!(latency_ms(&sent, 5).to_string(), "4");
        assert_eq!(latency_ms(&sent, 0).to_string(), "8");
    }
}
