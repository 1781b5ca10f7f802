//! People and programs that look, and the administrator who reloads: now and then a configuration
//! that changes limits, and one that is wrong.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use testkit::LineStream;

use super::{
    stage::{Moment, Stage},
    verdict::Promise,
};

/// What people ask.
const LOOKS: [&[&str]; 5] = [
    &["ban", "list", "--json"],
    &["status", "--json"],
    &["explain", "198.18.0.1", "--json"],
    &["limits", "--json"],
    &["top", "--json"],
];
/// How many turns of all of it a stream of events is followed.
const FOLLOWED: u64 = 5;
/// An event must come within this on a stream: bans come and go many times a second.
const FIRST_EVENT: Duration = Duration::from_secs(10);

/// One more limit.
const MORE: &str = r#"
[[limit]]
name = "extra"
protocol = "tcp"
ports = [4000]
rate = "5/s"
burst = 10
"#;
/// A key that does not exist.
const WRONG: &str = "\n[[limit]]\nname = \"wrong\"\nprot = \"udp\"\n";

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) looks: u64,
    pub(super) scrapes: u64,
    pub(super) streams: u64,
    pub(super) reloads: u64,
    pub(super) refused_reloads: u64,
}

/// Looks and reloads in turn, until all is over.
pub(super) fn go_on(stage: &Stage, pause: Duration) -> Result<Counts> {
    let path = stage.daemon().config_path();
    let good = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut administrator = Administrator { good, turn: 0 };
    let mut counts = Counts::default();
    let mut stream: Option<(u64, Moment, LineStream)> = None;
    let mut turn = 0;
    while !stage.is_over() {
        stage.sleep(pause);
        turn += 1;
        // Nobody restarts it while this is held.
        let daemon = stage.daemon();
        let kinds = LOOKS.len() as u64 + 2;
        let looked = match turn % kinds {
            0 => administrator.reload(&daemon, &mut counts),
            1 => scrape(stage).map(|()| counts.scrapes += 1),
            kind => {
                let at = usize::try_from(kind - 2).unwrap_or_default();
                let output = daemon.abuser(LOOKS.get(at).copied().unwrap_or_default());
                counts.looks += 1;
                if output.status.success() {
                    Ok(())
                } else {
                    Err(anyhow::anyhow!("{output}"))
                }
            }
        };
        if let Err(error) = looked {
            stage.fault(Promise::Answers, format!("{error:#}"));
        }
        match &stream {
            None => {
                let mut command = daemon.command(&["events", "--json"]);
                // It says so when the daemon goes, which is no news.
                command.stderr(Stdio::null());
                let started = LineStream::start(command);
                let started = started.context("run `abuser events`")?;
                stream = Some((turn, stage.moment(), started));
            }
            Some((since, moment, lines)) if since + FOLLOWED <= turn => {
                let is_silent = lines.next_line(FIRST_EVENT).is_none();
                if is_silent && stage.is_same_life(*moment) {
                    stage.fault(
                        Promise::Answers,
                        format!("`abuser events` told nothing within {FIRST_EVENT:?}"),
                    );
                }
                counts.streams += 1;
                stream = None;
            }
            Some(_) => {}
        }
    }
    Ok(counts)
}

/// As Prometheus does it.
fn scrape(stage: &Stage) -> Result<()> {
    let mut connection = stage.connect()?;
    let page = connection.get("/metrics")?;
    ensure!(
        page.contains("abuser_packets_total"),
        "`GET /metrics` told nothing of packets"
    );
    Ok(())
}

/// Who changes the configuration.
#[derive(Debug)]
struct Administrator {
    good: String,
    turn: usize,
}

impl Administrator {
    fn reload(&mut self, daemon: &testkit::Daemon, counts: &mut Counts) -> Result<()> {
        let variants = [
            (format!("{}{MORE}", self.good), &["flood", "extra"][..]),
            (
                format!("{}{}", self.good, MORE.replace("5/s", "7/s")),
                &["flood", "extra"],
            ),
            (self.good.clone(), &["flood"]),
        ];
        let path = daemon.config_path();
        let write = |text: &str| {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        let (variant, wanted) = &variants[self.turn % variants.len()];
        self.turn += 1;
        write(variant)?;
        let output = daemon.abuser(&["reload"]);
        ensure!(output.status.success(), "{output}");
        has_limits(daemon, wanted)?;
        counts.reloads += 1;
        write(&format!("{variant}{WRONG}"))?;
        let output = daemon.abuser(&["reload"]);
        // Whatever comes of it, the next daemon finds what is right.
        write(variant)?;
        ensure!(
            output.status.code() == Some(2),
            "a wrong configuration was not refused: {output}"
        );
        has_limits(daemon, wanted)?;
        counts.refused_reloads += 1;
        Ok(())
    }
}

/// Makes sure that just these limits are in force.
fn has_limits(daemon: &testkit::Daemon, wanted: &[&str]) -> Result<()> {
    let limits = daemon.try_json(&["limits"])?;
    let limits = limits.as_array().context("`limits --json` is no list")?;
    let names: Vec<_> = limits
        .iter()
        .filter_map(|limit| limit["name"].as_str())
        .collect();
    ensure!(
        names == wanted,
        "after a reload the limits are {names:?}, not {wanted:?}"
    );
    Ok(())
}
