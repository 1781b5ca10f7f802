//! `abuser notify`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in super::super) enum NotifyCommand {
    /// Send a sample event to a [[notify]] of the configuration, and show what came back
    Test(NotifyTestArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser notify test chat")]
pub(in super::super) struct NotifyTestArgs {
    /// The name of the [[notify]]
    #[arg(value_name = "NAME")]
    pub(in super::super) name: String,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
