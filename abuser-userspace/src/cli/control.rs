//! The commands that ask the daemon: `status`, `limits`, `ban`, `allow`.

use std::path::Path;

use abuser_common::layout::Outcome;

use super::{
    CliError,
    args::{AllowCommand, BanAddArgs, BanCommand, JsonArgs},
    output::{self, counted, grouped, span},
};
use crate::{
    api::{
        client::Client,
        types::{
            AllowInfo, AllowRequest, BanDuration, BanInfo, BanRequest, InterfaceState,
            InterfaceStatus, LimitStatus, ReconcilerStatus, Reloaded, RemoveRequest, Status,
            StoreStatus, TrafficCount,
        },
    },
    host,
    policy::BanTime,
};

pub(super) async fn status(socket: &Path, args: &JsonArgs) -> Result<(), CliError> {
    let status: Status = Client::connect(socket).await?.get("/v1/status").await?;
    if args.json {
        return Ok(output::json(&status)?);
    }
    output::line(&format!(
        "abuser {}, process {}, up {}{}",
        status.version,
        status.pid,
        span(status.uptime_seconds),
        if status.observe {
            ", observing only: nothing is dropped"
        } else {
            ""
        }
    ))?;
    for interface in &status.interfaces {
        output::line(&protection(interface))?;
    }
    output::line(&format!(
        "{}, {}, {}",
        counted(status.limits, "limit", "limits"),
        counted(status.bans, "ban", "bans"),
        counted(status.allow, "allow entry", "allow entries")
    ))?;
    output::line(&format!(
        "buckets: {} of {} in use, {} evicted",
        grouped(status.buckets.active as u64),
        grouped(status.buckets.capacity as u64),
        grouped(status.buckets.evictions)
    ))?;
    output::line(&store(&status))?;
    output::line(&format!(
        "sources with a connection: {} of {}",
        grouped(status.verified.sources as u64),
        grouped(status.verified.capacity as u64)
    ))?;
    output::line(&format!(
        "events: {} sent, {} suppressed, {} lost",
        grouped(status.events.sent),
        grouped(status.events.suppressed),
        grouped(status.events.lost)
    ))?;
    output::line("")?;
    let rows = Outcome::ALL
        .into_iter()
        .map(|outcome| {
            let counted = status.outcomes.get(outcome.name());
            let TrafficCount { packets, bytes } = counted.copied().unwrap_or_default();
            vec![outcome.name().to_owned(), grouped(packets), grouped(bytes)]
        })
        .collect();
    Ok(output::table(
        &["OUTCOME", "PACKETS", "BYTES"],
        rows,
        &[1, 2],
    )?)
}

fn protection(interface: &InterfaceStatus) -> String {
    let name = if interface.name == interface.configured {
        interface.name.clone()
    } else {
        format!(
            "{} (configured as {})",
            interface.name, interface.configured
        )
    };
    match interface.state {
        InterfaceState::Attached => format!(
            "protects {name} in {} mode (XDP program {})",
            interface.mode.as_deref().unwrap_or("unknown"),
            interface.program_id.unwrap_or_default()
        ),
        InterfaceState::Missing => format!(
            "DOES NOT protect {name}: it is missing; it is protected again as soon as it is back"
        ),
        InterfaceState::Refused => format!(
            "DOES NOT protect {name}: {}; this is tried again when it changes",
            interface.error.as_deref().unwrap_or("refused")
        ),
    }
}

/// How it stands with the store, and what had to be put right.
fn store(status: &Status) -> String {
    let StoreStatus {
        path,
        error,
        failed,
    } = &status.store;
    let mut line = format!("store: {path}");
    if let Some(error) = error {
        let since = failed.as_deref().unwrap_or_default();
        line = format!("{line} IS NOT WRITTEN since {since}: {error}");
    }
    let ReconcilerStatus {
        kernel_repairs,
        store_repairs,
        ..
    } = status.reconciler;
    if kernel_repairs + store_repairs > 0 {
        line = format!(
            "{line}; put right: {} in the kernel, {} in the store",
            grouped(kernel_repairs),
            grouped(store_repairs)
        );
    }
    line
}

pub(super) async fn limits(socket: &Path, args: &JsonArgs) -> Result<(), CliError> {
    let limits: Vec<LimitStatus> = Client::connect(socket).await?.get("/v1/limits").await?;
    if args.json {
        return Ok(output::json(&limits)?);
    }
    let rows = limits
        .into_iter()
        .map(|limit| {
            let ports = if limit.ports.is_empty() {
                "all".to_owned()
            } else {
                limit.ports.join(",")
            };
            vec![
                limit.name,
                limit.protocol,
                ports,
                format!("{} {}", limit.rate, limit.count),
                limit.burst.to_string(),
                limit.action,
                grouped(limit.passed),
                grouped(limit.dropped),
                grouped(limit.observed),
                grouped(limit.allowed),
                grouped(limit.sources as u64),
            ]
        })
        .collect();
    Ok(output::table(
        &[
            "LIMIT", "PROTOCOL", "PORTS", "RATE", "BURST", "ACTION", "PASSED", "DROPPED",
            "OBSERVED", "ALLOWED", "SOURCES",
        ],
        rows,
        &[4, 6, 7, 8, 9, 10],
    )?)
}

