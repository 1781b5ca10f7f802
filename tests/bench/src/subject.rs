//! `abuser` under test: all that knows its tables and its configuration.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use abuser::{
    config,
    dataplane::{
        Dataplane, program,
        throttles::{self, Throttled, Throttling},
    },
};
use abuser_common::{
    layout::{AllowOrigin, Ban, Outcome},
    prefix::PrefixKey,
};
use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use testkit::Janitor;

use crate::{prefixes::Prefix, timed::Timed};

/// The interface that frames come in on in the kernel's test harness, by its index.
const LOOPBACK: u32 = 1;

/// A limit that the bench's UDP packets do not match.
pub(crate) const NO_MATCH: &str = r#"
[[limit]]
name = "other"
protocol = "tcp"
ports = [443]
rate = "1k/s"
burst = 1000
"#;

/// A limit that one source cannot exceed, however fast the machine.
macro_rules! wide {
    ($name:literal) => {
        concat!(
            "\n[[limit]]\nname = \"",
            $name,
            "\"\nprotocol = \"udp\"\nrate = \"100M/s\"\nburst = 100000000\n"
        )
    };
}

/// One such limit.
pub(crate) const WIDE: &str = wide!("wide");

/// Three, all for the same packets.
pub(crate) const THREE_WIDE: &str = concat!(wide!("wide"), wide!("wide-too"), wide!("as-wide"));

/// One, for throttled sources only.
pub(crate) const ONLY_THROTTLED: &str = concat!(wide!("wide"), "only = \"throttled\"\n");

/// A limit that one source exceeds with its second packet.
pub(crate) const NARROW: &str = r#"
[[limit]]
name = "narrow"
protocol = "udp"
rate = "1/d"
"#;

/// The limit of the random scenarios, which none of 16 million sources exceeds; the
/// references have the same.
pub(crate) const PER_SOURCE: &str = r#"
[[limit]]
name = "source"
protocol = "udp"
rate = "1k/s"
burst = 1000
"#;

/// A limit that a source exceeds with its third packet, for good.
pub(crate) const TWO_PACKETS: &str = r#"
[[limit]]
name = "source"
protocol = "udp"
rate = "1/h"
burst = 1
"#;

/// The port whose limit an offender exceeds with its second packet.
pub(crate) const OFFENCE_PORT: u16 = 9;

/// The daemon's configuration for a flood under this limit. It bans nobody.
pub(crate) fn flood_config(interface: &str, limit: &str) -> String {
    daemon_config(interface, limit, 1000)
}

/// The daemon's configuration for offenders in a flood that keeps its limit: it bans them at
/// once.
pub(crate) fn offender_config(interface: &str) -> String {
    let limits = format!(
        r#"{PER_SOURCE}
[[limit]]
name = "offence"
protocol = "udp"
ports = [{OFFENCE_PORT}]
rate = "1/s"
"#
    );
    daemon_config(interface, &limits, 1)
}

