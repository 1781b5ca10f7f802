//! The daemon itself: to start and stop it, to check what it is told, and to have it only observe.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Subcommand;

use super::{JsonArgs, values::confirm_time};
use crate::{cli::run::DEFAULT_CONFIG, config::Mode, logging};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser run -i eth0
  abuser run -i eth0 --observe --events
  abuser run --config /etc/abuser/abuser.toml --confirm 60s")]
pub(in super::super) struct RunArgs {
    /// The configuration; conf.d/*.toml beside it is read, too [default: /etc/abuser/abuser.toml if it
    /// is there, else limits that are built in]
    #[arg(short, long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// An interface to protect, instead of those in the configuration; can be repeated
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub(in super::super) interfaces: Vec<String>,
    /// Where the program runs: auto, driver or generic [default: as [xdp] mode says]
    #[arg(long, value_name = "MODE", value_parser = Mode::from_str)]
    pub(in super::super) mode: Option<Mode>,
    /// Drop nothing: only count and report what would be dropped
    #[arg(long)]
    pub(in super::super) observe: bool,
    /// Print events to standard output, as `abuser events` does
    #[arg(long)]
    pub(in super::super) events: bool,
    /// With --events: a JSON object a line
    #[arg(long, requires = "events")]
    pub(in super::super) json: bool,
    /// Detach after this time, such as 60s, unless `abuser confirm` is run before: for trying a configuration
    /// on a machine that you may lock yourself out of
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = confirm_time)]
    pub(in super::super) confirm: Option<Duration>,
    /// What to log to standard error; from debug on, the XDP program logs, too
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    pub(in super::super) log_level: String,
    /// How to log [default: journal if systemd's journal reads it, else text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(in super::super) log_format: Option<logging::Format>,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum ObserveCommand {
    /// Drop nothing from now on: only count and report what would be dropped
    On(JsonArgs),
    /// Drop what bans and limits say
    Off(JsonArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser check
  abuser check --config new.toml")]
pub(in super::super) struct CheckArgs {
    /// The configuration; conf.d/*.toml beside it is read, too
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(in super::super) config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser detach -i eth0")]
pub(in super::super) struct DetachArgs {
    /// Only this interface; can be repeated. Without it: all, and the daemon stops
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub(in super::super) interfaces: Vec<String>,
    /// The configuration, which says where the daemon listens, and where its pins are [default:
    /// /etc/abuser/abuser.toml if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// Where the pins are, if no daemon runs [default: as the configuration says, or /sys/fs/bpf/abuser]
    #[arg(long, value_name = "PATH")]
    pub(in super::super) pin_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
