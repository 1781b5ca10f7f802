//! The command line. Data goes to standard output, messages to standard error.
//!
//! Exit status: 0 done, 1 it failed, 2 wrong usage or configuration. A reader that closes
//! the pipe is no error.

mod args;
mod bans;
mod blocks;
mod check;
mod control;
mod detach;
mod detectors;
mod events;
mod exchange;
mod explain;
mod fleet;
mod import;
mod logs;
mod notify;
mod output;
mod reference;
mod replay;
mod run;
mod scan;
mod throttles;
mod top;
mod trial;

use std::{io, process::ExitCode, time::Duration};

use self::args::{Args, Command};
use crate::{
    api::client::ClientError, config::ConfigError, dataplane::error::chain,
    detection::DetectionError, lookup,
};

/// Wrong usage or configuration.
const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A configuration whose filters cannot be used.
    #[error(transparent)]
    Detection(#[from] DetectionError),
    /// A configuration that the daemon cannot start with.
    #[error(transparent)]
    Refused(anyhow::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// The answer is no, and the data says so already.
    #[error("not found")]
    Silent,
    /// Why the daemon ended, which its log has told.
    #[error(transparent)]
    Logged(Box<CliError>),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl CliError {
    /// The exit status that it leads to.
    fn status(&self) -> ExitCode {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Usage(_) | Self::Config(_) | Self::Detection(_) | Self::Refused(_) => {
                ExitCode::from(USAGE)
            }
            Self::Logged(error) => error.status(),
            Self::Client(_) | Self::Output(_) | Self::Silent | Self::Other(_) => ExitCode::FAILURE,
        }
    }

    /// Whether it is for standard error.
    fn is_to_be_told(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() != io::ErrorKind::BrokenPipe,
            Self::Silent | Self::Logged(_) => false,
            _ => true,
        }
    }
}

/// Parses the arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    lookup::settle();
    let done = match Args::read() {
        Ok(args) => dispatch(args),
        // `--help` and `--version` come this way, too.
        Err(said) if !said.use_stderr() => output::help(&said).map_err(CliError::from),
        Err(error) => {
            // If standard error is closed there is nobody left to tell.
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    if error.is_to_be_told() {
        output::error(&chain(&error));
    }
    error.status()
}

/// How long system calls under way may take when all is done.
const LAST_CALLS: Duration = Duration::from_secs(1);

fn dispatch(args: Args) -> Result<(), CliError> {
    let Args { socket, command } = args;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let result = runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(args, socket).await,
            Command::Scan(args) => scan::scan(&args),
            Command::Check(args) => check::check(&args).await,
            Command::Test(args) => trial::test(&args),
            Command::Replay(args) => replay::replay(&args),
            Command::Status(args) => control::status(&socket.path(), &args).await,
            Command::Limits(args) => control::limits(&socket.path(), &args).await,
            Command::Detectors(args) => detectors::detectors(&socket.path(), &args).await,
            Command::Top(args) => top::top(&socket.path(), &args).await,
            Command::Ban(command) => bans::ban(&socket.path(), command).await,
            Command::Allow(command) => control::allow(&socket.path(), command).await,
            Command::Throttle(command) => throttles::throttle(&socket.path(), command).await,
            Command::Fleet(command) => fleet::fleet(&socket.path(), command).await,
            Command::Explain(args) => explain::explain(&socket.path(), &args).await,
            Command::Events(args) => events::events(&socket.path(), &args).await,
            Command::Import(command) => import::import(&command),
            Command::Notify(command) => notify::notify(&socket.path(), command).await,
            Command::Reload(args) => control::reload(&socket.path(), &args).await,
            Command::Confirm => control::confirm(&socket.path()).await,
            Command::Observe(command) => control::observe(&socket.path(), command).await,
            Command::Detach(args) => detach::detach(socket, args).await,
            Command::Completions(args) => reference::completions(&args),
            Command::Man(args) => reference::man(&args),
        }
    });
    // A name that nobody resolves holds up no end.
    runtime.shutdown_timeout(LAST_CALLS);
    result
}
