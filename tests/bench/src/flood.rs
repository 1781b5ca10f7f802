//! Throughput: how many packets of a flood get a verdict each second, by `abuser` and by
//! nftables with the same limit.
//!
//! The flood and the filter share a CPU, as a network card's interrupts and the filter do:
//! the kernel makes a batch of frames, hands it over, and the receiving end works it off.

use anyhow::{Context as _, Result};
use aya::programs::{XdpMode, xdp::XdpLinkId};
use testkit::Daemon;

use crate::{
    programs::{Name, Programs, RANDOM_SOURCES},
    scenario::Measured,
    statistics::median,
    subject,
    wire::{Flood, RECEIVER},
};

/// How often each filter takes its turn.
const REPEATS: usize = 5;
/// Frames in a turn.
const FRAMES: u32 = 1_000_000;
/// Frames before measuring, for each filter: of a million sources, all but 2% have sent the
/// packets that they may.
const WARM_UP_OVER: u32 = 6_000_000;
/// The same where no source is to get anywhere: the tables have some millions to begin with.
const WARM_UP_WITHIN: u32 = 2_000_000;

/// Sources of the flood that is over its limit: as many as can be warmed up in seconds.
const OVER_SOURCES: u32 = 1 << 20;

/// What becomes of packets that the filter under test lets through.
const SINK: &str = "
table ip bench {
  chain sink {
    type filter hook prerouting priority raw; policy accept;
    drop
  }
}
";

/// A limit for each source as people write it for nftables, with room for every source;
/// then the same sink.
fn nftables(limit: &str) -> String {
    format!(
        "
table ip bench {{
  set sources {{
    type ipv4_addr
    size 16777216
    flags dynamic
  }}
  chain flood {{
    type filter hook prerouting priority raw; policy accept;
    update @sources {{ ip saddr limit rate over {limit} packets }} drop
    drop
  }}
}}
"
    )
}

/// `flood`: a million sources, each over its limit, so that nearly all of it is dropped.
pub(crate) fn over() -> Result<Measured> {
    compare(
        OVER_SOURCES,
        WARM_UP_OVER,
        &subject::flood_config(RECEIVER, subject::TWO_PACKETS),
        &nftables("1/hour burst 1"),
    )
}

/// `flood-within`: 16 million sources, each within its limit, so that all of it is let
/// through.
pub(crate) fn within() -> Result<Measured> {
    compare(
        RANDOM_SOURCES,
        WARM_UP_WITHIN,
        &subject::flood_config(RECEIVER, subject::PER_SOURCE),
        &nftables("1000/second burst 1000"),
    )
}

/// `abuser` and nftables take turns, each at the end of a cable of its own.
fn compare(sources: u32, warm_up: u32, config: &str, rules: &str) -> Result<Measured> {
    let abuser = AbuserEnd::start(sources, config)?;
    let nftables = NftablesEnd::start(sources, rules)?;
    abuser.flood.packets_per_second(warm_up)?;
    nftables.flood.packets_per_second(warm_up)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        ours.push(abuser.flood.packets_per_second(FRAMES)?);
        theirs.push(nftables.flood.packets_per_second(FRAMES)?);
    }
    Ok(Measured {
        value: median(&ours),
        reference: Some(median(&theirs)),
        ..Measured::default()
    })
}

/// The daemon at the receiving end of a flood.
pub(crate) struct AbuserEnd {
    // Dropped in this order: the daemon lets go of the cable first.
    pub(crate) daemon: Daemon,
    pub(crate) flood: Flood,
}

impl AbuserEnd {
    /// Starts it; nothing is sent yet.
    pub(crate) fn start(sources: u32, config: &str) -> Result<Self> {
        let flood = Flood::lay(sources)?;
        flood.nft(SINK)?;
        let binary = testkit::abuser_binary()?;
        let daemon = Daemon::try_start(&binary, &flood.wire.server, config)
            .context("start abuser at the receiving end")?;
        Ok(Self { daemon, flood })
    }
}

/// nftables at the receiving end of a flood.
struct NftablesEnd {
    flood: Flood,
    /// A veth takes redirected frames only if its other end has an XDP program.
    _pass: (Programs, XdpLinkId),
}

impl NftablesEnd {
    fn start(sources: u32, rules: &str) -> Result<Self> {
        let flood = Flood::lay(sources)?;
        let mut programs = Programs::load(&[Name::BarePass])?;
        let index = flood.wire.server_end.index();
        let link = flood.wire.server.run(|| {
            programs
                .get_mut(Name::BarePass)?
                .attach_to_if_index(index, XdpMode::Driver)
                .context("attach a bare XDP_PASS to the receiving end")
        })?;
        flood.nft(rules)?;
        Ok(Self {
            flood,
            _pass: (programs, link),
        })
    }
}
