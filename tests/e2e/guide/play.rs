//! A file of the documentation, played from its beginning to its end.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt, fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::signal::Signal;

use super::{
    document::{Document, Hidden, Place, Step},
    likeness::{alike, example, mask},
    stage::Stage,
    terminal::Running,
    traffic::Traffic,
};

/// How long anything may take that is done in milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long without a line no more is expected.
const QUIET: Duration = Duration::from_millis(400);

/// A command that printed something else than is shown.
pub(super) struct Difference {
    place: Place,
    command: String,
    indent: String,
    shown: Vec<String>,
    /// As it would be shown.
    printed: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: $ {}", self.place, self.command)?;
        for (mark, line) in compared(&self.shown, &self.printed) {
            writeln!(f, "  {mark} {line}")?;
        }
        writeln!(f)
    }
}

/// What came of a file.
pub(super) struct Played {
    /// Commands that printed something else.
    pub(super) differences: Vec<Difference>,
    /// Why it did not come to its end.
    pub(super) broken: Option<Box<dyn Any + Send>>,
}

/// Runs all of a file's commands.
pub(super) fn play(document: &Document) -> Played {
    let mut player = Player {
        stage: Stage::new(),
        daemon: None,
        servers: Vec::new(),
        meanwhile: None,
        started: SystemTime::now(),
        differences: Vec::new(),
    };
    let take_all = || document.steps.iter().for_each(|step| player.take(step));
    let broken = panic::catch_unwind(AssertUnwindSafe(take_all)).err();
    Played {
        differences: player.differences,
        broken,
    }
}

/// Writes what was printed in the place of what is shown.
pub(super) fn rewrite(differences: &[Difference]) {
    let mut files: BTreeMap<&PathBuf, Vec<&Difference>> = BTreeMap::new();
    for difference in differences {
        let path = &difference.place.path;
        files.entry(path).or_default().push(difference);
    }
    for (path, differences) in files {
        let text = fs::read_to_string(path).expect("it was read before");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        // From the end, so that the numbers of those before hold.
        for difference in differences.into_iter().rev() {
            let first = difference.place.line;
            let printed = difference.printed.iter();
            let printed = printed.map(|line| format!("{}{line}", difference.indent));
            let printed = printed.map(|line| line.trim_end().to_owned());
            lines.splice(first..first + difference.shown.len(), printed);
        }
        fs::write(path, lines.join("\n") + "\n").expect("writing the documentation");
        eprintln!("{} is written anew", path.display());
    }
}

struct Player {
    stage: Stage,
    daemon: Option<Running>,
    /// What goes on to the end.
    servers: Vec<Running>,
    /// What happens while the next command runs.
    meanwhile: Option<Traffic>,
    started: SystemTime,
    differences: Vec<Difference>,
}

impl Player {
    fn take(&mut self, step: &Step) {
        match step {
            Step::File { path, text } => self.stage.write(path, text),
            Step::Database { path, sql } => self.stage.write_database(path, sql),
            Step::Hidden { place, what } => self.do_hidden(place, what),
            Step::Command {
                place,
                command,
                shown,
                indent,
            } => {
                let printed = self.run(place, command).1;
                if !alike(shown, &printed) {
                    let printed = printed.iter();
                    self.differences.push(Difference {
                        place: place.clone(),
                        command: command.clone(),
                        indent: indent.clone(),
                        shown: shown.clone(),
                        printed: printed.map(|line| example(line, self.started)).collect(),
                    });
                }
            }
        }
    }

    fn do_hidden(&mut self, place: &Place, what: &Hidden) {
        match what {
            Hidden::Shell(command) => {
                let (succeeded, printed) = self.run(place, command);
                let printed = printed.join("\n");
                assert!(succeeded, "{place}: `{command}` failed:\n{printed}");
            }
            Hidden::Until(command) => {
                let deadline = Instant::now() + PATIENCE;
                while !self.succeeds(command) {
                    let is_late = Instant::now() > deadline;
                    assert!(!is_late, "{place}: `{command}` still fails");
                    thread::sleep(Duration::from_millis(20));
                }
            }
            Hidden::Serve(command) => {
                let command = self.stage.shell(&format!("exec {command}"));
                self.servers.push(Running::as_a_daemon(command));
            }
            Hidden::Stop => self.end_daemon(place, Some(Signal::SIGTERM)),
            Hidden::Kill => self.end_daemon(place, Some(Signal::SIGKILL)),
            Hidden::Traffic(traffic) => self.stage.send(traffic),
            Hidden::During(traffic) => self.meanwhile = Some(traffic.clone()),
        }
    }

