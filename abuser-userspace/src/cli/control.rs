//! The commands that ask the daemon: `status`, `limits`, `allow`, `observe` and the like.

use std::path::Path;

use abuser_common::layout::Outcome;

use super::{
    CliError,
    args::{AllowCommand, JsonArgs, ObserveCommand},
    fleet,
    output::{self, counted, grouped, span},
};
use crate::api::{
    client::{Client, ClientError},
    types::{
        AllowInfo, AllowRequest, BlocklistStatus, ComponentStatus, CrowdsecPushStatus,
        CrowdsecStatus, DispatcherStatus, InterfaceState, InterfaceStatus, LimitStatus,
        ObserveRequest, Observing, PinsStatus, ReconcilerStatus, Reloaded, RemoveRequest,
        SandboxState, SecurityStatus, Status, StoreStatus, TrafficCount,
    },
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
        "{}, {}, {}, {}",
        counted(status.limits as u64, "limit", "limits"),
        counted(status.bans as u64, "ban", "bans"),
        counted(status.allow as u64, "allow entry", "allow entries"),
        counted(
            status.throttles as u64,
            "throttled source",
            "throttled sources"
        )
    ))?;
    output::line(&format!(
        "buckets: {} of {} in use, {} evicted",
        grouped(status.buckets.active as u64),
        grouped(status.buckets.capacity as u64),
        grouped(status.buckets.evictions)
    ))?;
    output::line(&store(&status))?;
    if let Some(line) = pins(&status) {
        output::line(&line)?;
    }
    for list in &status.blocklists {
        output::line(&blocklist(list))?;
    }
    for notifier in &status.notify {
        output::line(&super::notify::line(notifier))?;
    }
    if let Some(lapi) = &status.crowdsec {
        output::line(&crowdsec(lapi))?;
        if let Some(push) = &lapi.push {
            output::line(&crowdsec_push(push))?;
        }
    }
    if let Some(fleet) = &status.fleet {
        output::line(&fleet::summary(fleet))?;
    }
    output::line(&security(&status.security))?;
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
    output::table(&["OUTCOME", "PACKETS", "BYTES"], rows, &[1, 2])?;
    by_interface(&status.interfaces)
}

