//! `abuser run`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{CliError, args::RunArgs, args::Socket, output};
use crate::{
    api::types::EventRecord,
    config::{self, Config, Mode},
    daemon::{self, Options},
    logging,
};

/// Where the configuration is unless told otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/abuser/abuser.toml";

pub(super) async fn run(args: RunArgs, socket: Socket) -> Result<(), CliError> {
    let format = args.log_format.unwrap_or_else(logging::Format::usual);
    let _log = logging::start(format, &args.log_level).map_err(anyhow::Error::from)?;
    let ran = protect(args, socket).await;
    if format == logging::Format::Text {
        return ran;
    }
    // Whoever reads what programs read finds the reason there, too.
    ran.map_err(|error| {
        tracing::error!("{error}");
        CliError::Logged(Box::new(error))
    })
}

async fn protect(args: RunArgs, socket: Socket) -> Result<(), CliError> {
    let RunArgs {
        config,
        interfaces,
        mode,
        observe,
        events,
        json,
        confirm,
        log_level,
        log_format: _,
    } = args;
    let overrides = Overrides {
        config,
        interfaces,
        mode,
        socket: socket.given(),
    };
    let (config, config_path) = overrides.load()?;
    let options = Options {
        config,
        config_path,
        observe,
        print: events.then_some(if json { print_json } else { print_line }),
        program_log_level: program_log_level(&log_level),
        reload: Arc::new(move || match overrides.load() {
            Ok((config, _)) => Ok(config),
            Err(error) => Err(error.to_string()),
        }),
        confirm,
    };
    daemon::run(options).await.map_err(|error| {
        if daemon::is_refusal(&error) {
            CliError::Refused(error)
        } else {
            CliError::Other(error)
        }
    })
}

/// What the command line says about the configuration, for a start and every reload.
struct Overrides {
    config: Option<PathBuf>,
    interfaces: Vec<String>,
    mode: Option<Mode>,
    socket: Option<PathBuf>,
}

impl Overrides {
    /// The configuration with what the command line overrides, and where it came from.
    fn load(&self) -> Result<(Config, Option<PathBuf>), CliError> {
        let (mut config, path) = configuration(self.config.clone())?;
        if !self.interfaces.is_empty() {
            config.interfaces.clone_from(&self.interfaces);
        }
        if config.interfaces.is_empty() {
            return Err(CliError::Usage(match path {
                Some(path) => format!(
                    "which interface? {} names none; add `interfaces = [\"eth0\"]` to it, or use \
                     -i eth0",
                    path.display()
                ),
                None => "which interface? Use -i eth0, or write a configuration to \
                         /etc/abuser/abuser.toml (`abuser run --help`)"
                    .to_owned(),
            }));
        }
        if let Some(mode) = self.mode {
            config.xdp.mode = mode;
        }
        if let Some(socket) = &self.socket {
            config.api.socket.clone_from(socket);
        }
        Ok((config, path))
    }
}

/// The configuration and where it came from: the file named, else the default one if it is
/// there, else what is built in.
pub(super) fn configuration(named: Option<PathBuf>) -> Result<(Config, Option<PathBuf>), CliError> {
    let path = named.or_else(|| {
        let default = Path::new(DEFAULT_CONFIG);
        default.exists().then(|| default.to_owned())
    });
    match path {
        Some(path) => Ok((config::load(&path)?, Some(path))),
        None => Ok((Config::builtin(), None)),
    }
}

/// The program's own level, as aya-log numbers them; it logs from debug on only.
fn program_log_level(level: &str) -> u8 {
    match level {
        "debug" => 4,
        "trace" => 5,
        _ => 0,
    }
}

fn print_line(event: &EventRecord) -> std::io::Result<()> {
    output::line(&event.line())
}

fn print_json(event: &EventRecord) -> std::io::Result<()> {
    output::json_line(&serde_json::to_string(event).map_err(std::io::Error::other)?)
}