pub(super) async fn ban(socket: &Path, command: BanCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        BanCommand::Add(args) => {
            check_own_session(&args)?;
            let json = args.json;
            let bans: Vec<BanInfo> = client.post("/v1/bans", &request(args)).await?;
            if json {
                return Ok(output::json(&bans)?);
            }
            for ban in bans {
                output::line(&format!("banned {} {}", ban.source, until(&ban)))?;
            }
            Ok(())
        }
        BanCommand::Remove(args) => {
            let request = RemoveRequest {
                sources: args.sources,
                all: args.all,
            };
            let bans: Vec<BanInfo> = client.delete("/v1/bans", &request).await?;
            if args.json {
                return Ok(output::json(&bans)?);
            }
            for ban in bans {
                output::line(&format!("unbanned {}", ban.source))?;
            }
            Ok(())
        }
        BanCommand::List(args) => {
            let bans: Vec<BanInfo> = client.get("/v1/bans").await?;
            show_bans(&bans, args.json)
        }
        BanCommand::Show(args) => {
            let path = format!("/v1/bans/covering/{}", args.address);
            let bans: Vec<BanInfo> = client.get(&path).await?;
            if bans.is_empty() && !args.json {
                return Err(CliError::Other(anyhow::anyhow!(
                    "{} is not banned",
                    args.address
                )));
            }
            show_bans(&bans, args.json)?;
            if bans.is_empty() {
                return Err(CliError::Silent);
            }
            Ok(())
        }
    }
}

/// Refuses to ban where the caller's own SSH session comes from, unless that is what is meant.
fn check_own_session(args: &BanAddArgs) -> Result<(), CliError> {
    let Some(session) = host::session().filter(|_| !args.force) else {
        return Ok(());
    };
    let client = session.client;
    match args.sources.iter().find(|source| source.contains(&client)) {
        Some(source) => Err(CliError::Other(anyhow::anyhow!(
            "{source} holds {client}, which your SSH session comes from; use --force if you mean it"
        ))),
        None => Ok(()),
    }
}

pub(super) async fn reload(socket: &Path, args: &JsonArgs) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    let reloaded: Reloaded = client.post("/v1/reload", &()).await?;
    if args.json {
        return Ok(output::json(&reloaded)?);
    }
    Ok(output::line(&reloaded.to_string())?)
}

pub(super) async fn confirm(socket: &Path) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    let () = client.post("/v1/confirm", &()).await?;
    Ok(output::line("confirmed: the daemon goes on")?)
}

fn request(args: BanAddArgs) -> BanRequest {
    let BanAddArgs {
        sources,
        time,
        permanent,
        reason,
        force,
        json: _,
    } = args;
    BanRequest {
        sources,
        duration: match (time, permanent) {
            (_, true) | (Some(BanTime::Permanent), _) => BanDuration::Permanent,
            (Some(BanTime::For(time)), _) => BanDuration::Seconds(time.as_secs()),
            (None, false) => BanDuration::Policy,
        },
        reason,
        force,
    }
}

fn show_bans(bans: &[BanInfo], json: bool) -> Result<(), CliError> {
    if json {
        return Ok(output::json(&bans)?);
    }
    let rows = bans
        .iter()
        .map(|ban| {
            vec![
                ban.source.to_string(),
                ban.remaining_seconds
                    .map_or_else(|| "permanent".to_owned(), span),
                grouped(ban.hits),
                ban.cause.clone(),
                ban.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    Ok(output::table(
        &["SOURCE", "TIME LEFT", "HITS", "CAUSE", "REASON"],
        rows,
        &[2],
    )?)
}

fn until(ban: &BanInfo) -> String {
    match (&ban.expires, ban.remaining_seconds) {
        // What is left was rounded down a moment after it was whole.
        (Some(expires), Some(seconds)) => format!("until {expires} ({})", span(seconds + 1)),
        _ => "for good".to_owned(),
    }
}

pub(super) async fn allow(socket: &Path, command: AllowCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        AllowCommand::Add(args) => {
            let request = AllowRequest {
                sources: args.sources,
                reason: args.reason,
            };
            let entries: Vec<AllowInfo> = client.post("/v1/allow", &request).await?;
            show_changed("allowed", &entries, args.json)
        }
        AllowCommand::Remove(args) => {
            let request = RemoveRequest {
                sources: args.sources,
                all: false,
            };
            let entries: Vec<AllowInfo> = client.delete("/v1/allow", &request).await?;
            show_changed("no longer allowed:", &entries, args.json)
        }
        AllowCommand::List(args) => {
            let entries: Vec<AllowInfo> = client.get("/v1/allow").await?;
            if args.json {
                return Ok(output::json(&entries)?);
            }
            let rows = entries
                .into_iter()
                .map(|entry| {
                    vec![
                        entry.source.to_string(),
                        entry.origin,
                        entry.note.unwrap_or_default(),
                    ]
                })
                .collect();
            Ok(output::table(&["SOURCE", "ORIGIN", "NOTE"], rows, &[])?)
        }
    }
}

fn show_changed(what: &str, entries: &[AllowInfo], json: bool) -> Result<(), CliError> {
    if json {
        return Ok(output::json(&entries)?);
    }
    for entry in entries {
        output::line(&format!("{what} {}", entry.source))?;
    }
    Ok(())
}
