//! `abuser ban`.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Subcommand;
use ipnet::IpNet;

use super::{
    JsonArgs,
    values::{address, ban_time, prefix},
};
use crate::{exchange::Format, policy::BanTime};

#[derive(Debug, Subcommand)]
pub(in super::super) enum BanCommand {
    /// Ban addresses and prefixes; at once, established connections included
    Add(BanAddArgs),
    /// Lift bans
    Remove(BanRemoveArgs),
    /// List the bans in force
    List(JsonArgs),
    /// Show the bans that cover an address; fails if there are none
    Show(BanShowArgs),
    /// Ban whom a list names: plain lists, CSV, JSON, and what fail2ban, ipset, nft and CrowdSec keep
    Import(BanImportArgs),
    /// Print the bans in force as a list, for `ban import` and for other programs
    Export(BanExportArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser ban add 203.0.113.7
  abuser ban add 203.0.113.7 --for 1d --reason \"complaint 4711\"
  abuser ban add 203.0.113.0/24 2001:db8::/48 --permanent")]
pub(in super::super) struct BanAddArgs {
    /// Addresses (203.0.113.7) and prefixes (203.0.113.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// For how long: 90s, 10m, "1d 12h", or a number of seconds [default: [ban] bantime]
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true, value_parser = ban_time)]
    pub(in super::super) time: Option<BanTime>,
    /// For good, until `ban remove`
    #[arg(long, conflicts_with = "time")]
    pub(in super::super) permanent: bool,
    /// Why; `ban list` and `ban show` tell
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: Option<String>,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32, and those that hold an address that is
    /// essential to this host or that you come from
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser ban import list.txt --for 1w --reason \"list of May\"
  ipset save badguys | abuser ban import --dry-run")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in super::super) struct BanImportArgs {
    /// The list; without it, or with `-`, standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is written in: plain (an address, prefix or range a line), csv, json, fail2ban (its
    /// database), ipset (`ipset save`), nft (`nft -j list set`), crowdsec (`cscli decisions list
    /// -l 0 -o json`) [default: what it looks like]
    #[arg(long, value_name = "FORMAT", value_parser = Format::from_str)]
    pub(in super::super) format: Option<Format>,
    /// For how long to ban whom the list gives no time: 90s, 10m, "1d 12h", or a number of seconds
    /// [default: for good]
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true, value_parser = ban_time)]
    pub(in super::super) time: Option<BanTime>,
    /// Why, for whom the list gives no reason
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: Option<String>,
    /// Import nothing if there is a line that cannot be imported
    #[arg(long)]
    pub(in super::super) strict: bool,
    /// Only say what would be imported
    #[arg(long)]
    pub(in super::super) dry_run: bool,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32, and those that hold an address that is
    /// essential to this host
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

impl BanImportArgs {
    /// The list's file, unless it is standard input.
    pub(in super::super) fn path(&self) -> Option<&Path> {
        self.file.as_deref().filter(|path| *path != Path::new("-"))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser ban export > bans.txt
  abuser ban export --format nft > bans.json")]
pub(in super::super) struct BanExportArgs {
    /// What to write: plain, csv, json, ipset (for `ipset restore`), nft (for `nft -j -f`), crowdsec
    /// (for `cscli decisions import`)
    #[arg(long, value_name = "FORMAT", default_value = "plain", value_parser = Format::from_str)]
    pub(in super::super) format: Format,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser ban remove 203.0.113.7")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["sources", "all"]))]
pub(in super::super) struct BanRemoveArgs {
    /// What was banned, as `ban list` shows it
    #[arg(value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(in super::super) sources: Vec<IpNet>,
    /// All bans, but for those that block lists, CrowdSec or other nodes of the fleet call for
    #[arg(long)]
    pub(in super::super) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(in super::super) struct BanShowArgs {
    /// The address
    #[arg(value_name = "ADDR", value_parser = address)]
    pub(in super::super) address: IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
