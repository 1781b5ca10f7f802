//! `cargo xtask demo`: what `abuser` is for, in a quarter of a minute, on real packets.
//!
//! Two network namespaces joined by a virtual cable; a web server behind `abuser run` on one
//! side, a good client and an abusive one on the other. All that is told is checked, and the
//! exit status is 0 only if it was true. Nothing outside the two namespaces is touched, and
//! nothing is left behind.

mod clients;
mod prepare;
mod server;
mod stage;
mod story;

use std::path::PathBuf;

use anyhow::Context as _;

/// Show abuser at work on real packets, in network namespaces of its own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this `abuser` instead of building one
    #[arg(long, value_name = "PATH", env = "ABUSER_BIN")]
    binary: Option<PathBuf>,
}

/// Builds `abuser` as the current user, becomes root, and plays the story.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let binary = match args.binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| format!("there is no {}", binary.display()))?,
        None => prepare::build()?,
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(prepare::become_root(&binary));
    }
    story::play(&binary)
}
