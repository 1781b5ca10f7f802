//! `abuser ban`, but for what goes from and to other programs.

use std::{io::IsTerminal as _, path::Path};

use ipnet::IpNet;

use super::{
    CliError,
    args::{BanAddArgs, BanCommand},
    control::{allow_list, note_unwritten},
    exchange,
    output::{self, counted, grouped, span},
};
use crate::{
    api::{
        client::{Client, Lines},
        types::{BanDuration, BanInfo, BanRequest, RemoveRequest},
    },
    host,
    policy::BanTime,
};

pub(super) async fn ban(socket: &Path, command: BanCommand) -> Result<(), CliError> {
    let mut client = Client::connect(socket).await?;
    match command {
        BanCommand::Add(args) => {
            check_own_session(&args.sources, args.force)?;
            let json = args.json;
            let bans: Vec<BanInfo> = client.post("/v1/bans", &request(args)).await?;
            note_allowed(&mut client, &bans).await;
            note_unwritten(&mut client).await;
            if json {
                return Ok(output::json(&bans)?);
            }
            for ban in bans {
                output::line(&format!("banned {} {}", ban.source, until(&ban)))?;
            }
            Ok(())
        }
        BanCommand::Remove(args) if args.all => {
            let mut removed = client.remove_all_bans().await?;
            if args.json {
                return array(removed).await;
            }
            tell_removed(&mut removed).await
        }
        BanCommand::Remove(args) => {
            let request = RemoveRequest {
                sources: args.sources,
                all: false,
            };
            let bans: Vec<BanInfo> = client.delete("/v1/bans", &request).await?;
            note_unwritten(&mut client).await;
            if args.json {
                return Ok(output::json(&bans)?);
            }
            for ban in bans {
                output::line(&format!("unbanned {}", ban.source))?;
                note_listed(&mut client, &ban).await;
            }
            Ok(())
        }
        BanCommand::List(args) => {
            let bans = client.read("/v1/bans").await?;
            if args.json {
                return array(bans).await;
            }
            list(bans).await
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
            if args.json {
                output::json(&bans)?;
            } else {
                table(bans.iter().map(row).collect())?;
            }
            if bans.is_empty() {
                return Err(CliError::Silent);
            }
            Ok(())
        }
        BanCommand::Import(args) => exchange::import(socket, client, args).await,
        BanCommand::Export(args) => exchange::export(client, &args).await,
    }
}

/// Says who is not banned any more: each by itself, or if they are many, how many they are.
async fn tell_removed(removed: &mut Lines) -> Result<(), CliError> {
    /// More than that nobody reads.
    const TOLD: usize = 100;
    let (mut first, mut count) = (Vec::new(), 0);
    let mut next = removed.next_element::<BanInfo>().await;
    while let Ok(Some(ban)) = next {
        count += 1;
        if first.len() < TOLD {
            first.push(ban.source);
        }
        next = removed.next_element().await;
    }
    // If it broke off: these are not banned any more all the same.
    if count > first.len() {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        output::line(&format!("unbanned {}", counted(count, "source", "sources")))?;
    } else {
        for source in first {
            output::line(&format!("unbanned {source}"))?;
        }
    }
    next.map(drop).map_err(CliError::from)
}

/// Refuses to ban where the caller's own SSH session comes from, unless that is what is meant.
pub(super) fn check_own_session(sources: &[IpNet], force: bool) -> Result<(), CliError> {
    let Some(session) = host::session().filter(|_| !force) else {
        return Ok(());
    };
    let client = session.client;
    match sources.iter().find(|source| source.contains(&client)) {
        Some(source) => {
            let from = if source.prefix_len() == source.max_prefix_len() {
                format!("your SSH session comes from {client}")
            } else {
                format!("{source} holds {client}, which your SSH session comes from")
            };
            Err(CliError::Other(anyhow::anyhow!(
                "{from}; use --force if you mean it"
            )))
        }
        None => Ok(()),
    }
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
        duration: duration(if permanent {
            Some(BanTime::Permanent)
        } else {
            time
        }),
        reason,
        force,
    }
}

