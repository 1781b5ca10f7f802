//! What can be said on the command line.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `daemon` | the daemon itself: `run`, `check`, `observe`, `detach` |
//! | `watch` | `top`, `events`, `explain` |
//! | `bans`, `allow`, `throttles` | what is done about sources |
//! | `fleet`, `notify` | the fleet, and who is notified |
//! | `logs` | logs and captures without a daemon: `scan`, `test`, `replay` |
//! | `import` | other programs' configurations |
//! | `values` | how sources and times are written |
//! | `tips` | what to write instead of what is no command |

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that users read, where backticks would show"
)]

mod allow;
mod bans;
mod daemon;
mod fleet;
mod import;
mod logs;
mod notify;
mod throttles;
mod tips;
mod values;
mod watch;

use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(super) use self::{
    allow::AllowCommand,
    bans::{BanAddArgs, BanCommand, BanExportArgs, BanImportArgs},
    daemon::{CheckArgs, DetachArgs, ObserveCommand, RunArgs},
    fleet::{FleetCommand, FleetLoginArgs},
    import::{ImportCommand, ImportOutput},
    logs::{ReplayArgs, ScanArgs, TestArgs},
    notify::{NotifyCommand, NotifyTestArgs},
    throttles::{ThrottleAddArgs, ThrottleCommand},
    values::ban_time,
    watch::{EventsArgs, ExplainArgs, TopArgs},
};

/// Where the daemon listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/abuser/abuser.sock";

/// The variable that says where, unless --socket does.
const SOCKET_VARIABLE: &str = "ABUSER_SOCKET";

/// The commands that ask no daemon.
const ON_THEIR_OWN: [&str; 7] = [
    "check",
    "import",
    "scan",
    "test",
    "replay",
    "completions",
    "man",
];

/// Stops abusive clients at the network card: rate limits and bans in XDP.
///
/// Start protecting an interface with `sudo abuser run -i eth0`, then watch with
/// `abuser events` and `abuser status`, and ban with `abuser ban add 203.0.113.7`.
#[derive(Debug, Parser)]
#[command(
    name = "abuser",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) socket: Socket,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Args {
    /// What was written.
    pub(super) fn read() -> Result<Self, clap::Error> {
        let matches = Self::definition().try_get_matches();
        let args = matches.and_then(|matches| Self::from_arg_matches(&matches));
        args.map_err(|mut error| {
            let words: Vec<_> = std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            tips::add(&mut error, &words);
            error
        })
    }

    /// All that can be written. `--socket` is for every command, so that a script may give it to each, and
    /// shown where it does anything.
    pub(super) fn definition() -> clap::Command {
        let definition = Self::command();
        let shown = definition
            .get_arguments()
            .find(|argument| argument.get_id() == "socket");
        let Some(hidden) = shown.cloned().map(|socket| socket.hide(true)) else {
            return definition;
        };
        ON_THEIR_OWN.into_iter().fold(definition, |all, name| {
            all.mut_subcommand(name, |command| command.arg(hidden.clone()))
        })
    }
}

/// The daemon's socket.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// The socket of the daemon, for commands that ask it [default: $ABUSER_SOCKET, or
    /// /run/abuser/abuser.sock]
    // The variable is not clap's to read: it would count as given in every usage that is shown.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    socket: Option<PathBuf>,
}

impl Socket {
    /// What was given, if anything.
    pub(super) fn given(self) -> Option<PathBuf> {
        let of_the_environment =
            || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        self.socket
            .or_else(|| of_the_environment().map(PathBuf::from))
    }

    /// What was given, or the usual place.
    pub(super) fn path(self) -> PathBuf {
        self.given()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Protect interfaces until interrupted: the daemon
    Run(RunArgs),
    /// Show the daemon at a glance: interfaces, packets by outcome, bans
    Status(JsonArgs),
    /// Show the limits and what was counted under each
    Limits(JsonArgs),
    /// Show the logs that are read, the detectors, and what they found
    Detectors(JsonArgs),
    /// Watch live who is busiest, bans, limits and detectors, and act on what you see
    Top(TopArgs),
    /// Ban sources, lift bans, show who is banned
    #[command(subcommand)]
    Ban(BanCommand),
    /// Allow sources: they are never dropped, whatever limits and bans say
    #[command(subcommand)]
    Allow(AllowCommand),
    /// Throttle sources: a stricter limit applies to them for a while
    #[command(subcommand)]
    Throttle(ThrottleCommand),
    /// Show the fleet of nodes that share bans, set it up, and shut a node out
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Tell what a packet from an address would meet now, and why
    Explain(ExplainArgs),
    /// Follow drops, bans and findings as they happen, a line each
    Events(EventsArgs),
    /// Count the lines of logs: who, how often, since when
    Scan(ScanArgs),
    /// Check a configuration without touching the system
    Check(CheckArgs),
    /// Make a configuration of what fail2ban, nginx, Snort or Suricata are told to do
    #[command(subcommand)]
    Import(ImportCommand),
    /// Try a detector or a filter of fail2ban on a log: what matches, and who would be banned when
    Test(TestArgs),
    /// Tell what a configuration would have done with captured packets or logs; touches nothing
    Replay(ReplayArgs),
    /// Try whether those who are notified of events are reached
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Have the daemon read its configuration again; bans and unchanged limits stay as they are
    Reload(JsonArgs),
    /// Let a daemon go on that was started with --confirm
    Confirm,
    /// Only observe, or enforce: until the daemon starts again
    #[command(subcommand)]
    Observe(ObserveCommand),
    /// Take the program off interfaces; without a daemon, clear away what one left
    Detach(DetachArgs),
    /// Print a script that has a shell complete commands
    Completions(CompletionsArgs),
    /// Write the manual pages of all commands and of the configuration
    Man(ManArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell; each loads them from where it looks for completions, as docs/INSTALL.md says
    #[arg(value_name = "SHELL", value_enum)]
    pub(super) shell: Shell,
}

/// The shells that completions are known to work in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// A folder; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::definition().debug_assert();
    }

    #[test]
    fn examples_in_the_help_are_commands_that_there_are() {
        fn look(command: &clap::Command, seen: &mut usize) {
            for command in command.get_subcommands() {
                look(command, seen);
            }
            let examples = command.get_after_help().map(ToString::to_string);
            let examples = examples.unwrap_or_default();
            for line in examples.lines().skip(1) {
                let ours = line.rsplit('|').next().unwrap_or_default();
                let ours = ours.split('>').next().unwrap_or_default();
                // What is in quotes is every other part.
                let parts = ours.split(['\'', '"']).enumerate();
                let words = parts.flat_map(|(number, part)| match number % 2 {
                    0 => part.split_whitespace().collect(),
                    _ => vec![part],
                });
                let name = command.get_name();
                assert!(ours.contains(name), "{line} in the help of {name}");
                if let Err(error) = Args::try_parse_from(words) {
                    panic!("{line}: {error}");
                }
                *seen += 1;
            }
        }
        let mut seen = 0;
        look(&Args::definition(), &mut seen);
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn the_socket_s_default_is_the_configuration_s() {
        let default = crate::config::Config::default().api.socket;
        assert_eq!(default, PathBuf::from(DEFAULT_SOCKET));
    }
}
