//! `abuser detach`: through the daemon if one runs, else by clearing away its pins.

use std::path::Path;

use anyhow::Context as _;

use super::{CliError, args::DetachArgs, output};
use crate::{
    api::{
        client::{Client, ClientError},
        types::{DetachRequest, Detached},
    },
    dataplane::{attach, pins::PinDir},
};

pub(super) async fn detach(socket: &Path, args: &DetachArgs) -> Result<(), CliError> {
    let DetachArgs {
        interfaces,
        pin_dir,
        json,
    } = args;
    let detached = match Client::connect(socket).await {
        Ok(mut client) => {
            let request = DetachRequest {
                interfaces: interfaces.clone(),
            };
            client.post("/v1/detach", &request).await?
        }
        Err(ClientError::NoDaemon { .. }) => clear_pins(pin_dir, interfaces)?,
        Err(error) => return Err(error.into()),
    };
    if *json {
        return Ok(output::json(&detached)?);
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
        output::line("the daemon stops")?;
    }
    Ok(())
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
    let mut detached = Vec::new();
    for index in attached {
        let named = wanted.iter().find(|(wanted, _)| *wanted == index);
        if !wanted.is_empty() && named.is_none() {
            continue;
        }
        attach::detach_left(&pins, index).map_err(anyhow::Error::from)?;
        detached.push(named.map_or_else(|| interface_name(index), |(_, name)| name.clone()));
    }
    if pins.interfaces().is_empty() {
        pins.remove_all();
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

fn interface_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index).map_or_else(
        |_| format!("interface {index} (gone)"),
        |name| name.to_string_lossy().into_owned(),
    )
}
