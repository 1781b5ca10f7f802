//! Bans that come and go, and what there should be of them at any time.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::Daemon;

use super::connection::Connection;

/// Sources that are banned for good, and unbanned again: the range for benchmarks (RFC 2544).
const KEPT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const KEPT_SOURCES: u32 = 4_000;
/// How many of them are banned once as many bans are made as lifted: of seven, four.
const USUALLY_KEPT: u32 = KEPT_SOURCES * 4 / 7;
/// Sources that are banned for a while.
const PASSING: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const PASSING_SOURCES: u32 = 60_000;
/// The longest such ban, in seconds.
const LONGEST: u64 = 10;

/// What was asked for and acknowledged.
pub(super) struct Churn {
    random: fastrand::Rng,
    kept: BTreeSet<Ipv4Addr>,
    calls: u64,
}

impl Churn {
    /// Bans as many as there will be, so that their number does not grow from here on.
    pub(super) fn begin(connection: &mut Connection) -> Result<Self> {
        let mut kept = BTreeSet::new();
        for number in 0..USUALLY_KEPT {
            let source = Ipv4Addr::from_bits(KEPT.to_bits() + number);
            connection.ask_to_ban(source, None)?;
            connection.acknowledged()?;
            kept.insert(source);
        }
        Ok(Self {
            random: fastrand::Rng::with_seed(7),
            kept,
            calls: u64::from(USUALLY_KEPT),
        })
    }

    /// One call: a ban for good, its end, or a ban for a while; how long it took.
    pub(super) fn call(&mut self, connection: &mut Connection) -> Result<Duration> {
        let begun = Instant::now();
        if self.random.bool() {
            let source = PASSING.to_bits() + self.random.u32(..PASSING_SOURCES);
            let seconds = self.random.u64(1..=LONGEST);
            connection.ask_to_ban(Ipv4Addr::from_bits(source), Some(seconds))?;
            connection.acknowledged()?;
        } else {
            let source = KEPT.to_bits() + self.random.u32(..KEPT_SOURCES);
            let source = Ipv4Addr::from_bits(source);
            // One of four bans that are there already is renewed.
            if self.kept.contains(&source) && self.random.u8(..4) > 0 {
                connection.ask_to_unban(source)?;
                connection.acknowledged()?;
                self.kept.remove(&source);
            } else {
                connection.ask_to_ban(source, None)?;
                connection.acknowledged()?;
                self.kept.insert(source);
            }
        }
        self.calls += 1;
        Ok(begun.elapsed())
    }

    /// Makes sure that the bans are those that should be, once the passing ones are over.
    pub(super) fn check(&self, daemon: &Daemon) -> Result<()> {
        thread::sleep(Duration::from_secs(LONGEST + 2));
        let list = daemon.try_json(&["ban", "list"])?;
        let list = list.as_array().context("`ban list --json` is no list")?;
        let found = list
            .iter()
            .map(|ban| {
                let source = ban["source"].as_str().unwrap_or_default();
                let address = source.trim_end_matches("/32").parse();
                address.with_context(|| format!("{source} is banned, which nobody asked for"))
            })
            .collect::<Result<BTreeSet<Ipv4Addr>>>()?;
        let (missing, surplus) = (
            self.kept.difference(&found).count(),
            found.difference(&self.kept).count(),
        );
        ensure!(
            missing == 0 && surplus == 0,
            "of {} bans that should be there {missing} are missing, and there are {surplus} that \
             should not be",
            self.kept.len()
        );
        Ok(())
    }

    /// Calls that were acknowledged.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Bans for good that are in force.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}
