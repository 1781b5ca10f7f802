//! Everything at once for as long as it takes: a flood, bans that come and go, a log with offenders in it,
//! people who look, reloads and restarts. What grows meanwhile would grow for good, and what is lost
//! would be lost on a bad day.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `cli` | `cargo xtask soak` |
//! | `plan` | when what happens |
//! | `stage` | what all of it shares: the daemon, the cable, what went wrong |
//! | `churn` | bans by the API |
//! | `log` | an access log and who offends in it |
//! | `clients` | a banned source and a clean one that send all the while |
//! | `people` | who looks and reloads |
//! | `lives` | restarts, and counters over them |
//! | `sample` | how it stands at one moment |
//! | `verdict` | what is promised, and whether anything grew |
//! | `conclusion` | the verdicts and the figures of a run |
//! | `record`, `plot` | what is kept of it: lines of JSON, a table, a picture |

mod churn;
mod cli;
mod clients;
mod conclusion;
mod lives;
mod log;
mod people;
mod plan;
mod plot;
mod record;
mod sample;
mod stage;
mod verdict;

use std::{
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

pub use self::cli::main;
use self::{
    churn::Churn,
    clients::Clients,
    conclusion::Done,
    lives::Lives,
    plan::{FLOOD_PERIOD, Plan, Restart},
    record::{Line, Record, Restarted},
    sample::Sampler,
    stage::Stage,
};
use crate::wire::Background;

/// From one look at what is due to the next.
const TICK: Duration = Duration::from_millis(20);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether every promise was kept.
    pub passed: bool,
    /// Each promise, and what was measured, as a table of Markdown.
    pub table: String,
}

/// Soaks for so long. It takes root, and `ABUSER_BIN` as the tests do.
///
/// # Errors
/// If it could not be done. A promise that was not kept is no error: see [`Report`].
pub fn run(time: Duration) -> Result<Report> {
    let mut record = Record::new(false);
    soak(&Plan::of(time), &mut record)?;
    Ok(Report {
        passed: record.end.passed,
        table: record.table(),
    })
}

/// Soaks, and writes down what happens.
fn soak(plan: &Plan, record: &mut Record) -> Result<()> {
    let stage = Stage::set()?;
    let mut lives = Lives::begin(&stage)?;
    let mut churn = Churn::begin(&mut stage.connect()?)?;
    let mut flood = stage.flood.send_paced(plan.frames, FLOOD_PERIOD);
    let mut clients = Clients::start(&stage.flood.wire)?;
    let mut sampler = Sampler::begin();
    let stage = &stage;
    let (people, offenders) = thread::scope(|scope| {
        // If one of them fails, all end.
        let churning = scope.spawn(|| churn.go_on(stage, plan.check));
        let writing = scope.spawn(|| ending(stage, log::write_on(stage, plan.rotation)));
        let offending = scope.spawn(|| ending(stage, log::offend(stage, plan.offender)));
        let looking = scope.spawn(|| ending(stage, people::go_on(stage, plan.look)));
        // Daemons belong to the thread that starts them.
        let conducted = conduct(
            plan,
            stage,
            &mut lives,
            &mut sampler,
            &flood,
            &clients,
            record,
        );
        stage.end();
        let people = joined(looking);
        let offenders = joined(offending);
        churning.join().map_err(|_| panicked())?;
        joined(writing)?;
        conducted?;
        Ok::<_, anyhow::Error>((people?, offenders?))
    })?;
    flood.stop()?;
    clients.stop()?;
    churn.check(stage)?;
    lives.no_repairs(stage, &stage.daemon())?;
    let (outcomes, received) = lives.compare_exactly(stage)?;
    let done = Done {
        seconds: sampler.seconds(),
        churn: churn.counts,
        people,
        offenders_banned: offenders,
        datagrams: clients.datagrams(),
        outcomes,
        received,
        flood_sent: flood.sent(),
    };
    let end = conclusion::conclude(plan, stage, &lives, &done, record);
    record.add(Line::End(end))
}

/// Ends all if this has failed.
fn ending<T>(stage: &Stage, result: Result<T>) -> Result<T> {
    if result.is_err() {
        stage.end();
    }
    result
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let result = thread.join();
    result.map_err(|_| panicked())?
}

fn panicked() -> anyhow::Error {
    anyhow!("a thread of the soak panicked")
}

/// Restarts and takes samples when they are due, until the time is over or something has failed.
fn conduct(
    plan: &Plan,
    stage: &Stage,
    lives: &mut Lives,
    sampler: &mut Sampler,
    flood: &Background,
    clients: &Clients,
    record: &mut Record,
) -> Result<()> {
    let begun = Instant::now();
    let (mut next_restart, mut next_sample) = (plan.calm, plan.sample);
    let mut told = 0;
    let mut kinds = Restart::ALL.iter().cycle();
    while begun.elapsed() < plan.time && !stage.is_over() {
        anyhow::ensure!(!flood.has_ended(), "the flood ended before its time");
        if begun.elapsed() >= next_sample {
            next_sample = begun.elapsed() + plan.sample;
            let sample = sampler.take(stage, lives, flood, clients)?;
            let minute = begun.elapsed().as_secs() / 60;
            if minute > told {
                told = minute;
                eprintln!("{}", conclusion::progress(minute, &sample));
            }
            record.add(Line::Sample(sample))?;
        } else if begun.elapsed() >= next_restart {
            next_restart = begun.elapsed() + plan.life;
            if let Some(kind) = kinds.next() {
                let seconds = sampler.seconds();
                lives.restart(stage, *kind)?;
                sampler.next_life();
                record.add(Line::Restart(Restarted {
                    seconds,
                    kind: *kind,
                    away_ms: lives.away_ms.last().copied().unwrap_or_default(),
                }))?;
            }
        }
        thread::sleep(TICK);
    }
    Ok(())
}
