//! `abuser detach`: through the daemon if one runs, else by clearing away its pins.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    CliError,
    args::{DetachArgs, Socket},
    output, run,
};
use crate::{
    api::{
        client::{Client, ClientError},
        types::{DetachRequest, Detached},
    },
    config::Config,
    dataplane::{attach, dispatcher::Access, interfaces::Netlink, pins::PinDir},
};

/// How long a daemon may take to end that has detached.
const END: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn detach(socket: Socket, args: DetachArgs) -> Result<(), CliError> {
    let DetachArgs {
        interfaces,
        config,
        pin_dir,
        json,
    } = args;
    let socket = socket.given();
    // A daemon that has other pins is not meant by whoever names a folder of pins alone.
    if let (None, None, Some(pin_dir)) = (&socket, &config, &pin_dir)
        && is_left(pin_dir)
    {
        return tell(&clear_pins(pin_dir, &interfaces)?, true, pin_dir, json);
    }
    let (socket, pin_dir) = places(socket, config, pin_dir)?;
    let mut daemon = None;
    let detached = match Client::connect(&socket).await {
        Ok(mut client) => {
            daemon = Some(Listening::at(&socket));
            let request = DetachRequest { interfaces };
            client.post("/v1/detach", &request).await?
        }
        Err(ClientError::NoDaemon { .. }) => {
            let detached = clear_pins(&pin_dir, &interfaces)?;
            if detached.interfaces.is_empty() {
                check_elsewhere(&pin_dir).await?;
            }
            detached
        }
        Err(error) => return Err(error.into()),
    };
    // Whoever starts another one next does not meet this one.
    let has_ended = match daemon {
        Some(daemon) if detached.stopped => daemon.ended().await,
        _ => true,
    };
    if !has_ended {
        output::message(&format!(
            "the daemon detached, and has not ended after {} seconds; its log says why",
            END.as_secs()
        ));
    }
    tell(&detached, has_ended, &pin_dir, json)
}

/// Whether there are pins here that no daemon uses.
fn is_left(pin_dir: &Path) -> bool {
    PinDir::lock_existing(pin_dir).is_ok_and(|pins| pins.is_some())
}

/// Says what has been detached; `has_ended`: a daemon that did it is not there any more.
fn tell(detached: &Detached, has_ended: bool, pin_dir: &Path, json: bool) -> Result<(), CliError> {
    if json {
        return Ok(output::json(detached)?);
    }
    if detached.interfaces.is_empty() {
        output::line(&format!(
            "nothing was attached that is pinned in {}; --pin-dir names another folder",
            pin_dir.display()
        ))?;
    } else {
        output::line(&format!("detached from {}", detached.interfaces.join(", ")))?;
    }
    if detached.stopped {
        output::line(if has_ended {
            "the daemon has stopped"
        } else {
            "the daemon stops"
        })?;
    }
    Ok(())
}

/// A daemon that listens.
struct Listening {
    socket: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Listening {
    /// The one at this socket.
    fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            inode: inode(socket),
        }
    }

    /// Waits until it has ended, and says whether it has: it removes its socket last.
    async fn ended(&self) -> bool {
        let deadline = Instant::now() + END;
        while self.inode.is_some() && inode(&self.socket) == self.inode {
            if Instant::now() >= deadline {
                // One that could not remove it.
                return matches!(
                    Client::connect(&self.socket).await,
                    Err(ClientError::NoDaemon { .. })
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Says where a program of abuser's is whose pins are not here.
async fn check_elsewhere(pin_dir: &Path) -> Result<(), CliError> {
    let netlink = Netlink::connect().map_err(anyhow::Error::from)?;
    let found = netlink.with_own_program().await;
    let found = found.map_err(anyhow::Error::from)?;
    if found.is_empty() {
        return Ok(());
    }
    Err(CliError::Other(anyhow::anyhow!(
        "nothing is pinned in {}, but a program of abuser's is on {}; name the daemon's configuration with -c, or its \
         folder with --pin-dir",
        pin_dir.display(),
        found.join(", ")
    )))
}

/// Where the daemon listens and where its pins are: as was said, else as the configuration says.
fn places(
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
) -> Result<(PathBuf, PathBuf), CliError> {
    let config = match (config, &socket, &pin_dir) {
        (None, Some(_), Some(_)) => Config::default(),
        (None, ..) => match run::configuration(None) {
            Ok((config, _)) => config,
            // Whoever wants the filter off is not to mend the configuration first.
            Err(error) => {
                output::message(&format!(
                    "{error}; looking where abuser is by default (--socket and --pin-dir name other places)"
                ));
                Config::default()
            }
        },
        (config, ..) => run::configuration(config)?.0,
    };
    Ok((
        socket.unwrap_or(config.api.socket),
        pin_dir.unwrap_or(config.xdp.pin_dir),
    ))
}

/// Removes what daemons that died left attached, of whatever layout version.
fn clear_pins(pin_dir: &Path, interfaces: &[String]) -> Result<Detached, CliError> {
    let wanted: Vec<_> = interfaces
        .iter()
        .map(|name| {
            nix::net::if_::if_nametoindex(name.as_str())
                .with_context(|| format!("there is no interface {name:?}"))
                .map(|index| (index, name.clone()))
        })
        .collect::<Result<_, _>>()?;
    let Some(pins) = PinDir::lock_existing(pin_dir).map_err(anyhow::Error::from)? else {
        return match wanted.first() {
            None => Ok(Detached {
                interfaces: Vec::new(),
                stopped: false,
            }),
            Some((_, name)) => Err(not_attached(name, pin_dir)),
        };
    };
    let attached = pins.interfaces();
    if let Some((_, name)) = wanted.iter().find(|(index, _)| !attached.contains(index)) {
        return Err(not_attached(name, pin_dir));
    }
    let (mut detached, mut failed) = (Vec::new(), Vec::new());
    let mut access = Access::patient();
    for index in attached {
        let named = wanted.iter().find(|(wanted, _)| *wanted == index);
        if !wanted.is_empty() && named.is_none() {
            continue;
        }
        let name = named.map_or_else(|| attach::interface_name(index), |(_, name)| name.clone());
        // One that stays on is no reason to leave others on.
        match attach::detach_left(&pins, index, &mut access) {
            Ok(()) => detached.push(name),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if pins.interfaces().is_empty() {
        pins.remove_all();
    }
    if !failed.is_empty() {
        let done = if detached.is_empty() {
            String::new()
        } else {
            format!("; done: detached from {}", detached.join(", "))
        };
        return Err(CliError::Other(anyhow::anyhow!(
            "{}{done}",
            failed.join("; ")
        )));
    }
    Ok(Detached {
        interfaces: detached,
        stopped: false,
    })
}

fn not_attached(name: &str, pin_dir: &Path) -> CliError {
    CliError::Other(anyhow::anyhow!(
        "abuser is not attached to {name:?}: no daemon runs, and none left a pin for it in {}",
        pin_dir.display()
    ))
}
