//! What reads logs and captures without a daemon: `abuser scan`, `abuser test` and `abuser replay`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use abuser_detect::{condition::Condition, field::Field, parse::Kind};
use ipnet::IpNet;

use super::values::{number, prefix, within_time};
use crate::cli::run::DEFAULT_CONFIG;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser scan /var/log/nginx/access.log --over 100
  abuser scan access.log --where 'status == 401' --by user --within 1h
  journalctl -u ssh -o short | abuser scan - --parser sshd")]
pub(in super::super) struct ScanArgs {
    /// Logs, also compressed ones (.gz); `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(in super::super) files: Vec<PathBuf>,
    /// What the logs are written by: nginx-combined, nginx-error, apache-combined, caddy-json,
    /// traefik-json, haproxy-http, envoy-json, json, regex, sshd [default: what they look like]
    #[arg(long, value_name = "NAME", value_parser = Kind::from_str)]
    pub(in super::super) parser: Option<Kind>,
    /// For the parser regex: an expression with named groups, such as "(?<source>\S+) (?<path>\S+)"
    #[arg(long, value_name = "REGEX", requires = "parser")]
    pub(in super::super) pattern: Option<String>,
    /// Count only lines for which this holds, such as 'status == 401 and path ~ "^/api/"'
    #[arg(long = "where", value_name = "CONDITION", value_parser = Condition::from_str)]
    pub(in super::super) condition: Option<Condition>,
    /// By what to count: source, user, key, path, uri, status, header.NAME and so on
    #[arg(long, value_name = "FIELD", default_value = "source", value_parser = Field::from_str)]
    pub(in super::super) by: Field,
    /// Show only what there is more than so often
    #[arg(
        long,
        value_name = "COUNT",
        allow_hyphen_values = true,
        value_parser = number::<u64>,
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(in super::super) over: u64,
    /// Count only the last part of the logs: 1h, 10m, "1d 12h" before their newest line
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = within_time)]
    pub(in super::super) within: Option<Duration>,
    /// With --within: before now, instead of before the newest line
    #[arg(long, requires = "within")]
    pub(in super::super) now: bool,
    /// Show only the first so many
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = number::<usize>)]
    pub(in super::super) top: Option<usize>,
    /// A proxy whose X-Forwarded-For counts; can be repeated
    #[arg(long = "trusted-proxy", value_name = "PREFIX", value_parser = prefix)]
    pub(in super::super) trusted_proxies: Vec<IpNet>,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// Try a detector or a filter of fail2ban on a log: what matches, and who would be banned when
///
/// The log is read on its own clock, by the same code as in the daemon; nobody is asked, and nothing is
/// changed. A line is shown for each line that matches, and one for each finding with what would have been
/// done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser test fail2ban:sshd /var/log/auth.log
  abuser test logins access.log --all")]
pub(in super::super) struct TestArgs {
    /// A [[detector]] of the configuration, by its name; or a filter of fail2ban, as
    /// fail2ban:sshd, "fail2ban:sshd[mode=aggressive]" or the path of its file, with [ban]'s maxretry,
    /// findtime and bantime
    #[arg(value_name = "DETECTOR|FILTER")]
    pub(in super::super) detector: String,
    /// A log, also a compressed one (.gz); `-` is standard input
    #[arg(value_name = "FILE")]
    pub(in super::super) file: PathBuf,
    /// The configuration; conf.d/*.toml beside it is read, too, and a filter needs none [default:
    /// /etc/abuser/abuser.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// Read the log as that of this [[source]] [default: the only one that the detector reads, or the one
    /// whose files the log is of, or the first]
    #[arg(long, value_name = "NAME")]
    pub(in super::super) source: Option<String>,
    /// Show also the lines that do not match, and why
    #[arg(long)]
    pub(in super::super) all: bool,
    /// Print a JSON object a line, the last one a summary
    #[arg(long)]
    pub(in super::super) json: bool,
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
#[command(after_help = "\
Examples:
  abuser replay --config new.toml traffic.pcap
  abuser replay web=/var/log/nginx/access.log")]
pub(in super::super) struct ReplayArgs {
    /// The configuration; conf.d/*.toml beside it is read, too
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(in super::super) config: PathBuf,
    /// Captures or logs: several are one stream in the order of time; SOURCE=LOG says whose log it is
    #[arg(required = true, value_name = "CAPTURE|LOG")]
    pub(in super::super) files: Vec<PathBuf>,
    /// Of captures, replay what goes to this address or prefix; can be repeated [default: what goes to
    /// the host that captured]
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(in super::super) to: Vec<IpNet>,
    /// How many of the sources that lost most to name
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, value_parser = number::<usize>, default_value_t = 10)]
    pub(in super::super) top: usize,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
