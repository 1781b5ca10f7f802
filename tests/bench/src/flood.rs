//! Throughput: how many packets of a flood get a verdict each second, by `abuser` and by
//! nftables with the same limit.
//!
//! The flood and the filter share a CPU, as a network card's interrupts and the filter do:
//! the kernel makes a batch of frames, hands it over, and the receiving end works it off.

use anyhow::{Context as _, Result};
use aya::programs::{XdpMode, xdp::XdpLinkId};
use testkit::Daemon;

use crate::{
    programs::{Name, Programs},
    scenario::Measured,
    statistics::median,
    subject,
    wire::{Flood, RECEIVER},
};

/// How often each filter takes its turn.
const REPEATS: usize = 5;
/// Frames in a turn.
const FRAMES: u32 = 2_000_000;
/// Frames before measuring, for each filter.
const WARM_UP: u32 = 4_000_000;

/// What becomes of packets that the filter under test lets through.
pub(crate) const SINK: &str = "
table ip bench {
  chain sink {
    type filter hook prerouting priority raw; policy accept;
    drop
  }
}
";

/// The same limit as `abuser`'s, as people write it, with room for every source; then the
/// same sink.
const NFTABLES: &str = "
table ip bench {
  set sources {
    type ipv4_addr
    size 16777216
    flags dynamic
  }
  chain flood {
    type filter hook prerouting priority raw; policy accept;
    update @sources { ip saddr limit rate over 1000/second burst 1000 packets } drop
    drop
  }
}
";

/// `abuser` and nftables take turns, each at the end of a cable of its own.
pub(crate) fn measure() -> Result<Measured> {
    let abuser = AbuserEnd::new()?;
    let nftables = NftablesEnd::new()?;
    abuser.flood.packets_per_second(WARM_UP)?;
    nftables.flood.packets_per_second(WARM_UP)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        ours.push(abuser.flood.packets_per_second(FRAMES)?);
        theirs.push(nftables.flood.packets_per_second(FRAMES)?);
    }
    Ok(Measured {
        value: median(&ours),
        reference: Some(median(&theirs)),
        median: None,
    })
}

/// The daemon at the receiving end.
pub(crate) struct AbuserEnd {
    // Dropped in this order: the daemon lets go of the cable first.
    pub(crate) daemon: Daemon,
    pub(crate) flood: Flood,
}

impl AbuserEnd {
    pub(crate) fn new() -> Result<Self> {
        let flood = Flood::lay()?;
        flood.nft(SINK)?;
        let binary = testkit::abuser_binary()?;
        let config = subject::daemon_config(RECEIVER);
        let daemon = Daemon::try_start(&binary, &flood.wire.server, &config)
            .context("start abuser at the receiving end")?;
        Ok(Self { daemon, flood })
    }
}

/// nftables at the receiving end.
struct NftablesEnd {
    flood: Flood,
    /// A veth takes redirected frames only if its other end has an XDP program.
    _pass: (Programs, XdpLinkId),
}

impl NftablesEnd {
    fn new() -> Result<Self> {
        let flood = Flood::lay()?;
        let mut programs = Programs::load(&[Name::BarePass], 0)?;
        let index = flood.wire.server_end.index();
        let link = flood.wire.server.run(|| {
            programs
                .get_mut(Name::BarePass)?
                .attach_to_if_index(index, XdpMode::Driver)
                .context("attach a bare XDP_PASS to the receiving end")
        })?;
        flood.nft(NFTABLES)?;
        Ok(Self {
            flood,
            _pass: (programs, link),
        })
    }
}
