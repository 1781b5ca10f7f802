//! `abuser import`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(in super::super) enum ImportCommand {
    /// Import jails that are enabled, as sources, detectors and policies
    ///
    /// Reads jail.conf, jail.d/*.conf, jail.local and jail.d/*.local as fail2ban does. Filters are not
    /// copied: detectors read them where they are.
    Fail2ban(ImportFail2banArgs),
    /// Import limit_req as limits in the kernel, and the logs that tell whom nginx refused
    Nginx(ImportNginxArgs),
    /// Import rules of Snort 2, Snort 3 and Suricata as detectors
    ///
    /// A rule that looks at what no access log has is left out and named.
    Snort(ImportSnortArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser import fail2ban -o /etc/abuser/conf.d/fail2ban.toml")]
pub(in super::super) struct ImportFail2banArgs {
    /// fail2ban's folder
    #[arg(value_name = "DIR", default_value = "/etc/fail2ban")]
    pub(in super::super) folder: PathBuf,
    #[command(flatten)]
    pub(in super::super) output: ImportOutput,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser import nginx -o /etc/abuser/conf.d/nginx.toml")]
pub(in super::super) struct ImportNginxArgs {
    /// nginx's configuration, or a part of one; what it includes is read, too
    #[arg(value_name = "FILE", default_value = "/etc/nginx/nginx.conf")]
    pub(in super::super) file: PathBuf,
    /// What to do about whom nginx refuses again and again
    #[arg(long, value_name = "ACTION", default_value = "ban", value_parser = IMPORT_ACTIONS)]
    pub(in super::super) action: String,
    #[command(flatten)]
    pub(in super::super) output: ImportOutput,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  abuser import snort local.rules -o /etc/abuser/conf.d/snort.toml")]
pub(in super::super) struct ImportSnortArgs {
    /// Files of rules, and of event_filter and suppress
    #[arg(required = true, value_name = "FILE")]
    pub(in super::super) files: Vec<PathBuf>,
    /// What to do about whom a rule finds [default: ban for rules that drop, block or reject, alert
    /// for others]
    #[arg(long, value_name = "ACTION", value_parser = IMPORT_ACTIONS)]
    pub(in super::super) action: Option<String>,
    /// The access log that tells of the requests that the rules look at
    #[arg(long, value_name = "FILE", default_value = "/var/log/nginx/access.log")]
    pub(in super::super) log: String,
    #[command(flatten)]
    pub(in super::super) output: ImportOutput,
}

/// What a detector can do.
const IMPORT_ACTIONS: [&str; 3] = ["ban", "throttle", "alert"];

/// Where an import goes.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImportOutput {
    /// Write the configuration to this file, in /etc/abuser/conf.d to have the daemon read it [default: standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(in super::super) path: Option<PathBuf>,
    /// With --output: replace a file that is there
    #[arg(long, requires = "path")]
    pub(in super::super) force: bool,
    /// Print the configuration and what could not be carried over as JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
