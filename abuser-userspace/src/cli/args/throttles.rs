//! `abuser throttle`.

use clap::Subcommand;
use ipnet::IpNet;

use super::{
    JsonArgs,
    values::{prefix, throttle_time},
};
use crate::policy::BanTime;

#[derive(Debug, Subcommand)]
pub(in super::super) enum ThrottleCommand {
    /// Throttle addresses and prefixes by a limit that has only = "throttled"
    Add(ThrottleAddArgs),
    /// End throttles
    Remove(ThrottleRemoveArgs),
    /// List who is throttled
    List(JsonArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser throttle add 203.0.113.0/24 --limit slow --for 1h")]
pub(in super::super) struct ThrottleAddArgs {
    /// Addresses (203.0.113.7) and prefixes (203.0.113.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// The limit that is to apply to them
    #[arg(long, value_name = "NAME")]
    pub(in super::super) limit: String,
    /// For how long: 90s, 10m, "1d 12h", or a number of seconds; never for less than what is left
    /// of an earlier time [default: [ban] bantime]
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true, value_parser = throttle_time)]
    pub(in super::super) time: Option<BanTime>,
    /// Why; `throttle list` tells
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: Option<String>,
    /// Throttle also prefixes wider than IPv4 /16 and IPv6 /32
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct ThrottleRemoveArgs {
    /// What was throttled, as `throttle list` shows it
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// Only by this limit [default: by all]
    #[arg(long, value_name = "NAME")]
    pub(in super::super) limit: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