    /// Runs a line; whether it succeeded, if it ended, and what it printed.
    fn run(&mut self, place: &Place, line: &str) -> (bool, Vec<String>) {
        if is_daemon(line) {
            return self.run_daemon(place, line);
        }
        let mut running = Running::on_a_terminal(self.stage.shell(line));
        if let Some(traffic) = self.meanwhile.take() {
            self.stage.await_listener();
            self.stage.send(&traffic);
            running.await_quiet(2 * QUIET);
            running.signal(Signal::SIGINT);
        }
        let (status, printed) = running.finish(&format!("{place}: `{line}`"));
        (status.success(), printed)
    }

    /// Starts a daemon; what it prints until it is silent, and to the end if that comes.
    fn run_daemon(&mut self, place: &Place, line: &str) -> (bool, Vec<String>) {
        // One that was asked to detach is on its way.
        self.end_daemon(place, None);
        let in_foreground = line.trim_end_matches('&').trim_end();
        let command = self.stage.shell(&format!("exec {in_foreground}"));
        let mut running = Running::as_a_daemon(command);
        let deadline = Instant::now() + PATIENCE;
        while !running.has_ended() && !self.succeeds("abuser status") {
            assert!(Instant::now() < deadline, "{place}: it does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        // Beside one in the background the reader goes on, and sees what happens elsewhere.
        if line == in_foreground
            && let Some(traffic) = self.meanwhile.take()
        {
            self.stage.send(&traffic);
        }
        running.await_quiet(QUIET);
        let has_ended = running.has_ended();
        let printed = running.printed();
        self.daemon = Some(running);
        (!has_ended, printed)
    }

    /// Whether a command succeeds, whatever it prints.
    fn succeeds(&self, command: &str) -> bool {
        let running = Running::on_a_terminal(self.stage.shell(command));
        running.finish(&format!("`{command}`")).0.success()
    }

    fn end_daemon(&mut self, place: &Place, signal: Option<Signal>) {
        let Some(daemon) = self.daemon.take() else {
            assert!(signal.is_none(), "{place}: no daemon runs");
            return;
        };
        if let Some(signal) = signal {
            daemon.signal(signal);
        }
        daemon.finish(&format!("{place}: the daemon"));
    }
}

/// Whether a line starts a daemon.
fn is_daemon(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word == "sudo");
    words.next() == Some("abuser") && words.next() == Some("run")
}

/// Both lists of lines as one: `-` only shown, `+` only printed.
fn compared<'l>(shown: &'l [String], printed: &'l [String]) -> Vec<(char, &'l str)> {
    let same = |a: usize, b: usize| mask(&shown[a]) == mask(&printed[b]);
    // The length of what the rests have in common.
    let mut common = vec![vec![0; printed.len() + 1]; shown.len() + 1];
    for a in (0..shown.len()).rev() {
        for b in (0..printed.len()).rev() {
            common[a][b] = if same(a, b) {
                common[a + 1][b + 1] + 1
            } else {
                common[a + 1][b].max(common[a][b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut lines = Vec::new();
    while a < shown.len() || b < printed.len() {
        if a < shown.len() && b < printed.len() && same(a, b) {
            lines.push((' ', shown[a].as_str()));
            (a, b) = (a + 1, b + 1);
        } else if b == printed.len() || (a < shown.len() && common[a + 1][b] >= common[a][b + 1]) {
            lines.push(('-', shown[a].as_str()));
            a += 1;
        } else {
            lines.push(('+', printed[b].as_str()));
            b += 1;
        }
    }
    lines
}