/// What was passed and dropped on each interface, if there are several.
fn by_interface(interfaces: &[InterfaceStatus]) -> Result<(), CliError> {
    let counted = interfaces.iter();
    let counted = counted.filter_map(|interface| Some((interface, interface.outcomes.as_ref()?)));
    let rows: Vec<_> = counted
        .map(|(interface, outcomes)| {
            let (mut passed, mut dropped) = (TrafficCount::default(), TrafficCount::default());
            for outcome in Outcome::ALL {
                let counted = outcomes.get(outcome.name()).copied().unwrap_or_default();
                let sum = if outcome.dropped() {
                    &mut dropped
                } else {
                    &mut passed
                };
                sum.packets += counted.packets;
                sum.bytes += counted.bytes;
            }
            let name = interface.name.clone();
            let counts = [passed.packets, passed.bytes, dropped.packets, dropped.bytes];
            [name].into_iter().chain(counts.map(grouped)).collect()
        })
        .collect();
    if rows.len() < 2 {
        return Ok(());
    }
    output::line("")?;
    Ok(output::table(
        &["INTERFACE", "PASSED", "BYTES", "DROPPED", "BYTES"],
        rows,
        &[1, 2, 3, 4],
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
        InterfaceState::Attached => {
            let mut line = format!(
                "protects {name} in {} mode (XDP program {})",
                interface.mode.as_deref().unwrap_or("unknown"),
                interface.program_id.unwrap_or_default()
            );
            if let Some(dispatcher) = &interface.dispatcher {
                line += &neighbours(dispatcher);
            }
            line
        }
        InterfaceState::Missing => format!(
            "DOES NOT protect {name}: it is missing; it is protected again as soon as it is back"
        ),
        InterfaceState::Refused => format!(
            "DOES NOT protect {name}: {}; this is tried again when it changes",
            interface.error.as_deref().unwrap_or("refused")
        ),
    }
}

/// The programs that a dispatcher calls.
fn neighbours(dispatcher: &DispatcherStatus) -> String {
    let called = dispatcher.components.iter().map(|component| {
        let ComponentStatus {
            name,
            program_id: _,
            priority,
            own,
        } = component;
        let own = if *own { ", this one" } else { "" };
        format!("{name} (priority {priority}{own})")
    });
    let called: Vec<_> = called.collect();
    format!(
        ", by libxdp's dispatcher {}: {}",
        dispatcher.program_id,
        called.join(", then ")
    )
}

/// What the daemon may still do.
fn security(security: &SecurityStatus) -> String {
    /// Of more than these only the number tells something.
    const NAMED: usize = 12;
    let SecurityStatus {
        sandbox,
        capabilities,
        no_new_privileges: _,
        landlock,
        seccomp,
    } = security;
    let named = capabilities.iter();
    let named = named.map(|name| name.strip_prefix("CAP_").unwrap_or(name));
    let named: Vec<_> = named.collect();
    let named = match named.len() {
        0 => "no capabilities".to_owned(),
        1..=NAMED => named.join(", "),
        many => format!("{many} capabilities"),
    };
    let rest = match sandbox {
        SandboxState::Off => "; the sandbox is off".to_owned(),
        SandboxState::Commands => "; commands have what the daemon was started with".to_owned(),
        SandboxState::On => {
            let landlock = landlock.map_or_else(
                || "no Landlock".to_owned(),
                |version| format!("Landlock {version}"),
            );
            let seccomp = if *seccomp { "seccomp" } else { "no seccomp" };
            format!("; {landlock}, {seccomp}")
        }
    };
    format!("security: {named}{rest}")
}

/// How it stands with a block list.
fn blocklist(list: &BlocklistStatus) -> String {
    let BlocklistStatus {
        name,
        path,
        entries,
        bad,
        read: _,
        error,
    } = list;
    let mut line = format!("block list {name}: ");
    line += &match entries {
        Some(entries) => counted(*entries as u64, "source", "sources"),
        None => "not read yet".to_owned(),
    };
    if *bad > 0 {
        line = format!("{line}, {} left out", counted(*bad, "line", "lines"));
    }
    match error {
        Some(error) => format!("{line}; {path} IS NOT IN FORCE as it is now: {error}"),
        None => format!("{line} ({path})"),
    }
}

/// How it stands with `CrowdSec`.
fn crowdsec(lapi: &CrowdsecStatus) -> String {
    let CrowdsecStatus {
        url,
        connected,
        last_answer,
        failures: _,
        error,
        decisions,
        ignored,
        push: _,
    } = lapi;
    let mut line = format!(
        "CrowdSec at {url}: {}",
        counted(*decisions, "decision", "decisions")
    );
    let ignored: u64 = ignored.values().sum();
    if ignored > 0 {
        line = format!("{line}, {} left out", grouped(ignored));
    }
    match (connected, error, last_answer) {
        (true, _, Some(last)) => format!("{line}, last answer {last}"),
        (_, Some(error), Some(last)) => {
            format!(
                "{line}; DOES NOT ANSWER since {last}, and what it had decided stays in force: {error}"
            )
        }
        (_, Some(error), None) => format!("{line}; HAS NOT ANSWERED yet: {error}"),
        _ => format!("{line}; not asked yet"),
    }
}

/// How it stands with what is pushed there.
fn crowdsec_push(push: &CrowdsecPushStatus) -> String {
    let CrowdsecPushStatus {
        active,
        queued,
        refused,
        error,
        ..
    } = push;
    let mut line = format!("CrowdSec has {} from here", counted(*active, "ban", "bans"));
    if *queued > 0 {
        line = format!(
            "{line}, {} to be told",
            counted(*queued, "change", "changes")
        );
    }
    if *refused > 0 {
        line = format!("{line}, {refused} REFUSED");
    }
    match error {
        Some(error) => format!("{line}; IS NOT TOLD: {error}"),
        None => line,
    }
}

/// How it stands with the store, and what had to be put right.
fn store(status: &Status) -> String {
    let StoreStatus {
        path,
        error,
        failed,
        damaged,
    } = &status.store;
    let mut line = format!("store: {path}");
    if let Some(error) = error {
        let since = failed.as_deref().unwrap_or_default();
        line = format!("{line} IS NOT WRITTEN since {since}: {error}");
    }
    if let Some(latest) = damaged.last() {
        line = format!("{line}; WAS DAMAGED, and begun anew: the damaged one is {latest}");
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

/// What is wrong with the pins, or was.
fn pins(status: &Status) -> Option<String> {
    let PinsStatus {
        path,
        error,
        failed,
        repairs,
    } = &status.pins;
    if let Some(error) = error {
        let since = failed.as_deref().unwrap_or_default();
        return Some(format!(
            "pins: ARE NOT THERE since {since}, the filter ends with this daemon: {error}"
        ));
    }
    let made = counted(
        *repairs,
        "was removed or replaced, and made again",
        "were removed or replaced, and made again",
    );
    (*repairs > 0).then(|| format!("pins: {path}; {made}"))
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
                match limit.only {
                    Some(only) => format!("{} {only}", limit.action),
                    None => limit.action,
                },
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

pub(super) async fn reload(socket: &Path, args: &JsonArgs) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    let reloaded = client.post("/v1/reload", &()).await;
    let reloaded: Reloaded = reloaded.map_err(|error| match error {
        // What `run` and `check` say of such a configuration.
        ClientError::Refused {
            is_senseless: true,
            error,
        } => CliError::Usage(error),
        error => error.into(),
    })?;
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

pub(super) async fn observe(socket: &Path, command: ObserveCommand) -> Result<(), CliError> {
    let (observe, args) = match command {
        ObserveCommand::On(args) => (true, args),
        ObserveCommand::Off(args) => (false, args),
    };
    let mut client = Client::connect(socket).await?;
    let request = ObserveRequest { observe };
    let observing: Observing = client.post("/v1/observe", &request).await?;
    if args.json {
        return Ok(output::json(&observing)?);
    }
    Ok(output::line(match (observing.before, observe) {
        (_, true) => {
            "observing only: nothing is dropped until `abuser observe off`, or the daemon starts again"
        }
        (true, false) => "enforcing again: what bans and limits say is dropped",
        (false, false) => "enforcing, as before",
    })?)
}

/// Says that what was asked for is in force and not on disk, if that is so. That nobody answers to this
/// does not make what is done a failure.
pub(super) async fn note_unwritten(client: &mut Client) {
    match client.get("/v1/status").await {
        Ok(Status { store, .. }) => {
            if let Some(error) = store.error {
                output::error(&format!(
                    "this is in force, and NOT ON DISK: {} cannot be written ({error}); it is lost \
                     when the daemon stops, unless that is mended before",
                    store.path
                ));
            }
        }
        Err(error) => output::error(&format!(
            "this is done; whether it is on disk, too, is not known: {error}"
        )),
    }
}

/// The allow list, to tell what it makes of what was done.
pub(super) async fn allow_list(client: &mut Client) -> Vec<AllowInfo> {
    client.get("/v1/allow").await.unwrap_or_else(|error| {
        output::error(&format!(
            "this is done; whether the allow list beats it is not known: {error}"
        ));
        Vec::new()
    })
}

pub(super) async fn allow(socket: &Path, command: AllowCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        AllowCommand::Add(args) => {
            let request = AllowRequest {
                sources: args.sources,
                reason: args.reason,
                force: args.force,
            };
            let entries: Vec<AllowInfo> = client.post("/v1/allow", &request).await?;
            note_unwritten(&mut client).await;
            show_changed("allowed", &entries, args.json)
        }
        AllowCommand::Remove(args) => {
            let request = RemoveRequest {
                sources: args.sources,
                all: false,
            };
            let entries: Vec<AllowInfo> = client.delete("/v1/allow", &request).await?;
            note_unwritten(&mut client).await;
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
