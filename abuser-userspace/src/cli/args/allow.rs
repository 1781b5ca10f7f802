//! `abuser allow`.

use clap::Subcommand;
use ipnet::IpNet;

use super::{JsonArgs, values::prefix};

#[derive(Debug, Subcommand)]
pub(in super::super) enum AllowCommand {
    /// Allow addresses and prefixes
    Add(AllowAddArgs),
    /// Take addresses and prefixes off the allow list
    Remove(AllowRemoveArgs),
    /// List who is allowed
    List(JsonArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser allow add 192.0.2.0/24 --reason office")]
pub(in super::super) struct AllowAddArgs {
    /// Addresses (192.0.2.1) and prefixes (192.0.2.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// Why; `allow list` tells
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: Option<String>,
    /// Allow also prefixes wider than IPv4 /8 and IPv6 /16, other than local ones
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct AllowRemoveArgs {
    /// What was allowed, as `allow list` shows it
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
