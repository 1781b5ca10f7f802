//! Bans that come and go by the API, also while the daemon is killed, and what there must be of them:
//! what was acknowledged is in the kernel at once, and there after any restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use abuser_common::{layout::Ban, prefix::PrefixKey};
use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData, MapError};

use super::{
    log,
    stage::{BANNED, Moment, Stage, lock},
    verdict::Promise,
};
use crate::control::{Connection, ban_table};

/// Sources that are banned for good, and unbanned again: the range for benchmarks (RFC 2544).
const KEPT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const KEPT_SOURCES: u32 = 4_000;
/// How many of them are banned once as many bans are made as lifted: of seven, four.
const USUALLY_KEPT: u32 = KEPT_SOURCES * 4 / 7;
/// So many of these in one request.
const AT_ONCE: usize = 100;
/// Sources that are banned for a while.
const PASSING: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const PASSING_SOURCES: u32 = 60_000;
/// The longest such ban, in seconds.
const LONGEST: u64 = 10;
/// From one call to the next.
const CALL: Duration = Duration::from_millis(5);

/// What was asked for and acknowledged.
#[derive(Debug)]
pub(super) struct Churn {
    random: fastrand::Rng,
    kept: BTreeSet<Ipv4Addr>,
    /// What was asked for when the daemon went, and not answered: both outcomes are right.
    unanswered: Option<(Ipv4Addr, Change)>,
    pub(super) counts: Counts,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Calls that were acknowledged.
    pub(super) calls: u64,
    /// Calls that had no answer because the daemon went.
    pub(super) unanswered: u64,
    /// Comparisons of all bans.
    pub(super) checks: u64,
}

/// One change, of one source.
#[derive(Clone, Copy, Debug)]
enum Change {
    Keep,
    Lift,
    /// For so many seconds.
    Pass(u64),
}

impl Churn {
    /// Bans as many as there will be, so that their number does not grow from here on.
    pub(super) fn begin(connection: &mut Connection) -> Result<Self> {
        let mut churn = Self {
            random: fastrand::Rng::with_seed(7),
            kept: BTreeSet::new(),
            unanswered: None,
            counts: Counts::default(),
        };
        if let IpAddr::V4(banned) = BANNED {
            ask(connection, banned, Change::Keep)?;
        }
        let numbers: Vec<_> = (0..USUALLY_KEPT).collect();
        for some in numbers.chunks(AT_ONCE) {
            let sources = some.iter().map(|number| KEPT.to_bits() + number);
            let sources: Vec<_> = sources.map(Ipv4Addr::from_bits).collect();
            connection.ask_to_ban_all(&sources, None)?;
            connection.acknowledged()?;
            churn.kept.extend(sources);
        }
        Ok(churn)
    }

