//! `abuser events`.

use std::{fmt::Write as _, path::Path};

use super::{CliError, args::EventsArgs, output};
use crate::api::{
    client::Client,
    types::{EventFilter, EventKind, EventRecord, LimitStatus},
};

pub(super) async fn events(socket: &Path, args: &EventsArgs) -> Result<(), CliError> {
    let EventsArgs {
        json,
        source,
        kind,
        limit,
        count,
    } = args;
    let filter = EventFilter {
        source: *source,
        kind: *kind,
        limit: limit.clone(),
    };
    let mut client = Client::connect(socket).await?;
    if let Some(wanted) = limit {
        check_limit(&mut client, wanted).await?;
    }
    let mut events = client.events(&filter).await?;
    let mut left = *count;
    while left != Some(0) {
        let Some((event, line)) = events.next_event().await? else {
            return Err(CliError::Other(anyhow::anyhow!("the daemon stopped")));
        };
        output::line(&if *json { line } else { text(&event) })?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// A limit that does not exist would be waited for in silence.
async fn check_limit(client: &mut Client, wanted: &str) -> Result<(), CliError> {
    let limits: Vec<LimitStatus> = client.get("/v1/limits").await?;
    let names: Vec<_> = limits.iter().map(|limit| limit.name.as_str()).collect();
    if names.contains(&wanted) {
        return Ok(());
    }
    Err(CliError::Other(anyhow::anyhow!(
        "there is no limit {wanted:?}; there are: {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    )))
}

/// An event as a line for people.
pub(super) fn text(event: &EventRecord) -> String {
    let EventRecord {
        time,
        kind,
        interface,
        source,
        protocol,
        port,
        limit,
        ban,
        cause: _,
        policy: _,
        drops,
        verified,
        bytes: _,
        expires,
        reason,
        detector,
        action,
    } = event;
    let mut line = format!("{time}  {:<7}", kind.name());
    let source = source.as_deref().unwrap_or_default();
    // Writing to a String cannot fail.
    let _infallible = match kind {
        EventKind::Drop | EventKind::Observe | EventKind::Allow => {
            let transport = match (protocol.as_deref(), port) {
                (Some(protocol), Some(port)) => format!("{protocol}/{port}"),
                (protocol, _) => protocol.unwrap_or_default().to_owned(),
            };
            let cause = match (limit, ban) {
                (Some(limit), _) => format!("limit {limit}"),
                (None, Some(ban)) => format!("ban {ban}"),
                (None, None) => String::new(),
            };
            write!(
                line,
                "  {:<8}  {source:<15}  {transport:<9}  {cause:<14}  {} {}{}",
                interface.as_deref().unwrap_or("?"),
                drops.unwrap_or_default(),
                if *drops == Some(1) {
                    "packet"
                } else {
                    "packets"
                },
                // Why no ban follows.
                if *verified == Some(false) {
                    ", unverified"
                } else {
                    ""
                },
            )
        }
        EventKind::Ban => write!(
            line,
            "  {source}  {}  ban {}  {}",
            expires.as_ref().map_or_else(
                || "for good".to_owned(),
                |expires| format!("until {expires}")
            ),
            ban.unwrap_or_default(),
            reason.as_deref().unwrap_or_default(),
        ),
        EventKind::Unban => write!(
            line,
            "  {source}  ban {}  {}  after {}",
            ban.unwrap_or_default(),
            reason.as_deref().unwrap_or_default(),
            output::counted(drops.unwrap_or_default(), "packet", "packets"),
        ),
        EventKind::Detect => write!(
            line,
            "  {source}  {}  {}  {}",
            detector.as_deref().unwrap_or("?"),
            action.as_deref().unwrap_or_default(),
            reason.as_deref().unwrap_or_default(),
        ),
        EventKind::Throttle => write!(
            line,
            "  {source}  {}  limit {}  {}",
            expires.as_ref().map_or_else(
                || "for good".to_owned(),
                |expires| format!("until {expires}")
            ),
            limit.as_deref().unwrap_or_default(),
            reason.as_deref().unwrap_or_default(),
        ),
        EventKind::Unthrottle => write!(
            line,
            "  {source}  limit {}  {}",
            limit.as_deref().unwrap_or_default(),
            reason.as_deref().unwrap_or_default(),
        ),
        EventKind::Missed => write!(line, "  {} events", drops.unwrap_or_default()),
    };
    output::plain(line.trim_end()).into_owned()
}
