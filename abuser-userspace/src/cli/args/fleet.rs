//! `abuser fleet`.

use std::path::PathBuf;

use clap::Subcommand;

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(in super::super) enum FleetCommand {
    /// Show the nodes, the connection, and what is shared
    Status(JsonArgs),
    /// Take out all that a node has said: its bans and allow entries end everywhere
    ///
    /// Take its credentials away before, or it says all of it again.
    Revoke(FleetRevokeArgs),
    /// Make the bucket that all nodes share, if it is not there
    Init(FleetInitArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser fleet revoke web-3")]
pub(in super::super) struct FleetRevokeArgs {
    /// The node, as `fleet status` shows it
    #[arg(value_name = "NODE")]
    pub(in super::super) node: String,
    #[command(flatten)]
    pub(in super::super) login: FleetLoginArgs,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct FleetInitArgs {
    #[command(flatten)]
    pub(in super::super) login: FleetLoginArgs,
}

/// As whom to talk to the servers of the fleet [default: as [fleet] says]
#[derive(Debug, clap::Args)]
pub(in super::super) struct FleetLoginArgs {
    /// Log in with this credentials file [default: as [fleet] says]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nkey_file", "user"])]
    pub(in super::super) credentials_file: Option<PathBuf>,
    /// Log in with the nkey whose seed is in this file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub(in super::super) nkey_file: Option<PathBuf>,
    /// Log in as this user
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(in super::super) user: Option<String>,
    /// The file with the password of --user
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(in super::super) password_file: Option<PathBuf>,
}