/// What the daemon is asked for by a time that may have been given.
pub(super) const fn duration(time: Option<BanTime>) -> BanDuration {
    match time {
        Some(BanTime::Permanent) => BanDuration::Permanent,
        Some(BanTime::For(time)) => BanDuration::Seconds(time.as_secs()),
        None => BanDuration::Policy,
    }
}

/// Says that a source stays banned, because a block list names it or another node bans it.
async fn note_listed(client: &mut Client, lifted: &BanInfo) {
    let path = format!("/v1/bans/covering/{}", lifted.source.addr());
    let bans: Vec<BanInfo> = client.get(&path).await.unwrap_or_else(|error| {
        output::error(&format!(
            "this is done; whether anything else bans {} is not known: {error}",
            lifted.source
        ));
        Vec::new()
    });
    for ban in bans.iter().filter(|ban| ban.source == lifted.source) {
        if let Some(list) = &ban.blocklist {
            output::error(&format!(
                "{} stays banned by the block list {list}",
                ban.source
            ));
        }
        if let Some(node) = &ban.node {
            output::error(&format!(
                "{} stays banned by {node}, another node of the fleet",
                ban.source
            ));
        }
    }
}

/// Says which bans have no effect, because the allow list beats them.
async fn note_allowed(client: &mut Client, bans: &[BanInfo]) {
    let allowed = allow_list(client).await;
    for BanInfo { source, .. } in bans {
        if let Some(entry) = allowed.iter().find(|entry| entry.source.contains(source)) {
            output::error(&format!(
                "{source} is banned and passes all the same, as long as {} is allowed ({})",
                entry.source, entry.origin
            ));
        }
    }
}

/// Prints an array as it comes: to a terminal indented, else as it is.
pub(super) async fn array(mut elements: Lines) -> Result<(), CliError> {
    if !std::io::stdout().is_terminal() {
        return exchange::copy(elements).await;
    }
    let mut begun = false;
    while let Some(element) = elements.next_element::<serde_json::Value>().await? {
        output::bytes(if begun { b",\n" } else { b"[\n" })?;
        begun = true;
        output::json_part(&format!("{element:#}"))?;
    }
    Ok(output::bytes(if begun { b"\n]\n" } else { b"[]\n" })?)
}

/// Prints bans as they come; for a terminal, whose columns are as wide as their widest cell, when
/// all have come.
async fn list(mut bans: Lines) -> Result<(), CliError> {
    let mut rows = Vec::new();
    while let Some(ban) = bans.next_element::<BanInfo>().await? {
        rows.push(row(&ban));
        if !std::io::stdout().is_terminal() {
            table(std::mem::take(&mut rows))?;
        }
    }
    table(rows)
}

fn table(rows: Vec<Vec<String>>) -> Result<(), CliError> {
    Ok(output::table(
        &["SOURCE", "TIME LEFT", "HITS", "CAUSE", "REASON"],
        rows,
        &[2],
    )?)
}

fn row(ban: &BanInfo) -> Vec<String> {
    vec![
        ban.source.to_string(),
        ban.remaining_seconds
            .map_or_else(|| "permanent".to_owned(), span),
        grouped(ban.hits),
        match ban.blocklist.as_ref().or(ban.node.as_ref()) {
            Some(whose) => format!("{} {whose}", ban.cause),
            None => ban.cause.clone(),
        },
        ban.reason.clone().unwrap_or_default(),
    ]
}

fn until(ban: &BanInfo) -> String {
    match (&ban.expires, ban.remaining_seconds) {
        // What is left was rounded down a moment after it was whole.
        (Some(expires), Some(seconds)) => format!("until {expires} ({})", span(seconds + 1)),
        _ => "for good".to_owned(),
    }
}
