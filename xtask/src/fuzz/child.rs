//! One target that runs, and what it says of itself.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::{
    build::Binaries,
    targets::{self, Target},
};

/// How long one input may take: then something takes more time than any input is worth.
const SLOWEST: Duration = Duration::from_secs(20);
/// How much memory a target may have, in MiB.
const MEMORY: u32 = 2048;
/// The longest input that is made, in bytes.
const LONGEST: u32 = 4096;

/// What a target has said of itself last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Inputs that were run.
    pub(super) runs: u64,
    /// Edges of the program that were reached.
    pub(super) edges: u64,
    /// Inputs that each reach something of their own.
    pub(super) inputs: u64,
    pub(super) runs_a_second: u64,
}

/// A target that runs.
pub(super) struct Running {
    child: Child,
    started: Instant,
    /// Until when, by its own clock.
    until: Instant,
    progress: Arc<Mutex<Progress>>,
    reader: JoinHandle<()>,
    cpu: Duration,
}

/// What came of a run.
pub(super) struct Ended {
    pub(super) wall: Duration,
    /// What the processor spent on it.
    pub(super) cpu: Duration,
    pub(super) progress: Progress,
    /// The input that made something not hold, if one did.
    pub(super) finding: Option<Finding>,
}

/// An input that made something not hold.
pub(super) struct Finding {
    target: String,
    input: Option<PathBuf>,
    log: PathBuf,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, input, log } = self;
        match input {
            Some(input) => write!(
                formatter,
                "found:  {target}: {}\nreplay: cargo run -p abuser-fuzz --bin {target} -- {}\nlog:    {}",
                input.display(),
                input.display(),
                log.display()
            ),
            None => write!(
                formatter,
                "{target} ended before its time; see {}",
                log.display()
            ),
        }
    }
}

impl Running {
    /// Starts a target for a time.
    pub(super) fn start(binaries: &Binaries, target: &Target, time: Duration) -> Result<Self> {
        targets::make(&target.working)?;
        targets::make(&target.corpus)?;
        targets::make(&target.findings)?;
        let program = binaries.of(target);
        // It ends with this process, however that ends. Of util-linux, which every Linux has.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .arg(format!("-max_total_time={}", time.as_secs().max(1)))
            .arg(format!("-timeout={}", SLOWEST.as_secs()))
            .arg(format!("-rss_limit_mb={MEMORY}"))
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-artifact_prefix={}/", target.findings.display()))
            .args([
                "-print_final_stats=1",
                "-use_value_profile=1",
                "-report_slow_units=5",
            ])
            .args(
                target
                    .dictionary
                    .as_ref()
                    .map(|path| format!("-dict={}", path.display())),
            )
            .args([&target.working, &target.corpus])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {} by setpriv", program.display()))?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let output = child.stderr.take().context("it was asked for")?;
        let log = fs::File::create(log_of(target)).context("write a log")?;
        let reader = thread::spawn({
            let progress = Arc::clone(&progress);
            move || follow(output, log, &progress)
        });
        let started = Instant::now();
        Ok(Self {
            child,
            started,
            until: started + time,
            progress,
            reader,
            cpu: Duration::ZERO,
        })
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it still runs.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether it has ended; to be asked often, because the time that it took is known until then.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        if let Some(cpu) = cpu_of(self.child.id()) {
            self.cpu = cpu;
        }
        let status = self.child.try_wait().context("wait for a target")?;
        Ok(status.is_some())
    }

    /// What came of it, once it has ended.
    pub(super) fn end(mut self, target: &Target) -> Result<Ended> {
        let status = self.child.wait().context("wait for a target")?;
        let wall = self.started.elapsed();
        let _ = self.reader.join();
        let progress = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let finding = if status.success() {
            None
        } else {
            Some(self::finding(target, self.started)?)
        };
        Ok(Ended {
            wall,
            cpu: self.cpu,
            progress,
            finding,
        })
    }
}

/// The newest input that a run has left.
fn finding(target: &Target, started: Instant) -> Result<Finding> {
    let is_new = |path: &PathBuf| {
        let age = fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()?;
        let name = path.file_name()?.to_str()?;
        (!name.starts_with("slow-unit") && age <= started.elapsed()).then_some(age)
    };
    let files = targets::files(&target.findings)?;
    let newest = files
        .into_iter()
        .filter_map(|path| Some((is_new(&path)?, path)))
        .min();
    let log = log_of(target);
    // The next run writes another one.
    let kept = log.with_extension("found.log");
    fs::copy(&log, &kept).with_context(|| format!("keep {}", log.display()))?;
    Ok(Finding {
        target: target.name.clone(),
        input: newest.map(|(_, path)| path),
        log: kept,
    })
}

fn log_of(target: &Target) -> PathBuf {
    target.findings.with_extension("log")
}

/// Reads what a target says to its end.
fn follow(output: ChildStderr, mut log: fs::File, progress: &Mutex<Progress>) {
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else {
            return;
        };
        let text = String::from_utf8_lossy(&line);
        let mut known = progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = read(&text, *known) {
            *known = told;
        }
        drop(known);
        // Without it there is less to be read afterwards, and nothing else.
        let _ = writeln!(log, "{text}");
    }
}

/// `#131072 pulse  cov: 1180 ft: 3241 corp: 412/31Kb lim: 1101 exec/s: 13107 rss: 62Mb`.
fn read(line: &str, before: Progress) -> Option<Progress> {
    let mut words = line.strip_prefix('#')?.split_whitespace();
    let mut progress = Progress {
        runs: words.next()?.parse().ok()?,
        ..before
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next()?;
            let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        match word {
            "cov:" => progress.edges = number()?,
            "corp:" => progress.inputs = number()?,
            "exec/s:" => progress.runs_a_second = number()?,
            _ => {}
        }
    }
    Some(progress)
}

/// What the processor has spent on a process; `None` if it is gone.
fn cpu_of(process: u32) -> Option<Duration> {
    let text =
        fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    let ticks = ticks(&text)?;
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let a_second = u64::try_from(a_second).ok().filter(|ticks| *ticks > 0)?;
    Some(Duration::from_millis(ticks * 1000 / a_second))
}

/// The fields `utime` and `stime` of `/proc/PID/stat`; see proc(5).
fn ticks(stat: &str) -> Option<u64> {
    // The name may have anything in it, but it is in the last parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_says_is_read() {
        let line =
            "#131072\tpulse  cov: 1180 ft: 3241 corp: 412/31Kb lim: 1101 exec/s: 13107 rss: 62Mb";
        let expected = Progress {
            runs: 131_072,
            edges: 1180,
            inputs: 412,
            runs_a_second: 13_107,
        };
        assert_eq!(read(line, Progress::default()), Some(expected));
        assert_eq!(
            read("#7\tREDUCE", expected).map(|told| told.edges),
            Some(1180)
        );
        for other in [
            "",
            "INFO: Seed: 1",
            "stat::number_of_executed_units: 7",
            "#x",
        ] {
            assert_eq!(read(other, expected), None, "{other}");
        }
    }

    #[test]
    fn the_time_of_a_process_is_read_whatever_it_is_called() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0 9";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks(""), None);
        assert!(cpu_of(std::process::id()).is_some());
    }
}