    /// Goes on until all is over.
    pub(super) fn go_on(&mut self, stage: &Stage, check: Duration) {
        let mut last_check = Instant::now();
        while stage.wait_until_up() && !stage.is_over() {
            let moment = stage.moment();
            match self.live(stage, moment, check, &mut last_check) {
                Ok(()) => break,
                // The daemon went: whoever asked next was refused.
                Err(_) if !stage.is_same_life(moment) => {
                    self.counts.unanswered += 1;
                    if let Some((source, Change::Lift)) = self.unanswered {
                        stage.cut_off(source);
                    }
                }
                Err(error) => {
                    stage.fault(
                        Promise::Answers,
                        format!("a ban or its end failed: {error:#}"),
                    );
                    stage.sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Goes on until the daemon goes, which is an error.
    fn live(
        &mut self,
        stage: &Stage,
        moment: Moment,
        check: Duration,
        last_check: &mut Instant,
    ) -> Result<()> {
        let mut connection = stage.connect()?;
        // What was acknowledged by one that is gone must be there before anything is changed.
        self.check(stage)?;
        *last_check = Instant::now();
        if let Some((source, _)) = self.unanswered {
            let change = if is_kept_range(source) {
                Change::Keep
            } else {
                Change::Pass(LONGEST)
            };
            ask(&mut connection, source, change)?;
            self.note(source, change);
            self.unanswered = None;
        }
        let table = ban_table(&stage.pin_dir)?;
        while !stage.is_over() {
            let (source, change) = self.next();
            let begun = Instant::now();
            self.unanswered = Some((source, change));
            ask(&mut connection, source, change)?;
            self.unanswered = None;
            lock(&stage.timings.calls).push(begun.elapsed().as_secs_f64() * 1e3);
            self.note(source, change);
            look_up(stage, moment, &table, source, change, begun)?;
            thread::sleep(CALL);
            if last_check.elapsed() >= check {
                self.check(stage)?;
                *last_check = Instant::now();
            }
        }
        Ok(())
    }

    /// A ban for good, its end, or a ban for a while.
    fn next(&mut self) -> (Ipv4Addr, Change) {
        if self.random.bool() {
            let source = PASSING.to_bits() + self.random.u32(..PASSING_SOURCES);
            let seconds = self.random.u64(1..=LONGEST);
            return (Ipv4Addr::from_bits(source), Change::Pass(seconds));
        }
        let source = KEPT.to_bits() + self.random.u32(..KEPT_SOURCES);
        let source = Ipv4Addr::from_bits(source);
        // One of four bans that are there already is renewed.
        if self.kept.contains(&source) && self.random.u8(..4) > 0 {
            (source, Change::Lift)
        } else {
            (source, Change::Keep)
        }
    }

    fn note(&mut self, source: Ipv4Addr, change: Change) {
        self.counts.calls += 1;
        match change {
            Change::Keep if is_kept_range(source) => {
                self.kept.insert(source);
            }
            Change::Lift => {
                self.kept.remove(&source);
            }
            Change::Keep | Change::Pass(_) => {}
        }
    }

    /// Compares the kernel's table and the list with what there must be.
    pub(super) fn check(&mut self, stage: &Stage) -> Result<()> {
        // Nobody restarts it meanwhile.
        let daemon = stage.daemon();
        let list = daemon.try_json(&["ban", "list"])?;
        let list = list.as_array().context("`ban list --json` is no list")?;
        let mut listed = BTreeMap::new();
        for ban in list {
            let source = ban["source"].as_str().unwrap_or_default();
            let address = source.trim_end_matches("/32").parse::<Ipv4Addr>();
            let cause = ban["cause"].as_str().unwrap_or_default().to_owned();
            match address {
                Ok(address) => {
                    listed.insert(address, cause);
                }
                Err(_) => stage.fault(Promise::WrongBans, format!("{source} is banned")),
            }
        }
        let table = ban_table(&stage.pin_dir)?;
        for source in self.must_be() {
            if !listed.contains_key(&source) {
                stage.fault(
                    Promise::LostBans,
                    format!("the ban of {source} was acknowledged and is not in the list"),
                );
            }
            if is_in(&table, source)?.is_none() {
                stage.fault(
                    Promise::LostBans,
                    format!("the ban of {source} was acknowledged and is not in the kernel"),
                );
            }
        }
        for (source, cause) in &listed {
            if !self.may_be(stage, *source, cause) {
                stage.fault(
                    Promise::WrongBans,
                    format!("{source} is banned ({cause}), which nobody asked for"),
                );
            }
        }
        self.counts.checks += 1;
        Ok(())
    }

    /// Who is banned for good, as far as that is known.
    fn must_be(&self) -> impl Iterator<Item = Ipv4Addr> {
        let banned = match BANNED {
            IpAddr::V4(banned) => Some(banned),
            IpAddr::V6(_) => None,
        };
        let kept = self.kept.iter().copied();
        kept.chain(banned)
            .filter(|source| !self.is_unanswered(*source))
    }

    fn is_unanswered(&self, source: Ipv4Addr) -> bool {
        self.unanswered.is_some_and(|(asked, _)| asked == source)
    }

    fn may_be(&self, stage: &Stage, source: Ipv4Addr, cause: &str) -> bool {
        match cause {
            "manual" => {
                self.kept.contains(&source)
                    || self.is_unanswered(source)
                    || source == BANNED
                    || (source.to_bits().wrapping_sub(PASSING.to_bits())) < PASSING_SOURCES
            }
            "detector" => log::is_offender(source, stage.log.offenders()),
            _ => false,
        }
    }
}

fn is_kept_range(source: Ipv4Addr) -> bool {
    source.to_bits().wrapping_sub(KEPT.to_bits()) < KEPT_SOURCES
}

fn ask(connection: &mut Connection, source: Ipv4Addr, change: Change) -> Result<()> {
    match change {
        Change::Keep => connection.ask_to_ban(source, None)?,
        Change::Lift => connection.ask_to_unban(source)?,
        Change::Pass(seconds) => connection.ask_to_ban(source, Some(seconds))?,
    }
    connection.acknowledged()
}

/// Whether the kernel has just what was acknowledged.
fn look_up(
    stage: &Stage,
    moment: Moment,
    table: &HashMap<MapData, PrefixKey, Ban>,
    source: Ipv4Addr,
    change: Change,
    begun: Instant,
) -> Result<()> {
    let found = is_in(table, source)?;
    let right = match change {
        Change::Keep => found.is_some_and(|ban| ban.expires_ns == 0),
        Change::Lift => found.is_none(),
        // It may be over already, if this thread had to wait for a CPU.
        Change::Pass(seconds) => found.is_some() || begun.elapsed().as_secs() >= seconds,
    };
    // Another version may have taken over since the answer: then this is no longer the table.
    if !right && stage.is_same_life(moment) {
        stage.fault(
            Promise::LostBans,
            format!("{change:?} of {source} was acknowledged, but the kernel has {found:?}"),
        );
    }
    Ok(())
}

pub(super) fn is_in(
    table: &HashMap<MapData, PrefixKey, Ban>,
    source: Ipv4Addr,
) -> Result<Option<Ban>> {
    let key = PrefixKey::new(source.into(), 32).context("an address is a prefix")?;
    match table.get(&key, 0) {
        Ok(ban) => Ok(Some(ban)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error).context("look into the ban table"),
    }
}
