//! What can be said on the command line.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that users read, where backticks would show"
)]

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use abuser_detect::{condition::Condition, field::Field, parse::Kind};
use clap::{Parser, Subcommand};
use ipnet::IpNet;

use crate::{
    api::types::EventKind,
    config::{Mode, parse_duration, parse_prefix},
    exchange::Format,
    policy::BanTime,
};

/// Where the daemon listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/abuser/abuser.sock";

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

/// The daemon's socket.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// The daemon's socket [default: /run/abuser/abuser.sock]
    #[arg(long, global = true, value_name = "PATH", env = "ABUSER_SOCKET")]
    socket: Option<PathBuf>,
}

impl Socket {
    /// What was given, if anything.
    pub(super) fn given(self) -> Option<PathBuf> {
        self.socket
    }

    /// What was given, or the usual place.
    pub(super) fn path(&self) -> PathBuf {
        self.socket
            .clone()
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
    /// Have the daemon read its configuration again; bans and unchanged limits stay as they are
    Reload(JsonArgs),
    /// Let a daemon go on that was started with --confirm
    Confirm,
    /// Only observe, or enforce: until the daemon starts again
    #[command(subcommand)]
    Observe(ObserveCommand),
    /// Take the program off interfaces; without a daemon, clear away what one left
    Detach(DetachArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration [default: /etc/abuser/abuser.toml if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// An interface to protect, instead of those in the configuration; can be repeated
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub(super) interfaces: Vec<String>,
    /// Where the program runs: auto, driver, or generic
    #[arg(long, value_name = "MODE", value_parser = Mode::from_str)]
    pub(super) mode: Option<Mode>,
    /// Drop nothing: only count and report what would be dropped
    #[arg(long)]
    pub(super) observe: bool,
    /// Print events to standard output, as `abuser events` does
    #[arg(long)]
    pub(super) events: bool,
    /// With --events: a JSON object a line
    #[arg(long, requires = "events")]
    pub(super) json: bool,
    /// Detach after this time unless `abuser confirm` is run before: for trying a configuration
    /// on a machine that you may lock yourself out of
    #[arg(long, value_name = "TIME", value_parser = confirm_time)]
    pub(super) confirm: Option<Duration>,
    /// What to log to standard error; from debug on, the XDP program logs, too
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    pub(super) log_level: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct TopArgs {
    /// How often to ask the daemon: from 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(super) interval: Duration,
    /// Print how it stands once, as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BanCommand {
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
pub(super) struct BanAddArgs {
    /// Addresses (203.0.113.7) and prefixes (203.0.113.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// For how long: 90s, 10m, "1d 12h", or a number of seconds [default: [ban] bantime]
    #[arg(long = "for", value_name = "TIME", allow_negative_numbers = true, value_parser = ban_time)]
    pub(super) time: Option<BanTime>,
    /// For good
    #[arg(long, conflicts_with = "time")]
    pub(super) permanent: bool,
    /// Why; `ban list` and `ban show` tell
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32, and those that hold an address that is
    /// essential to this host or that you come from
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct BanImportArgs {
    /// The list; without it, or with `-`, standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is written in: plain (an address, prefix or range a line), csv, json, fail2ban (its
    /// database), ipset (`ipset save`), nft (`nft -j list set`), crowdsec (`cscli decisions list
    /// -l 0 -o json`) [default: what it looks like]
    #[arg(long, value_name = "FORMAT", value_parser = Format::from_str)]
    pub(super) format: Option<Format>,
    /// For how long to ban whom the list gives no time [default: for good]
    #[arg(long = "for", value_name = "TIME", allow_negative_numbers = true, value_parser = ban_time)]
    pub(super) time: Option<BanTime>,
    /// Why, for whom the list gives no reason
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Import nothing if there is a line that cannot be imported
    #[arg(long)]
    pub(super) strict: bool,
    /// Only say what would be imported
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Ban also prefixes wider than IPv4 /16 and IPv6 /32, and those that hold an address that is
    /// essential to this host
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl BanImportArgs {
    /// The list's file, unless it is standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_deref().filter(|path| *path != Path::new("-"))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct BanExportArgs {
    /// What to write: plain, csv, json, ipset (for `ipset restore`), nft (for `nft -j -f`), crowdsec
    /// (for `cscli decisions import`)
    #[arg(long, value_name = "FORMAT", default_value = "plain", value_parser = Format::from_str)]
    pub(super) format: Format,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["sources", "all"]))]
pub(super) struct BanRemoveArgs {
    /// What was banned, as `ban list` shows it
    #[arg(value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// All bans, but for those that block lists of the configuration call for
    #[arg(long)]
    pub(super) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct BanShowArgs {
    /// The address
    #[arg(value_name = "ADDR", value_parser = address)]
    pub(super) address: std::net::IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The address
    #[arg(value_name = "ADDR", value_parser = address)]
    pub(super) address: std::net::IpAddr,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum AllowCommand {
    /// Allow addresses and prefixes
    Add(AllowAddArgs),
    /// Take addresses and prefixes off the allow list
    Remove(AllowRemoveArgs),
    /// List who is allowed
    List(JsonArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct AllowAddArgs {
    /// Addresses (192.0.2.1) and prefixes (192.0.2.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// Why; `allow list` tells
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct AllowRemoveArgs {
    /// What was allowed, as `allow list` shows it
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ObserveCommand {
    /// Drop nothing from now on: only count and report what would be dropped
    On(JsonArgs),
    /// Drop what bans and limits say
    Off(JsonArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum ThrottleCommand {
    /// Throttle addresses and prefixes by a limit that has only = "throttled"
    Add(ThrottleAddArgs),
    /// End throttles
    Remove(ThrottleRemoveArgs),
    /// List who is throttled
    List(JsonArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ThrottleAddArgs {
    /// Addresses (203.0.113.7) and prefixes (203.0.113.0/24, 2001:db8::/48)
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// The limit that is to apply to them
    #[arg(long, value_name = "NAME")]
    pub(super) limit: String,
    /// For how long: 90s, 10m, "1d 12h", or a number of seconds; never for less than what is left
    /// of an earlier time [default: [ban] bantime]
    #[arg(long = "for", value_name = "TIME", allow_negative_numbers = true, value_parser = throttle_time)]
    pub(super) time: Option<BanTime>,
    /// Why; `throttle list` tells
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Throttle also prefixes wider than IPv4 /16 and IPv6 /32
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ThrottleRemoveArgs {
    /// What was throttled, as `throttle list` shows it
    #[arg(required = true, value_name = "ADDR|PREFIX", value_parser = prefix)]
    pub(super) sources: Vec<IpNet>,
    /// Only by this limit [default: by all]
    #[arg(long, value_name = "NAME")]
    pub(super) limit: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Print a JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Only sources within this prefix
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(super) source: Option<IpNet>,
    /// Only this kind
    #[arg(long, value_name = "KIND", value_enum)]
    pub(super) kind: Option<EventKind>,
    /// Only this limit
    #[arg(long, value_name = "NAME")]
    pub(super) limit: Option<String>,
    /// Stop after so many
    #[arg(short = 'n', long = "count", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    /// Logs, also compressed ones (.gz); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// What the logs are written by: nginx-combined, nginx-error, apache-combined, caddy-json,
    /// traefik-json, haproxy-http, envoy-json, json, regex, sshd [default: what they look like]
    #[arg(long, value_name = "NAME", value_parser = Kind::from_str)]
    pub(super) parser: Option<Kind>,
    /// For the parser regex: an expression with named groups, such as "(?<source>\S+) (?<path>\S+)"
    #[arg(long, value_name = "REGEX", requires = "parser")]
    pub(super) pattern: Option<String>,
    /// Count only lines for which this holds, such as 'status == 401 and path ~ "^/api/"'
    #[arg(long = "where", value_name = "CONDITION", value_parser = Condition::from_str)]
    pub(super) condition: Option<Condition>,
    /// By what to count: source, user, key, path, uri, status, header.NAME and so on
    #[arg(long, value_name = "FIELD", default_value = "source", value_parser = Field::from_str)]
    pub(super) by: Field,
    /// Show only what there is more than so often
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(super) over: u64,
    /// Count only the last part of the logs: 1h, 10m, "1d 12h" before their newest line
    #[arg(long, value_name = "TIME", value_parser = within_time)]
    pub(super) within: Option<Duration>,
    /// With --within: before now, instead of before the newest line
    #[arg(long, requires = "within")]
    pub(super) now: bool,
    /// Show only the first so many
    #[arg(long, value_name = "COUNT")]
    pub(super) top: Option<usize>,
    /// A proxy whose X-Forwarded-For counts; can be repeated
    #[arg(long = "trusted-proxy", value_name = "PREFIX", value_parser = prefix)]
    pub(super) trusted_proxies: Vec<IpNet>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The configuration; conf.d/*.toml beside it is read, too
    #[arg(short, long, value_name = "FILE", default_value = super::run::DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Jails that are enabled, as sources, detectors and policies
    ///
    /// Reads jail.conf, jail.d/*.conf, jail.local and jail.d/*.local as fail2ban does. Filters are not
    /// copied: detectors read them where they are.
    Fail2ban(ImportFail2banArgs),
    /// limit_req as limits in the kernel, and the logs that tell whom nginx refused
    Nginx(ImportNginxArgs),
    /// Rules of Snort 2, Snort 3 and Suricata as detectors
    ///
    /// A rule that looks at what no access log has is left out and named.
    Snort(ImportSnortArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportFail2banArgs {
    /// fail2ban's folder
    #[arg(value_name = "DIR", default_value = "/etc/fail2ban")]
    pub(super) folder: PathBuf,
    #[command(flatten)]
    pub(super) output: ImportOutput,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportNginxArgs {
    /// nginx's configuration, or a part of one; what it includes is read, too
    #[arg(value_name = "FILE", default_value = "/etc/nginx/nginx.conf")]
    pub(super) file: PathBuf,
    /// What to do about whom nginx refuses again and again
    #[arg(long, value_name = "ACTION", default_value = "ban", value_parser = IMPORT_ACTIONS)]
    pub(super) action: String,
    #[command(flatten)]
    pub(super) output: ImportOutput,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportSnortArgs {
    /// Files of rules, and of event_filter and suppress
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// What to do about whom a rule finds [default: ban for rules that drop, block or reject, alert
    /// for others]
    #[arg(long, value_name = "ACTION", value_parser = IMPORT_ACTIONS)]
    pub(super) action: Option<String>,
    /// The access log that tells of the requests that the rules look at
    #[arg(long, value_name = "FILE", default_value = "/var/log/nginx/access.log")]
    pub(super) log: String,
    #[command(flatten)]
    pub(super) output: ImportOutput,
}

/// What a detector can do.
const IMPORT_ACTIONS: [&str; 3] = ["ban", "throttle", "alert"];

/// Where an import goes.
#[derive(Debug, clap::Args)]
pub(super) struct ImportOutput {
    /// Write the configuration to this file, such as /etc/abuser/conf.d/fail2ban.toml [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(super) path: Option<PathBuf>,
    /// With --output: replace a file that is there
    #[arg(long, requires = "path")]
    pub(super) force: bool,
    /// Print the configuration and what could not be carried over as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Try a detector or a filter of fail2ban on a log: what matches, and who would be banned when
///
/// The log is read on its own clock, by the same code as in the daemon; nobody is asked, and nothing is
/// changed. A line is shown for each line that matches, and one for each finding with what would have been
/// done.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// A [[detector]] of the configuration, by its name; or a filter of fail2ban, as
    /// fail2ban:sshd, "fail2ban:sshd[mode=aggressive]" or the path of its file, with [ban]'s maxretry,
    /// findtime and bantime
    #[arg(value_name = "DETECTOR|FILTER")]
    pub(super) detector: String,
    /// A log, also a compressed one (.gz); `-` is standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The configuration; a filter needs none [default: /etc/abuser/abuser.toml]
    #[arg(short, long, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// Read the log as that of this [[source]] [default: the only one that the detector reads, or the one
    /// whose files the log is of, or the first]
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Show also the lines that do not match, and why
    #[arg(long)]
    pub(super) all: bool,
    /// Print a JSON object a line, the last one a summary
    #[arg(long)]
    pub(super) json: bool,
}

/// Tell what a configuration would have done with captured packets or logs; touches nothing
///
/// Captures of tcpdump (pcap and pcapng, also gzipped; Ethernet, `-i any`, and bare IP) run through the
/// function that decides in the kernel and the policies of the daemon, on their own clock. Capture
/// both ways on a host that does not drop yet: a source counts as verified when the capture shows
/// that it acknowledged what this host had sent it, or that this host spoke to it on a connection.
///
/// Only packets to this host are replayed. Cooked captures (-i any) and pcapng may tell each packet's
/// way. Else the address that is in most of the first 20 000 packets is taken for this host's (in a
/// draw the one that was asked for connections), and what goes to its hardware address comes in.
/// --to says it exactly.
///
/// Names of the allow list are not resolved, what the daemon allows by itself is not known, block
/// lists are not read, and what rndtime would add is left out. A capture that ends in the middle
/// of a packet is replayed and said so; one that is damaged also ends with status 1.
///
/// Whatever else is text is a log, also a compressed one (.gz): its lines run through the detectors that read
/// the [[source]] that it is of, which is the one whose files it fits, the only one there is, or the one
/// that is named, as in web=access.log. Several logs are one stream in the order of their lines' times.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The configuration; conf.d/*.toml beside it is read, too
    #[arg(short, long, value_name = "FILE", default_value = super::run::DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// Captures or logs: several are one stream in the order of time; SOURCE=LOG says whose log it is
    #[arg(required = true, value_name = "CAPTURE|LOG")]
    pub(super) files: Vec<PathBuf>,
    /// Of captures, replay what goes to this address or prefix; can be repeated [default: what goes to
    /// the host that captured]
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(super) to: Vec<IpNet>,
    /// How many of the sources that lost most to name
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    pub(super) top: usize,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DetachArgs {
    /// Only this interface; can be repeated. Without it: all, and the daemon stops
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub(super) interfaces: Vec<String>,
    /// Where the pins are, if no daemon runs
    #[arg(long, value_name = "PATH", default_value = "/sys/fs/bpf/abuser")]
    pub(super) pin_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn prefix(text: &str) -> Result<IpNet, String> {
    parse_prefix(text).map_err(|error| error.to_string())
}

fn confirm_time(text: &str) -> Result<Duration, String> {
    seconds(text, "write how long to wait, such as \"60s\"")
}

fn within_time(text: &str) -> Result<Duration, String> {
    seconds(text, "write how far back to look, such as \"1h\"")
}

/// How often something is done.
fn interval(text: &str) -> Result<Duration, String> {
    const RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
    match humantime::parse_duration(text) {
        Ok(time) if RANGE.contains(&time) => Ok(time),
        Ok(_) => Err("write a time from 100ms to 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A time of at least a second; `hint` is for what is none.
fn seconds(text: &str, hint: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        BanTime::For(time) if time.as_secs() > 0 => Ok(time),
        _ => Err(hint.to_owned()),
    }
}

pub(super) fn ban_time(text: &str) -> Result<BanTime, String> {
    time_of("ban", text)
}

fn throttle_time(text: &str) -> Result<BanTime, String> {
    time_of("throttle", text)
}

fn time_of(what: &str, text: &str) -> Result<BanTime, String> {
    match parse_duration(text) {
        Ok(BanTime::For(time)) if time.as_secs() == 0 => Err(format!(
            "a {what} lasts at least a second; write for example \"10m\""
        )),
        time => time.map_err(|error| error.to_string()),
    }
}

/// One address; also as a prefix that holds one, as `ban list` prints it.
fn address(text: &str) -> Result<std::net::IpAddr, String> {
    let prefix = prefix(text)?;
    if prefix.prefix_len() == prefix.max_prefix_len() {
        Ok(prefix.addr())
    } else {
        Err(format!("{text} is a prefix; name one address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_socket_s_default_is_the_configuration_s() {
        let default = crate::config::Config::default().api.socket;
        assert_eq!(default, PathBuf::from(DEFAULT_SOCKET));
    }
}