/// The daemon's configuration on an interface without a driver of its own.
pub(crate) fn generic_config(interface: &str, limit: &str) -> String {
    flood_config(interface, limit).replace(r#""driver""#, r#""generic""#)
}

fn daemon_config(interface: &str, limits: &str, maxretry: u32) -> String {
    format!(
        r#"
interfaces = ["{interface}"]
[xdp]
mode = "driver"
{limits}
[ban]
require_verified = false
maxretry = {maxretry}
findtime = "10m"
bantime = "10m"
"#
    )
}

/// The program in the kernel, not attached, with pins of its own that vanish with it.
pub(crate) struct Abuser {
    dataplane: Option<Dataplane>,
    /// The same program at a time that the frame tells.
    timed: Option<Timed>,
    _runtime: tokio::runtime::Runtime,
    pin_dir: PathBuf,
    // Dropped last: it removes the pins if this process is killed.
    _janitor: Janitor,
}

impl Abuser {
    /// Loads the program with limits as a configuration file has them.
    pub(crate) fn load(limits: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let config = config::parse(limits, Path::new("limits"))
            .context("read the limits of a scenario as abuser's configuration")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/abuser-bench-{process}-{count}"));
        let janitor = Janitor::hire(&[&pin_dir]).context("start the shell that removes pins")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let dataplane = {
            let _entered = runtime.enter();
            Dataplane::load(&pin_dir, 0).context("load abuser's program")?
        };
        let mut abuser = Self {
            dataplane: Some(dataplane),
            timed: None,
            _runtime: runtime,
            pin_dir,
            _janitor: janitor,
        };
        // As on an interface that is protected.
        let packets = abuser.dataplane()?.packets_mut();
        packets
            .begin(LOOPBACK, false)
            .context("have the harness's packets counted")?;
        abuser
            .dataplane()?
            .set_limits(&config.limits, false, &Throttled::new())
            .context("put the limits of a scenario in force")?;
        Ok(abuser)
    }

    /// [`Abuser::load`], and beside it the program whose clock is in the caller's hands.
    pub(crate) fn load_timed(limits: &str) -> Result<Self> {
        let mut abuser = Self::load(limits)?;
        let pin_dir = abuser.pin_dir.clone();
        abuser.timed = Some(Timed::load(program::OBJECT, &pin_dir)?);
        Ok(abuser)
    }

    /// The program of [`Abuser::load_timed`].
    pub(crate) fn timed(&mut self) -> Result<&Xdp> {
        let timed = self.timed.as_mut();
        Ok(timed.context("no timed program is loaded")?.program()?)
    }

    /// Bans prefixes for good.
    pub(crate) fn ban(&mut self, prefixes: &[Prefix]) -> Result<()> {
        let entries = (1..)
            .zip(prefixes)
            .map(|(id, prefix)| {
                let ban = Ban {
                    id,
                    ..Ban::default()
                };
                Ok((key(*prefix)?, ban))
            })
            .collect::<Result<Vec<_>>>()?;
        let (table, hints) = self.dataplane()?.bans();
        table
            .insert(hints, &entries)
            .with_context(|| format!("ban {} prefixes", prefixes.len()))?;
        Ok(())
    }

    /// Allows prefixes.
    pub(crate) fn allow(&mut self, prefixes: &[Prefix]) -> Result<()> {
        let entries = prefixes
            .iter()
            .map(|prefix| Ok((key(*prefix)?, AllowOrigin::Command as u64)))
            .collect::<Result<Vec<_>>>()?;
        let (table, hints) = self.dataplane()?.allowed();
        table
            .insert(hints, &entries)
            .with_context(|| format!("allow {} prefixes", prefixes.len()))?;
        Ok(())
    }

    /// Throttles prefixes by the limit of [`ONLY_THROTTLED`].
    pub(crate) fn throttle(&mut self, prefixes: &[Prefix]) -> Result<()> {
        let (table, hints, limits) = self.dataplane()?.throttled();
        let throttling = Throttling {
            limit: "wide".into(),
            expires_ns: 0,
        };
        let entry = throttles::entry(&[throttling], limits.configs(), limits.bank());
        let entries = prefixes
            .iter()
            .map(|prefix| Ok((key(*prefix)?, entry)))
            .collect::<Result<Vec<_>>>()?;
        table
            .insert(hints, &entries)
            .with_context(|| format!("throttle {} prefixes", prefixes.len()))?;
        Ok(())
    }

    /// The loaded program.
    pub(crate) fn program(&mut self) -> Result<&Xdp> {
        let program = program::xdp(self.dataplane()?.program_mut());
        Ok(program.context("find abuser's program")?)
    }

    /// The share of packets that came to this outcome, of all since the program was loaded.
    pub(crate) fn share(&mut self, wanted: Outcome) -> Result<f64> {
        let outcomes = self.dataplane()?.counters().packets().outcomes();
        let (mut of_wanted, mut of_all) = (0, 0);
        for (outcome, traffic) in outcomes.context("read abuser's counters")? {
            of_all += traffic.packets;
            if outcome == wanted {
                of_wanted += traffic.packets;
            }
        }
        ensure!(of_all > 0, "abuser's program saw no packet");
        #[expect(clippy::cast_precision_loss, reason = "counts here are below 2^52")]
        Ok(of_wanted as f64 / of_all as f64)
    }

    fn dataplane(&mut self) -> Result<&mut Dataplane> {
        self.dataplane.as_mut().context("the data plane is gone")
    }
}

impl Drop for Abuser {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            let _detached = dataplane.shut_down();
        }
    }
}

fn key(prefix: Prefix) -> Result<PrefixKey> {
    let Prefix { address, length } = prefix;
    PrefixKey::new(address.into(), length)
        .with_context(|| format!("{address}/{length} is not a prefix to abuser"))
}
