//! What watches and asks: `abuser top`, `abuser events` and `abuser explain`.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::values::{address, at_least_one, interval, prefix};
use crate::api::types::EventKind;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser top
  abuser top --interval 5s
  abuser top --json")]
pub(in super::super) struct TopArgs {
    /// How often to ask the daemon: from 100ms to 1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "1s", value_parser = interval)]
    pub(in super::super) interval: Duration,
    /// Print how it stands once, as JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser explain 203.0.113.7")]
pub(in super::super) struct ExplainArgs {
    /// The address
    #[arg(value_name = "ADDR", value_parser = address)]
    pub(in super::super) address: IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser events --kind ban
  abuser events --source 203.0.113.0/24 --json")]
pub(in super::super) struct EventsArgs {
    /// Print a JSON object a line
    #[arg(long)]
    pub(in super::super) json: bool,
    /// Only sources within this prefix
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(in super::super) source: Option<IpNet>,
    /// Only this kind
    #[arg(long, value_name = "KIND", value_enum)]
    pub(in super::super) kind: Option<EventKind>,
    /// Only this limit
    #[arg(long, value_name = "NAME")]
    pub(in super::super) limit: Option<String>,
    /// Stop after so many
    #[arg(short = 'n', long = "count", value_name = "COUNT", allow_hyphen_values = true, value_parser = at_least_one)]
    pub(in super::super) count: Option<u64>,
}
